"""The classes of transformers that are `roberta` here: their config.json and weights."""

from dataclasses import dataclass
from typing import Any

from .hf_config import Fields, HFClass, HFConfig, Row, boolean, integer, number, row
from .weight_map import WeightName

ROBERTA = "RobertaForMaskedLM"


@dataclass(frozen=True)
class BertNames:
    """The names of weights in one class; `{n}` is a layer."""

    embeddings: str
    layer: str
    qkv: str
    """A pattern for query, key and value."""
    qkv_parts: tuple[str, str, str]
    block: dict[str, str]
    """Layers of a block: here -> in transformers."""
    head: dict[str, str]
    """Layers of the head, and its matrix."""
    bias: str
    types: str | None = None
    """Vectors of token types."""
    untied_bias: str | None = None
    """Another name of the bias, which is read where the matrix is not tied."""

    @property
    def positions(self) -> str:
        """The table of positions."""
        return f"{self.embeddings}.position_embeddings.weight"


_BLOCK = {
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "mlp.up": "intermediate.dense",
    "mlp.down": "output.dense",
    "mlp_norm": "output.LayerNorm",
}


def _bert(prefix: str, dense: str, norm: str, decoder: str, bias: str) -> BertNames:
    return BertNames(
        f"{prefix}.embeddings",
        f"{prefix}.encoder.layer.{{n}}",
        "attention.self.{part}",
        ("query", "key", "value"),
        _BLOCK,
        {"dense": dense, "norm": norm, "decoder": decoder},
        bias,
        f"{prefix}.embeddings.token_type_embeddings.weight",
        f"{decoder}.bias",
    )


_CLS = "cls.predictions"
NAMES = {
    ROBERTA: _bert(
        "roberta", "lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head.bias"
    ),
    "BertForMaskedLM": _bert(
        "bert",
        f"{_CLS}.transform.dense",
        f"{_CLS}.transform.LayerNorm",
        f"{_CLS}.decoder",
        f"{_CLS}.bias",
    ),
    "DistilBertForMaskedLM": BertNames(
        "distilbert.embeddings",
        "distilbert.transformer.layer.{n}",
        "attention.{part}_lin",
        ("q", "k", "v"),
        {
            "attention.out": "attention.out_lin",
            "attention_norm": "sa_layer_norm",
            "mlp.up": "ffn.lin1",
            "mlp.down": "ffn.lin2",
            "mlp_norm": "output_layer_norm",
        },
        {"dense": "vocab_transform", "norm": "vocab_layer_norm", "decoder": "vocab_projector"},
        "vocab_projector.bias",
    ),
}
"""By class."""


def bert_weight_map(class_name: str) -> tuple[WeightName, ...]:
    """The names of the weights in a class."""
    names, ours = NAMES[class_name], "backbone.blocks.{n}"
    rows = [
        WeightName("backbone.embed.token.weight", f"{names.embeddings}.word_embeddings.weight"),
        WeightName("backbone.embed.position.weight", names.positions),
        WeightName("head.weight", f"{names.head['decoder']}.weight"),
        WeightName("head.bias", names.bias),
    ]
    for kind in ("weight", "bias"):
        parts = (names.qkv.format(part=part) for part in names.qkv_parts)
        qkv = tuple(f"{names.layer}.{part}.{kind}" for part in parts)
        rows += [
            WeightName(f"backbone.embed.norm.{kind}", f"{names.embeddings}.LayerNorm.{kind}"),
            WeightName(f"{ours}.attention.qkv.{kind}", qkv, parts="qkv"),
            WeightName(f"head.dense.{kind}", f"{names.head['dense']}.{kind}"),
            WeightName(f"head.norm.{kind}", f"{names.head['norm']}.{kind}"),
        ]
        rows += [
            WeightName(f"{ours}.{here}.{kind}", f"{names.layer}.{there}.{kind}")
            for here, there in names.block.items()
        ]
    return tuple(rows)


def _read_positions(hf_config: HFConfig, known: Fields) -> Fields:
    padding = integer(hf_config, "pad_token_id", default=1)
    length = integer(hf_config, "max_position_embeddings")
    return {"context_length": length - padding - 1, "padding": padding}


def _write_positions(config: Any) -> Fields:
    rows = config.unused_positions + config.context_length
    return {"max_position_embeddings": rows, "pad_token_id": config.padding_id}


def _dropouts(*names: str) -> Row:
    return Row(
        ("dropout",),
        lambda hf, _: {"dropout": number(hf, names[0], default=0.1)},
        lambda config: dict.fromkeys(names, config.dropout),
    )


_SIZES = (
    row("vocab_size", "vocab_size"),
    row("layers", "num_hidden_layers"),
    row("heads", "num_attention_heads"),
    row("d_model", "hidden_size"),
    row("d_ff", "intermediate_size", value="ff_size"),
    row("norm_eps", "layer_norm_eps", number, 1e-12),
    row("tie_embeddings", "tie_word_embeddings", boolean, True),
    row("token_types", "type_vocab_size", default=2),
    _dropouts("hidden_dropout_prob", "attention_probs_dropout_prob"),
)
_POSITIONS = (
    row("context_length", "max_position_embeddings"),
    row("padding", "pad_token_id", default=0, value="padding_id"),
)
_PLAIN = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}

CLASSES = (
    HFClass(
        ROBERTA,
        "roberta",
        (*_SIZES, Row(("context_length", "padding"), _read_positions, _write_positions)),
        hf_config=_PLAIN,
    ),
    HFClass("BertForMaskedLM", "bert", (*_SIZES, *_POSITIONS), hf_config=_PLAIN),
    HFClass(
        "DistilBertForMaskedLM",
        "distilbert",
        (
            row("vocab_size", "vocab_size"),
            row("layers", "n_layers"),
            row("heads", "n_heads"),
            row("d_model", "dim"),
            row("d_ff", "hidden_dim", value="ff_size"),
            row("tie_embeddings", "tie_word_embeddings", boolean, True),
            _dropouts("dropout", "attention_dropout"),
            *_POSITIONS,
        ),
        fields={"norm_eps": 1e-12, "token_types": 1},
        hf_config={"activation": "gelu", "sinusoidal_pos_embds": False},
    ),
)
