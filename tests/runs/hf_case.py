"""A base model with random weights, and the Hugging Face folder of it."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers
from torch import Tensor

from scriven import registry
from scriven.data.batch import Batch
from scriven.nn.lora import lora_adapters
from scriven.runs.peft import add_adapters, attach_adapter, read_adapter, write_adapter
from scriven.runs.weights import save_tensors
from scriven.tasks.base import BaseTask

V, T = 29, 12


class Case:
    """A base model of ours, and the folder transformers loads it from."""

    def __init__(self, folder: Path, name: str, changes: dict[str, Any], rows: int = V) -> None:
        self.module: ModuleType = registry.module("scriven.models", name)
        shape = {
            "vocab_size": rows,
            "context_length": T,
            "layers": 2,
            "heads": 4,
            "d_model": 16,
            **changes,
        }
        if name == "roberta":
            shape["padding"] = 1
        self.config = self.module.Config(**shape)
        self.base = folder / "base"
        twin = self.module.Model.to_hf_config(self.config)
        assert twin is not None
        self.base.mkdir(exist_ok=True)
        (self.base / "config.json").write_text(
            json.dumps({"pad_token_id": V - 2, **twin, "bos_token_id": None, "eos_token_id": None})
        )
        save_tensors(
            self.base / "model.safetensors",
            self.module.Model.to_hf_weights(self.config, self.task().state_dict()),
        )
        self.kind = getattr(transformers, twin["architectures"][0])

    def task(self) -> BaseTask:
        torch.manual_seed(0)
        kind = registry.module("scriven.tasks", self.module.Model.pretraining_task).Task
        special = {"eos": V - 3, "pad": V - 2, "mask": V - 1}
        task: BaseTask = kind(self.module.Model(self.config), special=special)
        with torch.no_grad():
            for each, weight in task.named_parameters():
                weight.normal_(1.0 if each.endswith("norm.weight") else 0.0, 0.2)
        return task.eval()

    def adapted(self, rank: int = 3) -> BaseTask:
        task = self.task()
        add_adapters(task, self.module, self.config, rank, dropout=0.25)
        with torch.no_grad():
            for one in lora_adapters(task).values():
                one.b.normal_(0, 0.2)
        return task

    def twin(self) -> Any:
        return self.kind.from_pretrained(self.base).eval()

    def write(self, task: BaseTask) -> Path:
        folder = self.base.parent / "adapter"
        write_adapter(folder, task, self.module, self.config, str(self.base))
        return folder

    def attach(self, folder: Path) -> BaseTask:
        task = self.task()
        attach_adapter(task, read_adapter(folder), self.module, self.config)
        return task

    def tokens(self) -> Tensor:
        return torch.randint(2, V - 3, (3, T), generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def ours(self, task: BaseTask) -> Tensor:
        reads = hasattr(task.backbone, "encoder")
        tokens = self.tokens()
        return task.logits(task.hidden(Batch(tokens, tokens, source=tokens if reads else None)))

    @torch.no_grad()
    def theirs(self, model: Any) -> Tensor:
        tokens = self.tokens()
        given = {"attention_mask": torch.ones_like(tokens)}
        if model.config.is_encoder_decoder:
            given["decoder_input_ids"] = tokens
        logits: Tensor = model(tokens, **given).logits
        return logits
