"""`gpt.summary()`: layers, output shapes and numbers of weights, in the layout of Keras."""

from typing import Any

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..format import format_bytes
from ..tasks.base import BaseTask


def layer_rows(task: BaseTask) -> list[tuple[str, str, int]]:
    """(name and class, output shape, weights) of embedding, blocks, norms and head.

    The shapes are those of one forward pass over one token sequence of the full context.
    """
    layers = [(name, each) for name, each in _layers(task.backbone) if list(each.parameters())]
    if task.head is not None:
        layers.append(("head", task.head))
    # 1. shapes, as they are
    shapes: dict[str, str] = {}
    hooks = [
        layer.register_forward_hook(lambda _, __, output, name=name: _note(shapes, name, output))
        for name, layer in layers
    ]
    length, was_training = task.sequence_length, task.training
    tokens = torch.zeros(1, length, dtype=torch.long, device=next(task.parameters()).device)
    try:
        with torch.no_grad():
            source = tokens if task.backbone.kind == "encoder-decoder" else None
            task.eval().predict(Batch(tokens, tokens, source=source))
    except (TypeError, ValueError, RuntimeError):
        pass  # an architecture that needs more than tokens: its shapes stay unknown
    finally:
        for hook in hooks:
            hook.remove()
        task.train(was_training)
    # 2. weights, each counted once where it is tied
    seen, rows = set[int](), []
    for name, layer in layers:
        weights = [each for each in layer.parameters() if id(each) not in seen]
        seen |= {id(each) for each in weights}
        count = sum(each.numel() for each in weights)
        rows.append((f"{name} ({type(layer).__name__})", shapes.get(name, "?"), count))
    return rows


def summary(task: BaseTask, name: str) -> str:
    """The table as text."""
    header = ("Layer (type)", "Output Shape", "Param #")
    rows = [(layer, shape, f"{count:,}") for layer, shape, count in layer_rows(task)]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(3)]
    lines = [
        f'Model: "{name}"',
        "┏" + "┳".join("━" * (width + 2) for width in widths) + "┓",
        "┃"
        + "┃".join(f" {cell:<{width}} " for cell, width in zip(header, widths, strict=True))
        + "┃",
        "┡" + "╇".join("━" * (width + 2) for width in widths) + "┩",
    ]
    between = "├" + "┼".join("─" * (width + 2) for width in widths) + "┤"
    for place, (layer, shape, count) in enumerate(rows):
        lines += [between] if place else []
        lines.append(f"│ {layer:<{widths[0]}} │ {shape:<{widths[1]}} │ {count:>{widths[2]}} │")
    lines.append("└" + "┴".join("─" * (width + 2) for width in widths) + "┘")
    # every weight once; frozen ones are those of a fine-tuning
    all_weights = list(task.parameters())
    trained = sum(each.numel() for each in all_weights if each.requires_grad)
    total = sum(each.numel() for each in all_weights)
    size = sum(each.numel() * each.element_size() for each in all_weights)
    lines.append(f" Total params: {total:,} ({format_bytes(size)})")
    lines.append(f" Trainable params: {trained:,}")
    lines.append(f" Non-trainable params: {total - trained:,}")
    return "\n".join(lines)


def _layers(backbone: nn.Module) -> list[tuple[str, nn.Module]]:
    """Its parts, lists of blocks one by one."""
    found: list[tuple[str, nn.Module]] = []
    for name, part in backbone.named_children():
        if isinstance(part, nn.ModuleList):
            found += [(f"{name}.{number}", each) for number, each in enumerate(part)]
        else:
            found.append((name, part))
    return found


def _note(shapes: dict[str, str], name: str, output: Any) -> None:
    """The output of a layer, with None for the batch size as in Keras."""
    first = output[0] if isinstance(output, tuple) else output
    if isinstance(first, Tensor):
        shapes[name] = "(" + ", ".join(["None", *map(str, first.shape[1:])]) + ")"
