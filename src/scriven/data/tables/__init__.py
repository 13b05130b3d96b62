"""Built-in tables, one file each: `COLUMNS` and `read(part) -> Iterator[dict[str, Any]]`.

A part is "train", "validation" or "test". A user types the file's name with dashes:
`shakespeare-genre`.
"""

from types import ModuleType

from ... import registry


def builtin(name: str) -> ModuleType | None:
    """The built-in table of this name; None where it is none, so that it can be a path."""
    file = registry.find_module(__package__, name)
    return None if file is None else registry.module(__package__, file)


def known() -> list[str]:
    """The names of all built-in tables, as a user types them."""
    return [name.replace("_", "-") for name in registry.names(__package__)]
