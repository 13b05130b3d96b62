"""Every command and every Python block of the README and of docs/ runs, also on odd texts."""

import io
import shlex
from collections.abc import Callable
from pathlib import Path

import docpages
import pytest

from scriven import config
from scriven.cli import build_app, run

EXPECTED = {"README.md": 6, "docs/quickstart.md": 6, "docs/data.md": 7, "docs/training.md": 12}
"""Fewest things found on a page: a parser that finds nothing proves nothing."""


class Input:
    """Standard input with bytes, as `sys.stdin` is."""

    def __init__(self, path: Path) -> None:
        self.buffer = io.BytesIO(path.read_bytes())

    def read(self) -> str:
        return self.buffer.read().decode()

    def isatty(self) -> bool:
        return False


def name_of(page: Path) -> str:
    return page.relative_to(docpages.ROOT).as_posix()


@pytest.mark.usefixtures("checks_in_this_process")
@pytest.mark.parametrize("page", docpages.PAGES, ids=name_of)
def test_documented_commands_run(
    page: Path,
    desk: Path,
    train_book: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = page.read_text(encoding="utf-8")
    found = [*docpages.blocks(text), *docpages.whole(text)]
    if found:
        train_book()
    names: dict[str, object] = {}
    made: dict[Path, list[str]] = {}
    for block in found:
        if block.kind == "python":
            if 'train("book.txt", budget="10m")' in block.text:
                docpages.start_afresh(Path("runs/book"))
            exec(docpages.quick_python(block.text), names)
            continue
        command = docpages.quick(block.text)
        folder = docpages.run_folder(command.arguments)
        if folder is not None and made.get(folder) != command.arguments:
            docpages.start_afresh(folder)
            made[folder] = command.arguments
        if command.stdin is not None:
            monkeypatch.setattr("sys.stdin", Input(desk / command.stdin))
        code = run(command.arguments)
        assert code == 0, f"{block.text}: {capsys.readouterr().err}"
        if folder is not None:
            assert (folder / "report.html").is_file(), block.text
    assert len(found) >= EXPECTED.get(name_of(page), 0)


@pytest.mark.parametrize("page", docpages.PAGES, ids=name_of)
def test_commands_inside_sentences_are_understood(page: Path) -> None:
    for line in docpages.inline(page.read_text(encoding="utf-8")):
        typed = shlex.split(line)[1:]
        if len(typed) == 1:
            assert typed[0] in build_app(), line
            continue
        rest, settings = config.split_arguments(docpages.quick(line).arguments)
        _, _, ignored = build_app().parse_args(rest, exit_on_error=False, print_error=False)
        assert not settings or "settings" in ignored, line


def test_a_command_that_has_gone_is_noticed(desk: Path) -> None:
    block = next(docpages.blocks("```\nscriven train book.txt --bugdet 3m\n```\n"))
    assert run(docpages.quick(block.text).arguments) == 2
