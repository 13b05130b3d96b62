"""Generates docs/presets.md, counting every preset: `python docs/make_presets.py`.

A test compares the page with the output of this script, so the two cannot drift apart.
"""

from pathlib import Path
from typing import Any

from scriven.inspect import inspect
from scriven.train.request import read_named_preset

PAGE = Path(__file__).with_name("presets.md")
PRESETS = Path(__file__).parents[1] / "src" / "scriven" / "presets"

HEAD = """# Presets

A preset is a TOML file that holds only what differs from the defaults. `--preset` takes the name of
one of these or a file of your own; the command line overrides it.

```
scriven train book.txt --preset nanogpt-cpu
scriven inspect gpt3-175b
```

`inspect` builds the model on torch's `meta` device, without memory, so the largest shape costs no
more than the smallest. FLOPs are those of the forward pass per token: two per weight, plus
attention over the unmasked positions, averaged over a full context (encoder-decoder: one target
token and one source token). Training takes three times as many.

The vocabulary sizes are those of the papers; a training run takes its own from your text's
tokenizer.

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
    "nanogpt-baby": "10.65M, without position embeddings, biases and our 258 extra tokens",
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

- **roberta**: transformers has two unused position embeddings, and a token type embedding that is
  added to every token. Scriven adds the first when it saves a run, and the second is part of its
  position embeddings. These are 3 vectors of d_model.
- **transformer-base**: the paper's own shape and vocabulary give 63.1 million with shared
  embeddings, as in its section 3.4; its table says 65.
- **gpt3-xl, gpt3-13b**: the paper's table has 24 heads of 128 with a d_model of 2048, and a
  d_model of 5140 for 40 heads of 128. Neither can be built as it stands; 16 heads and a d_model
  of 5120 can, and have the parameters that the table gives.
- **gpt3-\\***: every other layer has a sliding window of 128 tokens, as in Child et al. 2019 for
  text; the paper does not give the width of its bands. `--model.window=none` makes all layers
  dense.
- **transformer-xl-wt103**: the authors' adaptive softmax saves computation, but has the same
  embedding dimension for all words in this model, so a full softmax has the same parameters.

## shakeGPT

Three models of Shakespeare with the settings of their authors. This trains the first with Scriven's
own recipe:

```
scriven train book.txt --preset shakegpt-v1 --out runs/v1 --optim.optimizer=muon \\
    --optim.lr=auto --optim.lr_schedule=wsd --optim.beta2=0.95 --optim.grad_clip=1 \\
    --optim.warmup_fraction=0.02 --train.batch_size=auto --model.dropout=0
```

Their authors count parameters by the formula

$$d_m d_{in} + 2 d_m s + N (4 d_m^2 + 4 d_m s + 2 d_m d_h) + d_m d_{in}$$

with $d_m$ the `d_model`, $d_{in} = 66$ tokens, $s$ the context, $N$ the layers and $d_h = 2 d_m$
the feed-forward size. It gives their three figures exactly, with $256 d_m$ more for the learned
positions of v3. Its terms with $s$ are sizes of activations, not of weights: $2 d_m s$ once and
$4 d_m s$ in each layer, three quarters of the figure of v1. Biases and norms are not in it. This is
how one gets from the formula to what is built and counted here:

| | formula | positions | activations | tied output | biases, norms | tokens | counted here |
|---|---|---|---|---|---|---|---|
{rows}

The output matrix is tied to the embedding here. The further tokens are the 256 bytes that let our
characters encode any text, and one of our two special tokens; 65 characters and the other are the
66 of the formula.
"""

SHAKEGPT = {"shakegpt-v1": 422_528, "shakegpt-v2": 9_684_480, "shakegpt-v3": 9_782_784}
"""As published."""
SHAKEGPT_TOKENS = 66


def page() -> str:
    """The page."""
    lines = [
        "| preset | architecture | layers | heads | d_model | context | vocabulary | parameters | "
        "published | FLOPs |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    presets = {path.stem: inspect(path.stem) for path in sorted(PRESETS.glob("*.toml"))}
    lines += [row(name, data) for name, data in presets.items()]
    purposes = [f"- `{name}`: {purpose(name)}" for name in presets]
    rows = "\n".join(shakegpt(name, presets[name]) for name in SHAKEGPT)
    about = "\n## What each is\n\n" + "\n".join(purposes) + "\n"
    return HEAD + "\n".join(lines) + "\n" + FOOT.replace("{rows}", rows) + about


def row(name: str, data: dict[str, Any]) -> str:
    """The table row of one preset."""
    model = data["model"]
    shape = [model["layers"], model.get("heads", "–"), model["d_model"], model["context_length"]]
    cells = [f"`{name}`", data["architecture"], *shape, f"{model['vocab_size']:,}"]
    cells += [f"{data['parameters']:,}", PUBLISHED[name], scaled(data["flops_forward"])]
    return "| " + " | ".join(str(each) for each in cells) + " |"


def purpose(name: str) -> str:
    """The first sentence of the preset's file."""
    lines = (PRESETS / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    comment = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    return " ".join(comment).replace("et al. ", "et al.\u00a0").split(". ")[0].rstrip(".") + "."


def shakegpt(name: str, data: dict[str, Any]) -> str:
    """From the authors' formula to the parameters that are built, each difference in a column."""
    model = data["model"]
    d, layers, length = model["d_model"], model["layers"], model["context_length"]
    activations = 2 * d * length + layers * 4 * d * length
    matrices = 2 * d * SHAKEGPT_TOKENS + layers * (4 * d * d + 2 * d * model["d_ff"])
    learned = read_named_preset(name).get("model.positions") == "learned"
    differences = [
        length * d if learned else 0,
        -activations,
        -d * SHAKEGPT_TOKENS,
        # biases of a block: 3 d + d in attention, 2 d + d in the feed-forward layer; its two norms
        # of 2 d; and the norm at the end
        layers * 11 * d + 2 * d,
        d * (model["vocab_size"] - SHAKEGPT_TOKENS),
    ]
    formula = matrices + activations
    assert formula + differences[0] == SHAKEGPT[name]
    assert formula + sum(differences) == data["parameters"]
    shown = [f"{each:+,}".replace("-", "−") if each else "" for each in differences]
    return f"| `{name}` | {formula:,} | " + " | ".join(shown) + f" | {data['parameters']:,} |"


def scaled(count: int) -> str:
    """268,233,792 -> 268 M."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}\u00a0{letter}"
    return str(count)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
