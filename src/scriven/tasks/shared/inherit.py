"""Weights from one task to the next: what was learned in pre-training starts a fine-tuning."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..base import Objective

BACKBONE = "backbone."
TABLE = "backbone.embed.token.weight"


@torch.no_grad()
def inherit(task: Objective, learned: Mapping[str, Tensor], same_answers: bool = False) -> None:
    """Puts the weights of another task's model into a fresh one.

    A vocabulary that has grown keeps its old rows; the new ones are drawn from a normal
    distribution of the old ones' spread. What scored tokens goes on doing so where this task scores
    tokens; a head for labels stays fresh.

    Args:
        task: with fresh weights.
        learned: the state dict of a model of the same architecture and shape.
        same_answers: whether that model's head gives the same answers, in the same order.
    """
    mine = task.state_dict()
    for name, weight in learned.items():
        if name.startswith(BACKBONE):
            _copy(mine[name], weight)
    if same_answers:
        for name in mine.keys() & learned.keys():  # one may learn text or copy, the other not
            if not name.startswith(BACKBONE):
                _copy(mine[name], learned[name])
        return
    words = learned.get("words.weight", learned.get("head.weight"))
    place = "head.weight" if task.writes else "words.weight"
    if place in mine and words is not None and len(words) == len(learned[TABLE]):
        _copy(mine[place], words)


def _copy(mine: Tensor, learned: Tensor) -> None:
    old = len(learned)
    if len(mine) > old:
        mine[old:].normal_(0.0, float(learned.float().std()))
    mine[:old].copy_(learned)
