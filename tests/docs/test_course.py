"""The course: each chapter's code prints what the page says, draws its picture, and names symbols
of Scriven that exist."""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docpages
import pytest
import test_docs_run

COURSE = docpages.ROOT / "docs" / "course"
CHAPTERS = sorted(COURSE.glob("[0-9]*.md"))
PICTURES = sorted((COURSE / "pictures").glob("*.svg"))
Ran = tuple[dict[str, Any], list[str]]

_FENCED = re.compile(r"^```.*?^```$", re.M | re.S)


def name_of(path: Path) -> str:
    return path.stem


@pytest.fixture(scope="module")
def tools() -> Iterator[tuple[Any, Any]]:
    """make_outputs and make_pictures."""
    sys.path.insert(0, str(COURSE))
    try:
        yield importlib.import_module("make_outputs"), importlib.import_module("make_pictures")
    finally:
        sys.path.remove(str(COURSE))


@pytest.mark.parametrize("page", CHAPTERS, ids=name_of)
def test_a_chapter_prints_what_it_says_and_draws_its_picture(
    page: Path, tools: tuple[Any, Any]
) -> None:
    outputs, pictures = tools
    text = page.read_text(encoding="utf-8")
    names, printed = outputs.run_chapter(text)
    assert len(printed) >= 4
    assert outputs.with_outputs(text, printed) == text
    picture = COURSE / "pictures" / f"{page.stem}.svg"
    assert pictures.picture(page.stem, names) == picture.read_text(encoding="utf-8")
    assert f"(pictures/{page.stem}.svg)" in text
    assert picture.stat().st_size < 60_000


def test_another_output_is_noticed(tools: tuple[Any, Any]) -> None:
    outputs, _ = tools
    page = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n"
    _, printed = outputs.run_chapter(page)
    assert outputs.with_outputs(page, printed) == page.replace("3", "2")


@pytest.mark.parametrize("page", CHAPTERS, ids=name_of)
def test_numbers_in_sentences_are_printed_by_code(page: Path) -> None:
    """Those with two decimals and more: in an output of the course, or in the code of the page."""
    text = page.read_text(encoding="utf-8")
    printed = "\n".join(
        block for each in CHAPTERS for block in _FENCED.findall(each.read_text(encoding="utf-8"))
    )
    sentences = _FENCED.sub("", text)
    numbers = re.findall(r"(?<![\w.])\d+\.\d\d+(?!\.\d)", sentences)
    assert [number for number in numbers if number not in printed] == []


@pytest.mark.parametrize("page", CHAPTERS, ids=name_of)
def test_symbols_of_a_chapter_exist_where_their_links_lead(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\[`(scriven\.[\w.]+)`\]\(([^)]+)\)", text)
    assert links
    for symbol, link in links:
        found = resolve(symbol)
        target = (page.parent / link).resolve()
        function = found.fget if isinstance(found, property) else found
        defined = inspect.getsourcefile(inspect.unwrap(function))
        assert defined is not None and Path(defined).resolve() == target, symbol
    plain = set(re.findall(r"`(scriven\.[a-z_]+\.[\w.]+)`", text))
    assert plain == {symbol for symbol, _ in links}, "a symbol without a link"


def resolve(symbol: str) -> Any:
    """scriven.nn.block.Block.forward -> the function."""
    parts = symbol.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = inspect.getattr_static(found, part)
        return getattr(found, "__func__", found)
    raise AssertionError(symbol)


def test_a_symbol_that_has_gone_is_noticed() -> None:
    with pytest.raises(AttributeError):
        resolve("scriven.nn.block.Block.backward")


@pytest.mark.parametrize("page", [*CHAPTERS, COURSE / "index.md"], ids=name_of)
def test_links_and_formulas(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    sentences = re.sub(r"`[^`]*`", "", _FENCED.sub("", text))
    assert sentences.count("$$") % 2 == 0
    inline = re.sub(r"\$\$.*?\$\$", "", sentences, flags=re.S)
    assert inline.count("$") % 2 == 0
    assert [each for each in re.findall(r"\$[^$]*\$", inline) if "\n" in each] == []


@pytest.mark.parametrize("page", CHAPTERS, ids=name_of)
def test_commands_and_settings_of_a_chapter_exist(page: Path) -> None:
    test_docs_run.test_commands_inside_sentences_are_understood(page)
    settings = (docpages.ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    named = re.findall(r"--([a-z]+\.\w+)", page.read_text(encoding="utf-8"))
    assert [name for name in named if f"`{name}`" not in settings] == []


@pytest.mark.parametrize("page", CHAPTERS, ids=name_of)
def test_a_chapter_has_its_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    number = int(page.stem[:2])
    assert text.startswith(f"# {number}. ")
    exercises = text.partition("\n## Exercises\n")[2]
    assert 2 <= len(re.findall(r"^\d\. ", exercises.partition("<details")[0], re.M)) <= 4
    assert "<summary>Solutions</summary>" in exercises
    assert "\n## In Scriven\n" in text or "\n## The same in Scriven\n" in text


def test_the_index_has_all_chapters_in_order() -> None:
    index = (COURSE / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((\d\d-[\w-]+\.md)\)", index) == [page.name for page in CHAPTERS]
    assert [path.stem for path in PICTURES] == [page.stem for page in CHAPTERS]
