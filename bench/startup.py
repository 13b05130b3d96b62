"""Seconds of `scriven --help`, and from the command to the first training step.

python bench/startup.py tinyshakespeare.txt
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import machine, write


def help_seconds() -> float:
    """One `scriven --help`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "scriven", "--help"], capture_output=True, check=True)
    return time.perf_counter() - began


def first_step_seconds(text: str) -> float:
    """From starting the process to the end of the first step, as the run logs it."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "scriven", "train", text, "--budget", "2steps"]
        command += ["--out", str(run), "--quiet", "--runtime.compile=false"]
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            while child.poll() is None and not _stepped(run / "metrics.jsonl"):
                time.sleep(0.005)
            return time.perf_counter() - began


def _stepped(log: Path) -> bool:
    return log.exists() and '"step"' in log.read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", default="tinyshakespeare")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    machine_info = machine()
    for what, measure in (
        ("help", help_seconds),
        ("first step", lambda: first_step_seconds(args.text)),
    ):
        measure()  # warms the disk cache
        values = [measure() for _ in range(args.repeats)]
        write(
            what,
            machine_info,
            seconds_median=round(statistics.median(values), 3),
            seconds_min=round(min(values), 3),
            seconds_max=round(max(values), 3),
        )


if __name__ == "__main__":
    main()
