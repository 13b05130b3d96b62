"""What the pages point to is there: links, make targets, presets, figures and settings."""

import json
import re
import runpy
from pathlib import Path

import docpages
import pytest
import torch

from scriven import registry
from scriven.cli import run
from scriven.train.request import read_named_preset
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
    assert len(pictures) == 4
    assert all(picture.stat().st_size < 150_000 for picture in pictures)


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


PUBLISHED = {
    "shakegpt-v1": (12, 32, 200, 422_528),
    "shakegpt-v2": (6, 384, 256, 9_684_480),
    "shakegpt-v3": (6, 384, 256, 9_782_784),
}
"""Layers, d_model, context and the published count of parameters."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_formula_on_the_page_gives_the_published_counts(name: str) -> None:
    """Evaluated as it stands on the page, term by term; and each row adds up to what is built."""
    layers, d_m, s, published = PUBLISHED[name]
    page = (ROOT / "docs" / "presets.md").read_text(encoding="utf-8")
    (formula,) = re.findall(r"^\$\$(.*)\$\$$", page, re.M)
    code = formula.replace("{in}", "in").replace("^2", "**2")
    code = re.sub(r"(?<=[\w)]) (?=[\w(])", "*", code)
    values = {"d_m": d_m, "d_in": 66, "s": s, "N": layers, "d_h": 2 * d_m}
    count = eval(code, {}, values)
    positions = 256 * d_m if name == "shakegpt-v3" else 0
    assert count + positions == published
    row = re.findall(rf"^\| `{name}` (\|.*)\|$", page.partition("| formula |")[2], re.M)[0]
    cells = [cell.strip().replace(",", "").replace("−", "-") for cell in row.split("|")]
    numbers = [int(cell) for cell in cells if cell]
    weights = torch_weights(name)
    vectors = sum(
        size for weight, size in weights.items() if weight.endswith((".bias", "norm.weight"))
    )
    assert numbers[0] == count and vectors in numbers
    assert sum(numbers[:-1]) == numbers[-1] == sum(weights.values())


def torch_weights(preset: str) -> dict[str, int]:
    """The size of every weight of the model of a preset, as it is built."""
    settings = read_named_preset(preset)
    shape = {key[6:]: value for key, value in settings.items() if key.startswith("model.")}
    module = registry.module("scriven.models", str(settings["arch"]))
    with torch.device("meta"):
        model = module.Model(module.Config(**shape))
    return {name: weight.numel() for name, weight in model.named_parameters()}


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
