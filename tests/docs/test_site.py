"""The site: its links and anchors, its formulas, its index for programs; as HTML, in a browser."""

import functools
import http.server
import re
import runpy
import shutil
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import docpages
import pytest
from tests.axe import serious_findings

ROOT = docpages.ROOT
BROWSER = shutil.which("chromium")


@pytest.fixture(scope="module")
def site() -> Any:
    return runpy.run_path(str(ROOT / "docs" / "make_site.py"))


def test_every_page_link_and_anchor_is_there(site: Any) -> None:
    assert site["broken_links"]() == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("[x](no-such-page.md)", "no-such-page.md is missing"),
        ("[x](python.md#no-such-heading)", "has no such heading"),
        ("[x](#nowhere)", "has no such heading"),
    ],
)
def test_a_broken_link_is_found(site: Any, monkeypatch: Any, line: str, wrong: str) -> None:
    """A planted bug."""
    found = site["broken_links"].__globals__
    real = found["text_of"]
    planted = lambda page: real(page) + (f"\n{line}\n" if page == "data.md" else "")  # noqa: E731
    monkeypatch.setitem(found, "text_of", planted)
    assert [each for each in site["broken_links"]() if wrong in each]


def test_anchors_are_those_of_github(site: Any) -> None:
    slug = site["slug"]
    assert slug("Data in memory") == "data-in-memory"
    assert slug("`--from` a model's file: GGUF, or `hf:`") == "--from-a-models-file-gguf-or-hf"
    assert slug("[Link](x.md) and more") == "link-and-more"


def test_formulas_become_mathml_and_code_stays(site: Any) -> None:
    text = "Costs $\\frac{a_1}{b*c}$ and `$x$`.\n\n$$\n\\sum_{i=1}^{n} x_i\n$$\n\n```\n$y$\n```\n"
    found = site["site_page"].__globals__
    before = found["text_of"]
    found["text_of"] = lambda page: text
    try:
        made = site["site_page"]("course/x.md", [], set())
    finally:
        found["text_of"] = before
    formulas = re.findall(r"<math.*?</math>", made)
    assert len(formulas) == 2
    assert [ElementTree.fromstring(each).tag.endswith("math") for each in formulas] == [True, True]
    assert "<mfrac>" in formulas[0]
    assert "*" not in formulas[0] and "_" not in formulas[0]  # Markdown would read them
    assert "`$x$`" in made
    assert "$y$" in made


def test_pages_with_formulas_are_known(site: Any) -> None:
    folder = ROOT / "docs"
    for path in folder.rglob("*.md"):
        if re.search(r"^\$\$", path.read_text(encoding="utf-8"), re.M):
            assert site["has_formulas"](path.relative_to(folder).as_posix()), path.name


def test_the_index_for_language_models_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_llms.py"))["page"]()
    assert (ROOT / "docs" / "llms.txt").read_text(encoding="utf-8") == made
    assert all((ROOT / link).is_file() for link in re.findall(r"\]\(([^)]+)\)", made))


# ------------------------------------------------------------------ as HTML


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The built site, served as files."""
    began = time.monotonic()
    subprocess.run([sys.executable, str(ROOT / "docs" / "make_site.py")], check=True)
    assert time.monotonic() - began < 60
    folder = str(ROOT / "build" / "site" / "html")
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as tools:
        opened = tools.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.slow
def test_links_of_the_html_lead_somewhere(address: str) -> None:
    folder = ROOT / "build" / "site" / "html"
    pages = {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.html")
    }
    assert len(pages) > 40
    ids = {name: set(re.findall(r'\bid="?([^"\s>]+)', text)) for name, text in pages.items()}
    wrong = []
    for name, text in pages.items():
        if name == "404.html":
            continue
        for link in re.findall(r'<(?:a|link)\b[^>]*?\bhref="?([^"\s>]+)', text):
            if re.match(r"[a-z]+:", link):
                wrong += [(name, link)] if "font" in link else []
                continue
            path, _, anchor = link.partition("#")
            target = (folder / name).parent / path if path else folder / name
            target = (target / "index.html" if target.is_dir() else target).resolve()
            inside = target.is_relative_to(folder.resolve())
            known = ids.get(target.relative_to(folder.resolve()).as_posix()) if inside else None
            if not inside or not target.exists() or (anchor and known and anchor not in known):
                wrong.append((name, link))
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1300])
def test_axe_finds_nothing_serious(browser: Any, address: str, width: int, dark: bool) -> None:
    scheme = "dark" if dark else "light"
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    outside: list[str] = []
    page.on("request", lambda asked: outside.append(asked.url))
    for name in ("index", "python", "settings", "api", "course/index", "course/01-counting"):
        page.goto(f"{address}/{name}.html")
        page.wait_for_timeout(300)
        assert serious_findings(page) == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    assert [url for url in outside if not url.startswith((address, "data:", "blob:"))] == []
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_search_needs_no_server(browser: Any, address: str, scheme: str) -> None:
    page = browser.new_page()
    folder = ROOT / "build" / "site" / "html"
    page.goto(f"{address}/index.html" if scheme == "http" else f"file://{folder}/index.html")
    page.locator(
        "button.md-search__button, label.md-search__icon, [data-md-component=search]"
    ).first.click()
    page.get_by_placeholder("Search").last.fill("perplexity")
    page.get_by_text(re.compile(r"^\d+ results$")).wait_for(timeout=30_000)
    page.close()
