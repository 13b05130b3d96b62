"""`scriven serve` as it is typed: what it refuses, what it prints, and how it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

import scriven
from scriven.cli import run
from scriven.serve.server import GRACE_SECONDS

LIMIT = 90


def test_what_cannot_be_served_is_one_line(
    capsys: pytest.CaptureFixture[str], runs: dict[str, Path], tmp_path: Path
) -> None:
    wrong = {
        "serve": "name at least one run",
        "serve nowhere": "no run nowhere",
        f"serve {runs['book']} --port 99999": "--port=99999",
        f"serve {runs['book']} --host 0.0.0.0": "--api-key",
        f"serve {runs['book']} --host 203.0.113.9 --api-key k": "use another --port",
    }
    for words, text in wrong.items():
        assert run(words.split()) == 2, words
        error = capsys.readouterr().err
        assert text in error and error.count("\n") == 1, error


def test_it_prints_its_address_and_ends_when_asked(runs: dict[str, Path]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "scriven", "serve", str(runs["book"]), "--port", "0"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    line = next(line for line in process.stderr if "serving" in line)
    (url,) = re.findall(r"http://127\.0\.0\.1:\d+/", line)
    assert "book" in line
    page = httpx.get(url, timeout=LIMIT)
    assert page.status_code == 200 and "<title>Scriven</title>" in page.text
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT) == 0
    assert time.monotonic() - asked < GRACE_SECONDS / 2  # it waits for nobody
    assert "Traceback" not in process.stderr.read()


def test_a_model_serves_itself_in_the_background(runs: dict[str, Path]) -> None:
    handle = scriven.load(runs["book"]).serve(port=0)
    try:
        assert httpx.get(f"{handle.url}v1/models", timeout=LIMIT).json()["data"][0]["id"] == "book"
    finally:
        handle.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{handle.url}health")


def test_every_file_of_the_page_is_there_and_small(runs: dict[str, Path]) -> None:
    page = Path(scriven.__file__).parent / "serve" / "page"
    text = (page / "index.html").read_text()
    for name in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert (page / name).is_file(), name
    for script in page.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', script.read_text()):
            assert (page / name).is_file(), name
        # a text of a model, or a name of a run, must never become HTML
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", script.read_text()
        )
    assert sum(each.stat().st_size for each in page.rglob("*") if each.is_file()) < 400_000
