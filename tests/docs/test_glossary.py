"""Every term of docs/glossary.md is used elsewhere, and its file exists."""

import re

import docpages
import pytest

ROOT = docpages.ROOT
PAGE = ROOT / "docs" / "glossary.md"
ROWS = re.findall(r"^\| ([^|]+) \| [^|]+ \| `([^`|]+)` \| [^|]*\|$", PAGE.read_text("utf-8"), re.M)


def plain(text: str) -> str:
    """Lower case, with spaces for hyphens, underscores and line ends."""
    return " ".join(re.sub(r"[-_\s#]+", " ", text.lower()).split())


@pytest.fixture(scope="module")
def elsewhere() -> str:
    """The text of the package and of the other pages."""
    files = [*(ROOT / "src" / "scriven").rglob("*.py"), *(ROOT / "docs").glob("*.md")]
    files += [*ROOT.glob("*.md")]
    return "\n".join(plain(path.read_text("utf-8")) for path in files if path != PAGE)


def test_every_row_of_the_glossary_is_read() -> None:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    heads = [line for line in lines if line.startswith("| term |")]
    assert len(ROWS) == len(lines) - len(heads) >= 50
    assert len({term for term, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("term", "file"), ROWS)
def test_a_term_is_used_and_its_file_exists(term: str, file: str, elsewhere: str) -> None:
    assert (ROOT / "src" / "scriven" / file).is_file()
    assert re.search(rf"\b{re.escape(plain(term))}", elsewhere), f"{term} is used nowhere else"
