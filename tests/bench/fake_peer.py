"""A contestant without a model: its "loss" is computed from its weights, and it logs when it ran.
One of its threads never rests, as a spinning OpenMP thread would.

    python fake_peer.py FOLDER NAME SEED SLOWNESS
"""

import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "bench" / "peers"))

from shared.child import serve


class FakePeer:
    def __init__(self, folder: Path, name: str, seed: int, slowness: float) -> None:
        chance = random.Random(seed)
        self.folder, self.name, self.slowness = folder, name, slowness
        self.weights = [chance.random() for _ in range(8)]
        self.ticks = (folder / f"{name}.ticks").open("a")
        threading.Thread(target=self._spin, daemon=True).start()

    def _spin(self) -> None:
        while True:
            self.ticks.write(".")
            self.ticks.flush()
            time.sleep(0.001)

    def prepare(self, **args: Any) -> dict[str, Any]:
        print("what a library prints must not be taken for an answer")
        if args.get("micro") == 3:
            raise ValueError("3 rows\ndo not divide")
        return {"parameters": 1000, "versions": {}, "dtype": "float32"}

    def step(self, count: int) -> dict[str, Any]:
        with (self.folder / "order").open("a") as file:
            file.write(self.name)
        time.sleep(self.slowness)
        self.weights = [0.9 * weight for weight in self.weights]
        return {"seconds": self.slowness * count, "losses": [1.0] * count}

    def loss(self) -> dict[str, Any]:
        return {"losses": [3 + weight / 10 for weight in self.weights]}

    def generate(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        ids = [[int(1000 * w) for w in self.weights] + prompt for prompt in prompts]
        return {"seconds": self.slowness, "ids": ids}

    def leave(self) -> None:
        print("no reason given", file=sys.stderr)
        sys.stderr.flush()
        raise SystemExit(1)


if __name__ == "__main__":
    serve(FakePeer(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
