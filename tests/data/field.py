"""What the tests of odd files share: writing files, and reading them in several ways."""

from pathlib import Path
from typing import Any

from scriven.data.formats import base
from scriven.data.pipeline import load_dataset
from scriven.data.shards import TokenDataset
from scriven.data.table import Table
from scriven.settings import DataSettings, TokenizerSettings

SENTENCE = "Mira found a blue lantern near the old mill before the rain came."


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def loaded(*sources: object, **settings: Any) -> TokenDataset:
    names = [str(source) for source in sources]
    return load_dataset(names, DataSettings(**settings), TokenizerSettings(kind="byte"), seed=0)


def text_of(corpus: TokenDataset) -> str:
    parts = (corpus.train, corpus.validation)
    return "".join(corpus.tokenizer.decode(part.read(0, len(part))) for part in parts)


def rows(*names: object, **settings: Any) -> list[dict[str, Any]]:
    with Table([str(name) for name in names], DataSettings(**settings)) as table:
        return [row.values for row in table if not row.skipped]


def documents(path: Path, **settings: Any) -> list[str]:
    found = [""]
    for chunk in base.read_documents(path, DataSettings(**settings)):
        found[-1] += chunk.text
        if chunk.ends:
            found.append("")
    assert found.pop() == ""
    return found
