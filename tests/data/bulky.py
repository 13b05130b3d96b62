"""Small corpora for the tests of `scriven prepare`, and a folder's content by digest."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

from scriven.data.prepare import run_prepare
from scriven.data.prepare_plan import PrepareArgs
from scriven.data.shards import TokenDataset, open_dataset

WORDS = "the rain fell and no one came to see what it had done or where she went; it's 1234 é 漢 so"


def document(number: int) -> str:
    """A text of its own, of a few sentences."""
    words = WORDS.split()
    count = 20 + number * 7 % 90
    return f"<{number}> " + " ".join(words[(i * i + number) % len(words)] for i in range(count))


def write_texts(folder: Path, documents: int = 600) -> Path:
    """A folder with rows and texts in several formats, a few hundred kB."""
    folder.mkdir()
    rows = [json.dumps({"text": document(number)}) for number in range(documents)]
    third = documents // 3
    (folder / "a.jsonl").write_text("\n".join(rows[:third]) + "\n", encoding="utf-8")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(rows[third:]).encode(), mtime=0))
    for number in range(3):
        text = "\n".join(document(10_000 + 50 * number + i) for i in range(50)) + "\n"
        (folder / f"c{number}.txt").write_text(text, encoding="utf-8")
    return folder


def prepared(source: Path | list[str], out: Path, **named: Any) -> TokenDataset:
    """Prepares with small pieces in this process, and opens the result."""
    sources = source if isinstance(source, list) else [str(source)]
    run_prepare(PrepareArgs(sources, out, **{"shard_bytes": 20_000, "processes": 1, **named}))
    return open_dataset(out, name="x", sources=[])


def digests(folder: Path) -> dict[str, str]:
    """Every file of a folder but the lock, by digest."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def texts(corpus: TokenDataset) -> tuple[list[str], list[str]]:
    """The documents of both parts."""
    found = []
    for shard in (corpus.train, corpus.validation):
        ids = shard.read(0, len(shard)).tolist()
        documents, start = [], 0
        for place, each in enumerate(ids):
            if each == corpus.tokenizer.eos:
                documents.append(corpus.tokenizer.decode(ids[start:place]))
                start = place + 1
        assert start == len(ids), "a document was not ended"
        found.append(documents)
    return found[0], found[1]
