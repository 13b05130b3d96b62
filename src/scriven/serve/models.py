"""The models that a server answers with: their names, their schedulers, and what they can do."""

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InputError
from ..generate.chat import Conversation
from ..generate.engine import Engine
from ..generate.sampling import GREEDY, SAMPLED, SamplingParams
from ..runtime import Runtime
from ..tasks.base import BaseTask
from ..tasks.shared.supervised import SupervisedTask
from ..tokenizers.base import Tokenizer
from ..tokenizers.chat_template import check_messages, render_ids, template_of
from .scheduler import COMPUTE, Scheduler

if TYPE_CHECKING:
    from torch import Tensor

MAX_NEW_TOKENS = 500
"""Of an answer in a conversation, where the request names no limit."""


class Model(Protocol):
    """What is needed of a `scriven.Model`."""

    folder: Path
    metadata: dict[str, Any]
    tokenizer: Tokenizer
    task: BaseTask
    runtime: Runtime
    step: int | None

    @property
    def engine(self) -> Engine:
        """It generates text."""


class ServedModel:
    """A loaded model, with the thread that generates with it."""

    def __init__(
        self, model: Model, reopen: Callable[[], Model], *, slots: int = 32, max_queue: int = 256
    ) -> None:
        """Serves a model.

        Args:
            reopen: loads it again, with its newest weights.
            slots: texts that are generated at once.
            max_queue: requests that may wait for a slot.
        """
        self._reopen, self._limits = reopen, {"slots": slots, "max_queue": max_queue}
        self._lock = threading.Lock()
        self.scheduler: Scheduler | None
        self._use(model)
        self.name = model.folder.name + ("" if model.step is None else f"@{model.step}")

    def _use(self, model: Model) -> None:
        self.model = model
        self.created = int(Path(model.folder).stat().st_mtime)
        self.scheduler = Scheduler(model.engine, **self._limits) if self.can_write else None

    def reload(self) -> None:
        """Takes up the newest published weights; what is running ends with the old ones.

        Raises:
            InputError, DamagedError: the run cannot be loaded; the old weights stay.
        """
        with self._lock:
            model, before = self._reopen(), self.scheduler
            self._use(model)
            if before is not None:
                before.close()

    def close(self) -> None:
        """Ends its thread."""
        if self.scheduler is not None:
            self.scheduler.close()

    @property
    def can_write(self) -> bool:
        """Whether it goes on with a text."""
        return bool(self.model.task.is_generative)

    @property
    def can_chat(self) -> bool:
        """Whether it has learnt conversations."""
        tokenizer, task = self.model.tokenizer, self.model.metadata["task"]
        return self.can_write and template_of(tokenizer, task) is not None

    @property
    def can_predict(self) -> bool:
        """Whether it was fine-tuned for rows of a table."""
        return isinstance(self.model.task, SupervisedTask)

    @property
    def context(self) -> int:
        """The most tokens that it reads at once."""
        return int(self.model.task.max_context)

    def describe(self) -> dict[str, Any]:
        """What the page shows of it; no path of the machine."""
        metadata, task = self.model.metadata, self.model.task
        return {
            "id": self.name,
            "architecture": metadata["architecture"],
            "task": metadata["task"],
            "parameters": sum(weight.numel() for weight in task.parameters()),
            "context_length": self.context,
            "vocab_size": self.model.tokenizer.vocab_size,
            "layers": int(getattr(task.backbone.config, "layers", 0)),
            "writes": self.can_write and task.echo_prompt,
            "translates": self.can_write and not task.echo_prompt,
            "chats": self.can_chat,
            "predicts": self.can_predict,
            "finished": metadata.get("results") is not None,
            "defaults": self.sampling_defaults,
        }

    @property
    def sampling_defaults(self) -> dict[str, Any]:
        """Sampling settings where a request names none: those of `scriven generate`."""
        return dict(SAMPLED if self.model.task.echo_prompt else GREEDY)

    def sampling(self, asked: dict[str, float]) -> SamplingParams:
        """The settings of a request over the defaults. Raises SettingError."""
        return _sampling_params(tuple({**self.sampling_defaults, **asked}.items()))

    def prompt_of(self, messages: Sequence[dict[str, str]], truncate: bool) -> list[int]:
        """The token ids of a conversation up to where the answer begins.

        Raises:
            InputError: no conversation, or one longer than the context; with `truncate` its oldest
                exchanges are left out instead.
        """
        checked = check_messages(messages, "messages")
        if not truncate:
            return render_ids(self.model.tokenizer, checked, answer=True)
        room = 0 if self.model.task.backbone.kind == "encoder-decoder" else None
        stream = self.model.engine.stream
        return Conversation(stream, self.model.tokenizer, self.context, room=room).fit(checked)

    def encode(self, text: str | list[int]) -> list[int]:
        """A text, or ids that are checked, as token ids.

        Raises:
            InputError: an id that is not in the vocabulary.
        """
        if isinstance(text, str):
            return self.model.task.encode_prompt(self.model.tokenizer, text)
        size = self.model.tokenizer.vocab_size
        if bad := [token for token in text if token >= size]:
            raise InputError(f"token {bad[0]} does not exist: ids go from 0 to {size - 1}")
        return text

    def embed(self, rows: Sequence[list[int]]) -> "Tensor":
        """(B, C) mean of the last hidden states of each row, which fits into the context."""
        import torch

        task = self.model.task
        means = []
        with COMPUTE, torch.inference_mode():
            for row in rows:
                source, tokens = task.build_inputs(list(row), 0)
                ids = torch.tensor([source or tokens], device=self.model.runtime.device)
                backbone: Any = task.backbone
                hidden = backbone(ids, None, None) if source is None else backbone.encode(ids)
                means.append(hidden[0].float().mean(0).cpu())
        return torch.stack(means)

    def token_text(self, token: int) -> str:
        """What a token writes; a special one its name."""
        tokenizer = self.model.tokenizer
        if special := special_names(tokenizer).get(token):
            return special
        return tokenizer.spell(token).decode("utf-8", "replace")


@lru_cache(maxsize=256)
def _sampling_params(settings: tuple[tuple[str, float], ...]) -> SamplingParams:
    """Looking its classes up reads a folder, and most requests have the same settings."""
    return SamplingParams(**dict(settings))


def special_names(tokenizer: Any) -> dict[int, str]:
    """Special tokens by id, as they are written in messages."""
    return {number: f"<|{role}|>" for role, number in tokenizer.special_token_ids.items()}
