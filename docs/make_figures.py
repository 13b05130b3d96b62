"""Writes the figures of README.md and docs/ from what commands printed: `make figures`.

A figure stands between two comments of its page, and comes from a row of bench/results.jsonl (a
benchmark wrote it) or from a file of docs/outputs/ (the output of an example, with its command,
date, time and processor). A test compares pages and sources, so the two cannot drift apart.

    python docs/make_figures.py                      writes the pages
    python docs/make_figures.py --run entail         runs an example again, then writes the pages
    python docs/make_figures.py --run                runs all of them: several minutes of one core
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUTPUTS = ROOT / "docs" / "outputs"
BLOCK = re.compile(r"<!-- (figure|output): ([\w-]+) -->\n.*?<!-- end -->", re.S)
XEON, EPYC = "Intel(R) Xeon(R) Processor", "AMD EPYC"

Row = dict[str, Any]


def rows(what: str, **wanted: Any) -> list[Row]:
    """Rows of bench/results.jsonl in the order in which they were measured."""
    lines = (ROOT / "bench" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    found = (json.loads(line) for line in lines)
    return [
        row
        for row in found
        if row["what"] == what and all(row.get(key) == value for key, value in wanted.items())
    ]


def table(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# ------------------------------------------------------------------ figures from benchmarks


def losses() -> str:
    """Validation loss by budget, the newest row of each seed."""
    body = []
    for budget in ("1m", "3m", "10m", "30m"):
        line = [f"`{budget}`"]
        kind = {"text": "tinyshakespeare.txt", "arch": "llama", "budget": budget}
        baseline = rows("time to loss", **kind)[-1]
        for processor in (XEON, EPYC):
            found = rows("time to loss", **kind, processor=processor)
            by_seed = {row["seed"]: row["val_loss"] for row in found}
            line.append(", ".join(f"{by_seed[seed]:.3f}" for seed in sorted(by_seed)) or "–")
        line.append(f"{baseline['ngram_loss']:.3f}")
        line.append(f"`python bench/time_to_loss.py tinyshakespeare.txt --budgets {budget}`")
        body.append(line)
    return table(["budget", "Xeon with AMX", "EPYC", "5-gram baseline", "command"], body)


def peers() -> str:
    """Beside other programs on the same two cores; the newest row of each, and the machine on which
    ours was measured last."""

    def newest(what: str, rival: str, **wanted: Any) -> Row:
        shared = {name: each for name, each in wanted.items() if name != "bits"}
        processor = rows(what, rival="scriven", **shared)[-1]["processor"]
        return rows(what, rival=rival, processor=processor, **wanted)[-1]

    def where(row: Row) -> str:
        return f"{row['date']}, {'Xeon' if row['processor'] == XEON else 'EPYC'}"

    def rates(what: str, rivals: dict[str, dict[str, Any]], **wanted: Any) -> list[str]:
        ours = newest(what, "scriven", **wanted)
        others = [
            f"{rival} {newest(what, rival, **{**wanted, **changes})['tokens_per_second']:,.0f}"
            + (" (float32)" if changes.get("bits") == "float32" else "")
            for rival, changes in rivals.items()
        ]
        return [f"{ours['tokens_per_second']:,.0f} tokens/s", ", ".join(others), where(ours), side]

    def race(target: str) -> list[str]:
        ours, theirs = (newest(f"time to {target}", rival) for rival in ("scriven", "nanoGPT"))
        seconds = theirs["seconds"]["median"]
        other = f"nanoGPT's CPU recipe {seconds:.0f} s"
        if theirs["losses"]:
            other += f", and {theirs['losses'][0]:.3f}"
        else:  # its time per step, times the steps that it needs
            other = f"nanoGPT {seconds / 3600:.1f} hours ({theirs['how']})"
        return [f"{ours['seconds']['median']:.1f} s", other, where(ours), to_loss]

    def drawn(what: str, *beside: str, shape: str = "10.7M", bits: str = "float32") -> list[str]:
        wanted = {"arch": "llama", "bits": bits, "shape": shape, "processor_time": False}
        ours, *others = (newest(what, each, **wanted) for each in ("scriven", *beside))
        shown = (f"{row['rival']} {row['tokens_per_second']:,.0f}" for row in others)
        rate = f"{ours['tokens_per_second']:,.0f} tokens/s"
        return [rate, ", ".join(shown), where(ours), "`bench/drawn_texts.py`"]

    def served() -> list[str]:
        row = [each for each in rows("serving", processor=XEON) if "llama_cpp_32" in each][-1]
        other = f"llama.cpp's server {row['llama_cpp_32']:,.0f}"
        return [f"{row['scriven_32']:,.0f} tokens/s", other, where(row), "`bench/serving.py`"]

    side, to_loss = "`bench/side_by_side.py`", "`bench/race_to_loss.py`"
    gpt2: dict[str, Any] = {"shape": "10.6M", "arch": "gpt2"}
    plain, dropped = ({"nanoGPT": {}, "transformers": {}} for _ in range(2))
    llama = gpt2 | {"arch": "llama", "dropout": 0.0}
    body = [
        ["tiny Shakespeare to a loss of 1.88, whole process", *race("1.88")],
        ["to 1.4697", *race("1.4697")],
        ["training step of a GPT-2 of 10.6 M", *rates("training step", plain, **gpt2, dropout=0.0)],
        ["the same with dropout 0.2", *rates("training step", dropped, **gpt2, dropout=0.2)],
        ["training step of a Llama of 10.6 M", *rates("training step", {"LitGPT": {}}, **llama)],
        ["a trained Llama of 10.7 M draws one text, float32",
         *drawn("drawn texts", "llama.cpp", "CTranslate2", "transformers")],
        ["the same in int8", *drawn("drawn texts", "llama.cpp", "CTranslate2", bits="int8")],
        ["it draws 32 texts at once, float32",
         *drawn("drawn texts, 32 at once", "CTranslate2", "transformers")],
        ["SmolLM2-135M draws one text, int8",
         *drawn("drawn texts", "llama.cpp", "CTranslate2", shape="134.5M", bits="int8")],
        ["it serves 32 clients", *served()],
    ]  # fmt: skip
    return table(["what", "scriven", "others", "measured", "command"], body)


def architectures() -> str:
    """Validation loss after five minutes of one core."""
    found = {row["architecture"]: row for row in rows("five minutes each")}
    ranked = sorted(found.values(), key=lambda row: row["val_loss"])
    ranked = [row for row in ranked if row["measure"] == "next token"]
    names = [f"`{row['architecture']}`" for row in ranked]
    return table(names, [[f"{row['val_loss']:.3f}" for row in ranked]])


def startup() -> str:
    """The help page and the first training step."""
    helped = rows("help")[-1]["seconds_median"]
    step = [row for row in rows("first step") if "base" not in row][-1]["seconds_median"]
    return (
        f"The help page takes {helped:.2f} s and the first training step comes {step:.1f} s after "
        "the command\n(`python bench/startup.py tinyshakespeare.txt`, on the Xeon)."
    )


def adaptation() -> str:
    """What going on from SmolLM2-135M costs, beside transformers and PEFT."""
    first = [row for row in rows("first step", processor=XEON) if "base" in row][-1]
    step = [row for row in rows("lora step", processor=XEON) if row["model"] == "smol-hf"][-1]
    ours = step["figures"].pop("scriven")
    best = min(step["figures"].values(), key=lambda each: float(each["seconds"]))
    body = [
        ["first step after the command", f"{first['seconds_median']:.1f} s", "–",
         "`bench/startup.py TEXT --from MODEL`"],
        [f"step of {step['tokens']:,} tokens, rank {step['rank']}", f"{ours['seconds']:.2f} s",
         f"{best['seconds']:.2f} s", "`bench/adapt.py MODEL`"],
        ["peak memory", f"{ours['peak_mb']:,.0f} MB", f"{best['peak_mb']:,.0f} MB", "the same"],
    ]  # fmt: skip
    return table(["what", "scriven", "transformers + PEFT", "command"], body)


def adapt_race() -> str:
    """Ten minutes on a text: SmolLM2-135M as it comes, a model from nothing, PEFT, Scriven."""
    titles = {"austen4.txt": "*Pride and Prejudice*", "tinyshakespeare.txt": "Shakespeare's plays"}
    found: dict[str, dict[str, float]] = {}
    for row in rows("adapt race", minutes=10.0):
        figures = {name.partition(" ")[0]: bits for name, bits in row["bits_per_byte"].items()}
        found[row["text"]] = found.get(row["text"], {}) | figures
    body = [
        [titles[text], *(
            f"{figures[name]:.3f}" if name in figures else "–"
            for name in ("base", "nothing", "peft", "scriven")
        )]
        for text, figures in found.items()
    ]  # fmt: skip
    return table(
        ["bits per byte of the last tenth", "SmolLM2-135M as it comes", "trained from nothing",
         "transformers + PEFT", "scriven"], body,
    )  # fmt: skip


def serving() -> str:
    """The server beside llama.cpp's and transformers'."""

    def newest(processor: str, peer: str) -> Row:
        return [row for row in rows("serving", processor=processor) if f"{peer}_32" in row][-1]

    def line(name: str, row: Row, key: str) -> list[str]:
        return [name, f"{row[f'{key}_1']:,.0f}", f"{row[f'{key}_32']:,.0f}"]

    xeon, epyc = newest(XEON, "llama_cpp"), newest(EPYC, "transformers_batching")
    other = newest(XEON, "transformers")
    batching = "transformers serve, continuous batching"
    body = [
        line("Xeon: scriven", xeon, "scriven"),
        line("Xeon: llama.cpp", xeon, "llama_cpp"),
        line("Xeon: transformers serve", other, "transformers"),
        line(f"Xeon: {batching}", other, "transformers_batching"),
        line("EPYC: scriven", epyc, "scriven"),
        line("EPYC: llama.cpp", epyc, "llama_cpp"),
        line(f"EPYC: {batching}", epyc, "transformers_batching"),
    ]
    first = [1000 * xeon[f"first_token_beside_{count}"] for count in (0, 8)]
    return (
        table(["tokens per second", "1 client", "32 clients"], body)
        + f"\n\nOn the Xeon the first token comes after {first[0]:.0f} ms, and after "
        f"{first[1]:.0f} ms beside 8 other streams ({xeon['date']}; EPYC {epyc['date']})."
    )


def report() -> str:
    """The run that the pictures show (docs/make_pictures.py)."""
    made = json.loads((OUTPUTS / "report.json").read_text(encoding="utf-8"))
    results = made["results"]
    return (
        f"The pictures show `{made['command']}`:\n{results['parameters']:,} parameters, "
        f"{results['steps']:,} steps in {results['seconds']:.0f} s on two cores "
        f"({made['processor']}), and a validation loss of\n"
        f"{results['val_loss']:.3f} nats per character, where counting 5-grams reaches "
        f"{results['ngram_loss']:.3f} ({made['date']}).\n"
        f"The text is that of `{made['generate']}`."
    )


def sample() -> str:
    """What the model of that run wrote."""
    made = json.loads((OUTPUTS / "report.json").read_text(encoding="utf-8"))
    return f"```text\n{made['text'].strip()}\n```"


def classify() -> str:
    """The first lines of what examples/classify_reviews.py prints, and one of its answers."""
    made = json.loads((OUTPUTS / "classify_reviews.json").read_text(encoding="utf-8"))
    lines = made["output"].splitlines()
    answers = [line for line in lines if "%)" in line]
    text = "\n".join([*lines[:3], answers[0]])
    where = f"{made['date']}, {made['processor']}; another one rounds differently"
    return f"```text\n{text}\n```\n\n<sup>{where}</sup>"


FIGURES: dict[str, Callable[[], str]] = {
    "losses": losses,
    "peers": peers,
    "architectures": architectures,
    "startup": startup,
    "adaptation": adaptation,
    "adapt-race": adapt_race,
    "serving": serving,
    "report": report,
    "sample": sample,
    "classify": classify,
}


# ------------------------------------------------------------------ outputs of examples


def output(name: str) -> str:
    """What an example printed, and where."""
    made = json.loads((OUTPUTS / f"{name}.json").read_text(encoding="utf-8"))
    text = "\n".join(line.rstrip() for line in made["output"].splitlines())
    return (
        f"```text\n{text}\n```\n\n<sup>{made['date']}: {made['cpu_seconds']:.0f} s of one core of "
        f"an {made['processor']}. Another one rounds differently and gives other figures.</sup>"
    )


def run_example(name: str) -> None:
    """Runs an example with its defaults in an empty folder, and keeps what it prints."""
    from scriven.runtime import cpu_name

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(  # noqa: S603
            [sys.executable, str(ROOT / "examples" / f"{name}.py")],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    made = {
        "command": f"python examples/{name}.py",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": cpu_name(),
        "cpu_seconds": round(after.ru_utime - before.ru_utime, 1),
        "output": done.stdout,
    }
    text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    (OUTPUTS / f"{name}.json").write_text(text, encoding="utf-8")


# ------------------------------------------------------------------ pages


def pages() -> list[Path]:
    """Pages that may hold figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def with_figures(text: str) -> str:
    """A page with every figure written anew."""

    def block(match: re.Match[str]) -> str:
        kind, name = match.groups()
        made = FIGURES[name]() if kind == "figure" else output(name)
        return f"<!-- {kind}: {name} -->\n\n{made}\n\n<!-- end -->"

    return BLOCK.sub(block, text)


def examples() -> list[str]:
    """The examples whose output a page shows."""
    found = [BLOCK.findall(page.read_text(encoding="utf-8")) for page in pages()]
    return sorted({name for page in found for kind, name in page if kind == "output"})


def main() -> None:
    """Runs what is asked for, and writes the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", nargs="*", metavar="EXAMPLE", help="run these first; all if none")
    arguments = parser.parse_args()
    if arguments.run is not None:
        for name in arguments.run or examples():
            print(f"python examples/{name}.py", file=sys.stderr, flush=True)
            run_example(name)
    for page in pages():
        text = page.read_text(encoding="utf-8")
        made = with_figures(text)
        if made != text:
            page.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
