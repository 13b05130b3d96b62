"""Going on from a model against transformers + PEFT and against nothing, each for the same time.

    scriven import model.gguf --out model
    python bench/adapt_race.py model book.txt --minutes 10
    python bench/adapt_race.py model book.txt --minutes 10 --only peft nothing

The model is a folder in the Hugging Face layout, as transformers keeps the weights of a GGUF file
packed, which is slower. `scriven train` holds out the last tenth of the text by itself, PEFT gets
the same nine tenths, and each result is scored on all of the last one by `scriven evaluate`, in
windows as long as PEFT's rows. `scriven train --from` runs with its defaults; PEFT trains LoRA
adapters on all linear layers in the precision that is its fastest here (bench/adapt.py: bfloat16
where the CPU multiplies it, or else float32), at the best of some learning rates (--lr), with
warmup and linear decay by the clock. Run nothing beside it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rows

from scriven.settings import DataSettings

ROWS, LENGTH, RANK, WARMUP = 1, 1024, 8, 0.05


def scriven(*words: str | Path) -> str:
    """What a command prints on standard output."""
    line = [sys.executable, "-m", "scriven", *map(str, words)]
    return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout


def bits_per_byte(model: Path, text: Path, *flags: str) -> float:
    """Of a whole text."""
    return float(json.loads(scriven("evaluate", model, text, "--json", *flags))["bits_per_byte"])


def train_peft(base: Path, text: Path, out: Path, seconds: float, lr: float) -> int:
    """Trains adapters for so many seconds from the start of the program; returns the steps."""
    began = time.monotonic()
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from scriven.runtime import choose_runtime
    from scriven.settings import RuntimeSettings

    torch.manual_seed(0)
    dtype = choose_runtime(RuntimeSettings()).dtype
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, attn_implementation="sdpa")
    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = torch.tensor(tokenizer(text.read_text(encoding="utf-8"))["input_ids"])
    lora = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, lora).train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in trained:  # in bfloat16 the steps of an optimizer are lost to rounding
        weight.data = weight.data.float()
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    steps = 0
    while (progress := (time.monotonic() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = lr * min(progress / WARMUP, (1 - progress) / (1 - WARMUP))
        starts = torch.randint(len(ids) - LENGTH, (ROWS,)).tolist()
        batch = torch.stack([ids[start : start + LENGTH] for start in starts])
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    model.peft_config["default"].base_model_name_or_path = str(base.resolve())
    model.save_pretrained(out)
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--lr", type=float, nargs="*", default=[1e-3], help="of PEFT")
    parser.add_argument("--only", nargs="*", default=["scriven", "peft", "nothing", "base"])
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    given = parser.parse_args()
    if given.results is not None:
        rows.RESULTS = given.results
    budget = f"{given.minutes:g}m"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        text = given.text.read_text(encoding="utf-8")
        cut = int((1 - DataSettings().val_fraction) * len(text))  # as data/split.py
        train, held = work / "train.txt", work / "held.txt"
        train.write_text(text[:cut], encoding="utf-8")
        held.write_text(text[cut:], encoding="utf-8")

        def ours(*words: str | Path) -> Path:
            out = work / f"run{len(words)}"
            scriven("train", given.text, *words, "--budget", budget, "--out", out, "--quiet")
            return out

        def peft(lr: float) -> Path:
            out = work / f"peft-{lr}"
            train_peft(given.model, train, out, 60 * given.minutes, lr)
            return out

        racers: dict[str, Callable[[], Path]] = {
            "base": lambda: given.model,
            "scriven": lambda: ours("--from", given.model),
            "nothing": lambda: ours(),
            **{f"peft {lr:g}": (lambda lr=lr: peft(lr)) for lr in given.lr},
        }
        found: dict[str, Any] = {}
        for name, race in racers.items():
            if name.partition(" ")[0] in given.only:
                # a model of its own reads as much as it was made for
                windows = () if name == "nothing" else ("--sequence-length", str(LENGTH))
                found[name] = round(bits_per_byte(race(), held, *windows), 4)
                print(name, found[name], file=sys.stderr, flush=True)
    rows.write(
        "adapt race", rows.machine(), model=given.model.name, text=given.text.name,
        minutes=given.minutes, sequence_length=LENGTH, held_out_bytes=len(text[cut:].encode()),
        bits_per_byte=found,
    )  # fmt: skip


if __name__ == "__main__":
    main()
