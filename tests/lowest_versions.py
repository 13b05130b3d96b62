"""Prints the lowest versions that pyproject.toml allows, for `make test-lowest`.

python tests/lowest_versions.py data hf    one requirement a line, with those extras
"""

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest(extras: Sequence[str]) -> Iterator[str]:
    """`numpy>=1.26` -> `numpy==1.26`; a requirement without a floor stays as it is."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    optional = (project["optional-dependencies"][extra] for extra in extras)
    for requirement in [*project["dependencies"], *(each for names in optional for each in names)]:
        floor = re.match(r"([\w.-]+)>=([\w.]+)", requirement)
        yield f"{floor[1]}=={floor[2]}" if floor else requirement


if __name__ == "__main__":
    print("\n".join(dict.fromkeys(lowest(sys.argv[1:]))))
