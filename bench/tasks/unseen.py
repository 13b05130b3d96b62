"""Three sets for text classification that played no part in choosing any default, for defaults.py.

    python bench/tasks/unseen.py DATA --spam sms.tsv --intents SNIPS --languages DJANGO
    python bench/tasks/defaults.py DATA OUT spam intents languages

--spam: the SMS Spam Collection (Almeida et al. 2011) as a table with the columns sentence and
label. --intents: SNIPS (Coucke et al. 2018) as folders train and test with the files seq.in and
label. --languages: a copy of Django, whose messages are translated; here into 20 languages, and
a message is in one part only, in all languages. Nothing of these is part of the project.

Writes DATA/NAME/{train,test}.csv with the columns text and label. Texts that occur twice are taken
once; of spam and languages a fifth is the test part.
"""

import argparse
import csv
import random
import re
from collections.abc import Iterable
from pathlib import Path

LANGUAGES = (
    "cs", "da", "de", "el", "es", "fi", "fr", "hu", "id", "it", "nb", "nl", "pl", "pt", "ro", "ru",
    "sv", "tr", "uk", "ca",
)  # fmt: skip
SHORTEST = 20
"""Characters of a message."""
MESSAGE = re.compile(r'^msgid ((?:".*"\n)+)msgstr ((?:".*"\n)+)', re.M)
Rows = list[tuple[str, str]]


def spam(path: Path) -> tuple[Rows, Rows]:
    with path.open(encoding="utf-8", newline="") as file:
        found = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        rows = {row["sentence"].strip(): row["label"] for row in found}
    kept = [(text, "spam" if label == "1" else "ham") for text, label in rows.items()]
    random.Random(0).shuffle(kept)
    cut = len(kept) // 5
    return kept[cut:], kept[:cut]


def intents(folder: Path) -> tuple[Rows, Rows]:
    def part(name: str) -> Rows:
        texts = (folder / name / "seq.in").read_text(encoding="utf-8").splitlines()
        labels = (folder / name / "label").read_text(encoding="utf-8").splitlines()
        return list(dict(zip(texts, labels, strict=True)).items())

    return part("train"), part("test")


def languages(folder: Path) -> tuple[Rows, Rows]:
    parts: tuple[Rows, Rows] = ([], [])
    for language in LANGUAGES:
        found: dict[str, str] = {}
        for path in sorted(folder.glob(f"**/locale/{language}/LC_MESSAGES/django.po")):
            for message, translated in MESSAGE.findall(path.read_text(encoding="utf-8")):
                text = "".join(re.findall(r'"(.*)"\n', translated)).replace("\\n", " ").strip()
                if len(text) >= SHORTEST and translated != message:
                    found[message] = text
        for message, text in found.items():
            is_test = random.Random(message).random() < 0.2
            parts[is_test].append((text, language))
    return parts


def write(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    for name in ("spam", "intents", "languages"):
        parser.add_argument(f"--{name}", type=Path)
    given = parser.parse_args()
    for name, make in (("spam", spam), ("intents", intents), ("languages", languages)):
        source: Path | None = getattr(given, name)
        if source is None:
            continue
        for part, rows in zip(("train", "test"), make(source), strict=True):
            random.Random(1).shuffle(rows)
            write(given.data / name / f"{part}.csv", rows)
            print(f"{name} {part}: {len(rows):,} rows, {len({label for _, label in rows})} labels")


if __name__ == "__main__":
    main()
