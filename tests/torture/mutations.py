"""Mutated files against everything that reads them: refused in one line, or read, and nothing else.

A mutant is a few flipped, cut, copied or replaced bytes, or a JSON value replaced by another. Of
files that carry their own digest every second mutant is signed again, to come past it.
"""

import contextlib
import copy
import ctypes
import json
import random
import resource
import shutil
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scriven.data.prepare_plan import read_plan
from scriven.data.shards import open_dataset
from scriven.errors import ScrivenError
from scriven.import_.base import open_base
from scriven.import_.huggingface import open_hf_folder
from scriven.manifest import signed_json
from scriven.report.run_log import read_run_log
from scriven.runs import checkpoint
from scriven.runs.huggingface import read_pretrained_file
from scriven.runs.load import load_run
from scriven.runs.peft import read_adapter
from scriven.runs.weights import load_tensors
from scriven.tokenizers import load_tokenizer

FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect",
    "pickle.find_class", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree",
)  # fmt: skip
SECONDS = 2.0
"""Processor time for one file of some kilobytes."""
ALLOWED = 12 << 20
"""Bytes that the peak of memory may differ between two readings of the same file: allocators ask
for memory in large pieces. The files have some kilobytes, so twice their size is less."""

NUMBERS = [0, -1, 1, 2, 255, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63),
           10**30, 1e308, float("inf"), float("nan"), 0.5, -0.0]  # fmt: skip
OTHERS: list[Any] = [
    None, True, False, "", [], {}, [[]], {"": {}}, "../../x", "\0", "a" * 70_000, "\ud800",
    "__class__", [0] * 5000, {"a": 1, "b": [2]}, "1", "NaN", *NUMBERS,
]  # fmt: skip


def mutate_bytes(chance: random.Random, content: bytes) -> bytes:
    """A few changes anywhere."""
    made = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 5, 20])):
        at = chance.randrange(len(made) or 1)
        width = chance.choice([1, 1, 4, 8, 64, 1000])
        how = chance.randrange(7)
        if how == 0 and made:
            made[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            made[at : at + 1] = bytes([chance.randrange(256)])
        elif how == 2:
            del made[at:]
        elif how == 3:
            del made[at : at + width]
        elif how == 4:
            made[at:at] = made[at : at + width]
        elif how == 5:
            made[at:at] = chance.choice([chance.randbytes(width), b"[" * 100 * width])
        else:
            number = chance.choice([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
            made[at : at + 8] = struct.pack("<Q", number)
    return bytes(made)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all values inside of a JSON value; of long lists the first ones."""
    yield path
    if isinstance(value, dict):
        for key, each in list(value.items())[:300]:
            yield from places(each, (*path, key))
    elif isinstance(value, list):
        for number, each in enumerate(value[:30]):
            yield from places(each, (*path, number))


def mutate_json(chance: random.Random, value: Any) -> Any:
    """One or a few values replaced, removed, renamed, nested or exchanged."""
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        path = chance.choice(list(places(value)))
        if not path:
            if chance.random() < 0.05:
                return copy.deepcopy(chance.choice(OTHERS))
            continue
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        key, how = path[-1], chance.randrange(8)
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, dict):
            holder[chance.choice(["", "x", key + "s", "\0", "format"])] = holder.pop(key)
        elif how == 2:
            deep: Any = holder[key]
            for _ in range(chance.choice([1, 50, 900])):
                deep = [deep]
            holder[key] = deep
        elif how == 3 and isinstance(holder[key], (int, float)):
            holder[key] = chance.choice([holder[key] + 1, -holder[key], holder[key] * 1000])
        elif how == 4 and isinstance(holder[key], str):
            holder[key] = chance.choice([holder[key][::-1], holder[key] * 2, "../" + holder[key]])
        elif how == 5:
            other = value
            for each in chance.choice(list(places(value))):
                other = other[each]
            holder[key] = json.loads(json.dumps(other))
        else:
            holder[key] = copy.deepcopy(chance.choice(OTHERS))  # else it might hold itself
    return value


def mutant(chance: random.Random, content: bytes, kind: str) -> bytes:
    """A mutant of a file: of its bytes, or of what its JSON means."""
    if kind != "bytes" and chance.random() < 0.7:
        with contextlib.suppress(RecursionError):  # of what is nested too deep to be written
            return mutate_meaning(chance, content, kind)
    return mutate_bytes(chance, content)


def mutate_meaning(chance: random.Random, content: bytes, kind: str) -> bytes:
    """A mutant that is still JSON, in the frame of this kind of file."""
    if kind == "safetensors":
        size = struct.unpack("<Q", content[:8])[0]
        header = json.dumps(mutate_json(chance, json.loads(content[8 : 8 + size]))).encode()
        return struct.pack("<Q", len(header)) + header + content[8 + size :]
    if kind == "lines":
        lines = content.split(b"\n")
        at = chance.randrange(len(lines) - 1)
        lines[at] = json.dumps(mutate_json(chance, json.loads(lines[at]))).encode()
        return b"\n".join(lines)
    value = mutate_json(chance, json.loads(content))
    if kind == "signed" and isinstance(value, dict) and chance.random() < 0.5:
        value.pop("digest", None)
        value.pop("format", None)
        return signed_json(value)
    return json.dumps(value).encode()


class Targets:
    """Copies of the inputs of the torture, with each file that is mutated and what reads it.

    Args:
        place: what `scenarios.make_place` made. folder: new.
    """

    def __init__(self, place: Path, folder: Path) -> None:
        for name in ("theirs", "judge", "prepared", "adapted"):
            if (place / name).exists():
                shutil.copytree(place / name, folder / name)
        (theirs, judge), prepared = (folder / "theirs", folder / "judge"), folder / "prepared"
        step = next((judge / "checkpoints").glob("step-*"))
        self.all: list[tuple[str, Path, str, Callable[[], object]]] = [
            ("safetensors", theirs / "model.safetensors", "safetensors",
             lambda: load_tensors(theirs / "model.safetensors", require_digest=False)),
            ("safetensors, signed", judge / "model.safetensors", "safetensors",
             lambda: load_tensors(judge / "model.safetensors")),
            ("weights of a folder", theirs / "model.safetensors", "safetensors",
             lambda: open_base(str(theirs))),
            ("config.json", theirs / "config.json", "json", lambda: open_hf_folder(theirs)),
            ("tokenizer.json", theirs / "tokenizer.json", "json", lambda: load_tokenizer(theirs)),
            ("tokenizer_config.json", theirs / "tokenizer_config.json", "json",
             lambda: open_hf_folder(theirs)),
            ("scriven.json", judge / "scriven.json", "signed", lambda: load_run(judge)),
            ("manifest of a run", judge / "manifest.json", "signed",
             lambda: [read_pretrained_file(judge, "config.json"), load_run(judge)]),
            ("manifest of a checkpoint", step / "manifest.json", "signed",
             lambda: checkpoint.load_newest(judge)),
            ("state of a checkpoint", step / "state.json", "json",
             lambda: checkpoint.load_newest(judge)),
            ("metrics.jsonl", judge / "metrics.jsonl", "lines", lambda: read_run_log(judge)),
        ]  # fmt: skip
        if prepared.exists():
            self.all += [
                ("manifest of a corpus", prepared / "manifest.json", "signed",
                 lambda: open_dataset(prepared, name="x", sources=[])),
                ("plan of a corpus", prepared / "plan.json", "json", lambda: read_plan(prepared)),
            ]  # fmt: skip
        if (folder / "adapted").exists():
            adapted = next((folder / "adapted").rglob("adapter_config.json")).parent
            self.all.append(("adapter_config.json", adapted / "adapter_config.json", "json",
                             lambda: read_adapter(adapted)))  # fmt: skip


seen: list[str] = []
_watching = False


def _note(event: str, given: tuple[object, ...]) -> None:
    if _watching and event in FORBIDDEN:
        seen.append(f"{event} {given}"[:200])


sys.addaudithook(_note)


def _begin_peak() -> int:
    """Begins a new peak of memory, where Linux can; the memory in use, in bytes."""
    # freed memory that malloc keeps would be used again without a peak
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _read_peak()


def _read_peak() -> int:
    """The peak of memory since `_begin_peak`, in bytes; elsewhere that of the whole process."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _peak_of(action: Callable[[], object]) -> int:
    before = _begin_peak()
    action()
    return _read_peak() - before


def _read_mutant(read: Callable[[], object]) -> tuple[str | None, float, int]:
    """(what came of it, seconds of processor time, bytes of memory): None where it was read, the
    message of a refusal, or a traceback."""
    global _watching
    began, before = time.process_time(), _begin_peak()
    _watching, answer = True, None
    try:
        read()
    except ScrivenError as error:
        answer = str(error) or "\nno message"
    except Exception:
        answer = traceback.format_exc()[-1500:]
    finally:
        _watching = False
    return answer, time.process_time() - began, _read_peak() - before


def try_mutants(targets: Targets, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Reads so many mutants; how many of each file were read or refused, and what went wrong."""
    found, wrong = Counter[str](), list[str]()
    own: dict[str, int] = {}
    for _ in range(2):  # the first time imports what is needed
        own = {name: _peak_of(read) for name, _, _, read in targets.all}
    originals = {path: path.read_bytes() for _, path, _, _ in targets.all}
    for number in range(count):
        name, path, kind, read = targets.all[number % len(targets.all)]
        chance = random.Random(f"{seed}/{number}")
        made = mutant(chance, originals[path], kind)
        path.write_bytes(made)
        for _ in range(2):  # the first reading may import something
            answer, seconds, grown = _read_mutant(read)
            slow, large = seconds > SECONDS, grown > own[name] + 2 * len(made) + ALLOWED
            if not (slow or large):
                break
        found[f"{name}: {'read' if answer is None else 'refused'}"] += 1
        if answer is not None and "\n" in answer:
            wrong.append(f"{number} {name}: {answer}")
        if slow or large:
            wrong.append(f"{number} {name}: {seconds:.1f} s, {grown:,} bytes for {len(made):,}")
        if seen:
            wrong.append(f"{number} {name}: did {seen}")
            seen.clear()
        path.write_bytes(originals[path])
    return found, wrong
