"""The classes of transformers that are one architecture here, `llama`: their config.json.

What is not in the table of a class must have its default for a model to be saved as that class.
"""

from collections.abc import Callable
from typing import Any

from ..base import shorten_layer_types
from .hf_config import (
    Fields,
    HFClass,
    HFConfig,
    Row,
    Unsupported,
    activation_row,
    boolean,
    integer,
    number,
    optional_integer,
    optional_number,
    read_rope,
    require,
    row,
    write_rope,
)


def _sizes(head_dim: Callable[[Fields], int], eps: float = 1e-6, tied: bool = False) -> list[Row]:
    """Rows that all classes have; where a file is silent, they differ in these."""
    return [
        row("vocab_size", "vocab_size"),
        row("context_length", "max_position_embeddings"),
        row("layers", "num_hidden_layers"),
        row("heads", "num_attention_heads"),
        row("d_model", "hidden_size"),
        Row(
            ("kv_heads",),
            lambda hf, known: {
                "kv_heads": integer(hf, "num_key_value_heads", default=known["heads"])
            },
            lambda config: {"num_key_value_heads": config.kv_heads or config.heads},
        ),
        row("head_dim", "head_dim", default=head_dim, value="head_size"),
        row("d_ff", "intermediate_size", value="ff_size"),
        row("norm_eps", "rms_norm_eps", number, eps),
        row("tie_embeddings", "tie_word_embeddings", boolean, tied),
    ]


def _divided(known: Fields) -> int:
    return int(known["d_model"] // max(1, known["heads"]))


def _rope(theta: float = 10000.0, *, partial: bool = False) -> Row:
    """Rotary positions; a class that is not `partial` rotates whole heads."""

    def read(hf_config: HFConfig, known: Fields) -> Fields:
        if not partial:
            require(hf_config, partial_rotary_factor=(1,))
            require(hf_config.get("rope_parameters") or {}, partial_rotary_factor=(1,))
        return read_rope(hf_config, theta)

    def write(config: Any) -> Fields | None:
        if config.rope_fraction != 1 and not partial:
            return None
        return write_rope(config.rope_theta, config.rope_scaling, config.rope_fraction)

    return Row(("rope_theta", "rope_scaling", "rope_fraction"), read, write)


# Kinds of layers: each class says in its own way which have a window


def _listed(hf_config: HFConfig, layers: int) -> list[str] | None:
    """`layer_types` as our kinds; None where there is none."""
    listed = hf_config.get("layer_types")
    if listed is None:
        return None
    kinds = {"full_attention": "full", "sliding_attention": "sliding"}
    if not isinstance(listed, list) or len(listed) != layers or not kinds.keys() >= set(listed):
        raise Unsupported(
            "config.json: layer_types has other layers than one full_attention or "
            "sliding_attention for each layer, which this architecture does not have here"
        )
    return [kinds[kind] for kind in listed]


def _types(config: Any) -> list[str]:
    return [f"{kind}_attention" for kind in config.kinds]


def _layers(
    read: Callable[[HFConfig, int], tuple[list[str], int | None]],
    write: Callable[[Any], Fields | None],
) -> Row:
    """A row for `layer_types` and `window`; `read` gives the kind of each layer and the window."""

    def both(hf_config: HFConfig, known: Fields) -> Fields:
        kinds, window = read(hf_config, min(known["layers"], 10_000))
        if window is None:  # then no layer has one
            kinds = ["full" if kind == "sliding" else kind for kind in kinds]
        pattern = shorten_layer_types(kinds)
        return {"layer_types": pattern, "window": window if "sliding" in kinds else None}

    return Row(("layer_types", "window"), both, write)


def _read_full(hf_config: HFConfig, layers: int) -> tuple[list[str], int | None]:
    if "sliding" in (_listed(hf_config, layers) or []):
        raise Unsupported(
            "config.json: layer_types has layers other than full_attention, which this "
            "architecture does not have here"
        )
    return ["full"] * layers, None


FULL = _layers(_read_full, lambda config: {} if set(config.kinds) <= {"full"} else None)
"""No layer has a window."""


def _write_same(config: Any) -> Fields | None:
    kinds = set(config.kinds)
    if len(kinds) > 1 or "nope" in kinds:
        return None
    return {"sliding_window": config.window if "sliding" in kinds else None}


def _same(default: int | None) -> Row:
    """All layers have the window `sliding_window`, or none has one."""
    return _layers(
        lambda hf, layers: (
            ["sliding"] * layers,
            optional_integer(hf, "sliding_window", default),
        ),
        _write_same,
    )


def _read_qwen(hf_config: HFConfig, layers: int) -> tuple[list[str], int | None]:
    kinds = _listed(hf_config, layers)
    if not boolean(hf_config, "use_sliding_window"):
        return kinds or ["full"] * layers, None
    full = integer(hf_config, "max_window_layers", default=28)
    by_depth = ["full" if layer < full else "sliding" for layer in range(layers)]
    return kinds or by_depth, optional_integer(hf_config, "sliding_window", 4096)


def _write_qwen(config: Any) -> Fields | None:
    if "nope" in config.kinds:
        return None
    if "sliding" not in config.kinds:
        return {"use_sliding_window": False}
    first = config.kinds.index("sliding")
    return {
        "use_sliding_window": True,
        "sliding_window": config.window,
        "max_window_layers": first,
        "layer_types": _types(config),
    }


def _gemma(period: int) -> Row:
    """Every `period`-th layer is full, the others have a window."""

    def read(hf_config: HFConfig, layers: int) -> tuple[list[str], int | None]:
        every = integer(
            hf_config, "sliding_window_pattern", "_sliding_window_pattern", default=period
        )
        regular = ["full" if not (layer + 1) % max(1, every) else "sliding"
                   for layer in range(layers)]  # fmt: skip
        window = optional_integer(hf_config, "sliding_window", 4096)
        return _listed(hf_config, layers) or regular, window

    def write(config: Any) -> Fields | None:
        if "nope" in config.kinds:
            return None
        window = config.window if "sliding" in config.kinds else config.context_length
        return {"layer_types": _types(config), "sliding_window": window}

    return _layers(read, write)


def _read_nope(hf_config: HFConfig, layers: int) -> tuple[list[str], int | None]:
    rotated = hf_config.get("no_rope_layers")  # 1 where a layer has positions
    if rotated is None:
        every = integer(hf_config, "no_rope_layer_interval", default=4)
        rotated = [int((layer + 1) % max(1, every) != 0) for layer in range(layers)]
    if not isinstance(rotated, list) or len(rotated) != layers or set(rotated) - {0, 1}:
        raise Unsupported("config.json: no_rope_layers is not one 0 or 1 for each layer")
    _read_full(hf_config, layers)
    return ["full" if has else "nope" for has in rotated], None


def _write_nope(config: Any) -> Fields | None:
    if "sliding" in config.kinds:
        return None
    return {"no_rope_layers": [int(kind == "full") for kind in config.kinds]}


NOPE = _layers(_read_nope, _write_nope)
"""Layers without positions."""


def _read_local_rope(hf_config: HFConfig, known: Fields) -> Fields:
    """Gemma 3 has two bases, nested by kind of layer since transformers 5."""
    nested = hf_config.get("rope_parameters")
    local = number(hf_config, "rope_local_base_freq", default=10_000.0)
    if not isinstance(nested, dict) or not {"full_attention", "sliding_attention"} & nested.keys():
        return {**read_rope(hf_config, 1e6), "sliding_rope_theta": local}
    full, sliding = ({} if nested.get(f"{kind}_attention") is None else nested[f"{kind}_attention"]
                     for kind in ("full", "sliding"))  # fmt: skip
    if not isinstance(full, dict) or not isinstance(sliding, dict):
        raise Unsupported("config.json: rope_parameters is not a table for each kind of layer")
    require(sliding, rope_type=("default",), type=("default",))
    base = number(hf_config, "rope_theta", default=1e6)
    flat = {**hf_config, "rope_parameters": {"rope_theta": base, **full}}
    return {
        **read_rope(flat, 1e6),
        "sliding_rope_theta": number(sliding, "rope_theta", default=local),
    }


def _write_local_rope(config: Any) -> Fields | None:
    if config.sliding_rope_theta is None or config.rope_fraction != 1:
        return None
    flat = write_rope(config.rope_theta, config.rope_scaling)
    local = {"rope_type": "default", "rope_theta": config.sliding_rope_theta}
    both = {"full_attention": flat["rope_parameters"], "sliding_attention": local}
    return {**flat, "rope_local_base_freq": config.sliding_rope_theta, "rope_parameters": both}


LOCAL_ROPE = Row(
    ("rope_theta", "rope_scaling", "rope_fraction", "sliding_rope_theta"),
    _read_local_rope,
    _write_local_rope,
)


def _write_bias(config: Any) -> Fields | None:
    whole = config.attention_bias != "qkv"  # Qwen 2's, which its class does not say
    return {"attention_bias": config.attention_bias} if whole else None


BIAS = Row(
    ("attention_bias",),
    lambda hf, _: {"attention_bias": boolean(hf, "attention_bias")},
    _write_bias,
)
MLP_BIAS = row("mlp_bias", "mlp_bias", boolean, False)
ACTIVATION = activation_row("hidden_act", "silu")
GEMMA = (
    *_sizes(lambda _: 256, tied=True),
    activation_row("hidden_activation", "gelu_tanh"),
    BIAS,
    row("query_pre_attn_scalar", "query_pre_attn_scalar", default=256, value="score_size"),
)
SOFTCAPS = (
    row("attention_softcap", "attn_logit_softcapping", optional_number, 50.0),
    row("logit_softcap", "final_logit_softcapping", optional_number, 30.0),
)
PLAIN = {"qk_norm": False}
OF_GEMMA = {"norm_position": "both", "norm_offset": True, "scale_embeddings": True}
DROPOUT = {"attention_dropout": 0.0}

CLASSES = (
    HFClass(
        "Qwen3ForCausalLM",
        "qwen3",
        (*_sizes(lambda _: 128), _rope(), _layers(_read_qwen, _write_qwen), ACTIVATION, BIAS),
        fields={"qk_norm": True},
        written=DROPOUT,
    ),
    HFClass(
        "LlamaForCausalLM",
        "llama",
        (*_sizes(_divided), _rope(), FULL, ACTIVATION, BIAS, MLP_BIAS),
        fields=PLAIN,
        written=DROPOUT,
    ),
    HFClass(
        "Qwen2ForCausalLM",
        "qwen2",
        (*_sizes(_divided), _rope(), _layers(_read_qwen, _write_qwen), ACTIVATION),
        fields={**PLAIN, "attention_bias": "qkv"},
        written=DROPOUT,
    ),
    HFClass(
        "MistralForCausalLM",
        "mistral",
        (*_sizes(_divided), _rope(), _same(4096), ACTIVATION),
        fields=PLAIN,
        written=DROPOUT,
    ),
    HFClass(
        "SmolLM3ForCausalLM",
        "smollm3",
        (*_sizes(_divided, tied=True), _rope(2e6), NOPE, ACTIVATION, BIAS, MLP_BIAS),
        fields=PLAIN,
        hf_config={"use_sliding_window": False},
        written=DROPOUT,
    ),
    HFClass(
        "Phi3ForCausalLM",
        "phi3",
        (*_sizes(_divided, 1e-5), _rope(partial=True), _same(None), ACTIVATION),
        fields=PLAIN,
        written=DROPOUT,
    ),
    HFClass(
        "Olmo2ForCausalLM",
        "olmo2",
        (*_sizes(_divided, 1e-5), _rope(), FULL, ACTIVATION, BIAS),
        fields={"qk_norm": "all", "norm_position": "output"},
        written=DROPOUT,
    ),
    HFClass(
        "GemmaForCausalLM",
        "gemma",
        (*_sizes(lambda _: 256, tied=True), _rope(), FULL, BIAS),
        fields={**PLAIN, **OF_GEMMA, "norm_position": "pre", "activation": "gelu_tanh"},
        # the first releases said gelu and meant its tanh form
        hf_config={"hidden_act": ("gelu_pytorch_tanh", "gelu")},
        written=DROPOUT,
    ),
    HFClass(
        "Gemma2ForCausalLM",
        "gemma2",
        (*GEMMA, _rope(), _gemma(2), *SOFTCAPS),
        fields={**PLAIN, **OF_GEMMA},
        hf_config={"use_bidirectional_attention": False},
        written=DROPOUT,
    ),
    HFClass(
        "Gemma3ForCausalLM",
        "gemma3_text",
        (*GEMMA, LOCAL_ROPE, _gemma(6)),
        fields={**OF_GEMMA, "qk_norm": True},
        hf_config={"use_bidirectional_attention": False, "attn_logit_softcapping": None},
        written=DROPOUT,
    ),
)
