"""What the pages point to is there: links, make targets, presets, figures and settings."""

import json
import re
import runpy
from pathlib import Path

import docpages
import pytest

from scriven.cli import run
from scriven.train.scaling_laws import SIZES, ModelShape

ROOT = docpages.ROOT
WRITTEN = [*docpages.PAGES, *sorted(ROOT.glob("[A-Z]*.md"))]


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'src(?:set)?="([^"]+)"', text)
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M)
    assert set(named) <= targets


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= set(re.findall(r"\]\(([^)]+)\)", index))


def test_the_page_of_settings_is_up_to_date() -> None:
    """Of the architectures on it: a new one is a new file, and the page may follow later."""
    made = runpy.run_path(str(ROOT / "docs" / "make_settings.py"))
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    architectures = re.findall(r"^## model, with `--arch (\w+)`$", page, re.M)
    assert len(architectures) >= 8
    assert page == made["page"](architectures)


def test_settings_named_on_the_pages_exist() -> None:
    settings = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^\| `([a-z]+\.\w+)`", settings, re.M))
    sections = {name.partition(".")[0] for name in known}
    for page in docpages.PAGES:
        for name in re.findall(r"--(([a-z]+)\.\w+)", page.read_text(encoding="utf-8")):
            assert name[0] in known or name[1] not in sections, (page.name, name[0])


def test_the_sizes_on_the_page_are_the_real_ones() -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \|$", page, re.M)
    shown = {
        name: ModelShape(int(layers), int(heads), int(width)) for name, layers, heads, width in rows
    }
    assert shown == SIZES


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs").glob("*.png"))
    assert len(pictures) == 2
    assert all(picture.stat().st_size < 300_000 for picture in pictures)


COUNTS = {
    "gpt2-small": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
}
"""Of the weights that OpenAI published, as transformers counts them."""


@pytest.mark.parametrize(("preset", "count"), COUNTS.items())
def test_gpt2_presets_have_the_published_size(
    preset: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", preset, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == count


def test_the_page_of_presets_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_presets.py"))
    assert (ROOT / "docs" / "presets.md").read_text(encoding="utf-8") == made["page"]()


def test_the_page_of_formats_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_formats.py"))
    assert (ROOT / "docs" / "formats.md").read_text(encoding="utf-8") == made["page"]()


def test_every_preset_can_be_inspected_and_is_documented() -> None:
    text = (ROOT / "docs" / "presets.md").read_text(encoding="utf-8")
    presets = sorted((ROOT / "src" / "scriven" / "presets").glob("*.toml"))
    assert presets
    for preset in presets:
        assert run(["inspect", preset.stem]) == 0
        assert f"`{preset.stem}`" in text


def test_a_preset_continues_with_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("It was a dark and stormy night. " * 80, encoding="utf-8")
    Path("p.toml").write_text(
        'arch = "gpt2"\n[model]\nvocab_size = 50257\nlayers = 1\nd_model = 32\n'
    )
    again = ["train", "book.txt", "--preset", "p.toml", "--budget", "2steps", "--quiet", "--json"]
    assert run(again) == 0
    first = capsys.readouterr().out
    assert run(again) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(first)
