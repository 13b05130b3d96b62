"""Architectures: one file each, found by their names."""

BASES = ("transformers",)
"""Files that hold models of other people alone: they have nothing to train from random weights."""
