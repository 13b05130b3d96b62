"""Generates docs/llms.txt, an index of the pages for language models: `python docs/make_llms.py`.

The format is that of llmstxt.org: a title, a summary, and lists of links with a note each. A test
compares the file with the output of this script.
"""

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("llms.txt")


def notes() -> dict[str, str]:
    """What each page is for, from docs/README.md."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| \[[^\]]+\]\(([^)]+)\) \| (.+) \|$", index, re.M))


def page() -> str:
    """The content of llms.txt; the chapters of the course are one entry."""
    site: Any = runpy.run_path(str(Path(__file__).with_name("make_site.py")))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [f"# {project['name'].capitalize()}", "", f"> {project['description']}", ""]
    lines.append("A Python library and a command line: `scriven train book.txt`, then `scriven")
    lines.append('generate book "It was"`. Python 3.11 or later, PyTorch, two laptop cores.')
    known = notes()
    for section, part in site["site_config"]()["nav"].items():
        pages = [name for name in site["nav_pages"](part) if name not in site["GENERATED"]]
        if section == "Course":  # its index lists the chapters
            pages = [name for name in pages if name.endswith("index.md")]
        lines += ["", f"## {section}", ""] if pages else []
        for name in pages:
            path = site["source_of"](name)
            title = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.M)
            assert title is not None, name
            address = path.relative_to(ROOT).as_posix()
            note = f": {known[name]}" if name in known else ""
            lines.append(f"- [{title[1]}]({address}){note}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
