"""Plain text and Markdown: one file is one document, kept character by character."""

from .base import read_text as read

SUFFIXES = (".txt", ".text", ".md", ".markdown")
CUT_AT = "word"

__all__ = ["CUT_AT", "SUFFIXES", "read"]
