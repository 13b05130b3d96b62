"""The routes of the page: what the models are, a look inside them, and a training as it goes.

Nothing here names a path of the machine, and texts go into the page as text, never as HTML.
"""

import os
import signal
from dataclasses import fields
from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from ..errors import InputError
from ..evaluate.interpret import read_text
from ..generate.sampling import processor_classes
from ..runs.folder import training_process
from ..runs.metadata import read_run_metadata
from ..tokenizers import clean
from ..train.stopping import request_finish
from ..train.trackers.jsonl import FILE, read_events
from .models import ServedModel
from .routes import Models
from .scheduler import COMPUTE
from .schema import FinishRequest, InspectRequest, Request, TokenizeRequest

MAX_LOOK = 192
"""Tokens of a text that are inspected; the weights of a layer grow with their square."""


def build_playground(models: Models) -> APIRouter:
    """All routes under /api."""
    router = APIRouter(prefix="/api", include_in_schema=False)

    @router.get("/models")
    async def describe() -> dict[str, Any]:
        """The served models, and the sampling settings with their help."""
        found = [each.describe() for each in models.served.values()]
        return {"models": found, "settings": _settings()}

    @router.post("/reload")
    async def reload(wanted: Request) -> dict[str, Any]:
        """Takes up the newest published weights of a model."""
        served = models.get(wanted.model)
        await run_in_threadpool(served.reload)
        return served.describe()

    @router.post("/tokenize")
    async def tokenize(wanted: TokenizeRequest) -> dict[str, Any]:
        """The tokens of a text."""
        served = models.get(wanted.model)
        ids = await run_in_threadpool(served.encode, clean(wanted.text))
        return {"ids": ids, "tokens": [served.token_text(each) for each in ids]}

    @router.post("/inspect")
    async def inspect(wanted: InspectRequest) -> dict[str, Any]:
        """Attention of one layer over a text, and the logit lens of each token."""
        return await run_in_threadpool(_look, models.get(wanted.model), wanted)

    @router.get("/training")
    async def training(model: str | None = None, after: int = 0) -> dict[str, Any]:
        """The events of a training from number `after` on, and how it stands."""
        return await run_in_threadpool(_training, models.get(model), max(0, after))

    @router.post("/training/stop")
    async def stop(wanted: Request) -> dict[str, Any]:
        """Asks a running training to save its state and to end, as Ctrl-C does."""
        served = models.get(wanted.model)
        owner = training_process(served.model.folder)
        if owner is None:
            raise InputError(f"{served.name} is not being trained on this computer")
        os.kill(owner, signal.SIGTERM)
        return {"stopping": True}

    @router.post("/training/finish")
    async def finish(wanted: FinishRequest) -> dict[str, Any]:
        """Asks a running training to let its learning rate fall and to finish early."""
        served = models.get(wanted.model)
        if training_process(served.model.folder) is None:
            raise InputError(f"{served.name} is not being trained on this computer")
        await run_in_threadpool(request_finish, served.model.folder, f"{wanted.seconds:.0f}s")
        return {"finishing": True, "seconds": wanted.seconds}

    return router


def _settings() -> list[dict[str, Any]]:
    found = []
    for name, kind in processor_classes().items():
        (own,) = fields(kind)
        data = own.metadata
        found.append(
            {"name": name, "help": data["help"], "default": own.default,
             "low": data["low"], "high": data["high"], "whole": own.type is int}
        )  # fmt: skip
    return found


def _look(served: ServedModel, wanted: InspectRequest) -> dict[str, Any]:
    task = served.model.task
    ids = (served.encode(clean(wanted.text)) or [served.model.engine.bos])[-MAX_LOOK:]
    ids = ids[-served.context :]
    with COMPUTE:
        reading = read_text(task, ids)
    size = served.model.tokenizer.vocab_size
    lens = []
    for logprobs in reading.lens:  # (T, V)
        values, best = logprobs[:, :size].topk(min(wanted.top, size), dim=-1)
        rows = zip(best.tolist(), values.tolist(), strict=True)
        lens.append([_named(served, *row) for row in rows])
    layers = len(reading.attention)
    layer = min(wanted.layer, max(0, layers - 1))
    attention = [
        [[round(value, 4) for value in row] for row in head]
        for head in (reading.attention[layer].tolist() if layers else [])
    ]
    return {
        "tokens": [served.token_text(each) for each in ids],
        "layers": layers,
        "layer": layer,
        "attention": attention,
        "lens": lens,
    }


def _named(served: ServedModel, ids: list[int], values: list[float]) -> list[list[Any]]:
    """Tokens as text with their log-probabilities."""
    pairs = zip(ids, values, strict=True)
    return [[served.token_text(token), round(value, 4)] for token, value in pairs]


def _training(served: ServedModel, after: int) -> dict[str, Any]:
    folder = served.model.folder
    metadata = read_run_metadata(folder) if (folder / "scriven.json").exists() else {}
    events = read_events(folder / FILE)
    return {
        "running": training_process(folder) is not None,
        "finished": metadata.get("results") is not None,
        "budget": metadata.get("settings", {}).get("budget"),
        "reasons": metadata.get("reasons") or {},
        "measure": metadata.get("measure"),
        "baseline": (metadata.get("baseline") or {}).get("loss"),
        "events": events[after:],
        "next": len(events),
    }
