"""A new kind of tokenizer is one file: nothing else has to know it."""

import sys
from pathlib import Path

import scriven.tokenizers
from scriven.settings import TokenizerSettings
from scriven.tokenizers import load_tokenizer, tokenizer_class, train_tokenizer
from scriven.tokenizers.base import kinds

LETTER = '''"""Bytes, with a token of its own for "qu"."""

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend
from tokenizers.decoders import ByteLevel
from tokenizers.models import BPE

from scriven.tokenizers import EOS, PAD, base
from scriven.tokenizers.base import CHARACTER_TO_BYTE
from scriven.tokenizers.patterns import pre_tokenizer


class Tokenizer(base.Tokenizer):
    kind = "quick"


def train(pieces, settings):
    backend = Backend(BPE(vocab={**CHARACTER_TO_BYTE, "qu": 256}, merges=[("q", "u")]))
    backend.pre_tokenizer = pre_tokenizer("none")
    backend.decoder = ByteLevel()
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in (EOS, PAD)])
    return Tokenizer(backend)
'''


def test_a_kind_added_as_a_file_is_trained_saved_and_loaded(tmp_path: Path) -> None:
    folder, saved = tmp_path / "kinds", tmp_path / "saved"
    folder.mkdir()
    saved.mkdir()
    (folder / "quick.py").write_text(LETTER, encoding="utf-8")
    scriven.tokenizers.__path__.append(str(folder))
    try:
        assert "quick" in kinds()
        tokenizer = train_tokenizer("quick", iter(["quite quick"]), TokenizerSettings("quick"))
        assert tokenizer.encode("quit") == [256, ord("i"), ord("t")]
        tokenizer.with_special_tokens("mask").save(saved)
        loaded = load_tokenizer(saved)
        assert type(loaded) is tokenizer_class("quick")
        assert loaded.decode(loaded.encode("quit é")) == "quit é"
        assert loaded.special_token_ids["mask"] == 259
    finally:
        scriven.tokenizers.__path__.remove(str(folder))
        sys.modules.pop("scriven.tokenizers.quick", None)


def test_files_that_are_no_kind_are_not_offered() -> None:
    assert kinds() == ["bpe", "byte", "char", "word"]
