"""Direct Preference Optimization beside TRL's DPOTrainer: the same model, pairs and settings, and
the accuracy of preferring the chosen answer on the same held-out pairs.

    python bench/preferences.py --trl PYTHON

PYTHON is a Python with trl and transformers. The pairs are sums in words: a right and a wrong
answer to each question, or, with --style, a polite and a plain one. The model is a small one that
was fine-tuned on such questions before.
"""

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

BETA, BATCH, EPOCHS = 0.1, 16, 3
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
FORMS = ["What is {a} plus {b}?", "Add {b} to {a}.", "How much are {a} and {b}?", "{a} and {b}?"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trl", default=sys.executable, help="a Python with trl")
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--style", action="store_true", help="polite answers are preferred")
    parser.add_argument("--pretrain", default="300steps")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-preferences"))
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(train_with_trl(*map(Path, args.child[:2]), args.lr, int(args.child[2]))))
        return
    import rows

    if args.results is not None:
        rows.RESULTS = args.results
    for seed in range(args.seeds):
        figures = compare(args.out / f"{'style' if args.style else 'sums'}-{seed}", args, seed)
        rows.write("preferences", rows.machine(), **figures)


def compare(folder: Path, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Accuracy, loss and reward margin of both on the held-out pairs of one seed."""
    import scriven

    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    texts = [f"{ask} {answer}" for ask, answer, _ in pairs(draw, 3000, args.style)]
    (folder / "text.txt").write_text("\n".join(texts))
    answers = [
        {"prompt": ask, "completion": draw.choice(both)}
        for ask, *both in pairs(draw, 600, args.style)
    ]
    write(folder / "answers.jsonl", answers)
    for part, count in (("train", args.pairs), ("test", args.pairs)):
        made = pairs(draw, count, args.style)
        write(folder / f"{part}.jsonl", [
            {"prompt": [{"role": "user", "content": ask}],
             "chosen": [{"role": "assistant", "content": chosen}],
             "rejected": [{"role": "assistant", "content": rejected}]}
            for ask, chosen, rejected in made
        ])  # fmt: skip
    shape = {"tokenizer.kind": "word", "model.context_length": 64, "train.batch_size": 32}
    plain: dict[str, Any] = {"quiet": True, "seed": seed}
    base = scriven.train(
        folder / "text.txt", budget=args.pretrain, size="tiny", out=folder / "base",
        settings=shape, **plain,
    )  # fmt: skip
    answering = base.finetune(
        folder / "answers.jsonl", budget="200steps", out=folder / "answering", **plain
    )
    settings = {"train.batch_size": BATCH, "optim.lr": args.lr, "finetune.dpo_beta": BETA,
                "train.patience": 0, "runtime.dtype": "float32"}  # fmt: skip
    ours = answering.finetune(
        folder / "train.jsonl", validation=folder / "test.jsonl", budget=f"{EPOCHS}epochs",
        out=folder / "ours", settings=settings, **plain,
    )  # fmt: skip
    line = [args.trl, __file__, "--lr", str(args.lr), "--child"]
    line += [str(folder / "answering"), str(folder), str(seed)]
    child = subprocess.run(line, capture_output=True, text=True)
    if child.returncode:
        sys.exit(child.stderr[-3000:])
    scores = ours.results["val_scores"]
    reference = ours.results["baseline"]["reference_model"]["scores"]["accuracy"]["value"]
    return {
        "pairs": "style" if args.style else "sums", "seed": seed,
        "beta": BETA, "lr": args.lr, "batch": BATCH, "epochs": EPOCHS, "rows": args.pairs,
        "reference": round(reference, 4),
        "ours": {"accuracy": round(scores["accuracy"]["value"], 4),
                    "low": round(scores["accuracy"]["low"], 4),
                    "high": round(scores["accuracy"]["high"], 4),
                    "loss": round(ours.results["val_loss"], 4),
                    "margin": round(scores["reward_margin"]["value"], 4)},
        "trl": json.loads(child.stdout.splitlines()[-1]),
    }  # fmt: skip


def train_with_trl(model: Path, folder: Path, lr: float, seed: int) -> dict[str, float]:
    """The same training with TRL, and its figures on the held-out pairs."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    parts = {part: str(folder / f"{part}.jsonl") for part in ("train", "test")}
    data = load_dataset("json", data_files=parts, cache_dir=str(folder / "cache"))
    tokenizer = AutoTokenizer.from_pretrained(model)

    def rendered(row: dict[str, Any]) -> dict[str, str]:
        # as text, after which TRL adds one token: in its form of messages it trains on the line end
        # after the answer too
        prompt = tokenizer.apply_chat_template(
            row["prompt"], tokenize=False, add_generation_prompt=True
        )
        return {"prompt": prompt, **{name: row[name][0]["content"] for name in
                                     ("chosen", "rejected")}}  # fmt: skip

    data = data.map(rendered, remove_columns=data["train"].column_names)
    tokenizer.eos_token = "<|im_end|>"
    config = DPOConfig(
        output_dir=str(folder / "trl"), beta=BETA, learning_rate=lr, seed=seed,
        per_device_train_batch_size=BATCH, per_device_eval_batch_size=60,
        num_train_epochs=EPOCHS, lr_scheduler_type="linear", warmup_steps=0.1, weight_decay=0.0,
        max_grad_norm=1.0, adam_beta2=0.95, save_strategy="no", report_to=[], use_cpu=True,
        bf16=False, gradient_checkpointing=False, disable_tqdm=True,
    )  # fmt: skip
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=config,
        train_dataset=data["train"],
        eval_dataset=data["test"],
        processing_class=tokenizer,
    )
    trainer.train()
    found = trainer.evaluate()
    names = {"accuracy": "rewards/accuracies", "loss": "loss", "margin": "rewards/margins"}
    return {name: round(found[f"eval_{key}"], 4) for name, key in names.items()}


def pairs(draw: random.Random, count: int, style: bool) -> list[tuple[str, str, str]]:
    """(question, preferred answer, other answer)"""
    found = []
    for _ in range(count):
        a = draw.randrange(9)
        b = draw.randrange(11 - a)
        ask = draw.choice(FORMS).format(a=NUMBERS[a], b=NUMBERS[b])
        wrong = draw.choice([n for n in range(11) if n != a + b])
        right = f"It is {NUMBERS[a + b]}."
        other = f"It is {NUMBERS[wrong]}."
        if style:
            right, other = f"With pleasure, it is {NUMBERS[a + b]}.", right
        found.append((ask, right, other))
    return found


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    """A table of JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
