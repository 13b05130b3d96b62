"""What the name of a model may mean, and what is said where it means nothing."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from scriven.cli import run
from scriven.errors import InputError, ResourceError
from scriven.import_ import hub, tensors
from scriven.import_.base import base_digest, base_name, open_base, pinned_name
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and an adapter for it with its logits."""
    peft = pytest.importorskip("peft")
    folder = tmp_path_factory.mktemp("originals")
    torch.manual_seed(0)
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        ["the text"], trainers.BpeTrainer(initial_alphabet=alphabet, special_tokens=["</s>"])
    )
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=40, vocab_size=300, eos_token_id=0,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(folder / "base")
    backend.save(str(folder / "base" / "tokenizer.json"))
    (folder / "base" / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, lora).eval()
    adapted.peft_config["default"].base_model_name_or_path = "base"
    adapted.save_pretrained(folder / "adapter")
    with torch.no_grad():
        torch.save(adapted(IDS).logits, folder / "adapted.pt")
    return folder


@pytest.fixture
def here(originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with copies of both, and a cache of the hub that holds the model."""
    shutil.copytree(originals, tmp_path / "work")
    model = tmp_path / "hub" / "models--org--tiny"
    shutil.copytree(originals / "base", model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def logits(name: str) -> torch.Tensor:
    task = open_base(name).task
    with torch.no_grad():
        return task.logits(task.backbone(IDS))


def change_adapter(**fields: Any) -> None:
    path = Path("adapter") / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_an_adapter_is_its_base_with_what_it_adds(here: Path) -> None:
    expected = torch.load(here / "work" / "adapted.pt", weights_only=True)
    assert (logits("adapter") - expected).abs().max() < 1e-5
    assert (logits("base") - expected).abs().max() > 1e-2
    assert base_name("adapter") == "adapter"
    # by its place beside the adapter, by a path, or by its name on the hub
    change_adapter(base_model_name_or_path="org/tiny")
    assert (logits("adapter") - expected).abs().max() < 1e-5
    assert base_digest("adapter") != base_digest("base")


def test_a_model_of_the_hub_is_opened_from_its_cache(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("the network is used")

    monkeypatch.setattr("socket.socket.connect", refused)
    names = ["hf:org/tiny", f"hf:org/tiny@{COMMIT}", str(here / "hub" / "models--org--tiny")]
    names.append(str(here / "hub" / "models--org--tiny" / "snapshots" / COMMIT))
    for name in names:
        assert torch.equal(logits(name), logits("base"))
        assert base_name(name) == "tiny"
        assert open_base(name).metadata["imported"]["hub"] == f"org/tiny@{COMMIT}"
    assert pinned_name("hf:org/tiny") == f"hf:org/tiny@{COMMIT}"
    assert pinned_name("base") == "base"


def test_a_model_that_no_user_has_named_is_never_downloaded(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, local_files_only: bool = False, **__: object) -> None:
        from huggingface_hub.errors import LocalEntryNotFoundError

        assert local_files_only, "the network is used"
        raise LocalEntryNotFoundError("not there")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refused)
    change_adapter(base_model_name_or_path="org/other")
    with pytest.raises(InputError, match="is an adapter for org/other, which is not here"):
        open_base("adapter")
    with pytest.raises(InputError, match="is not in the cache"):
        open_base("hf:org/other", offline=True)


def test_only_weights_and_small_files_are_downloaded(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def snapshot(repository: str, **options: Any) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        if options.get("local_files_only"):
            raise LocalEntryNotFoundError("not there")
        asked.update(options, repository=repository)
        return str(here / "work" / "base")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert torch.equal(logits("hf:org/new@v1"), logits("base"))
    assert (asked["repository"], asked["revision"]) == ("org/new", "v1")
    assert not any(each.endswith((".py", ".bin")) for each in asked["allow_patterns"])
    assert not {"*", "*.py", "*.bin"} & set(asked["allow_patterns"])


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        ("GatedRepoError", InputError, "is gated: ask for access"),
        ("RepositoryNotFoundError", InputError, "is not on the hub, or is private"),
        ("RevisionNotFoundError", InputError, "has no such revision"),
        ("OSError", ResourceError, "cannot be downloaded"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(
    error: str, kind: type[Exception], words: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import errors

    found = getattr(errors, error, OSError)

    def refuse(*_: object, local_files_only: bool = False, **__: object) -> None:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not there")
        raise found.__new__(found)

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(kind, match=words) as caught:
        hub.download("hf:org/tiny")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("nowhere", 2, "no run nowhere"),
        ("hf:tiny", 2, "write hf:ORG/NAME"),
        ("base/model.safetensors", 2, "is a file: name its folder"),
        ("empty", 2, "holds no config.json"),
        ("adapter", 2, "which is not here"),
        ("broken.gguf", 2, "not a whole GGUF file"),
        ("pickled.bin", 2, "is a pickle"),
    ],
)
def test_a_name_of_nothing_is_refused_in_one_line(
    name: str, code: int, words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    Path("broken.gguf").write_bytes(b"GGUF\x03" + bytes(8))
    Path("pickled.bin").write_bytes(b"x")
    change_adapter(base_model_name_or_path="elsewhere")
    before = sorted(Path().rglob("*"))
    for command in (["generate", name, "x"], ["export", name, "--to", "hf"]):
        assert run(command) == code
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


def test_a_model_that_does_not_fit_says_how_much_it_needs(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tensors, "available_memory", lambda: 1000)
    assert run(["generate", "base", "x"]) == 3
    said = capsys.readouterr().err
    assert "needs 139 kB of memory and 1 kB are free" in said
