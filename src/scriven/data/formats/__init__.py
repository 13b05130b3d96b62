"""Readers of file formats, one file each: `SUFFIXES` and `read(path, settings)`.

Optional: `records(path, settings)`, all columns of a table; `rows(path, settings, columns)`, some
of them as text; `CUT_AT`, "word" or "line", where `read` takes `start`, `end` and `ends_document`
to read a range of bytes that begins at such a place.
"""
