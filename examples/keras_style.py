"""Keras-style compile and fit, with an optimizer of PyTorch, and a loss and metric of our own.

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
parser.add_argument("--epochs", type=int, default=3)
arguments = parser.parse_args()

gpt = scriven.GPT(layers=3, heads=3, d_model=96, context_length=64, tokenizer="char")
gpt.build(arguments.text)  # the vocabulary, and with it the weights
optimizer = torch.optim.RAdam(gpt.parameters(), lr=2e-3)
gpt.compile(optimizer=optimizer, loss=focal, metrics=["accuracy", top5])
gpt.summary()
history = gpt.fit(arguments.text, epochs=arguments.epochs).history
for epoch, (loss, accuracy) in enumerate(
    zip(history["val_loss"], history["val_top5"], strict=True)
):
    print(f"epoch {epoch + 1}   validation loss {loss:.3f}   top-5 accuracy {accuracy:.1%}")
print(gpt.generate("The", max_new_tokens=100))
