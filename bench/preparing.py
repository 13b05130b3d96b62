"""`scriven prepare` on a gigabyte: MB/s, peak memory, and whether ten kills change the result.

    python bench/preparing.py --megabytes 1000

The text consists of speeches of the built-in plays in random order, each document with a number, so
that all are different. Memory is the peak of all processes together, sampled ten times per second.
After the timing the command is killed ten times at random moments and resumed; the result must have
the same hashes as the uninterrupted one.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rows

KINDS = {
    "bpe": ("--tokenizer.kind=bpe", "--tokenizer.vocab_size=16384"),
    "char": ("--tokenizer.kind=char",),
    "byte": ("--tokenizer.kind=byte",),
}


def generate_text(path: Path, megabytes: int, form: str) -> Path:
    """Writes a text of that size, as .jsonl rows or as plain paragraphs."""
    from scriven.data.corpora.shakespeare import plays

    speeches = [speech.text for play in plays() for speech in play.speeches]
    draw, size = random.Random(0), 0
    with path.open("w", encoding="utf-8") as file:
        number = 0
        while size < megabytes * 1_000_000:
            text = f"{number}\n" + "\n\n".join(draw.choices(speeches, k=20))
            line = json.dumps({"text": text}) + "\n" if form == "jsonl" else text + "\n\n"
            size += len(line.encode())
            file.write(line)
            number += 1
    return path


def command(source: Path, out: Path, kind: str) -> list[str]:
    return [
        sys.executable, "-m", "scriven", "prepare", str(source), "--out", str(out), *KINDS[kind],
        "--quiet", "--json",
    ]  # fmt: skip


def measured(arguments: list[str]) -> tuple[dict[str, Any], float, float]:
    """(its JSON, seconds of the whole process, peak megabytes of it and its children)."""
    began = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    peak, done = [0.0], threading.Event()

    def sample_memory() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], sum(map(memory, family(process.pid))))

    watcher = threading.Thread(target=sample_memory)
    watcher.start()
    output, _ = process.communicate()
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"failed with {process.returncode}")
    return json.loads(output), seconds, peak[0]


def family(process: int) -> Iterator[int]:
    """A process and all its descendants."""
    yield process
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from family(int(child))


def memory(process: int) -> float:
    """Anonymous memory in megabytes; file mappings are shared, and left out."""
    with contextlib.suppress(OSError, IndexError):  # one that has ended has no memory
        status = Path(f"/proc/{process}/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) / 1000
    return 0.0


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a prepared folder."""
    facts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {name: about["sha256"] for name, about in facts["files"].items()}


def killed(arguments: list[str], kills: int, seconds: float) -> int:
    """Kills the command at random moments and then runs it to its end; returns the kills."""
    draw, hit = random.Random(1), 0
    while hit < kills:
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            process.wait(draw.uniform(0.05, 1.0) * seconds / kills * 1.5 + 1)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            hit += 1
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return hit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--forms", nargs="+", default=["jsonl", "txt"], choices=["jsonl", "txt"])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--work", type=Path, help="a disk with room for four times the text")
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    args = parser.parse_args()
    if args.results is not None:
        rows.RESULTS = args.results
    machine_info = rows.machine()
    with tempfile.TemporaryDirectory(dir=args.work) as named:
        work = Path(named)
        for form in args.forms:
            source = generate_text(work / f"text.{form}", args.megabytes, form)
            for kind in args.kinds:
                out = work / f"{form}-{kind}"
                results, seconds, peak = measured(command(source, out, kind))
                again = work / f"{form}-{kind}-killed"
                hit = killed(command(source, again, kind), args.kills, seconds)
                size = source.stat().st_size / 1e6
                rows.write(
                    "prepare", machine_info, tokenizer=kind, form=form, megabytes=round(size),
                    seconds=round(seconds, 1), megabytes_per_second=round(size / seconds, 1),
                    peak_megabytes=round(peak), tokens=results["train_tokens"], kills=hit,
                    equal=hashes(out) == hashes(again), seed=0,
                )  # fmt: skip


if __name__ == "__main__":
    main()
