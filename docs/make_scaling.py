"""Writes docs/scaling.md, by calculation and from our own fits: `python docs/make_scaling.py`.

A test compares the file with what this makes, so the page cannot fall behind the code.
"""

import json
from pathlib import Path
from typing import Any

from scriven.format import rough_duration, si
from scriven.inspect import inspect
from scriven.plan.estimate import PARTS, peak_memory
from scriven.plan.planner import plan

PAGE = Path(__file__).with_name("scaling.md")
RESULTS = Path(__file__).parents[1] / "bench" / "results.jsonl"

HEAD = """# Scaling

One dial, `--size` or `--budget`, sets shape, batch, learning rates and horizon together. `plan`
says what would be trained and what it would take, before anything is built; `train` follows the
same rules, in `src/scriven/train/scaling.py`.

```
scriven plan --size 1B --gpus 8 --device h100
scriven plan --gpus 8 --device a100 --budget 24h
scriven plan --size 1B --gpus 64 --device h100 --tokens 40GB --json
scriven plan --size 12M --device cpu
```

Without a device it takes what this machine has, and measures it for half a second. What it prints
last is the command that does what was planned.

Everything on this page is a calculation from stated rates, made by `python docs/make_scaling.py`;
only [our own fits](#fits-of-our-own) were measured here. [Below](#against-published-figures) it
stands beside trainings that others published.

## The rules

| what | rule | from |
|---|---|---|
| shape | `--size` is 12 x layers x width², the parameters in blocks. From 25M on the width is a multiple of 128 and heads have 64 numbers, from a width of 2048 on 128; width over layers rises from 64 at 1B to 128 at 8B. Smaller shapes have heads of 32 and a width of 64 x layers | Kaplan et al. 2020, sections 2.1 and 3.1: loss hardly depends on the proportions. Brown et al. 2020, table 2.1, for the proportions of large ones |
| window | 256; 1024 on a GPU with more than 20M tokens | |
| vocabulary | grows with the text, up to 32,768 | [tokenizers.md](tokenizers.md) |
| horizon | 20 tokens for each parameter, unless told | Hoffmann et al. 2022, table 3 |
| passes | a text read up to four times teaches almost as much as fresh text; after that more parameters and tokens bring little | Muennighoff et al. 2023 |
| batch | 2,048 tokens on a processor. On a GPU 32,768 up to a horizon of 14M tokens, from there on with its power of 0.383, as a power of two | Bergsma et al. 2025: the best batch depends on the tokens, not on the parameters. Where it starts is our choice: it meets 524,288 at 20G tokens, what Brown et al. used up to 760M parameters |
| rate of matrices | 0.02 for Muon at every size | an orthogonal update changes what a layer gives out by as much at every width: Jordan et al. 2024, Bernstein and Newhouse 2024 |
| rate of the rest | 0.003 x √(128 / width) beside Muon, 0.002 x √(128 / width) for AdamW alone | between a constant rate and the 1 / width that Yang et al. 2022 (muP) have for AdamW's matrices; a choice, not a fit |
| epochs, seconds, steps | a budget in tokens or epochs says how many tokens there will be, so the batch grows with it; one in seconds or steps does not, so the batch stays the usual one. `plan --budget 24h` therefore ends in a command with tokens | |

## The formulas

N parameters, L layers, width W, context T, vocabulary V, n devices, B tokens of an update.

| | |
|---|---|
| FLOPs of a token | 3 x (2 x weights that multiply + 4 L W (T + 1) / 2), the second part for attention that sees half the window on average (Kaplan et al. 2020, section 2.1); 4/3 of it with checkpointing |
| weights, gradients | 4 N bytes each |
| optimizer | 8 N bytes for AdamW's two moments; 4 bytes for each weight that Muon moves |
| copies | 2 N bytes: weights in bfloat16, which products use. fsdp: of two blocks and of what is not in blocks |
| activations | 24 L W numbers for each token of a micro-batch, at 2.4 bytes (products in bfloat16, norms in float32); with checkpointing 4 L W bytes and all of one block |
| logits | 12 V bytes for each token of a micro-batch |
| sent, ddp | 8 N (n - 1) / n bytes from each device for an update: gradients go round a ring twice |
| sent, fsdp | 8 N (n - 1) / n bytes for each micro-batch: weights in bfloat16 for forward and for backward, gradients in float32 |
| Muon | 5 rounds of 4 r² c + 2 r³ FLOPs for each matrix of r x c; those of one shape are divided among devices, and go round after it, 2 r c bytes; fsdp gathers them first, 4 r c bytes. At once up to 2^27 numbers, 20 bytes each, when activations are gone |
| starts | 5 µs for each of about 92 operations of a layer and a micro-batch, forward and backward, without compilation |
| an update | the longest of arithmetic, communication and starts, which run side by side, then Muon's part and the reading and writing of 28 N bytes by the optimizer |

fsdp divides weights, gradients and optimizer by n, and is reckoned with weights that are gathered in
bfloat16. Rates are those of data sheets (dense bfloat16, memory, NVLink in one direction, and the
network of NVIDIA's own computers, 8 links of 200 Gb/s for an A100 and of 400 Gb/s for an H100);
`--peak`, `--network` and `--utilisation` replace them. Products are taken to reach 40 % of the peak.
Of the layouts that fit into 90 % of the memory, the simplest that is within 5 % of the fastest is
chosen: ddp, fsdp, then both with checkpointing.

"""  # noqa: E501

SIZES = {
    "1M": 1, "10M": 1, "30M": 1, "124M": 1, "350M": 8, "1B": 8, "3B": 8, "7B": 64, "13B": 64,
    "70B": 512, "175B": 1024,
}  # fmt: skip
"""Sizes, and on how many devices their times are given."""

COUNTS = (1, 8, 64, 256, 1024)

CLUSTER = """
## On a cluster

[examples/cluster](../examples/cluster) has launch files for Slurm and Kubernetes.
"""


def page() -> str:
    """The whole page."""
    return HEAD + sizes() + layouts() + bottlenecks() + corpus() + published() + fits() + CLUSTER


def sizes() -> str:
    """Shape, batch, rates and horizon of each size."""
    rows = []
    for size, gpus in SIZES.items():
        data = plan(size, device="h100", gpus=gpus)
        model = data["model"]
        rows.append([
            f"`{size}`", model["layers"], model["heads"], f"{model['d_model']:,}",
            f"{data['parameters']:,}", f"{data['tokens_per_step']:,}",
            f"{data['rates']['rest']:.2g}", si(data["tokens"]),
            f"{si(data['flops_per_token'])}", f"{data['flops']:.2g}", f"{gpus:,}",
            rough_duration(data["seconds"]), f"{data['share_of_peak']:.0%}",
        ])  # fmt: skip
    head = (
        "size layers heads width parameters batch,_tokens rate horizon,_tokens FLOPs_of_a_token "
        "FLOPs_in_all H100 time of_the_peak"
    )
    return f"""## Each size

With its own vocabulary, window and horizon, `scriven plan --size 1B --gpus 8 --device h100` and so
on:

{table(head, rows)}"""


def layouts() -> str:
    """Memory and traffic of the layouts."""
    rows = []
    for size in ("124M", "1B", "7B", "13B", "70B", "175B"):
        data = plan(size, device="h100", gpus=64)
        totals = [peak_memory(parts) for parts in data["memory"].values()]
        rows.append([f"`{size}`", *(_gigabytes(total) for total in totals),
                     *(si(sent) + "B" for sent in data["bytes_sent_per_token"].values()),
                     data["layout"] or "none"])  # fmt: skip
    head = (
        "size ddp,_GB fsdp,_GB ddp_with_checkpointing,_GB fsdp_with_checkpointing,_GB sent,_ddp "
        "sent,_fsdp chosen"
    )
    return f"""
## Memory and communication

On 64 H100: memory of a device with one sequence at a time, what it sends for each token that it
reads, and the layout that is chosen:

{table(head, rows)}"""


def bottlenecks() -> str:
    """What takes longest, by size and devices."""
    rows = []
    for size in SIZES:
        cells = []
        for gpus in COUNTS:
            data = plan(size, device="h100", gpus=gpus)
            share = data["share_of_peak"]
            cells.append(f"{share:.0%} {data['bottleneck']}" if share else "memory")
        rows.append([f"`{size}`", *cells])
    named = "\n".join(f"- *{name}*: {text}" for name, text in PARTS.items() if name != text)
    return f"""
## The bottleneck

Share of the peak of all devices, and the part of an update that takes longest, by the number of
H100. The batch is that of the size, so at some number each device has too little of it:

{table("size " + " ".join(f"{count:,}" for count in COUNTS), rows)}
{named}
- *memory*: it does not fit
"""


def corpus() -> str:
    """1 B parameters on a text of 40 GB."""
    rows = []
    for gpus in (8, 16, 32, 64, 128, 256, 512, 1024):
        asked: dict[str, Any] = {"device": "h100", "gpus": gpus, "tokens": "40GB"}
        once = plan("1B", **asked)
        full = plan("1B", budget="21.3Gtokens", **asked)
        plain = plan("1B", budget="21.3Gtokens", **asked, settings={"optim.optimizer": "adamw"})
        rows.append([
            f"{gpus:,}", si(once["tokens_per_second"]), f"{once['share_of_peak']:.0%}",
            rough_duration(once["seconds"]), rough_duration(full["seconds"]),
            f"{full['seconds'] * gpus / 3600:,.0f}", once["bottleneck"],
            rough_duration(plain["seconds"]), plain["bottleneck"],
        ])  # fmt: skip
    head = (
        "H100 tokens/s of_the_peak one_pass 21.3_G_tokens device_hours bottleneck with_AdamW "
        "bottleneck"
    )
    data = plan("1B", device="h100", gpus=8, tokens="40GB")
    return f"""
## 40 GB of text, 1 B parameters

A corpus as large as that of GPT-2 (Radford et al. 2019) has {si(data["tokens"])} tokens at 4.4
bytes each (OpenWebText in GPT-2's tokens: 9.04 G). One pass is {data["tokens_per_parameter"]:.2g}
tokens for each parameter; 20 for each are {21.3e9 / data["tokens"]:.2g} passes.
`scriven plan --size 1B --gpus 64 --device h100 --tokens 40GB`, with that budget, and with
`--optim.optimizer adamw`:

{table(head, rows)}
A step has {data["batch_size"]} sequences, so at most {data["batch_size"]} devices can
share it and the others idle. A larger batch (`--train.batch_size`) would use them, at more tokens
for the same loss. What Muon does once for an update is divided among as many devices as there
are matrices of a shape, and becomes no less beyond; AdamW has nothing like it, and needs more
tokens for the same loss (Jordan et al. 2024).
"""


def published() -> str:
    """Ours beside what others published."""
    gpt3 = inspect("gpt3-175b")["flops_training"] * 300e9
    zero = plan("7.5B", device="a100", gpus=64, settings={"optim.optimizer": "adamw"})
    each = [_states(zero["memory"][name]) / zero["parameters"] * 7.5e9 for name in ("ddp", "fsdp")]
    rows = [
        ["GPT-3 175B, 300 G tokens: FLOPs", "Brown et al. 2020, table D.1", "3.14e+23",
         f"{gpt3:.3g}", f"{gpt3 / 3.14e23:.2f}", ""],
        ["7.5 B parameters, AdamW, 64 devices: weights, gradients and moments, ddp",
         "Rajbhandari et al. 2020, figure 1", "120 GB", f"{each[0] / 1e9:.3g} GB",
         f"{each[0] / 120e9:.2f}", ""],
        ["the same, all of it divided", "the same", "1.9 GB", f"{each[1] / 1e9:.3g} GB",
         f"{each[1] / 1.9e9:.2f}", ""],
    ]  # fmt: skip
    for what, source, hours, data in timed():
        ours = data["seconds"] * data["gpus"] / 3600
        share = data["flops"] / (hours * 3600 * data["device"]["peak"])
        rows.append([
            what, source, f"{hours:,.0f} h", f"{ours:,.0f} h", f"{ours / hours:.2f}", f"{share:.0%}"
        ])  # fmt: skip
    head = "what source published here ratio share_of_the_peak_that_they_reached"
    return f"""
## Against published figures

Device hours are reckoned with 40 % of the peak for products; the last column is what their hours
come to with our FLOPs. Attention counts as half of what a formula without a causal mask gives, so
the shares are lower than those that some publish (torchtitan: 56.8 %).

{table(head, rows)}
FLOPs and memory agree to 2 %. Hours are as far off as the share of the peak is from 40 %, as they
must be: good programs reach 41 to 59 %, nanoGPT's first recipe 27 %. Llama 3 8B is further off, as
here all activations are computed again, a third more arithmetic, and there a part of them. Where a
program is known, `--utilisation` takes its share.
"""


LLAMA2 = {
    "model.layers": 32,
    "model.heads": 32,
    "model.d_model": 4096,
    "model.d_ff": 11008,
    "model.context_length": 4096,
    "model.vocab_size": 32000,
    "model.tie_embeddings": False,
    "model.qk_norm": False,
    "train.batch_size": 1024,
    "optim.optimizer": "adamw",
}
LLAMA3 = LLAMA2 | {
    "model.kv_heads": 8,
    "model.d_ff": 14336,
    "model.context_length": 8192,
    "model.vocab_size": 128256,
    "train.batch_size": 64,
}
GPT2 = {"model.context_length": 1024, "model.vocab_size": 50257, "optim.optimizer": "adamw"}
SMALL = GPT2 | {
    "model.layers": 12,
    "model.heads": 12,
    "model.d_model": 768,
    "train.batch_size": 480,
}
XL = GPT2 | {"model.layers": 48, "model.heads": 25, "model.d_model": 1600, "train.batch_size": 1024}


def fits() -> str:
    """Losses of small trainings, the law through them, and what other rates and batches do."""
    grid: dict[float, dict[float, float]] = {}
    for row in measured("loss by size"):
        grid.setdefault(row["parameters"], {})[row["tokens"]] = row["loss"]
    tokens = sorted({each for losses in grid.values() for each in losses})
    head = "parameters_in_blocks " + " ".join(f"{each / 1e6:.1f}_M_tokens" for each in tokens)
    losses = [
        [f"{size:,.0f}", *(f"{found[each]:.3f}" for each in tokens)]
        for size, found in sorted(grid.items())
    ]
    law = measured("law of loss")[-1]
    a, b = law["size_power"], law["data_power"]
    rows = []
    for flops in (1e13, 1e14):
        ratio = a * law["size"] / (b * law["data"])
        best = ratio ** (1 / (a + b)) * (flops / 6) ** (b / (a + b))
        rows.append([f"{flops:.0e}", f"{best:,.0f}", f"{flops / 6 / best:,.0f}",
                     f"{flops / 6 / best**2:,.1f}"])  # fmt: skip
    dials: dict[tuple[str, str], list[str]] = {}
    for row in measured("loss around a dial"):
        dials.setdefault((row["dial"], row["shape"]), []).append(
            f"{row['value']:g}: {row['loss']:.3f}"
        )
    around = [[NAMES[dial], shape, ", ".join(found)] for (dial, shape), found in dials.items()]
    return f"""
## Fits of our own

`python bench/fits.py` trains four shapes on the built-in plays, letter by letter, each letter once
at most, with the recipe of `train` and one seed. Loss in nats for each letter:

{table(head, losses)}
Through them goes the law of Hoffmann et al. 2022 (equation 2), N the parameters in blocks, D the
tokens, with a root mean square error of {law["error"]:.3f} nats:

    L = {law["floor"]:.2f} + {law["size"]:.3g} / N^{a:.2f} + {law["data"]:.3g} / D^{b:.2f}

By it the least loss for 6 N D operations is at

{table("operations parameters_in_blocks tokens tokens_for_each_parameter", rows)}
Other rates of the matrices and other batches, in windows of 256, after a million tokens; the usual
one in the middle:

{table("dial shape loss_of_each_value", around)}
Smaller updates learn more from each token, and need more time for it. Four small sizes, letters
instead of words, one corpus and one seed: this says how loss falls on a processor, and nothing of a
billion parameters. The batch and the rates of large models are figures of others, carried over.
`--optim.lr`, `--optim.muon_lr` and `--train.batch_size` are yours.
"""


def measured(what: str) -> list[dict[str, Any]]:
    """The newest rows of a measurement: those of the commit that measured it last."""
    lines = map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines())
    found = [row for row in lines if row["what"] == what]
    return [row for row in found if row["commit"] == found[-1]["commit"]]


NAMES = {"matrix_rate": "rate of matrices", "batch": "windows of an update"}


def timed() -> list[tuple[str, str, float, dict[str, Any]]]:
    """(what, source, published device hours, our plan)."""
    a100, h100 = {"device": "a100"}, {"device": "h100"}
    eight = {"gpus": 8, "arch": "gpt2"}
    return [
        ("Llama 2 7B, 2 T tokens, A100", "Touvron et al. 2023, table 2", 184_320,
         plan("7B", gpus=256, tokens="2T", settings=LLAMA2, **a100)),
        ("Llama 3 8B, 1 G tokens at 2,904 a second and device, 64 A100",
         "torchtitan, docs/performance.md of 2024", 1e9 / 2904 / 3600,
         plan("8B", gpus=64, tokens="1G", settings=LLAMA3, **a100)),
        ("GPT-2 124M, 600,000 updates of 491,520 tokens, about 4 days on 8 A100",
         "nanoGPT, README and config/train_gpt2.py", 8 * 96,
         plan("124M", tokens="294.912G", settings=SMALL, **eight, **a100)),
        ("GPT-2 124M, 10 G tokens, about 90 minutes on 8 A100", "llm.c, discussion 481", 12,
         plan("124M", tokens="10G", settings=SMALL | {"train.batch_size": 512}, **eight, **a100)),
        ("GPT-2 1558M, 32,000 updates of 1,048,576 tokens, 24 hours on 8 H100",
         "llm.c, discussion 677", 192,
         plan("1.5B", tokens="33.55G", settings=XL, **eight, **h100)),
    ]  # fmt: skip


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.0f}" if size >= 1e11 else f"{size / 1e9:.3g}"


def _states(parts: dict[str, float]) -> float:
    return parts["weights"] + parts["gradients"] + parts["optimizer"]


def table(head: str, rows: list[list[Any]]) -> str:
    """Markdown; underscores of the head are spaces."""
    names = [name.replace("_", " ") for name in head.split()]
    lines = [
        "| " + " | ".join(str(cell).strip() for cell in line) + " |" for line in (names, *rows)
    ]
    return "\n".join([lines[0], "|---" * len(names) + "|", *lines[1:]]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
