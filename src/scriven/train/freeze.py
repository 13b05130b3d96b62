"""Which weights a fine-tuning moves: all of them, the head alone, or adapters.

What a task brings that the pre-trained model had not is learned in any case: the head of its
labels, and the vectors of its special tokens. Knows no optimizer.
"""

from typing import Literal

from ..errors import SettingError
from ..nn.lora import adapters
from ..tasks.base import BaseTask

What = Literal["full", "head", "lora"]


def freeze(task: BaseTask, what: What, known: int) -> dict[str, int]:
    """Marks which weights learn (`requires_grad`); all others stay as they are, bit for bit.

    full: all weights. head: the task's head, whole. lora: the adapters that the task has (see
    `run.adapter.add_adapters`), and the head if it is one for labels.

    Args:
        task: with the weights it starts from.
        what: of it should learn.
        known: tokens of the pre-trained model's vocabulary; the ids above are new.

    Returns:
        Name of a weight -> its first new row: those learn that row and what follows, and nothing
        before it. For `Optimizers.hold`.

    Raises:
        SettingError: there is no head to train alone, or there are no adapters.
    """
    if what == "full":
        task.requires_grad_(True)
        return {}
    lora = adapters(task)
    if task.is_generative and (not lora if what == "lora" else task.head is None):
        raise SettingError(
            "adapters of rank 0 learn nothing: set --finetune.lora_rank=8, say"
            if what == "lora"
            else "this model writes with the vectors it reads with, so it has no head to train "
            "alone: train all weights or adapters (full or lora)"
        )
    task.requires_grad_(False)
    for one in lora.values():
        one.requires_grad_(what == "lora")
    if task.head is not None and (what == "head" or not task.is_generative):
        task.head.requires_grad_(True)
    for name, weight in task.named_parameters():
        if name.startswith("pointer."):  # what copies is new as well
            weight.requires_grad_(True)
    rows: dict[str, int] = {}
    if known < task.vocab_size:
        tables = {"backbone.embed.token.weight", "words.weight", "head.weight"}
        for name, weight in task.named_parameters():
            if name in tables and not weight.requires_grad:
                weight.requires_grad_(True)
                rows[name] = known
    return rows
