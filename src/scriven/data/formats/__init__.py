"""Readers of file formats, one file each, found by being here.

A format has `SUFFIXES`, and for texts `read(path, settings, start, end, ends_document)`, for tables
`records(path, settings, columns)`. `CUT_AT`, "word" or "line", says where a range of bytes may
begin that is read alone; such a table also takes `start` and `end`.
"""
