"""Jobs spread over processes. What they make does not depend on how many they are."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import InputError, ResourceError, ScrivenError
from ...tokenizers import load_tokenizer
from ...tokenizers.fast import fast_encoder
from .piece import Left, Record, run_job
from .plan import Plan

_PACKAGES = Path(__file__).parents[3]


def work(plan: Plan, out: Path, left: list[Left], processes: int) -> Iterator[Record]:
    """Does the jobs that are left; a record for each piece, as they are finished.

    Raises:
        ScrivenError: a source cannot be read, or a process was killed.
        OSError: the disk is full or cannot be written.
    """
    if processes < 2 or len(left) < 2:
        tokenizer = load_tokenizer(out)
        encoder = fast_encoder(tokenizer)
        for each in left:
            yield from run_job(plan, each, tokenizer, encoder, out)
        return
    crew = _Crew(out, left, min(processes, len(left)))
    try:
        yield from crew.records()
    finally:
        crew.stop()


class _Crew:
    def __init__(self, out: Path, left: list[Left], count: int) -> None:
        self._left: queue.SimpleQueue[Left] = queue.SimpleQueue()
        for each in left:
            self._left.put(each)
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._workers = [_start(out) for _ in range(count)]
        for worker in self._workers:
            threading.Thread(target=self._serve, args=(worker,), daemon=True).start()

    def records(self) -> Iterator[Record]:
        busy = len(self._workers)
        while busy:
            said = self._said.get()
            if said is None:
                busy -= 1
            elif "record" in said:
                yield said["record"]
            else:
                raise _error(said)

    def stop(self) -> None:
        """Ends all processes, also in the middle of a piece."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.wait()

    def _serve(self, worker: "subprocess.Popen[str]") -> None:
        """Gives one process job after job, and passes on what it says."""
        assert worker.stdin is not None and worker.stdout is not None
        try:
            while True:
                each = self._left.get_nowait()
                worker.stdin.write(json.dumps(each) + "\n")
                worker.stdin.flush()
                for line in worker.stdout:
                    if not line.startswith("{"):  # printed before our own code began
                        continue
                    said = json.loads(line)
                    if "done" in said:
                        break
                    self._said.put(said)
                    if "error" in said:
                        return
                else:
                    self._said.put({"died": worker.wait()})
                    return
        except queue.Empty:
            self._said.put(None)
        except (OSError, ValueError):
            worker.kill()
            self._said.put({"died": worker.wait()})


def _start(out: Path) -> "subprocess.Popen[str]":
    paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    single = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
        [sys.executable, "-m", "scriven.data.bulk.worker", str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **single, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,  # Ctrl-C is for the one who started it
    )


def _error(said: dict[str, Any]) -> Exception:
    if "died" in said:
        return ResourceError(
            f"a process that encodes ended with code {said['died']}: where memory is short, try"
            " again with fewer --processes; nothing finished is lost"
        )
    if "errno" in said:
        return OSError(said["errno"], said["error"])
    kind: type[ScrivenError] = ResourceError if said["exit"] == 3 else InputError
    return kind(said["error"])
