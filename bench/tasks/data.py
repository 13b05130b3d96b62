"""Tables and pre-training texts from public data sets, in the columns that the tasks read.

python bench/tasks/data.py SHARED OUT

Writes OUT/NAME/{train,dev,test}.csv for sst2, agnews, headlines, sick-entail, sick-similarity and
multi30k, and OUT/NAME/corpus.jsonl, the pre-training text, from the train part alone. A document
that occurs in a dev or test part too is left out of it, and counted; the parts themselves stay as
published, and the number of rows that they share is printed.

SICK pairs the same sentences differently in every part, so little is left of its corpus. The pairs
of its train part, each in both orders as one document, are in pairs.jsonl: fine-tuning reads them
anyway. It has no pair of a later part, but single sentences of them.

AG News has remnants of HTML; `clean` removes them, in the same way for every use.
"""

import argparse
import csv
import gzip
import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from copies import copies

ROUNDS = 8
"""Rows that copies.py derives from each sentence."""
PARTS = ("train", "dev", "test")
Rows = list[tuple[str, ...]]
_LOST = re.compile(r"(?: |(?<![&\w]))(#\d{2,4}|quot|amp|lt|gt);")
"""A character reference whose & became a space."""
_QUOTES = str.maketrans("‘’“”", "''\"\"")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


def clean(text: str) -> str:
    r"""Restores AG News: ` #39;` is an apostrophe, `\$` a dollar, other `\` an end of line.

    Removes tags, decodes character references such as `&lt;`, and collapses spaces. A ticker symbol
    in angle brackets (`<MSFT.O>`) has a dot and stays.
    """
    text = html.unescape(_LOST.sub(r"&\1;", text))
    text = text.replace("\\$", "$").replace("\\", " ").translate(_QUOTES)
    text = _TAG.sub(lambda match: match[0] if _is_ticker(match[0]) else " ", text)
    return " ".join(text.split())


def _is_ticker(tag: str) -> bool:
    return re.fullmatch(r"<[A-Z.]*\.[A-Z]*>", tag) is not None


def sst2(folder: Path) -> Iterator[tuple[str, Rows]]:
    """(part, rows of text and label); the texts as published: lower case, split into words."""
    for part in PARTS:
        lines = (folder / "sst2" / f"{part}.tsv").read_text(encoding="utf-8").split("\n")
        pairs = (line.rsplit("\t", 1) for line in lines if line)
        yield part, [(text, ("negative", "positive")[int(sign)]) for text, sign in pairs]


def news(folder: Path, *fields: str) -> Iterator[tuple[str, Rows]]:
    """(part, rows of these fields), cleaned."""
    for part in PARTS:
        with (folder / "agnews" / f"{part}.jsonl").open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        yield part, [tuple(clean(row[field]) for field in fields) for row in rows]


def sick(folder: Path, column: str) -> Iterator[tuple[str, Rows]]:
    """(part, rows of two sentences and a column); SICK calls its dev part TRIAL."""
    with (folder / "sick" / "SICK.txt").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    for part, set_name in zip(PARTS, ("TRAIN", "TRIAL", "TEST"), strict=True):
        chosen = [row for row in rows if row["SemEval_set"] == set_name]
        yield (
            part,
            [(row["sentence_A"], row["sentence_B"], row[column].lower()) for row in chosen],
        )


def multi30k(folder: Path) -> Iterator[tuple[str, Rows]]:
    """(part, rows of German and English); the test part is that of 2016."""
    for part, set_name in zip(PARTS, ("train", "val", "test_2016_flickr"), strict=True):
        sides = []
        for language in ("de", "en"):
            path = folder / "multi30k" / f"{set_name}.{language}.gz"
            with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
                sides.append([line.strip() for line in file])
        yield part, list(zip(*sides, strict=True))


def normal(text: str) -> str:
    """The key by which two texts count as equal: their letters and digits."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def write(out: Path, columns: Sequence[str], parts: Iterable[tuple[str, Rows]]) -> dict[str, Rows]:
    """Writes the parts of one table and prints how many rows each has, and how many it shares."""
    out.mkdir(parents=True, exist_ok=True)
    made = dict(parts)
    inputs = len(columns) - 1
    seen: set[tuple[str, ...]] = set()
    for part, rows in made.items():
        with (out / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(columns)
            table.writerows(rows)
        keys = [tuple(normal(text) for text in row[:inputs]) for row in rows]
        shared = sum(key in seen for key in keys)
        print(f"{out.name:16} {part:6} {len(rows):6,} rows, {shared} of them in an earlier part")
        seen.update(keys)
    return made


def write_corpus(path: Path, texts: Iterable[str], held: Iterable[str]) -> None:
    """One document per line, in order, without duplicates and documents of dev and test parts."""
    excluded = {normal(text) for text in held}
    fresh: dict[str, None] = {}
    left = 0
    for text in texts:
        if normal(text) in excluded:
            left += 1
        elif text:
            fresh[text] = None
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in fresh)
    print(f"{path.parent.name:16} {path.name} {len(fresh):,} documents, {left} texts left out")


def texts(made: dict[str, Rows], parts: Sequence[str], columns: int) -> Iterator[str]:
    """The texts of the first columns of some parts, row by row."""
    for part in parts:
        for row in made[part]:
            yield from row[:columns]


def joined(made: dict[str, Rows]) -> Iterator[str]:
    """The pairs of the train part, in both orders."""
    for one, other, *_ in made["train"]:
        yield f"{one}\n{other}"
        yield f"{other}\n{one}"


def write_copies(folder: Path, made: dict[str, Rows]) -> None:
    """The task of copies.py on sentences of the train part; 400 of them are its dev part."""
    sentences = list(dict.fromkeys(texts(made, ("train",), 2)))
    for part, chosen, rounds in (("dev", sentences[:400], 1), ("train", sentences[400:], ROUNDS)):
        with (folder / f"copies-{part}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            rows = copies(chosen, rounds, seed=0)
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main(shared: Path, out: Path) -> None:
    """Writes everything."""
    held, train = ("dev", "test"), ("train",)
    films = write(out / "sst2", ("text", "label"), sst2(shared))
    topics = write(out / "agnews", ("text", "label"), news(shared, "text", "label"))
    titles = write(out / "headlines", ("source", "target"), news(shared, "text", "title"))
    entail = sick(shared, "entailment_label")
    pairs = write(out / "sick-entail", ("premise", "hypothesis", "label"), entail)
    scores = sick(shared, "relatedness_score")
    write(out / "sick-similarity", ("first", "second", "score"), scores)
    german = write(out / "multi30k", ("source", "target"), multi30k(shared))

    reports = [*texts(titles, train, 2)]
    unseen = [*texts(titles, held, 2), *texts(films, held, 1)]
    for name in ("agnews", "headlines"):
        write_corpus(out / name / "corpus.jsonl", reports, unseen)
    both = [*texts(films, train, 1), *texts(topics, train, 1)]
    write_corpus(out / "sst2" / "corpus.jsonl", both, unseen)
    for name in ("sick-entail", "sick-similarity"):
        write_corpus(out / name / "corpus.jsonl", texts(pairs, train, 2), texts(pairs, held, 2))
        write_corpus(out / name / "pairs.jsonl", joined(pairs), ())
        write_copies(out / name, pairs)
    write_corpus(out / "multi30k" / "corpus.jsonl", texts(german, train, 2), texts(german, held, 2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path, help="the folder of the public test sets")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    main(arguments.shared, arguments.out)
