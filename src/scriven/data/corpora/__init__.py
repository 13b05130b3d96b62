"""Built-in corpora, one file each: `read(settings) -> Iterator[TextChunk]`."""
