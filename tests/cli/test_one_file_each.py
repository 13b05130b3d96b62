"""A new command, task, data format, corpus or table is one new file, as docs/extending.md shows."""

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scriven.cli import run

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")

MAIL = {"You won a prize": "yes", "See you at noon": "no"}

Add = Callable[[str, str], None]


def example(heading: str) -> str:
    """The code under a heading of the page."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.search(r"```python\n(.*?)```", section, re.S)
    assert found is not None, heading
    return f'"""A newcomer."""\n{found[1]}'


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Puts an example of the page into a package, under a name, until the test ends."""
    monkeypatch.chdir(tmp_path)
    added: list[tuple[Any, str, str]] = []

    def put(heading: str, dotted: str) -> None:
        package, _, name = dotted.rpartition(".")
        folder = tmp_path / package
        folder.mkdir()
        (folder / f"{name}.py").write_text(example(heading), encoding="utf-8")
        module = importlib.import_module(package)
        module.__path__.append(str(folder))
        added.append((module, str(folder), dotted))

    yield put
    for module, folder, dotted in added:
        module.__path__.remove(folder)
        sys.modules.pop(dotted, None)
        vars(module).pop(dotted.rpartition(".")[2], None)


def train(*words: str) -> Path:
    command = ["train", *words, "--budget", "2steps", "--size", "tiny", "--quiet"]
    assert run([*command, "--model.context_length", "16", "--out", "run"]) == 0
    return Path("run")


def test_a_command(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    add("A command", "scriven.cli.tokens")
    Path("book.txt").write_text("abc " * 200)
    train("book.txt")
    capsys.readouterr()
    assert run(["tokens", "run", "abba", "--json"]) == 0
    ids = json.loads(capsys.readouterr().out)["ids"]
    assert len(ids) == 4 and ids[0] == ids[3] != ids[1] == ids[2]
    assert run(["--help"]) == 0
    assert "Show the tokens of a text." in capsys.readouterr().out


@pytest.mark.parametrize("flag", [["--task", "spam"], []])
def test_a_task(flag: list[str], add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    """Found by its name, and by its columns alone."""
    add("A task", "scriven.tasks.spam")
    Path("book.txt").write_text("You won a prize. See you at noon. " * 60)
    train("book.txt")
    rows = [f"{text} {i},{answer}" for i in range(20) for text, answer in MAIL.items()]
    Path("mail.csv").write_text("\n".join(["email,spam", *rows]), encoding="utf-8")
    command = ["finetune", "run", "mail.csv", *flag, "--budget", "2steps", "--out", "filter"]
    assert run([*command, "--quiet"]) == 0
    assert json.loads(Path("filter/scriven.json").read_text())["task"] == "spam"
    capsys.readouterr()
    assert run(["predict", "filter", "mail.csv", "-o", "answers.jsonl"]) == 0
    answers = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert len(answers) == 40 and {each["prediction"] for each in answers} <= {"yes", "no"}


def test_a_data_format(add: Add) -> None:
    add("A data format", "scriven.data.formats.rst")
    Path("page.rst").write_text("It rains. " * 100)
    record = json.loads((train("page.rst") / "scriven.json").read_text())
    assert record["data"]["sources"] == ["page.rst"]


def test_a_corpus(add: Add) -> None:
    add("A corpus", "scriven.data.corpora.sheep")
    assert (train("sheep") / "model.safetensors").is_file()


def test_a_table(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    add("A table", "scriven.data.tables.even_numbers")
    Path("book.txt").write_text("The number 10 rains. " * 60)
    train("book.txt")
    command = ["finetune", "run", "even-numbers", "--budget", "2steps", "--out", "even", "--quiet"]
    assert run(command) == 0
    assert json.loads(Path("even/scriven.json").read_text())["task"] == "classify"
