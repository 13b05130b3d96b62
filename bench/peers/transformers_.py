"""transformers as a peer: `Trainer` for training, `generate` for generation.

Trainer has its own loop, so it runs in a thread that waits between two steps for the next request;
the time is from the request to the end of the last step, data loading included.
"""

import queue
import tempfile
import threading
import time
from typing import Any

import torch
import transformers
from shared import recipe, weights
from shared.batches import Batches
from shared.child import serve
from transformers import (
    AutoModelForCausalLM,
    CompileConfig,
    GenerationConfig,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

MANY = 1_000_000
"""Its max_steps; training is stopped long before."""


class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """The windows one by one, in the order of the steps."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.rows = batches, batches.starts.shape[1]
        self.number, self.held = -1, batches.batch(0)

    def __len__(self) -> int:
        return MANY * self.rows

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        number, row = divmod(index, self.rows)
        if number != self.number:
            self.number, self.held = number, self.batches.batch(number)
        return {"input_ids": self.held[0][row], "labels": self.held[1][row]}


class Turns(TrainerCallback):
    """Lets the loop take one step per request."""

    def __init__(self) -> None:
        self.allowed: queue.Queue[bool] = queue.Queue()
        self.done: queue.Queue[float | Exception] = queue.Queue()
        self.loss = 0.0
        self.began = threading.Event()

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.began.set()
        self.allowed.get()

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        loss, self.loss = self.loss, 0.0
        self.done.put(loss)
        if not self.allowed.get():
            control.should_training_stop = True


class Timed(Trainer):
    """Reads rows in order, and records the loss of each step."""

    turns: Turns

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **others: Any) -> Any:
        """`labels` are the next tokens already; transformers would shift them once more."""
        targets = inputs["labels"]
        logits = model(input_ids=inputs["input_ids"], use_cache=False).logits
        flat = logits.float().view(-1, logits.size(-1))
        return torch.nn.functional.cross_entropy(flat, targets.view(-1))

    def training_step(self, model: Any, inputs: Any, *rest: Any, **others: Any) -> torch.Tensor:
        loss = super().training_step(model, inputs, *rest, **others)
        self.turns.loss += float(loss)
        return loss


class Transformers:
    """A model in the Hugging Face layout."""

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
        self._leave()
        torch.manual_seed(seed)
        given = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
        config = transformers.AutoConfig.from_pretrained(folder)
        given = {name: value for name, value in given.items() if hasattr(config, name)}
        kind = torch.float32 if data else getattr(torch, dtype)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=kind, **given)
        self.static = compile
        if data:
            self._prepare_training(data, micro, dtype, compile, seed)
        else:
            self.model.eval()
        return {
            "parameters": weights.count(self.model),
            "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
            "dtype": dtype,
        }

    def _prepare_training(
        self, data: str, micro: int, dtype: str, compile: bool, seed: int
    ) -> None:
        self.batches = Batches(data)
        rows = self.batches.starts.shape[1]
        self.place = tempfile.TemporaryDirectory()
        arguments = TrainingArguments(
            self.place.name, use_cpu=True, bf16=dtype == "bfloat16", torch_compile=compile,
            per_device_train_batch_size=micro, gradient_accumulation_steps=rows // micro,
            max_steps=MANY, learning_rate=recipe.RATE, lr_scheduler_type="constant",
            weight_decay=recipe.DECAY, adam_beta1=recipe.BETAS[0], adam_beta2=recipe.BETAS[1],
            adam_epsilon=recipe.EPS, max_grad_norm=recipe.CLIP, optim="adamw_torch_fused",
            logging_strategy="no", save_strategy="no", report_to=[], disable_tqdm=True,
            dataloader_num_workers=0, dataloader_pin_memory=False, seed=seed,
        )  # fmt: skip
        self.turns = Turns()
        text = Rows(self.batches)
        trainer = Timed(self.model, arguments, train_dataset=text, callbacks=[self.turns])
        # the loss is a mean over each portion, to be divided by the number of portions
        trainer.turns, trainer.model_accepts_loss_kwargs = self.turns, False
        self.thread = threading.Thread(target=self._train, args=(trainer, self.turns), daemon=True)
        self.thread.start()
        self.turns.began.wait(60)  # from now on the model is wrapped

    thread: threading.Thread | None = None

    def _train(self, trainer: Trainer, turns: Turns) -> None:
        try:
            trainer.train()
        except Exception as error:  # told to whoever waits for this update
            turns.done.put(error)

    def _leave(self) -> None:
        """Ends the loop of an earlier `prepare`."""
        if self.thread is not None:
            self.turns.allowed.put(False)
            self.thread.join(60)
            self.thread = None

    def step(self, count: int) -> dict[str, Any]:
        self.model.train()
        losses = []
        began = time.perf_counter()
        for _ in range(count):
            self.turns.allowed.put(True)
            done = self.turns.done.get()
            if isinstance(done, Exception):
                raise done
            losses.append(done)
        return {"seconds": time.perf_counter() - began, "losses": losses}

    @torch.no_grad()
    def loss(self) -> dict[str, Any]:
        self.model.eval()
        # accelerate has wrapped the model in autocast, and the gate is in float32
        forward = getattr(self.model, "_original_forward", self.model)
        found = []
        for tokens, targets in self.batches.windows():
            logits = forward(tokens).logits.float()
            found.append(float(torch.nn.functional.cross_entropy(logits[0], targets[0])))
        return {"losses": found}

    @torch.no_grad()
    def generate(
        self, prompts: list[list[int]], tokens: int, temperature: float = 0.0
    ) -> dict[str, Any]:
        """All prompts in one static batch, padded on the left."""
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        compiled = CompileConfig()
        compiled._compile_all_devices = True  # it would leave processors out
        settings = GenerationConfig(
            do_sample=temperature > 0, temperature=temperature or 1.0, top_k=0,
            max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=0,
            cache_implementation="static" if self.static else None,
            compile_config=compiled if self.static else None,
        )  # fmt: skip
        self.model.generation_config.eos_token_id = None
        began = time.perf_counter()
        made = self.model.generate(ids, attention_mask=mask, generation_config=settings)
        return {
            "seconds": time.perf_counter() - began,
            "ids": made[:, longest:].tolist(),
        }


if __name__ == "__main__":
    serve(Transformers())
