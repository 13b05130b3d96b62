"""nanoGPT's CPU recipe, as in its README, run to its end by its own train.py.

Its files are linked into a folder of ours, where the text is prepared as its prepare.py does.
"""

import os
import pickle
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from contest import Peer

OPTIONS = [
    "--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=1", "--block_size=64",
    "--batch_size=12", "--n_layer=4", "--n_head=4", "--n_embd=128", "--dropout=0.0",
]  # fmt: skip
LINE = re.compile(r"step (\d+): train loss [\d.]+, val loss ([\d.]+)")


class Recipe:
    """Runs the recipe at each turn.

    Args:
        python: an interpreter with torch.
        source: the user's copy of nanoGPT.
        judge: a running peers/nanogpt.py, which evaluates the checkpoint.
    """

    def __init__(
        self, python: Path, source: Path, text: Path, work: Path, judge: Peer, threads: int,
        iterations: int,
    ) -> None:  # fmt: skip
        self.python, self.work, self.judge = python, work, judge
        self.threads, self.iterations, self.turns = threads, iterations, 0
        self.losses: list[float] = []
        self.estimates: list[float] = []
        self.first: list[float | None] = []
        self.parameters = 0
        self._prepare(source, text)

    def _prepare(self, source: Path, text: Path) -> None:
        data = self.work / "data" / "shakespeare_char"
        data.mkdir(parents=True, exist_ok=True)
        for name in ("train.py", "model.py", "configurator.py", "config"):
            link = self.work / name
            if not link.is_symlink():
                link.symlink_to(source.resolve() / name)
        content = text.read_text(encoding="utf-8")
        letters = sorted(set(content))
        numbers = {letter: number for number, letter in enumerate(letters)}
        ids = np.array([numbers[letter] for letter in content], dtype=np.uint16)
        split = int(len(ids) * 0.9)
        ids[:split].tofile(data / "train.bin")
        ids[split:].tofile(data / "val.bin")
        about = {"vocab_size": len(letters), "itos": dict(enumerate(letters)), "stoi": numbers}
        with (data / "meta.pkl").open("wb") as file:
            pickle.dump(about, file)

    def turn(self) -> float:
        """Seconds of the whole process."""
        count = f"--max_iters={self.iterations}", f"--lr_decay_iters={self.iterations}"
        command = [str(self.python), "-u", "train.py", "config/train_shakespeare_char.py"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        began, first, last = time.perf_counter(), None, float("nan")
        with subprocess.Popen(
            [*command, *OPTIONS, *count], cwd=self.work, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as child:  # fmt: skip
            assert child.stdout is not None
            tail = ""
            for line in child.stdout:
                tail = line.strip() or tail
                if found := LINE.match(line):
                    last = float(found[2])
                    if first is None and last <= 1.88:
                        first = round(time.perf_counter() - began, 1)
        seconds = time.perf_counter() - began
        if child.returncode:
            raise SystemExit(f"nanoGPT's train.py failed: {tail}")
        self.first.append(first)
        self.estimates.append(last)
        saved = self.work / "out-shakespeare-char" / "ckpt.pt"
        tokens = self.work / "data" / "shakespeare_char" / "val.bin"
        result = self.judge.ask("judge", checkpoint=str(saved), tokens=str(tokens))
        self.losses.append(round(result["loss"], 4))
        self.parameters = result["parameters"]
        return seconds

    def facts(self) -> dict[str, Any]:
        """The fields of its row."""
        return {
            "losses": self.losses,
            "own_estimates": self.estimates,
            "seconds_to_first_estimate_of_1.88": self.first,
            "how": f"its CPU recipe, {self.iterations:,} iterations",
            "seeds": [1337],  # fixed in its source
            "parameters": self.parameters,
        }
