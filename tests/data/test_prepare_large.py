"""A prepared folder is ready at once, whatever its size; and preparing needs little memory."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bulky import document, prepared

from scriven.data.shards import open_dataset
from scriven.manifest import MANIFEST, signed_json
from scriven.settings import TokenizerSettings

FIRST_BATCH = """
import sys, time
from pathlib import Path
from scriven.data.sampler import ShuffledSampler
from scriven.data.pipeline import load_dataset
from scriven.settings import DataSettings, TokenizerSettings
began = time.monotonic()
corpus = load_dataset([sys.argv[1]], DataSettings(), TokenizerSettings(), seed=0)
order = ShuffledSampler(len(corpus.train), 1025, 0)
batch = corpus.train.read_windows(order.starts(0, 32), 1025)
seconds = time.monotonic() - began
status = Path("/proc/self/status").read_text()  # the peak since this program was loaded
peak = int(status.split("VmHWM:")[1].split()[0]) / 1000
print(batch.shape == (32, 1025), len(corpus.train), seconds, peak)
"""

PREPARE = """
import resource, sys
from pathlib import Path
from scriven.data.prepare import run_prepare
from scriven.data.prepare_plan import PrepareArgs
from scriven.settings import TokenizerSettings
kind = sys.argv[3]
run_prepare(PrepareArgs([sys.argv[1]], Path(sys.argv[2]), processes=2,
             tokenizer=TokenizerSettings(kind, 400 if kind == "bpe" else None)))
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((own + 2 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1000)
"""


def grown(folder: Path, files: int, tokens: int) -> Path:
    """A prepared folder with sparse files added to its training part."""
    folder.parent.mkdir(exist_ok=True)
    rows = [json.dumps({"text": document(number)}) for number in range(100)]
    source = folder.parent / "a.jsonl"
    source.write_text("\n".join(rows), encoding="utf-8")
    prepared(source, folder, tokenizer=TokenizerSettings("byte"))
    facts = json.loads((folder / "manifest.json").read_text())
    for name in ("digest", "format"):
        facts.pop(name)
    for number in range(files):
        name = f"shards/900000-{number:06d}/train.bin"
        (folder / name).parent.mkdir()
        with (folder / name).open("wb") as file:
            os.truncate(file.fileno(), 2 * tokens)
        # the digest of a large file is not compared
        digest = hashlib.sha256(bytes(2 * tokens)).hexdigest() if tokens < 10_000 else "0" * 64
        facts["files"][name] = {"size": 2 * tokens, "sha256": digest}
        facts["segments"]["train"].append([name, 0, tokens])
    facts["train_tokens"] += files * tokens
    (folder / MANIFEST).write_bytes(signed_json(facts))
    return folder


def test_the_first_batch_of_twenty_gigabytes_comes_at_once(tmp_path: Path) -> None:
    folder = grown(tmp_path / "large", 20, 500_000_000)
    done = subprocess.run(
        [sys.executable, "-c", FIRST_BATCH, str(folder)], capture_output=True, text=True, check=True
    )
    right, tokens, seconds, megabytes = done.stdout.split()
    assert right == "True"
    assert int(tokens) > 10_000_000_000
    assert float(seconds) < 1
    assert float(megabytes) < 200


def test_more_files_than_may_be_open_are_read(tmp_path: Path) -> None:
    folder = grown(tmp_path / "many", 200, 1000)
    corpus = open_dataset(folder, name="many", sources=[])
    whole = corpus.train.read(0, len(corpus.train))
    assert len(whole) > 200_000
    assert int(whole[-200_000:].sum()) == 0
    open_files = corpus.train._files  # type: ignore[attr-defined]
    assert len(open_files) <= 64
    corpus.train.close()
    assert not open_files


def peak(path: Path, kind: str) -> float:
    """Megabytes of the command and both of its processes."""
    out = path.with_suffix(f".{kind}")
    command = [sys.executable, "-c", PREPARE, str(path), str(out), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def grow(path: Path, megabytes: int) -> Path:
    block = "".join(json.dumps({"text": document(number)}) + "\n" for number in range(2000))
    with path.open("w", encoding="utf-8") as file:
        for _ in range(megabytes * 1_000_000 // len(block)):
            file.write(block)
    return path


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_a_gigabyte_needs_less_than_one_of_memory(kind: str, tmp_path: Path) -> None:
    assert peak(grow(tmp_path / "a.jsonl", 1000), kind) < 1000
