"""`hf:ORG/NAME` against a server that speaks what huggingface_hub asks: a revision is pinned, the
model is opened without the network afterwards, and neither code nor pickles are fetched."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from scriven.runs.metadata import read_run_metadata
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")

COMMITS = {"main": "a" * 40, "v1": "b" * 40}
ERRORS = {
    "/api/models/org/gated": (403, "GatedRepo"),
    "/api/models/org/nothing": (401, "RepoNotFound"),
    "/api/models/org/tiny/revision/v9": (404, "RevisionNotFound"),
}


class Hub:
    """A server with the model org/tiny, and the paths that were asked of it."""

    def __init__(self, folder: Path) -> None:
        hub = self
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def do_HEAD(self) -> None:
                self.answer()

            def do_GET(self) -> None:
                self.answer()

            def answer(self) -> None:
                path = self.path.partition("?")[0]
                hub.asked.append(path)
                for start, (status, code) in ERRORS.items():
                    if path.startswith(start):
                        return self.send(status, b"", {"X-Error-Code": code})
                known = {**COMMITS, **{each: each for each in COMMITS.values()}}
                parts = path.strip("/").split("/")
                files = sorted(each for each in folder.iterdir() if each.is_file())
                if parts[:4] == ["api", "models", "org", "tiny"]:
                    commit = known[parts[5]] if len(parts) > 5 else COMMITS["main"]
                    if len(parts) > 4 and parts[4] == "tree":
                        listed = [{"type": "file", "path": each.name, "oid": "0" * 40,
                                   "size": each.stat().st_size} for each in files]  # fmt: skip
                        return self.send(200, json.dumps(listed).encode(), {})
                    siblings = [{"rfilename": each.name} for each in files]
                    info = {"id": "org/tiny", "modelId": "org/tiny", "sha": commit,
                            "siblings": siblings}  # fmt: skip
                    return self.send(200, json.dumps(info).encode(), {})
                content = (folder / parts[-1]).read_bytes()
                headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"',
                           "X-Repo-Commit": known[parts[3]]}  # fmt: skip
                return self.send(200, content, headers)

            def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, vocab_size=300, eos_token_id=0,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        ["the text"], trainers.BpeTrainer(initial_alphabet=alphabet, special_tokens=["</s>"])
    )
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    # what must never be fetched, let alone run
    changed = json.loads((folder / "config.json").read_text())
    changed["auto_map"] = {"AutoModelForCausalLM": "modeling_evil.Evil"}
    (folder / "config.json").write_text(json.dumps(changed))
    (folder / "modeling_evil.py").write_text("raise SystemExit('code of a model was run')")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    made = Hub(folder)
    yield made
    made.server.shutdown()
    made.server.server_close()


def commands(hub: Hub, folder: Path, *lines: list[str]) -> list[tuple[int, str]]:
    """(exit code, standard error) of commands, one after the other in one new process."""
    program = """
import contextlib, io, json, sys
from scriven.cli import run
found = []
for line in json.loads(sys.argv[1]):
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        code = run(line)
    found.append((code, error.getvalue()))
print(json.dumps(found))
"""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HF_") and not name.lower().endswith(("_offline", "_proxy"))
    }
    environment |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "hf"),
                    "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(lines)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [(code, error) for code, error in json.loads(done.stdout.splitlines()[-1])]


def test_a_revision_is_pinned_and_opened_without_the_network_afterwards(
    hub: Hub, tmp_path: Path
) -> None:
    (tmp_path / "book.txt").write_text("It was a dark night. She said nothing.\n" * 60)
    train = ["train", "book.txt", "--from", "hf:org/tiny@v1", "--budget", "2steps", "--quiet"]
    for code, error in commands(
        hub, tmp_path, train, ["import", "hf:org/tiny", "--out", "whole"],
        ["generate", "hf:org/tiny@v1", "the", "--max-new-tokens", "3"],
    ):  # fmt: skip
        assert code == 0, error
    # 1. the commit that the name stood for, in both runs
    trained = read_run_metadata(tmp_path / "runs" / "tiny-book")
    assert trained["base"]["run"] == f"hf:org/tiny@{COMMITS['v1']}"
    imported = read_run_metadata(tmp_path / "whole")["imported"]
    assert imported["hub"] == f"org/tiny@{COMMITS['main']}"
    # 2. no code, no pickle
    assert any(path.endswith("model.safetensors") for path in hub.asked)
    assert not [path for path in hub.asked if path.endswith((".py", ".bin"))]
    # 3. afterwards nothing is asked of the hub
    hub.asked.clear()
    pinned = f"hf:org/tiny@{COMMITS['v1']}"
    for code, error in commands(
        hub, tmp_path, ["generate", pinned, "the", "--max-new-tokens", "3"],
        ["generate", "tiny-book", "the", "--max-new-tokens", "3"],
        ["train", "--resume", "tiny-book", "--budget", "+2steps", "--quiet"],
    ):  # fmt: skip
        assert code == 0, error
    assert hub.asked == []


def test_what_the_hub_refuses_is_said_in_one_line_and_nothing_is_left(
    hub: Hub, tmp_path: Path
) -> None:
    words = {
        "hf:org/gated": "is gated: ask for access",
        "hf:org/nothing": "is not on the hub, or is private",
        "hf:org/tiny@v9": "has no such revision",
    }
    lines = [["import", name, "--out", "made"] for name in words]
    for (code, error), expected in zip(
        commands(hub, tmp_path, *lines), words.values(), strict=True
    ):
        assert code == 2 and expected in error and error.count("\n") == 1
    assert not (tmp_path / "made").exists() and not (tmp_path / "runs").exists()
