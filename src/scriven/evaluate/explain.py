"""One forward and one backward pass of a trained model over a text, with every step in numbers:
tokens, shapes, attention, probabilities, loss, gradients, and what one update changes.

`explain` gives the numbers; report/explanation.py puts them into sentences and tables.
"""

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, SettingError
from .interpret import read_text

if TYPE_CHECKING:
    from ..tasks.base import BaseTask
    from ..tokenizers.base import Tokenizer

TOP = 8
"""Next tokens, and weights with the largest changes, that are listed."""

Numbers = dict[str, Any]


def explain(
    task: "BaseTask",
    tokenizer: "Tokenizer",
    text: str,
    *,
    layer: int = 0,
    head: int = 0,
    lr: float = 0.001,
) -> Numbers:
    """What a model does with a text, and what the text would teach it. The model stays as it is.

    All is computed in float32, on a copy of the weights. The update is plain gradient descent,
    w - lr * gradient.

    Args:
        task: a decoder with its head.
        text: at least one token, and one less than the context, as a token before it is read too.
        layer, head: whose attention is shown, counted from 0.
        lr: learning rate of the update.

    Returns:
        What `scriven explain --json` prints: numbers, texts, and lists and dicts of them.

    Raises:
        InputError: a text of another length, or a model that does not predict next tokens.
        SettingError: no such layer or head, or a learning rate that is not above 0.
    """
    if not 0 < lr < math.inf:
        raise SettingError(f"--lr {lr}: a number above 0 is needed")
    # 1. tokens, after the one that stands before every text, and attention
    ids = _read_ids(task, tokenizer, text)
    names = [_spell(tokenizer, each) for each in ids]
    weights = read_text(task, ids).attention
    attention = _attention([each.tolist() for each in weights], layer, head)
    # 2. forward, and backward from the mean loss of the targets
    twin: Any = copy.deepcopy(task).float().eval().requires_grad_(True)
    tokens = torch.tensor([ids], device=next(twin.parameters()).device)  # (1, T + 1)
    shapes, log_p = _forward_with_shapes(twin, tokens)  # (T + 1, V): row t is about token t + 1
    targets = tokens[0, 1:]
    loss = F.nll_loss(log_p[:-1], targets)
    loss.backward()  # type: ignore[no-untyped-call]
    trained = {name: w for name, w in twin.named_parameters() if w.grad is not None}
    by_layer = _gradient_norms(trained)
    norm = math.hypot(*(each["norm"] for each in by_layer))
    # 3. one update, and the loss after it
    largest = _largest_changes(trained, lr)
    with torch.no_grad():
        for weight in trained.values():
            weight -= lr * weight.grad
        after = _log_probabilities(twin, tokens)
    # 4. as plain numbers
    nats = float(loss.detach())
    return {
        "text": text,
        "tokens": [{"id": i, "text": name} for i, name in zip(ids, names, strict=True)],
        "shapes": shapes,
        "attention": attention,
        "predictions": _predictions(tokenizer, names, targets, log_p.detach(), after),
        "next": _likeliest(tokenizer, log_p[-1], TOP),
        "loss": {
            "nats": nats,
            "bits": nats / math.log(2),
            "perplexity": math.exp(nats),
            "uniform_nats": math.log(log_p.size(-1)),
        },
        "gradients": {"norm": norm, "by_layer": by_layer},
        "update": {
            "lr": lr,
            "loss_before": nats,
            "loss_after": float(F.nll_loss(after[:-1], targets)),
            "expected_change": -lr * norm**2,
            "largest": largest,
        },
    }


def _read_ids(task: "BaseTask", tokenizer: "Tokenizer", text: str) -> list[int]:
    """The ids of a text, after the token that begins every text."""
    if not task.is_generative or task.is_masked_lm or task.backbone.kind != "decoder":
        raise InputError("only a decoder that predicts next tokens can be explained")
    own = tokenizer.encode(text)
    ids = [*(task.first_tokens or [tokenizer.eos]), *own]
    if not own or len(ids) > task.max_context:
        most = task.max_context - len(ids) + len(own)
        raise InputError(
            f"the text has {len(own):,} tokens, and from 1 to {most:,} can be explained: "
            "give a part of it"
            if own
            else "the text is empty: give one of at least one token"
        )
    return ids


def _attention(layers: list[Any], layer: int, head: int) -> Numbers | None:
    """The weights of one head; None for a model without attention."""
    if not layers:
        return None
    for name, given, count in (("layer", layer, len(layers)), ("head", head, len(layers[0]))):
        if not 0 <= given < count:
            raise SettingError(f"--{name} {given}: the model has {name}s from 0 to {count - 1}")
    return {
        "layer": layer, "head": head, "layers": len(layers), "heads": len(layers[0]),
        "weights": layers[layer][head],
    }  # fmt: skip


def _log_probabilities(task: Any, tokens: Tensor) -> Tensor:
    """Of each next token: (1, T) -> (T, V)."""
    logits: Tensor = task.logits(task.backbone(tokens, None, None))  # (1, T, V)
    return logits[0].log_softmax(-1)


def _forward_with_shapes(task: Any, tokens: Tensor) -> tuple[list[Numbers], Tensor]:
    """Shape and parameters of what each layer gives, in order, and the log-probabilities."""
    backbone = task.backbone
    layers: list[tuple[str, nn.Module]] = [("embed", backbone.embed)]
    for number, block in enumerate(backbone.blocks):
        children = dict(block.named_children())
        layers += [(f"blocks.{number}.{name}", child) for name, child in children.items()]
        layers += [(f"blocks.{number}", block)]
    layers.append(("norm", backbone.norm))
    shapes: list[Numbers] = []
    handles = []
    for name, module in layers:

        def record(module: nn.Module, _: Any, output: Any, name: str = name) -> None:
            first = output[0] if isinstance(output, tuple) else output
            count = sum(weight.numel() for weight in module.parameters())
            shapes.append({"name": name, "shape": list(first.shape), "parameters": count})

        handles.append(module.register_forward_hook(record))
    try:
        log_p = _log_probabilities(task, tokens)
    finally:
        for handle in handles:
            handle.remove()
    own = 0 if task.head is None else sum(weight.numel() for weight in task.head.parameters())
    shapes.append({"name": "logits", "shape": [1, *log_p.shape], "parameters": own})
    return shapes, log_p


def _gradient_norms(weights: dict[str, Any]) -> list[Numbers]:
    """The norm of the gradient of each layer, from the embedding to the head."""
    squares: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name, weight in weights.items():
        # backbone.blocks.0.mlp_norm.weight -> blocks.0.mlp; backbone.embed.token.weight -> embed
        parts = name.removeprefix("backbone.").split(".")
        layer = ".".join(parts[:3] if parts[0] == "blocks" else parts[:1]).removesuffix("_norm")
        squares[layer] = squares.get(layer, 0.0) + float(weight.grad.double().square().sum())
        counts[layer] = counts.get(layer, 0) + weight.numel()
    return [
        {"name": layer, "norm": math.sqrt(square), "parameters": counts[layer]}
        for layer, square in squares.items()
    ]


def _largest_changes(weights: dict[str, Any], lr: float) -> list[Numbers]:
    """The weights that gradient descent changes most: before, gradient, after."""
    found: list[tuple[float, str, int]] = []
    for name, weight in weights.items():
        sizes = weight.grad.abs().flatten()
        values, places = sizes.topk(min(TOP, sizes.numel()))
        pairs = zip(values.tolist(), places.tolist(), strict=True)
        found += [(value, name, place) for value, place in pairs]
    rows = []
    for _, name, place in sorted(found, reverse=True)[:TOP]:
        weight = weights[name]
        index = [int(each) for each in torch.unravel_index(torch.tensor(place), weight.shape)]
        before, gradient = weight.flatten()[place].item(), weight.grad.flatten()[place].item()
        rows.append(
            {"weight": name.removeprefix("backbone."), "index": index, "before": before,
             "gradient": gradient, "after": before - lr * gradient}
        )  # fmt: skip
    return rows


def _predictions(
    tokenizer: "Tokenizer", names: list[str], targets: Tensor, before: Tensor, after: Tensor
) -> list[Numbers]:
    """What was predicted at each position: log-probabilities (T + 1, V) before and after."""
    rows = []
    for t, target in enumerate(targets.tolist()):
        best = _likeliest(tokenizer, before[t], 1)[0]
        nats = -float(before[t, target])
        rows.append(
            {"after": names[t], "token": names[t + 1], "probability": math.exp(-nats),
             "nats": nats, "likeliest": best["token"], "likeliest_probability": best["probability"],
             "probability_after_update": math.exp(float(after[t, target]))}
        )  # fmt: skip
    return rows


def _likeliest(tokenizer: "Tokenizer", log_p: Tensor, count: int) -> list[Numbers]:
    """The likeliest tokens of log-probabilities (V,), with their probabilities."""
    known = log_p.detach()[: tokenizer.vocab_size]  # a vocabulary may be padded
    values, ids = known.topk(min(count, len(known)))
    return [
        {"id": i, "token": _spell(tokenizer, i), "probability": math.exp(value)}
        for i, value in zip(ids.tolist(), values.tolist(), strict=True)
    ]


def _spell(tokenizer: "Tokenizer", token: int) -> str:
    """What a token writes; a special one its name."""
    for name, number in tokenizer.special_token_ids.items():
        if number == token:
            return f"<|{name}|>"
    return tokenizer.spell(token).decode("utf-8", "replace")
