"""Makes transformer_xl.safetensors: what transformers' Transformer-XL computes, for the tests.

transformers 5 no longer has the model, and from 4.38 on its forward pass fails, so this runs in an
environment of its own:

    python -m venv txl
    txl/bin/pip install torch==2.13.0 transformers==4.37.2
    txl/bin/python tests/models/golden/make_transformer_xl.py

A tiny model with random weights reads a text in three segments, in float64. Kept under their names:
`weight.*`, `gradient.*` of the summed loss, and for each segment its tokens and targets, the hidden
states before each layer and after the last, and the memory it leaves.

Two things of theirs are not the paper's and are avoided from outside: attention scores are rounded
to float32 wherever something is masked, and the first memory is made of zeros that are attended to
(here it is empty, as in the authors' code).
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode
from transformers.models.deprecated.transfo_xl import TransfoXLConfig, TransfoXLModel

VOCABULARY, WIDTH, HEADS, HEAD_WIDTH, HIDDEN, LAYERS, MEMORY = 23, 16, 2, 6, 20, 3, 9
SEGMENTS = (7, 7, 5)
ROWS = 2


class KeepDouble(TorchFunctionMode):
    """`tensor.float()` leaves float64 as it is."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.Tensor.float and args[0].dtype == torch.float64:
            return args[0]
        return func(*args, **(kwargs or {}))


def main() -> None:
    torch.manual_seed(0)
    config = TransfoXLConfig(
        vocab_size=VOCABULARY, cutoffs=[], div_val=1, d_model=WIDTH, d_embed=WIDTH, n_head=HEADS,
        d_head=HEAD_WIDTH, d_inner=HIDDEN, n_layer=LAYERS, mem_len=MEMORY, clamp_len=-1,
        same_length=False, untie_r=True, pre_lnorm=False, dropout=0.0, dropatt=0.0,
    )  # fmt: skip
    model = TransfoXLModel(config).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.3)
        half = torch.arange(0, WIDTH, 2, dtype=torch.float64) / WIDTH
        model.pos_emb.inv_freq.copy_(10000.0**-half)
    kept: dict[str, torch.Tensor] = {
        f"weight.{name}": weight.detach().clone() for name, weight in model.named_parameters()
    }
    table = model.word_emb.emb_layers[0].weight
    memory = [torch.zeros(0, ROWS, WIDTH, dtype=torch.float64) for _ in range(LAYERS)]
    total = torch.zeros((), dtype=torch.float64)
    for number, length in enumerate(SEGMENTS):
        tokens = torch.randint(VOCABULARY, (ROWS, length))
        targets = torch.randint(VOCABULARY, (ROWS, length))
        with KeepDouble():
            out = model(tokens, mems=memory, output_hidden_states=True)
        memory = out.mems
        scores = out.last_hidden_state @ table.T
        total = total + F.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="sum")
        kept[f"{number}.tokens"], kept[f"{number}.targets"] = tokens, targets
        kept[f"{number}.hidden"] = torch.stack(out.hidden_states).detach()
        kept[f"{number}.memory"] = torch.stack(memory).transpose(1, 2).contiguous()
    total.backward()
    kept["loss"] = total.detach()
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        kept[f"gradient.{name}"] = weight.grad
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    place = Path(__file__).with_name("transformer_xl.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in kept.items()}, place, versions)
    print(f"{place}: {place.stat().st_size:,} bytes, {versions}")


if __name__ == "__main__":
    main()
