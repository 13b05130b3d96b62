"""nanoGPT as a peer: its own model.py, from a folder the user names, in the loop of its train.py.

    python bench/peers/nanogpt.py FOLDER

On a CPU nanoGPT computes in float32 (its autocast is switched off there), with AdamW unfused
and, as its README says, without compile; both stay as in its code. Its GELU is exact, GPT-2's is
the tanh approximation, so losses agree to about three digits.
"""

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from shared import recipe, weights
from shared.batches import Batches
from shared.child import serve


def load_model_file(folder: Path) -> ModuleType:
    """The user's copy of model.py."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", folder / "model.py")
    assert spec is not None and spec.loader is not None, f"{folder} has no model.py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


class NanoGPT:
    """Its class GPT, with biases, as in OpenAI's weights."""

    def __init__(self, folder: Path) -> None:
        self.module = load_model_file(folder)

    def prepare(
        self,
        folder: str,
        data: str | None = None,
        micro: int = 0,
        dropout: float = 0.0,
        compile: bool = False,
        dtype: str = "float32",
        seed: int = 0,
        **others: Any,
    ) -> dict[str, Any]:
        assert dtype == "float32", "nanoGPT computes in float32 on a CPU"
        torch.manual_seed(seed)
        config, hf_weights = weights.read(folder)
        shape = self.module.GPTConfig(
            block_size=config["n_positions"], vocab_size=config["vocab_size"],
            n_layer=config["n_layer"], n_head=config["n_head"], n_embd=config["n_embd"],
            dropout=dropout, bias=True,
        )  # fmt: skip
        self.model = self.module.GPT(shape)
        self._fill(hf_weights)
        self.forward = torch.compile(self.model) if compile else self.model
        self.optimizer = self.model.configure_optimizers(
            recipe.DECAY, recipe.RATE, recipe.BETAS, "cpu"
        )
        self.batches, self.number, self.micro = Batches(data) if data else None, 0, micro
        return {
            "parameters": weights.count(self.model),
            "versions": {"torch": torch.__version__},
            "dtype": dtype,
        }

    def _fill(self, hf_weights: dict[str, torch.Tensor]) -> None:
        own = self.model.state_dict()
        for name, weight in own.items():
            if name == "lm_head.weight":  # tied
                continue
            # Hugging Face stores the matrices transposed (Conv1D): [in, out]
            transposed = weight.dim() == 2 and ".h." in name
            weight.copy_(hf_weights[name].T if transposed else hf_weights[name])

    def step(self, count: int) -> dict[str, Any]:
        assert self.batches is not None
        self.model.train()
        losses = []
        began = time.perf_counter()
        for _ in range(count):
            micro_batches = self.batches.micro(self.number, self.micro)
            total = 0.0
            for tokens, targets in micro_batches:
                _, loss = self.forward(tokens, targets)
                loss = loss / len(micro_batches)
                loss.backward()
                total += loss.item()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.CLIP)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.number += 1
            losses.append(total)
        return {"seconds": time.perf_counter() - began, "losses": losses}

    @torch.no_grad()
    def loss(self) -> dict[str, Any]:
        assert self.batches is not None
        self.model.eval()
        return {"losses": [float(self.model(x, y)[1]) for x, y in self.batches.windows()]}

    @torch.no_grad()
    def judge(self, checkpoint: str, tokens: str) -> dict[str, Any]:
        """The loss of a checkpoint of its train.py over a whole text, in windows without overlap.

        Args:
            checkpoint: ckpt.pt.
            tokens: a file of 16-bit ids.
        """
        found = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model = self.module.GPT(self.module.GPTConfig(**found["model_args"])).eval()
        model.load_state_dict(found["model"])
        ids = torch.from_numpy(np.fromfile(tokens, dtype=np.uint16).astype(np.int64))
        total, size = 0.0, model.config.block_size
        for start in range(0, len(ids) - 1, size):
            piece = ids[start : start + size + 1]
            _, loss = model(piece[None, :-1], piece[None, 1:])
            total += float(loss) * (len(piece) - 1)
        return {"loss": total / (len(ids) - 1), "parameters": weights.count(model)}

    def generate(
        self, prompts: list[list[int]], tokens: int, temperature: float = 0.0
    ) -> dict[str, Any]:
        """Its sampler, with top_k=1 where it is greedy; it has no KV cache."""
        self.model.eval()
        began = time.perf_counter()
        made = [
            self.model.generate(
                torch.tensor([prompt]), tokens, temperature or 1.0, None if temperature else 1
            )[0, len(prompt) :].tolist()
            for prompt in prompts
        ]
        return {"seconds": time.perf_counter() - began, "ids": made}


if __name__ == "__main__":
    serve(NanoGPT(Path(sys.argv[1])))
