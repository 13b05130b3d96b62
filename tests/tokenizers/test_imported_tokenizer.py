"""Tokenizers of other programs keep their ids, also in long texts and after saving."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scriven.errors import DamagedError, InputError
from scriven.tokenizers import StreamDecoder, load_tokenizer, patterns
from scriven.tokenizers.imported import ImportedTokenizer
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import Tokenizer as Backend

TEXT = (
    "The quick brown fox, 12345 times: it jumped over   the lazy dog's naïve café!\n\n"
    "東京 — 😀\tand <s> is text.\n"
) * 40
SPECIAL = ["<unk>", "<s>", "</s>"]


def byte_level() -> Backend:
    """A split and a normaliser of its own, and too few bytes."""
    backend = Backend(models.BPE())
    backend.normalizer = normalizers.NFC()
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"])
    backend.train_from_iterator([TEXT], trainer)
    return backend


def sentencepiece_bpe() -> Backend:
    """As Llama 2: spaces are U+2581, one is put before the text, unknown characters are bytes."""
    backend = Backend(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )  # fmt: skip
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    splitter = backend.pre_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("\u2581?[^\u2581\n]+|\n"), "isolated")
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=[*SPECIAL, *names])
    backend.train_from_iterator([TEXT.replace("😀", "")], trainer)
    plain = json.loads(backend.to_str())
    plain["pre_tokenizer"] = splitter
    plain["added_tokens"] = plain["added_tokens"][:3]
    backend = Backend.from_str(json.dumps(plain))
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    return backend


def unigram() -> Backend:
    """As T5."""
    backend = Backend(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>")
    backend.train_from_iterator([TEXT], trainer)
    return backend


def word_piece() -> Backend:
    """As BERT, without lower case."""
    backend = Backend(models.WordPiece(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.train_from_iterator(
        [TEXT], trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL)
    )
    return backend


MAKERS = [byte_level, sentencepiece_bpe, unigram, word_piece]


def save(backend: Backend, folder: Path, **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    names = {"eos_token": "</s>", "bos_token": "<s>"}
    if backend.token_to_id("<unk>") is not None:
        names["unk_token"] = "<unk>"
    (folder / "tokenizer_config.json").write_text(json.dumps({**names, **config}))
    return folder


@pytest.mark.parametrize("make", MAKERS)
def test_ids_are_those_of_the_file(make: Callable[[], Backend], tmp_path: Path) -> None:
    backend = make()
    tokenizer = load_tokenizer(save(backend, tmp_path / "theirs"))
    assert isinstance(tokenizer, ImportedTokenizer)
    reference = Backend.from_str(backend.to_str())
    reference.encode_special_tokens = True
    for text in (TEXT, " lead", "Hello <s> \u1234 \x00 x", "", "\n"):
        expected = reference.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text) == expected
    # saved and loaded again, it is the same
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.special_token_ids == tokenizer.special_token_ids
    assert (again.bos_token, again.unk_token) == (tokenizer.bos_token, tokenizer.unk_token)
    assert again.encode(TEXT) == tokenizer.encode(TEXT)


@pytest.mark.parametrize("make", MAKERS)
def test_decoding_is_that_of_the_library(make: Callable[[], Backend], tmp_path: Path) -> None:
    backend = make()
    tokenizer = load_tokenizer(save(backend, tmp_path))
    for text in ("The quick brown fox", " lead and   three", "東京 12\n"):
        ids = tokenizer.encode(text)
        if make is not word_piece:  # whose decoder also takes spaces before punctuation away
            assert tokenizer.decode(ids) == backend.decode(ids, skip_special_tokens=True)
        stream = StreamDecoder(tokenizer)
        pieces = "".join([*(stream.push(each) for each in ids), stream.flush()])
        assert pieces in (tokenizer.decode(ids), " " + tokenizer.decode(ids))


@pytest.mark.parametrize("make", MAKERS)
def test_a_long_text_that_is_cut_has_the_ids_of_the_whole(
    make: Callable[[], Backend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(save(make(), tmp_path))
    whole = tokenizer.encode(TEXT)
    monkeypatch.setattr(patterns, "CHUNK", 100)
    assert tokenizer.encode(TEXT) == whole


def test_a_space_put_before_each_piece_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(save(sentencepiece_bpe(), tmp_path))
    whole = tokenizer.encode(TEXT)
    vars(tokenizer)["_inner"] = tokenizer.backend
    monkeypatch.setattr(patterns, "CHUNK", 100)
    assert tokenizer.encode(TEXT) != whole


def test_a_vocabulary_with_tokens_over_words_is_never_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["</s>"])
    backend.train_from_iterator([TEXT[:300]] * 3, trainer)
    tokenizer = load_tokenizer(save(backend, tmp_path))
    monkeypatch.setattr(patterns, "CHUNK", 100)
    assert tokenizer.encode(TEXT) == backend.encode(TEXT).ids


def test_the_token_before_every_text_is_known(tmp_path: Path) -> None:
    assert load_tokenizer(save(sentencepiece_bpe(), tmp_path / "a")).special_token_ids["bos"] == 1
    assert "bos" not in load_tokenizer(save(byte_level(), tmp_path / "b")).special_token_ids


def test_bytes_without_a_token_are_left_out_and_told(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(save(byte_level(), tmp_path))
    assert isinstance(tokenizer, ImportedTokenizer)
    assert 0xD0 in tokenizer.lost_bytes  # Cyrillic, of which the training text has none
    assert tokenizer.decode(tokenizer.encode("fox жук fox")).startswith("fox ")
    assert load_tokenizer(save(sentencepiece_bpe(), tmp_path)).lost_bytes == []  # type: ignore[attr-defined]


def test_a_vocabulary_in_two_files_is_that_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet
    )
    backend.train_from_iterator([TEXT], trainer)
    backend.model.save(str(tmp_path))
    tokenizer = load_tokenizer(tmp_path)
    theirs = transformers.GPT2Tokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode(TEXT) == theirs(TEXT)["input_ids"]
    assert tokenizer.eos == theirs.eos_token_id


def test_a_sentencepiece_model_has_the_ids_of_its_merges(tmp_path: Path) -> None:
    pb2 = pytest.importorskip("transformers.utils.sentencepiece_model_pb2_new")
    source = sentencepiece_bpe()
    plain = json.loads(source.to_str())
    model = pb2.ModelProto()
    ids = plain["model"]["vocab"]
    rank = {left + right: place for place, (left, right) in enumerate(plain["model"]["merges"])}
    for piece in sorted(ids, key=ids.__getitem__):
        kind = {"<unk>": 2, "<s>": 3, "</s>": 3}.get(piece, 6 if piece.startswith("<0x") else 1)
        model.pieces.add(piece=piece, score=-float(rank.get(piece, 0)), type=kind)
    model.trainer_spec.model_type, model.trainer_spec.unk_id = 2, 0
    model.normalizer_spec.add_dummy_prefix = True
    (tmp_path / "tokenizer.model").write_bytes(model.SerializeToString())
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>", "unk_token": "<unk>"}')
    tokenizer = load_tokenizer(tmp_path)
    source.encode_special_tokens = True
    for text in (TEXT, " lead", "\x00 naïve"):
        assert tokenizer.encode(text) == source.encode(text, add_special_tokens=False).ids
    assert tokenizer.eos == 2
    # damage anywhere is told, or does no harm
    data = (tmp_path / "tokenizer.model").read_bytes()
    for end in range(0, len(data), 97):
        (tmp_path / "tokenizer.model").write_bytes(data[:end] + b"\xff" + data[end + 1 :])
        with contextlib.suppress(DamagedError, InputError):
            load_tokenizer(tmp_path)


def test_our_own_tokenizer_that_was_changed_is_still_refused(tmp_path: Path) -> None:
    save(byte_level(), tmp_path, scriven_kind="bpe")
    with pytest.raises(DamagedError, match="of the kind bpe"):
        load_tokenizer(tmp_path)


def test_added_text_tokens_are_written_as_text(tmp_path: Path) -> None:
    backend = byte_level()
    backend.add_tokens([AddedToken("<tool> é", normalized=False)])
    tokenizer = load_tokenizer(save(backend, tmp_path))
    assert tokenizer.decode(tokenizer.encode("fox <tool> é fox")) == "fox <tool> é fox"
