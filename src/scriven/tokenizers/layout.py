"""tokenizer_config.json: what transformers wants to know beside tokenizer.json."""

import json
from typing import Any

_UNLIMITED = 10**30  # transformers' way to write that the tokenizer itself sets no length


def config_text(
    *,
    kind: str,
    pattern: str,
    eos: str,
    pad: str,
    mask: str | None,
    context_length: int | None,
    template: str | None,
) -> str:
    """The content of tokenizer_config.json.

    Args:
        context: the model's longest sequence, if it is known.
        template: the chat template (Jinja), if there is one.
    """
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": context_length or _UNLIMITED,
        "bos_token": None,
        "eos_token": eos,
        "pad_token": pad,
        "unk_token": None,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "scriven_kind": kind,
        "scriven_pattern": pattern,
    }
    if mask is not None:
        config["mask_token"] = mask
    if template is not None:
        config["chat_template"] = template
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"
