"""One small tokenizer of each kind, trained once."""

import pytest

from scriven.settings import TokenizerSettings
from scriven.tokenizers import Tokenizer, train_tokenizer

KINDS = ("char", "byte", "word", "bpe")
TEXT = "It's a small text, with 1234 words. Über die Brücke!\r\n\tNow 你好 again; again.\n\n" * 20


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Tokenizer]:
    settings = TokenizerSettings(vocab_size=320)
    return {kind: train_tokenizer(kind, iter([TEXT]), settings) for kind in KINDS}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tokenizers: dict[str, Tokenizer]) -> Tokenizer:
    return tokenizers[request.param]
