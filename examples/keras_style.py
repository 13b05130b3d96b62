"""Keras-style compile and fit, with a custom optimizer, loss and metric.

python examples/keras_style.py book.txt --epochs 3
"""

import argparse

import torch
from torch import Tensor

import scriven


def top5(logits: Tensor, targets: Tensor) -> Tensor:
    """Top-5 accuracy, from logits (N, V) and target ids (N,)."""
    best = logits.topk(5, dim=-1).indices
    return (best == targets[:, None]).any(dim=-1).float().mean()


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal loss with gamma 2 (Lin et al. 2017, section 3.2), which weights easy tokens less."""
    nats = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return ((1 - (-nats).exp()) ** 2 * nats).mean()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text")
parser.add_argument("--epochs", type=float, default=3)
arguments = parser.parse_args()

gpt = scriven.GPT(layers=3, heads=3, d_model=96, context_length=64, tokenizer="char")
gpt.compile(
    optimizer=lambda weights: torch.optim.RAdam(weights, lr=2e-3),
    loss=focal,
    metrics=["accuracy", top5],
)
history = gpt.fit(arguments.text, epochs=arguments.epochs)
epochs = zip(history.history["val_loss"], history.history["val_top5"], strict=True)
for loss, accuracy in epochs:
    print(f"validation loss {loss:.3f}   top-5 accuracy {accuracy:.1%}")
print(gpt.generate("The", max_new_tokens=100))
