"""What a request may change of the logits beyond sampling settings: token biases, penalties by
count, and a grammar that the answer must follow (structured output, through llguidance).
"""

import json
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, SettingError
from ..tokenizers.base import Tokenizer
from .schema import ResponseFormat, SamplingRequest


class RequestLogits:
    """A `LogitsHook` for one request."""

    def __init__(self, tokenizer: Tokenizer, request: SamplingRequest) -> None:
        """Raises SettingError for a token that does not exist or a grammar that cannot be used."""
        self.presence = request.presence_penalty or 0.0
        self.frequency = request.frequency_penalty or 0.0
        self.counts: Counter[int] = Counter()
        self.bias: Tensor | None = None
        if request.logit_bias:
            self.bias = torch.zeros(tokenizer.vocab_size)
            for name, value in request.logit_bias.items():
                if int(name) >= tokenizer.vocab_size:
                    raise SettingError(
                        f"logit_bias: token {name} does not exist: ids go from 0 to "
                        f"{tokenizer.vocab_size - 1}"
                    )
                # the reference server bans at -100, and allows nothing else at 100
                self.bias[int(name)] = -torch.inf if value == -100 else value
        self.matcher = _matcher(tokenizer, request.response_format)

    def __call__(self, logits: Tensor) -> Tensor:
        """(V,) -> (V,)."""
        logits = logits.float() if logits.dtype == torch.bfloat16 else logits
        if self.bias is not None:
            logits = logits + self.bias.to(logits)
        # of the tokens that were generated, as in the API reference
        if self.counts and (self.presence or self.frequency):
            ids = torch.tensor(list(self.counts))
            counts = torch.tensor(list(self.counts.values())).to(logits)
            logits = logits.clone()
            logits[ids] -= self.presence + self.frequency * counts
        if self.matcher is not None:
            bits = np.frombuffer(self.matcher.compute_bitmask(), dtype=np.uint8)
            allowed = np.unpackbits(bits, bitorder="little")[: logits.numel()]
            mask = torch.from_numpy(allowed.astype(bool))
            logits = logits.masked_fill(~mask, -torch.inf)
        if not bool(torch.isfinite(logits.amax())):
            raise InputError(
                "no token of this model's vocabulary can go on with the format that was asked for"
            )
        return logits

    def accept(self, token: int) -> None:
        """Counts a token, and takes the grammar on."""
        self.counts[token] += 1
        if self.matcher is not None:
            self.matcher.consume_token(token)


def hook_of(tokenizer: Tokenizer, request: SamplingRequest) -> RequestLogits | None:
    """The hook that a request needs; None where its sampling settings say everything."""
    structured = request.response_format is not None and request.response_format.type != "text"
    penalties = request.presence_penalty or request.frequency_penalty
    return (
        RequestLogits(tokenizer, request) if structured or penalties or request.logit_bias else None
    )


def _matcher(tokenizer: Tokenizer, wanted: ResponseFormat | None) -> Any:
    if wanted is None or wanted.type == "text":
        return None
    from llguidance import LLMatcher

    # 1. the format as a grammar
    if wanted.type == "regex":
        grammar = LLMatcher.grammar_from_regex(wanted.pattern or "")
    elif wanted.type == "json_object":
        grammar = _json_grammar({"type": "object"})
    else:
        assert wanted.json_schema is not None
        grammar = _json_grammar(wanted.json_schema.schema_)
    # 2. a grammar that cannot be compiled is the caller's mistake
    matcher = LLMatcher(_ll_tokenizer(tokenizer), grammar, log_level=0)
    if matcher.is_error():
        reason = " ".join(str(matcher.get_error()).split())[:300]
        raise SettingError(f"response_format cannot be used: {reason}")
    return matcher


def _json_grammar(schema: Mapping[str, Any] | bool) -> Any:
    from llguidance import LLMatcher

    try:
        text = json.dumps(schema)
        # a small model with a choice would write spaces for ever
        return LLMatcher.grammar_from_json_schema(text, defaults={"whitespace_flexible": False})
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SettingError(f"response_format cannot be used: {reason}") from error


class _Vocabulary:
    """A tokenizer as llguidance reads it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        special = tokenizer.special_token_ids
        self.eos_token_id, self.bos_token_id = tokenizer.eos, None
        self.special_token_ids = sorted(set(special.values()))
        hidden = set(self.special_token_ids) | set(tokenizer.gaps)
        self.tokens = [
            b"" if token in hidden else tokenizer.spell(token)
            for token in range(tokenizer.vocab_size)
        ]
        self._encode = tokenizer.encode

    def __call__(self, text: str | bytes) -> list[int]:
        return self._encode(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)


@lru_cache(maxsize=8)
def _ll_tokenizer(tokenizer: Tokenizer) -> Any:
    from llguidance import LLTokenizer, TokenizerWrapper

    return LLTokenizer(TokenizerWrapper(_Vocabulary(tokenizer)))
