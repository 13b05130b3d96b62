"""The routes of OpenAI's API: models, completions, chat completions, embeddings; and predictions.

Reference: the OpenAI API reference (platform.openai.com/docs/api-reference), version of 2026.
"""

import base64
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from ..config import MAX_SEED
from ..errors import InputError
from ..generate.continuous_batching import BatchRequest
from ..generate.sampling import SamplingParams
from ..tokenizers import clean
from .answers import CompletionAnswer, CompletionChoice
from .metrics import ServerMetrics
from .models import MAX_NEW_TOKENS, ServedModel
from .scheduler import COMPUTE
from .schema import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    PredictRequest,
    SamplingRequest,
)
from .structured import hook_of

COMPLETION_TOKENS = 16
"""Of a completion that names no limit, as in the API reference."""
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class UnknownModelError(InputError):
    """A model that is not served."""


class ContextLengthError(InputError):
    """A prompt that does not fit into the context."""


class Models:
    """The served models by name; the first is the default."""

    def __init__(self, served: Sequence[ServedModel]) -> None:
        self.served: Mapping[str, ServedModel] = {each.name: each for each in served}

    def get(self, name: str | None) -> ServedModel:
        """Raises UnknownModelError."""
        if name is None:
            return next(iter(self.served.values()))
        if name not in self.served:
            raise UnknownModelError(
                f"the model {clean(name)[:80]!r} does not exist: known are {', '.join(self.served)}"
            )
        return self.served[name]

    def writer(self, name: str | None) -> ServedModel:
        """A model that generates text.

        Raises:
            InputError: it does not; says which route it has.
        """
        found = self.get(name)
        if found.scheduler is None:
            route = "/v1/predict" if found.can_predict else "/v1/embeddings"
            raise InputError(f"{found.name} generates no text: use {route}")
        return found


def build_router(models: Models, metrics: ServerMetrics) -> APIRouter:
    """All routes under /v1."""
    router = APIRouter(prefix="/v1")

    @router.get("/models")
    async def list_models() -> dict[str, Any]:
        """The models that are served."""
        return {"object": "list", "data": [_model(each) for each in models.served.values()]}

    @router.get("/models/{name}")
    async def retrieve_model(name: str) -> dict[str, Any]:
        """One of them."""
        return _model(models.get(name))

    @router.post("/completions")
    async def completions(wanted: CompletionRequest, request: Request) -> Response:
        """Goes on with a text."""
        served = models.writer(wanted.model)
        prompts = _prompts(wanted.prompt)
        tokens = COMPLETION_TOKENS if wanted.max_tokens is None else wanted.max_tokens
        ids = [served.encode(clean(each) if isinstance(each, str) else each) for each in prompts]
        answer = _submit(
            served, metrics, wanted, ids, tokens, chat=False,
            logprobs=wanted.logprobs, echo=prompts if wanted.echo else None,
        )  # fmt: skip
        return answer.streamed() if wanted.stream else await answer.whole(request)

    @router.post("/chat/completions")
    async def chat_completions(wanted: ChatRequest, request: Request) -> Response:
        """Answers a conversation."""
        served = models.writer(wanted.model)
        if not served.can_chat:
            raise InputError(f"{served.name} was not tuned for chat: use /v1/completions")
        messages = [
            {
                "role": "system" if each.role == "developer" else each.role,
                "content": clean(each.text),
            }
            for each in wanted.messages
        ]
        ids = served.prompt_of(messages, truncate=wanted.truncation == "auto")
        tokens = wanted.max_completion_tokens
        if tokens is None:
            tokens = MAX_NEW_TOKENS if wanted.max_tokens is None else wanted.max_tokens
        logprobs = (wanted.top_logprobs or 0) if wanted.logprobs else None
        answer = _submit(served, metrics, wanted, [ids], tokens, chat=True, logprobs=logprobs)
        return answer.streamed() if wanted.stream else await answer.whole(request)

    @router.post("/embeddings")
    async def embeddings(wanted: EmbeddingRequest) -> Response:
        """The mean of the last hidden states of each text."""
        served = models.get(wanted.model)
        rows = [
            served.encode(clean(each) if isinstance(each, str) else each)
            or [served.model.engine.bos]
            for each in _prompts(wanted.input)
        ]
        for row in rows:
            _check_length(served, len(row))
        vectors = (await run_in_threadpool(served.embed, rows)).numpy()
        data = [
            {"object": "embedding", "index": index, "embedding": _vector(each, wanted)}
            for index, each in enumerate(vectors)
        ]
        count = sum(map(len, rows))
        metrics.prompt_tokens.labels(served.name).inc(count)
        usage = {"prompt_tokens": count, "total_tokens": count}
        return JSONResponse(
            {"object": "list", "data": data, "model": served.name, "usage": usage}
        )  # fmt: skip

    @router.post("/predict")
    async def predict(wanted: PredictRequest) -> Response:
        """Predictions of a fine-tuned model for rows: labels with probabilities, scores, texts."""
        served = models.get(wanted.model)
        if not served.can_predict:
            raise InputError(f"{served.name} was not fine-tuned for a task: use /v1/completions")
        rows = [tuple(each) if isinstance(each, list) else each for each in wanted.inputs]
        data = await run_in_threadpool(_predictions, served, rows)
        return JSONResponse({"object": "list", "data": data, "model": served.name})

    return router


def _submit(
    served: ServedModel,
    metrics: ServerMetrics,
    wanted: SamplingRequest,
    prompts: Sequence[list[int]],
    tokens: int,
    *,
    chat: bool,
    logprobs: int | None,
    echo: Sequence[str | list[int]] | None = None,
) -> CompletionAnswer:
    """Queues `n` texts for each prompt.

    Raises:
        InputError, SettingError: a wrong request. QueueFullError: too many are waiting.
    """
    model, scheduler = served.model, served.scheduler
    assert scheduler is not None
    sampling = _sampling(served, wanted)
    # the reference server takes any integer
    seed = secrets.randbelow(1 << 32) if wanted.seed is None else wanted.seed % (MAX_SEED >> 1)
    choices: list[CompletionChoice] = []
    for ids in prompts:
        if wanted.truncation != "auto":
            _check_length(served, len(ids))
        for _ in range(wanted.n or 1):
            number = len(choices)
            (sequence,) = model.engine.sequences(
                [ids], tokens, wanted.stop or (), (seed + number) % MAX_SEED
            )
            hook = hook_of(model.tokenizer, wanted)
            text = ""
            if echo is not None:
                given = echo[number // (wanted.n or 1)]
                text = given if isinstance(given, str) else model.tokenizer.decode(given)
            choices.append(
                CompletionChoice(BatchRequest(sequence, sampling, hook, logprobs), number, text)
            )
    count = sum(map(len, prompts))
    stream = scheduler.submit([each.request for each in choices], as_they_come=bool(wanted.stream))
    metrics.prompt_tokens.labels(served.name).inc(count)
    return CompletionAnswer(
        served, metrics, choices, stream, count, chat, logprobs is not None,
        bool(wanted.return_token_ids),
        bool(wanted.stream_options and wanted.stream_options.include_usage),
    )  # fmt: skip


def _sampling(served: ServedModel, wanted: SamplingRequest) -> SamplingParams:
    asked = {name: getattr(wanted, name) for name in SAMPLING}
    if asked["top_k"] == -1:  # off, as other servers say it
        asked["top_k"] = 0
    return served.sampling({name: each for name, each in asked.items() if each is not None})


def _check_length(served: ServedModel, length: int) -> None:
    if length > served.context:
        raise ContextLengthError(
            f"this model's maximum context length is {served.context} tokens, but the prompt has "
            f'{length}: shorten it, or send "truncation": "auto" to leave out its beginning'
        )


def _prompts(given: Any) -> list[str | list[int]]:
    """One text or several, each as text or ids."""
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        return [given]
    return list(given) if given else [""]


def _model(served: ServedModel) -> dict[str, Any]:
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "scriven",
    }


def _vector(values: Any, wanted: EmbeddingRequest) -> Any:
    if wanted.encoding_format == "base64":
        return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode()
    return [float(each) for each in values]


def _predictions(served: ServedModel, rows: Sequence[Any]) -> list[dict[str, Any]]:
    from ..generate.predict import Predictor, as_rows

    model = served.model
    with COMPUTE:
        predictor = Predictor(model.task, model.tokenizer, model.engine, model.runtime)
        answers = predictor.predict(list(as_rows(predictor.task, rows, model.metadata)))
    labels = list(model.task.task_config.get("labels") or [])
    found = []
    for index, answer in enumerate(answers):
        row: dict[str, Any] = {"index": index, "prediction": answer.text}
        if answer.probabilities:
            row["probability"] = max(answer.probabilities)
            if len(labels) == len(answer.probabilities):
                row["probabilities"] = dict(zip(labels, answer.probabilities, strict=True))
        elif not served.can_write:
            row["value"] = answer.value
        found.append(row)
    return found
