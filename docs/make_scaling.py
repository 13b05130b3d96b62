"""Generates docs/scaling.md, by calculation and from our own fits: `python docs/make_scaling.py`.

A test compares the page with the output of this script, so the two cannot drift apart.
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

One setting, `--size` or `--budget`, determines model shape, batch size, learning rates and number of
training tokens together. `plan` says what would be trained and what it would take, before anything
is built; `train` follows the same rules, in `src/scriven/train/scaling_laws.py`.

```
scriven plan --size 1B --gpus 8 --device h100
scriven plan --gpus 8 --device a100 --budget 24h
scriven plan --size 1B --gpus 64 --device h100 --tokens 40GB --json
scriven plan --size 12M --device cpu
```

Without `--device` it plans for this machine, which it benchmarks for half a second. Its last line is
the command that trains as planned.

Everything on this page is calculated from stated rates, by `python docs/make_scaling.py`; only
[our own fits](#our-own-fits) were measured. [Below](#against-published-figures) the calculation is
compared with published training runs.

## The rules

| what | rule | source |
|---|---|---|
| shape | `--size` is 12 x layers x d_model², the parameters in blocks. From 25M on d_model is a multiple of 128 and the head dimension is 64, or 128 from a d_model of 2048 on; d_model / layers rises from 64 at 1B to 128 at 8B. Smaller shapes have a head dimension of 32 and a d_model of 64 x layers | Kaplan et al. 2020, sections 2.1 and 3.1: the loss hardly depends on the proportions. Brown et al. 2020, table 2.1, for the proportions of large models |
| context length | 512 on a CPU, where it grows from a quarter of that; 256 with less than 19 TFLOP, 128 with less than 6.4 TFLOP in a wall-clock budget. 256 on a GPU, 1024 with more than 20M tokens | LOG.md |
| dropout of a language model | none up to 40, then 0.1, 0.2 from 100 and 0.3 from 200 on, of epochs x weights in blocks / tokens of the text; none in a training of less than a million tokens. Other tasks: 0.1 from 40 epochs on | LOG.md: texts of 110 kB and 1.1 MB |
| wall-clock budgets on a CPU | `train` times a few steps of the default model (a third of a second), and the FLOPs that fit into the budget decide: below 6.4 TFLOP two layers with a d_model of 96, below 14.4 TFLOP three layers, from 240 TFLOP on `medium` | LOG.md: budgets of 40, 90 and 1,500 seconds at 0.16 TFLOP/s |
| vocabulary | grows with the text, up to 32,768 | [tokenizers.md](tokenizers.md) |
| training tokens | 20 per parameter by default | Hoffmann et al. 2022, table 3 |
| epochs | up to four epochs are almost as good as fresh text; after that more parameters and tokens help little | Muennighoff et al. 2023 |
| batch size | 2,048 tokens on a CPU. On a GPU 32,768 for up to 14M training tokens, then growing with their power of 0.383, rounded to a power of two | Bergsma et al. 2025: the best batch size depends on the number of tokens, not on that of parameters. The starting point is our choice: it gives 524,288 at 20G tokens, what Brown et al. used up to 760M parameters |
| learning rate of Muon | 0.02 at every size | an orthogonal update changes a layer's output equally at every d_model: Jordan et al. 2024, Bernstein and Newhouse 2024 |
| learning rate of AdamW | 0.003 x √(128 / d_model) beside Muon, 0.002 x √(128 / d_model) for AdamW alone | between a constant and the 1 / d_model of muP (Yang et al. 2022) for AdamW's matrices; a choice, not a fit |
| budgets | a budget in tokens or epochs fixes the number of tokens, so the batch size grows with it; one in seconds or steps does not, so the default batch size is used. `plan --budget 24h` therefore ends in a command with tokens | |

## The formulas

N parameters, L layers, d = d_model, T context length, V vocabulary size, n devices.

| | |
|---|---|
| FLOPs per token | 3 x (2 x weights in matmuls + 4 L d (T + 1) / 2), the second term for causal attention, which sees half of the context on average (Kaplan et al. 2020, section 2.1); 4/3 of it with activation checkpointing |
| weights, gradients | 4 N bytes each |
| optimizer | 8 N bytes for AdamW's two moments; 4 bytes per weight trained by Muon |
| copies | 2 N bytes: bfloat16 weights for the matmuls. FSDP: those of two blocks, and all weights outside of blocks |
| activations | 24 L d values per token of a micro-batch, at 2.4 bytes (matmuls in bfloat16, norms in float32); with activation checkpointing 4 L d bytes, and all of one block |
| logits | 12 V bytes per token of a micro-batch |
| traffic, DDP | 8 N (n - 1) / n bytes sent by each device per step: a ring all-reduce of the gradients |
| traffic, FSDP | 8 N (n - 1) / n bytes per micro-batch: bfloat16 weights for forward and backward, float32 gradients |
| Muon | 3 Newton-Schulz iterations of 4 r² c + 2 r³ FLOPs for each matrix of r x c; matrices of the same shape are divided among the devices and broadcast afterwards, 2 r c bytes; FSDP gathers them first, 4 r c bytes. Up to 2^27 values at once, 20 bytes each, after the activations are freed |
| kernel launches | 5 µs for each of about 92 operations per layer and micro-batch, forward and backward, without compilation |
| a step | the longest of computation, communication and kernel launches, which overlap; then Muon's part, and the optimizer's reading and writing of 28 N bytes |

FSDP divides weights, gradients and optimizer state by n; weights are assumed to be gathered in
bfloat16. The rates are those of data sheets (dense bfloat16, memory, NVLink in one direction, and the
network of NVIDIA's own servers, 8 links of 200 Gb/s for an A100 and of 400 Gb/s for an H100);
`--peak`, `--network` and `--utilisation` replace them. Matmuls are assumed to reach 40 % of the peak.
Of the layouts that fit into 90 % of the memory, the simplest within 5 % of the fastest is chosen:
DDP, FSDP, then both with activation checkpointing.

"""  # noqa: E501

SIZES = {
    "1M": 1, "10M": 1, "30M": 1, "124M": 1, "350M": 8, "1B": 8, "3B": 8, "7B": 64, "13B": 64,
    "70B": 512, "175B": 1024,
}  # fmt: skip
"""Sizes, and the number of devices for which their times are given."""

COUNTS = (1, 8, 64, 256, 1024)

CLUSTER = """
## On a cluster

[examples/cluster](../examples/cluster) has launch files for Slurm and Kubernetes.
"""


def page() -> str:
    """The page."""
    return HEAD + sizes() + layouts() + bottlenecks() + corpus() + published() + fits() + CLUSTER


def sizes() -> str:
    """Shape, batch size, learning rate, tokens and time of each size."""
    rows = []
    for size, gpus in SIZES.items():
        data = plan(size, device="h100", gpus=gpus)
        model = data["model"]
        rows.append([
            f"`{size}`", model["layers"], model["heads"], f"{model['d_model']:,}",
            f"{data['parameters']:,}", f"{data['batch_tokens']:,}",
            f"{data['learning_rates']['rest']:.2g}", si(data["tokens"]),
            f"{si(data['flops_per_token'])}", f"{data['flops']:.2g}", f"{gpus:,}",
            rough_duration(data["seconds"]), f"{data['mfu']:.0%}",
        ])  # fmt: skip
    head = (
        "size|layers|heads|d_model|parameters|batch, tokens|AdamW lr|training tokens|"
        "FLOPs per token|total FLOPs|H100|time|MFU"
    )
    return f"""## Each size

With the vocabulary, context length and training tokens of its size: `scriven plan --size 1B
--gpus 8 --device h100` and so on. MFU is model FLOPs utilisation, the fraction of the peak.

{table(head, rows)}"""


def layouts() -> str:
    """Memory and traffic of each layout."""
    rows = []
    for size in ("124M", "1B", "7B", "13B", "70B", "175B"):
        data = plan(size, device="h100", gpus=64)
        totals = [peak_memory(parts) for parts in data["memory"].values()]
        rows.append([f"`{size}`", *(_gigabytes(total) for total in totals),
                     *(si(sent) + "B" for sent in data["bytes_sent_per_token"].values()),
                     data["layout"] or "none"])  # fmt: skip
    head = (
        "size|DDP, GB|FSDP, GB|DDP with checkpointing, GB|FSDP with checkpointing, GB|sent, DDP|"
        "sent, FSDP|chosen"
    )
    return f"""
## Memory and communication

On 64 H100: memory per device at a micro-batch size of 1, bytes sent per token that the device
processes, and the chosen layout:

{table(head, rows)}"""


def bottlenecks() -> str:
    """The longest part of a step, by size and number of devices."""
    rows = []
    for size in SIZES:
        cells = []
        for gpus in COUNTS:
            data = plan(size, device="h100", gpus=gpus)
            share = data["mfu"]
            cells.append(f"{share:.0%} {_words(data['bottleneck'])}" if share else "memory")
        rows.append([f"`{size}`", *cells])
    named = "\n".join(f"- *{_words(name)}*: {text}" for name, text in PARTS.items() if name != text)
    return f"""
## The bottleneck

MFU over all devices, and the longest part of a step, by the number of H100. The batch size is that
of the model size, so from some number on each device has too little work:

{table("|".join(["size", *(f"{count:,}" for count in COUNTS)]), rows)}
{named}
- *memory*: it does not fit into memory
"""


def corpus() -> str:
    """1 B parameters on 40 GB of text."""
    rows = []
    for gpus in (8, 16, 32, 64, 128, 256, 512, 1024):
        args: dict[str, Any] = {"device": "h100", "gpus": gpus, "tokens": "40GB"}
        once = plan("1B", **args)
        full = plan("1B", budget="21.3Gtokens", **args)
        plain = plan("1B", budget="21.3Gtokens", **args, settings={"optim.optimizer": "adamw"})
        rows.append([
            f"{gpus:,}", si(once["tokens_per_second"]), f"{once['mfu']:.0%}",
            rough_duration(once["seconds"]), rough_duration(full["seconds"]),
            f"{full['seconds'] * gpus / 3600:,.0f}", _words(once["bottleneck"]),
            rough_duration(plain["seconds"]), _words(plain["bottleneck"]),
        ])  # fmt: skip
    head = "H100|tokens/s|MFU|one epoch|21.3 G tokens|device hours|bottleneck|with AdamW|bottleneck"
    data = plan("1B", device="h100", gpus=8, tokens="40GB")
    return f"""
## 40 GB of text, 1 B parameters

A corpus as large as that of GPT-2 (Radford et al. 2019) has {si(data["tokens"])} tokens of 4.4
bytes (OpenWebText in GPT-2's tokens: 9.04 G). One epoch is {data["tokens_per_parameter"]:.2g}
tokens per parameter; 20 per parameter are {21.3e9 / data["tokens"]:.2g} epochs.
`scriven plan --size 1B --gpus 64 --device h100 --tokens 40GB`, the same with
`--budget 21.3Gtokens`, and with `--optim.optimizer adamw`:

{table(head, rows)}
A step has {data["batch_size"]} sequences, so at most {data["batch_size"]} devices can share it;
the others idle. A larger batch size (`--train.batch_size`) would use them, but takes more tokens
for the same loss. Muon's orthogonalisation, once per step, is divided among at most as many devices
as there are matrices of the same shape; AdamW has no such cost, but needs more tokens for the same
loss (Jordan et al. 2024).
"""


def published() -> str:
    """Our calculation beside published figures."""
    gpt3 = inspect("gpt3-175b")["flops_training"] * 300e9
    zero = plan("7.5B", device="a100", gpus=64, settings={"optim.optimizer": "adamw"})
    each = [_states(zero["memory"][name]) / zero["parameters"] * 7.5e9 for name in ("ddp", "fsdp")]
    rows = [
        ["GPT-3 175B, 300 G tokens: FLOPs", "Brown et al. 2020, table D.1", "3.14e+23",
         f"{gpt3:.3g}", f"{gpt3 / 3.14e23:.2f}", ""],
        ["7.5 B parameters, AdamW, 64 devices: weights, gradients and moments, DDP",
         "Rajbhandari et al. 2020, figure 1", "120 GB", f"{each[0] / 1e9:.3g} GB",
         f"{each[0] / 120e9:.2f}", ""],
        ["the same, all of it sharded", "the same", "1.9 GB", f"{each[1] / 1e9:.3g} GB",
         f"{each[1] / 1.9e9:.2f}", ""],
    ]  # fmt: skip
    for what, source, hours, data in timed():
        ours = data["seconds"] * data["gpus"] / 3600
        share = data["flops"] / (hours * 3600 * data["device"]["peak"])
        rows.append([
            what, source, f"{hours:,.0f} h", f"{ours:,.0f} h", f"{ours / hours:.2f}", f"{share:.0%}"
        ])  # fmt: skip
    head = "what|source|published|calculated|ratio|their MFU"
    return f"""
## Against published figures

Device hours are calculated with matmuls at 40 % of the peak; the last column is the MFU that
follows from the published hours and our FLOPs. Causal attention counts half of the FLOPs of full
attention, so the MFU is lower than the one some publish (torchtitan: 56.8 %).

{table(head, rows)}
FLOPs and memory agree to 2 %. Hours are as far off as the MFU is from 40 %, as they must be: good
programs reach 41 to 59 %, nanoGPT's first recipe 27 %. Llama 3 8B is further off because our
calculation recomputes all activations, a third more FLOPs, and torchtitan only a part of them. For
a program whose utilisation is known, set `--utilisation`.
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
    """Losses of small models, the fitted scaling law, and other learning rates and batch sizes."""
    grid: dict[float, dict[float, float]] = {}
    for row in measured("loss by size"):
        grid.setdefault(row["parameters"], {})[row["tokens"]] = row["loss"]
    tokens = sorted({each for losses in grid.values() for each in losses})
    head = "|".join(["parameters in blocks", *(f"{each / 1e6:.1f} M tokens" for each in tokens)])
    losses = [
        [f"{size:,.0f}", *(f"{by_tokens[each]:.3f}" for each in tokens)]
        for size, by_tokens in sorted(grid.items())
    ]
    law = measured("law of loss")[-1]
    a, b = law["size_power"], law["data_power"]
    rows = []
    for flops in (1e13, 1e14):
        ratio = a * law["size"] / (b * law["data"])
        best = ratio ** (1 / (a + b)) * (flops / 6) ** (b / (a + b))
        rows.append([f"{flops:.0e}", f"{best:,.0f}", f"{flops / 6 / best:,.0f}",
                     f"{flops / 6 / best**2:,.1f}"])  # fmt: skip
    by_setting: dict[tuple[str, str], list[str]] = {}
    for row in measured("loss around a dial"):
        by_setting.setdefault((row["dial"], row["shape"]), []).append(
            f"{row['value']:g}: {row['loss']:.3f}"
        )
    around = [[NAMES[name], shape, ", ".join(each)] for (name, shape), each in by_setting.items()]
    return f"""
## Our own fits

`python bench/fits.py` trains four shapes on the characters of the built-in plays, for less than one
epoch, with the recipe of `train` and one seed. Loss in nats per character:

{table(head, losses)}
The scaling law of Hoffmann et al. 2022 (equation 2), with N the parameters in blocks and D the
tokens, fits them with a root mean square error of {law["error"]:.3f} nats:

    L = {law["floor"]:.2f} + {law["size"]:.3g} / N^{a:.2f} + {law["data"]:.3g} / D^{b:.2f}

By this fit the lowest loss for 6 N D FLOPs is at

{table("FLOPs|parameters in blocks|tokens|tokens per parameter", rows)}
Other learning rates of Muon and other batch sizes, in sequences of 256, after a million tokens; the
default is in the middle:

{table("setting|shape|loss at each value", around)}
Smaller batches learn more per token, but take more time per token. Four small models, characters
instead of BPE tokens, one corpus and one seed: this shows how the loss falls on a CPU, and nothing
about a billion parameters. The batch sizes and learning rates of large models are taken from the
papers above; set `--optim.lr`, `--optim.muon_lr` and `--train.batch_size` to override them.
"""


def measured(what: str) -> list[dict[str, Any]]:
    """The newest rows of a measurement, those of the last commit that was measured."""
    lines = map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines())
    rows = [row for row in lines if row["what"] == what]
    return [row for row in rows if row["commit"] == rows[-1]["commit"]]


NAMES = {"matrix_rate": "`optim.muon_lr`", "batch": "`train.batch_size`"}
"""Settings, by the names they have in results.jsonl."""


def timed() -> list[tuple[str, str, float, dict[str, Any]]]:
    """Rows of (what, source, published device hours, our plan)."""
    a100, h100 = {"device": "a100"}, {"device": "h100"}
    eight = {"gpus": 8, "arch": "gpt2"}
    return [
        ("Llama 2 7B, 2 T tokens, A100", "Touvron et al. 2023, table 2", 184_320,
         plan("7B", gpus=256, tokens="2T", settings=LLAMA2, **a100)),
        ("Llama 3 8B, 1 G tokens at 2,904 tokens/s per device, 64 A100",
         "torchtitan, docs/performance.md of 2024", 1e9 / 2904 / 3600,
         plan("8B", gpus=64, tokens="1G", settings=LLAMA3, **a100)),
        ("GPT-2 124M, 600,000 steps of 491,520 tokens, about 4 days on 8 A100",
         "nanoGPT, README and config/train_gpt2.py", 8 * 96,
         plan("124M", tokens="294.912G", settings=SMALL, **eight, **a100)),
        ("GPT-2 124M, 10 G tokens, about 90 minutes on 8 A100", "llm.c, discussion 481", 12,
         plan("124M", tokens="10G", settings=SMALL | {"train.batch_size": 512}, **eight, **a100)),
        ("GPT-2 1558M, 32,000 steps of 1,048,576 tokens, 24 hours on 8 H100",
         "llm.c, discussion 677", 192,
         plan("1.5B", tokens="33.55G", settings=XL, **eight, **h100)),
    ]  # fmt: skip


def _words(part: str) -> str:
    """kernel_launches -> kernel launches."""
    return part.replace("_", " ")


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.0f}" if size >= 1e11 else f"{size / 1e9:.3g}"


def _states(parts: dict[str, float]) -> float:
    return parts["weights"] + parts["gradients"] + parts["optimizer"]


def table(head: str, rows: list[list[Any]]) -> str:
    """A Markdown table; bars separate the names of the columns."""
    names = head.split("|")
    lines = [
        "| " + " | ".join(str(cell).strip() for cell in line) + " |" for line in (names, *rows)
    ]
    return "\n".join([lines[0], "|---" * len(names) + "|", *lines[1:]]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
