"""Builds the site of the documentation in build/site/html, offline: `make site`.

The pages of docs/ and of the root are copied with links that suit the site, formulas become MathML,
and two pages are generated: the Python interface, from docstrings, and the examples, from their
sources. Then zensical makes HTML with a search that needs no server. `docs/site.toml` holds the
navigation and the look. With `--check` nothing is built: every page, link and anchor is looked up.
"""

import argparse
import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BUILD = ROOT / "build" / "site"
GENERATED = ("api.md", "examples.md")
ROOT_PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")

WORKER = "https://unpkg.com/iframe-worker/shim"

CODE = re.compile(r"(^```.*?^```$|^~~~.*?^~~~$|`[^`\n]+`)", re.M | re.S)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
SOURCE = re.compile(r'((?:src|srcset)=")([^"]+)"')
BLOCK = re.compile(r"^\$\$(.+?)\$\$$", re.M | re.S)
INLINE = re.compile(r"(?<![\\$\w])\$(?! )([^$\n]+?)(?<! )\$(?![\w$])")


# ------------------------------------------------------------------ pages


def site_config() -> dict[str, Any]:
    """docs/site.toml, with the chapters of the course that there are."""
    config = tomllib.loads((DOCS / "site.toml").read_text(encoding="utf-8"))
    chapters = sorted(path.name for path in (DOCS / "course").glob("[0-9]*.md"))
    first = ["index.md"] if (DOCS / "course" / "index.md").exists() else []
    config["nav"]["Course"] = [f"course/{name}" for name in first + chapters]
    return config


def nav_pages(nav: Any) -> Iterator[str]:
    """The pages of the navigation, in its order."""
    if isinstance(nav, dict):
        for part in nav.values():
            yield from nav_pages(part)
    elif isinstance(nav, list):
        for part in nav:
            yield from nav_pages(part)
    else:
        yield nav


def source_of(page: str) -> Path:
    """The file of a page; for a generated one the file that makes it."""
    if page in GENERATED:
        return Path(__file__)
    return (ROOT if page in ROOT_PAGES else DOCS) / page


def site_name(page: str) -> str:
    """Its name in the site: the README of the project is the start."""
    return "index.md" if page == "README.md" else page


def text_of(page: str) -> str:
    """The Markdown of a page, generated where it has to be."""
    if page == "api.md":
        return api_page()
    if page == "examples.md":
        return examples_page()
    return source_of(page).read_text(encoding="utf-8")


def api_page() -> str:
    """What `import scriven` exports, for mkdocstrings, which reads the docstrings."""
    tree = ast.parse((ROOT / "src" / "scriven" / "__init__.py").read_text(encoding="utf-8"))
    modules = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_MODULES"
    )
    objects = [f"::: scriven.{module}.{name}" for name, module in modules.items()]
    callbacks = [f"::: scriven.keras.callbacks.{name}" for name in ("History", "Callback")]
    text = "# Python reference\n\nEverything that `import scriven` exports; "
    text += "[python.md](python.md) shows how it is used.\n\n"
    return text + "\n\n".join(objects + callbacks) + "\n"


def examples_page() -> str:
    """Every program of examples/, with its source."""
    parts = ["# Examples\n\nComplete programs, each run by a test.\n"]
    for path in sorted((ROOT / "examples").glob("*.py")):
        code = path.read_text(encoding="utf-8")
        doc = (ast.get_docstring(ast.parse(code)) or "").splitlines()[0]
        parts.append(f"## {path.name}\n\n{doc}\n\n```python\n{code}```\n")
    return "\n".join(parts)


# ------------------------------------------------------------------ links and anchors


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """A text with everything but its code changed; the text of a link may hold code."""
    code = CODE.findall(text)
    changed = change(CODE.sub("\0", text))
    return re.sub("\0", lambda _: code.pop(0), changed)


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and the site make it."""
    plain = LINK.sub(r"\2", heading).replace("`", "").strip().lower()
    return re.sub(r"[\s]", "-", re.sub(r"[^\w\- ]", "", plain))


def anchors(page: str) -> set[str]:
    """The anchors of a page: its headings, numbered where they repeat, and its own ids."""
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S)
    found: dict[str, int] = {}
    names = set(re.findall(r'<a (?:id|name)="([^"]+)"', text)) | set(
        re.findall(r"\{#([\w-]+)\}", text)
    )
    for heading in re.findall(r"^#+ (.+?)(?: \{#[\w-]+\})?$", text, re.M):
        name = slug(heading)
        count = found.get(name, 0)
        names.add(name if not count else f"{name}-{count}")
        found[name] = count + 1
    return names


def target_of(page: str, link: str) -> tuple[str | None, str, Path]:
    """(page of the site or None, anchor, file) of a link that stands on a page."""
    path, _, anchor = link.partition("#")
    source = DOCS / page if page in GENERATED else source_of(page)
    file = source if not path else (source.parent / path).resolve()
    example = file.parent == ROOT / "examples" and file.suffix == ".py"
    if example or file == ROOT / "examples":
        return "examples.md", slug(file.name) if example else "", file
    for root in (DOCS, ROOT):
        if file.is_relative_to(root):
            name = file.relative_to(root).as_posix()
            if file == source_of(name) or name in GENERATED:
                return name, anchor, file
    return None, anchor, file


def broken_links() -> list[str]:
    """Links to files or anchors that are not there, and pages without a place in the navigation."""
    pages = list(nav_pages(site_config()["nav"]))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"README.md"}
    wrong = [f"{page}: not in docs/site.toml" for page in sorted(written - set(pages))]
    wrong += [f"docs/site.toml: {page} twice" for page in set(pages) if pages.count(page) > 1]
    wrong += [
        f"docs/site.toml: {page} is missing" for page in pages if not source_of(page).exists()
    ]
    known = {page: anchors(page) for page in pages if source_of(page).exists()}
    for page in known:
        for _, _, link in LINK.findall(CODE.sub("", text_of(page))):
            if re.match(r"[a-z]+:", link):
                continue
            target, anchor, file = target_of(page, link)
            if target not in known and not file.exists():
                wrong.append(f"{page}: {link} is missing")
            elif target in known and anchor and target != "api.md" and anchor not in known[target]:
                wrong.append(f"{page}: {link} has no such heading")
    return wrong


# ------------------------------------------------------------------ building


def site_page(page: str, pages: list[str], assets: set[Path]) -> str:
    """A page as the site shows it; pictures it needs are added to `assets`."""
    above = "../" * page.count("/")

    def link(match: re.Match[str]) -> str:
        picture, text, address = match.groups()
        if re.match(r"[a-z]+:|#", address):
            return match[0]
        target, anchor, file = target_of(page, address)
        if target in pages:
            return f"[{text}]({above}{site_name(target)}{'#' + anchor if anchor else ''})"
        if picture and file.is_relative_to(DOCS):
            assets.add(file)
            return f"![{text}]({above}{file.relative_to(DOCS).as_posix()})"
        # a file of the repository that is no page: its name alone
        return f"{text} (`{file.relative_to(ROOT).as_posix()}`)" if file.exists() else text

    def source(match: re.Match[str]) -> str:
        file = (source_of(page).parent / match[2]).resolve()
        assets.add(file)
        return f'{match[1]}{above}{file.relative_to(DOCS).as_posix()}"'

    def change(part: str) -> str:
        part = SOURCE.sub(source, LINK.sub(link, part))
        return INLINE.sub(lambda found: mathml(found[1]), part) if has_formulas(page) else part

    text = text_of(page)
    if has_formulas(page):
        text = outside_code(text, lambda part: BLOCK.sub(lambda m: mathml(m[1], block=True), part))
    return outside_code(text, change)


def has_formulas(page: str) -> bool:
    """Whether dollar signs of a page enclose formulas; elsewhere they begin names of variables."""
    return page.startswith("course/") or page in ("explain.md", "presets.md")


def mathml(latex: str, block: bool = False) -> str:
    """A formula as MathML, without characters that Markdown would read as its own."""
    from latex2mathml.converter import convert

    made = convert(latex.strip(), display="block" if block else "inline")
    for character, entity in {"*": "&#42;", "_": "&#95;", "`": "&#96;", "|": "&#124;"}.items():
        made = made.replace(character, entity)
    return f'<div class="math" tabindex="0">{made}</div>' if block else str(made)


def stage() -> Path:
    """Writes pages, pictures and zensical.toml to build/site, and returns that folder."""
    shutil.rmtree(BUILD, ignore_errors=True)
    config = site_config()
    pages, assets = list(nav_pages(config["nav"])), {DOCS / "site.css"}
    for page in pages:
        path = BUILD / "pages" / site_name(page)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(site_page(page, pages, assets), encoding="utf-8")
    for file in assets:
        copy = BUILD / "pages" / file.relative_to(DOCS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    project = config["zensical"]["project"] | {"nav": _nav(config["nav"])}
    project["plugins"]["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT / "src")]
    (BUILD / "zensical.toml").write_text(_toml({"project": project}), encoding="utf-8")
    return BUILD


def make_offline(html: Path) -> None:
    """Puts docs/site.js in place of the script that the theme would load from the network."""
    shutil.copy(DOCS / "site.js", html)
    for page in html.rglob("*.html"):
        above = "../" * len(page.relative_to(html).parents[:-1])
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(WORKER, f"{above}site.js"), encoding="utf-8")


def _nav(nav: Any) -> Any:
    if isinstance(nav, dict):
        return [{name: _nav(part)} for name, part in nav.items() if part]
    return [site_name(page) for page in nav]


def _toml(value: Any, path: str = "") -> str:
    """A dict as TOML: tables for dicts, inline values for all else."""
    plain = {key: each for key, each in value.items() if not isinstance(each, dict)}
    tables = {key: each for key, each in value.items() if isinstance(each, dict)}
    lines = [f"[{path}]"] if path else []
    lines += [f"{_key(key)} = {_inline(each)}" for key, each in plain.items()]
    parts = [_toml(each, f"{path}.{_key(key)}".lstrip(".")) for key, each in tables.items()]
    return "\n".join([*lines, "", *parts])


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name) else f'"{name}"'


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{_key(key)} = {_inline(each)}" for key, each in value.items()) + " }"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def main() -> int:
    """0 if all is well; prints what is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="look up links and anchors alone")
    arguments = parser.parse_args()
    wrong = broken_links()
    print("\n".join(wrong) or "every link leads somewhere", file=sys.stderr)
    if wrong or arguments.check:
        return int(bool(wrong))
    folder = stage()
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--clean"]
    done = subprocess.run(command, cwd=folder)  # noqa: S603
    make_offline(folder / "html")
    print(f"{folder}/html/index.html", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
