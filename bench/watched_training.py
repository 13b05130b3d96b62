"""What an open page costs a training: steps per second with and without one.

    python bench/watched_training.py tinyshakespeare.txt

One run is trained all the while. Headless Chromium shows the page's view of the training, which
asks `scriven serve` for news every two seconds; the server is held (SIGSTOP) and let go on in
turns, and while it is held the page waits for it. Needs `chromium` on the path and the package
playwright.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rows
from inputs import find_text

SETTLE_SECONDS = 2.0
"""After a change, before steps are counted."""
VIEWER = """
import subprocess, sys
from playwright.sync_api import sync_playwright
run, chromium, view = sys.argv[1:]
server = subprocess.Popen([sys.executable, "-m", "scriven", "serve", run, "--port", "0"],
                          stderr=subprocess.PIPE, text=True)
line = next(line for line in server.stderr if "http://" in line)
url = "http://" + line.partition("http://")[2].split()[0].rstrip("/")
with sync_playwright() as tools:
    browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(f"{url}/#view={view}")
    page.wait_for_selector("#about:not(:empty)")
    page.wait_for_timeout(5000)
    print("open", flush=True)
    server.wait()
"""


def steps_per_second(log: Path, seconds: float) -> float:
    """Of the next `seconds`, by what the run writes of itself."""
    first = len(log.read_bytes())
    time.sleep(seconds)
    lines = log.read_bytes()[first:].rpartition(b"\n")[0].splitlines()
    steps = [event for event in map(json.loads, lines) if event["event"] == "step"]
    begin, end = steps[0], steps[-1]
    return float((end["step"] - begin["step"]) / (end["seconds"] - begin["seconds"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", default="tinyshakespeare")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--view", default="training", help="of the page: training or write")
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    args = parser.parse_args()
    if args.results is not None:
        rows.RESULTS = args.results
    machine_info, chromium = rows.machine(), shutil.which("chromium")
    if chromium is None:
        raise SystemExit("chromium is not installed")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        # evaluations would fall into some turns and not into others; each has several saves
        command = [sys.executable, "-m", "scriven", "train", find_text(args.text), "--out", run,
                   "--budget", "1h", "--train.eval_interval", "100000", "--quiet",
                   "--train.save_seconds", "5", "--train.log_seconds", "0.5",
                   "--train.sample_seconds", "100000"]  # fmt: skip
        training = subprocess.Popen([str(part) for part in command])
        viewer = None
        try:
            while not (run / "tokenizer.json").exists():
                time.sleep(0.5)
            viewer = subprocess.Popen(
                [sys.executable, "-c", VIEWER, str(run), chromium, args.view],
                stdout=subprocess.PIPE, text=True, start_new_session=True,
            )  # fmt: skip
            assert viewer.stdout is not None
            viewer.stdout.readline()
            found: dict[str, list[float]] = {"alone": [], "watched": []}
            for _ in range(args.rounds):
                for name, change in (("alone", signal.SIGSTOP), ("watched", signal.SIGCONT)):
                    os.killpg(viewer.pid, change)
                    time.sleep(SETTLE_SECONDS)
                    found[name].append(steps_per_second(run / "metrics.jsonl", args.seconds))
        finally:
            if viewer is not None:
                os.killpg(viewer.pid, signal.SIGKILL)
            training.kill()
            training.wait()
    medians = {name: statistics.median(each) for name, each in found.items()}
    rows.write(
        "watched training", machine_info,
        view=args.view, rounds=args.rounds, turn_seconds=args.seconds,
        steps_per_second={name: [round(rate, 3) for rate in each] for name, each in found.items()},
        slowed=round(1 - medians["watched"] / medians["alone"], 4),
    )  # fmt: skip


if __name__ == "__main__":
    main()
