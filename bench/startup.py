"""Seconds of `scriven --help`, and from the command to the first training step.

    python bench/startup.py tinyshakespeare.txt
    python bench/startup.py tinyshakespeare.txt --from model.gguf --repeats 3
    python bench/startup.py --generate runs/shakespeare

With --from, of a training that goes on from that model; with --generate, from `scriven generate` to
the first token of its text. On a busy machine only the CPU seconds mean
anything.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rows import machine, write


def help_seconds() -> float:
    """One `scriven --help`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "scriven", "--help"], capture_output=True, check=True)
    return time.perf_counter() - began


def cpu_seconds() -> float:
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def first_step_seconds(text: str, base: str | None) -> float:
    """From starting the process to the end of the first step, as the run logs it."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "scriven", "train", text, "--budget", "2steps"]
        command += ["--out", str(run), "--quiet", "--runtime.compile=false"]
        command += [] if base is None else ["--from", base]
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            while child.poll() is None and not _stepped(run / "metrics.jsonl"):
                time.sleep(0.005)
            seconds = time.perf_counter() - began
            child.kill()  # what comes after the first step
            return seconds


def first_token_seconds(run: str) -> float:
    """From starting the process to the first text behind the prompt."""
    prompt = b"It was"
    began, shown = time.perf_counter(), b""
    command = [sys.executable, "-m", "scriven", "generate", run, prompt.decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        while len(shown) <= len(prompt):
            part = os.read(child.stdout.fileno(), 4096)
            assert part, "no text"
            shown += part
        seconds = time.perf_counter() - began
        child.kill()
        return seconds


def _stepped(log: Path) -> bool:
    return log.exists() and '"step"' in log.read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", default="tinyshakespeare")
    parser.add_argument("--from", dest="base", help="a model to go on from")
    parser.add_argument("--generate", help="a run, for the time to its first token")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    machine_info = machine()
    named = {} if args.base is None else {"base": Path(args.base).name}
    measured: list[tuple[str, Callable[[], float]]] = [
        ("help", help_seconds),
        ("first step", lambda: first_step_seconds(args.text, args.base)),
    ]
    if args.base is not None:
        measured = measured[1:]
    if args.generate is not None:
        measured = [("first token", lambda: first_token_seconds(args.generate))]
    for what, measure in measured:
        measure()  # warms the disk cache
        began = cpu_seconds()
        values = [measure() for _ in range(args.repeats)]
        write(
            what,
            machine_info,
            **named,
            seconds_median=round(statistics.median(values), 3),
            seconds_min=round(min(values), 3),
            seconds_max=round(max(values), 3),
            cpu_seconds_mean=round((cpu_seconds() - began) / args.repeats, 3),
        )


if __name__ == "__main__":
    main()
