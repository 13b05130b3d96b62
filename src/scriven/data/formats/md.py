"""Markdown: read as the plain text it is, so that a model learns to write markdown."""

from .txt import read

SUFFIXES = (".md", ".markdown")

__all__ = ["SUFFIXES", "read"]
