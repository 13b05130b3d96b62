"""Writes docs/presets.md, counting every preset: `python docs/make_presets.py`.

A test compares the file with what this makes, so the page cannot fall behind the code.
"""

from pathlib import Path
from typing import Any

from scriven.inspect import inspect
from scriven.train.request import read_named_preset

PAGE = Path(__file__).with_name("presets.md")
PRESETS = Path(__file__).parents[1] / "src" / "scriven" / "presets"

HEAD = """# Presets

A preset is a TOML file that holds only what differs from the defaults. `--preset` takes the name of
one of these, or a file of your own; what the command line says wins.

```
scriven train book.txt --preset nanogpt-cpu
scriven inspect gpt3-175b
```

`inspect` counts on a model that takes no memory, so the largest shape costs no more than the
smallest. FLOPs are those of one token, forward: two for each weight it meets, and those of
attention where a token may look, on average over a full context (for an encoder-decoder: one token
of the target and one of the source). Training takes three times as many.

Vocabularies are those of the papers: a training run takes its own from your text's tokenizer.

"""

PUBLISHED = {
    "gpt1": "117M; 116,534,784 in transformers",
    "gpt2-small": "124,439,808 (OpenAI's weights)",
    "gpt2-medium": "354,823,168 (OpenAI's weights)",
    "gpt2-large": "774,030,080 (OpenAI's weights)",
    "gpt2-xl": "1,557,611,200 (OpenAI's weights)",
    "gpt3-small": "125M",
    "gpt3-medium": "350M",
    "gpt3-large": "760M",
    "gpt3-xl": "1.3B",
    "gpt3-2.7b": "2.7B",
    "gpt3-6.7b": "6.7B",
    "gpt3-13b": "13.0B",
    "gpt3-175b": "175.0B",
    "lstm-small": "",
    "nanogpt-baby": "10.65M, without positions, biases and our 258 more tokens",
    "nanogpt-cpu": "0.80M, counted in the same way",
    "rnn-tiny": "",
    "roberta-base": "125M; 124,697,433 in transformers",
    "roberta-large": "355M; 355,412,057 in transformers",
    "shakegpt-v1": "422,528, see below",
    "shakegpt-v2": "9,684,480, see below",
    "shakegpt-v3": "9,782,784, see below",
    "transformer-base": "65M",
    "transformer-big": "213M",
    "transformer-xl-wt103": "151M",
}

FOOT = """
Where the two differ:

- **roberta**: transformers has two rows of positions that nothing reads, and one of token types
  that is added to every token; here the first are made when a run is saved, and the second is part
  of the positions. That is 3 rows of the width.
- **transformer-base**: the paper's own shape and vocabulary give 63.1 million with one matrix for
  all embeddings, as its section 3.4 has it; its table says 65.
- **gpt3-xl, gpt3-13b**: the paper's table has 24 heads of 128 at a width of 2048, and a width of
  5140 for 40 heads of 128. Neither can be built as it stands; 16 heads and a width of 5120 can, and
  have the parameters that the table gives.
- **gpt3-\\***: every other layer sees a band of 128 positions, as Child et al. 2019 have it for
  text; the paper does not say how wide its bands are. `--model.window=none` makes all layers dense.
- **transformer-xl-wt103**: the authors' adaptive softmax saves arithmetic, but keeps one width for
  all words in this model, so a full softmax has the same parameters.

## shakeGPT

Three models of Shakespeare, with the settings of their authors. The first with a recipe of ours:

```
scriven train book.txt --preset shakegpt-v1 --out runs/v1 --optim.optimizer=muon \\
    --optim.lr=auto --optim.lr_schedule=wsd --optim.beta2=0.95 --optim.grad_clip=1 \\
    --optim.warmup_fraction=0.02 --train.batch_size=auto --model.dropout=0
```

| | their formula | counted here | in blocks | rows beside the blocks, theirs | ours |
|---|---|---|---|---|---|
{rows}

Their figures come from a formula that we have not seen, but what it counts can be told apart. v3
has 98,304 more than v2, which are 256 × 384: the learned positions. With blocks like ours (four
attention matrices and a feed-forward layer of twice the width, biases and two norms:
8 × width² + 11 × width), exactly 10,000 rows of width 32 are left in v1, and 6,722 rows of width
384 in v2 and, beside the positions, in v3: far more than an embedding of 65 characters and a head
need. Their figures count these rows. Ours count what is built: 65 characters, the 256 bytes that
let it read any text, 2 special tokens, a last norm of two rows, and one matrix for reading and
writing.
"""

SHAKEGPT = {"shakegpt-v1": 422_528, "shakegpt-v2": 9_684_480, "shakegpt-v3": 9_782_784}


def page() -> str:
    """The whole page."""
    lines = [
        "| preset | architecture | layers | heads | width | context | vocabulary | parameters | "
        "published | FLOPs |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    found = {path.stem: inspect(path.stem) for path in sorted(PRESETS.glob("*.toml"))}
    lines += [row(name, data) for name, data in found.items()]
    named = [f"- `{name}`: {purpose(name)}" for name in found]
    rows = "\n".join(shakegpt(name, found[name]) for name in SHAKEGPT)
    about = "\n## What each is\n\n" + "\n".join(named) + "\n"
    return HEAD + "\n".join(lines) + "\n" + FOOT.replace("{rows}", rows) + about


def row(name: str, data: dict[str, Any]) -> str:
    """One preset."""
    model = data["model"]
    shape = [model["layers"], model.get("heads", "–"), model["d_model"], model["context_length"]]
    cells = [f"`{name}`", data["architecture"], *shape, f"{model['vocab_size']:,}"]
    cells += [f"{data['parameters']:,}", PUBLISHED[name], scaled(data["flops_forward"])]
    return "| " + " | ".join(str(each) for each in cells) + " |"


def purpose(name: str) -> str:
    """The first sentence of its file."""
    lines = (PRESETS / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    comment = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    return " ".join(comment).replace("et al. ", "et al.\u00a0").split(". ")[0].rstrip(".") + "."


def shakegpt(name: str, data: dict[str, Any]) -> str:
    """Their figure and ours, in blocks and in rows of the width."""
    model = data["model"]
    width, layers = model["d_model"], model["layers"]
    blocks = layers * (8 * width**2 + 11 * width)
    learned = read_named_preset(name).get("model.positions") == "learned"
    positions = model["context_length"] if learned else 0
    theirs, ours = (
        (count - blocks) / width - positions for count in (SHAKEGPT[name], data["parameters"])
    )
    extra = f" + {positions} positions" if positions else ""
    cells = [f"{SHAKEGPT[name]:,}", f"{data['parameters']:,}", f"{blocks:,}"]
    cells += [f"{theirs:,.9g}{extra}", f"{ours:,.9g}{extra}"]
    return f"| `{name}` | " + " | ".join(cells) + " |"


def scaled(count: int) -> str:
    """268,233,792 -> 268 M."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}\u00a0{letter}"
    return str(count)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
