"""File formats, one file each: `SUFFIXES` and `read(path, settings) -> Iterator[Piece]`."""
