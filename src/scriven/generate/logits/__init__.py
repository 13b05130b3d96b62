"""Logits processors: what happens to the scores of the next token before one is drawn.

One file is one processor; its command-line flag, its Python argument, its help and its range follow
from its class. Loads no torch, so that `scriven --help` is instant.
"""
