"""`scriven generate --beams`: what it writes, and what it refuses."""

import json
from pathlib import Path

import pytest

import scriven
from scriven.cli import run


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run that has hardly begun to translate."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = [f"Ein Hund {number}.\tA dog {number}." for number in range(40)]
    (folder / "pairs.tsv").write_text("\n".join(["source\ttarget", *rows]), encoding="utf-8")
    made = folder / "run"
    asked = ["train", str(folder / "pairs.tsv"), "--arch", "transformer", "--out", str(made)]
    shape = ["--model.layers=1", "--model.d_model=16", "--model.heads=2", "--quiet"]
    assert run([*asked, "--budget", "3steps", *shape]) == 0
    return str(made)


def test_beams_write_the_text_that_python_finds(
    pairs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = scriven.load(pairs)
    wanted = model.generate("Ein Hund 3.", beams=3, length_penalty=0.5, max_new_tokens=9)
    found = model.engine.beam_search(["Ein Hund 3."], 3, 9, length_penalty=0.5)[0]
    assert wanted == found.text
    words = ["--beams", "3", "--length-penalty", "0.5", "--max-new-tokens", "9"]
    assert run(["generate", pairs, "Ein Hund 3.", *words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["text"] == wanted
    keys = ["text", "tokens", "seconds", "tokens_per_second", "finish_reason", "prompt_truncated"]
    assert [key for key in said if key in keys] == keys
    assert not {"score", "others"} & set(said)
    assert run(["generate", pairs, "Ein Hund 3. " * 99, "--beams", "2"]) == 0
    assert "tokens were dropped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--beams", "0"], "--beams=0"),
        (["--beams", "4", "--temperature", "0.5"], "--temperature=0.5"),
        (["--beams", "4", "--samples", "2"], "--samples=2"),
        (["--beams", "4", "--repetition-penalty", "2"], "--repetition-penalty"),
        (["--beams", "4", "--length-penalty", "11"], "--length-penalty=11"),
        (["--length-penalty", "0.6"], "--beams"),
    ],
)
def test_what_no_beam_search_can_do_is_refused_in_one_line(
    pairs: str, words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", pairs, "Ein Hund", *words]) == 2
    said = capsys.readouterr().err
    assert named in said
    assert len(said.strip().splitlines()) == 1


def test_python_refuses_to_draw_with_beams(pairs: str) -> None:
    model = scriven.load(Path(pairs))
    with pytest.raises(scriven.errors.SettingError, match="beams"):
        model.generate("a", beams=2, temperature=0.8)
