"""Makes the pictures of the README: trains 1,500 steps, and photographs report
and page.

    python docs/make_pictures.py tinyshakespeare.txt

Needs `chromium` on the path and the packages playwright and pillow. What the run reached and wrote
goes to docs/outputs/report.json, from which `docs/make_figures.py` writes the README.
"""

import argparse
import contextlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
TRAIN = ["scriven", "train", "tinyshakespeare", "--budget", "1500steps", "--seed", "1"]
GENERATE = ["scriven", "generate", "tinyshakespeare", "ROMEO:", "--seed", "1"]
TOKENS = 400  # that the page writes
COLORS = 64  # of a picture: few are enough for text and curves, and the files stay small


def run(command: list[str], folder: Path) -> str:
    """The standard output of a command of this environment."""
    program = str(Path(sys.executable).with_name(command[0]))
    done = subprocess.run(  # noqa: S603
        [program, *command[1:]], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def record(folder: Path) -> None:
    """Writes what the run reached, and a text that it generates, to docs/outputs/report.json."""
    metadata = json.loads((folder / "runs" / "tinyshakespeare" / "scriven.json").read_text())
    names = ("val_loss", "val_bits_per_byte", "ngram_loss", "parameters", "steps", "seconds")
    made = {
        "command": shlex.join(TRAIN),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": metadata["environment"]["processor"],
        "results": {name: metadata["results"][name] for name in names},
        "generate": shlex.join(GENERATE),
        "text": run([*GENERATE, "--max-new-tokens", "320"], folder),
    }
    text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    (DOCS / "outputs" / "report.json").write_text(text, encoding="utf-8")


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of `scriven serve` of the run."""
    program = str(Path(sys.executable).with_name("scriven"))
    command = [program, "serve", "tinyshakespeare", "--port", "8321"]
    server = subprocess.Popen(command, cwd=folder)  # noqa: S603
    try:
        yield "http://127.0.0.1:8321"
    finally:
        server.terminate()
        server.wait()


def shoot(page: Any, name: str) -> None:
    """A picture of what a page shows, in few colours."""
    from PIL import Image

    path = DOCS / name
    page.screenshot(path=str(path))
    picture = Image.open(path).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)


def photograph(folder: Path) -> None:
    """The four pictures: the report in light and dark, the page while writing and training."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        chromium = shutil.which("chromium")
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def opened(address: str, scheme: str, height: int) -> Any:
            page = browser.new_page(
                viewport={"width": 960, "height": height},
                color_scheme=scheme,
                device_scale_factor=1.5,
            )
            page.goto(address)
            return page

        report = (folder / "runs" / "tinyshakespeare" / "report.html").as_uri()
        for scheme in ("light", "dark"):
            page = opened(report, scheme, 1180)
            page.wait_for_timeout(500)
            shoot(page, f"report-{scheme}.png")
        with served(folder) as address:
            for _ in range(100):  # until the server answers
                try:
                    page = opened(address, "light", 760)
                    break
                except Exception:
                    page = browser.new_page()
                    page.wait_for_timeout(300)
            page.wait_for_selector("#about:not(:empty)")
            write(page)
            shoot(page, "page-write.png")
            page = opened(address, "dark", 760)
            page.wait_for_selector("#about:not(:empty)")
            page.click("#tab-training")
            page.locator("#loss canvas").wait_for()
            page.wait_for_timeout(700)
            shoot(page, "page-training.png")
        browser.close()


def write(page: Any) -> None:
    """Lets the page write a speech."""
    page.fill("#prompt", "ROMEO:\n")
    page.fill("#set-max_tokens", str(TOKENS))
    page.click("#go")
    page.locator("#text .token").nth(TOKENS - 1).wait_for()
    page.locator("#go").wait_for()
    page.mouse.move(5, 5)
    page.wait_for_timeout(500)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, help="tiny Shakespeare")
    parser.add_argument("--folder", type=Path, help="keep the run here, and use one that is there")
    arguments = parser.parse_args()
    place = arguments.folder or Path(tempfile.mkdtemp(prefix="scriven-pictures-"))
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "runs").exists():
        text = shutil.copy(arguments.text, place / "tinyshakespeare.txt")  # instead of a download
        run([text.name if each == text.stem else each for each in [*TRAIN, "--quiet"]], place)
    record(place)
    photograph(place)
