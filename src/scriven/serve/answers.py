"""Generation as HTTP answers: whole, or as server-sent events while it is generated."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ..generate.continuous_batching import BatchRequest, Step
from ..tokenizers import clean
from .metrics import ServerMetrics
from .models import ServedModel
from .scheduler import Stream
from .security import error_body


@dataclass
class CompletionChoice:
    """One text of an answer."""

    request: BatchRequest
    index: int
    before: str = ""
    """The echoed prompt."""
    steps: list[Step] = field(default_factory=list)

    @property
    def finish_reason(self) -> str:
        """`length`, or `stop` for stop strings and the end of the text."""
        return "length" if self.request.sequence.finish_reason == "length" else "stop"


@dataclass
class CompletionAnswer:
    """What a completion or chat completion gives, in the shape of its kind."""

    served: ServedModel
    metrics: ServerMetrics
    choices: Sequence[CompletionChoice]
    stream: Stream
    prompt_tokens: int
    chat: bool
    logprobs: bool
    token_ids: bool
    usage_in_stream: bool = False
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.id = f"{'chatcmpl' if self.chat else 'cmpl'}-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self._by_request = {id(each.request): each for each in self.choices}
        self._first = True
        self._generated = self.metrics.generated_tokens.labels(self.served.name)

    async def whole(self, request: Request) -> Response:
        """The answer as one JSON object; a client that leaves frees its places."""
        failed: Exception | None = None

        async def collect() -> None:
            nonlocal failed
            async for step in self.stream:
                failed = failed or step.error
                self._take(step)

        try:
            if not await until_disconnect(request, collect()):
                return Response(status_code=499)  # nobody reads it
        finally:
            self.stream.cancel()
        if failed is not None:
            raise failed
        kind = "chat.completion" if self.chat else "text_completion"
        body = {**self._head(kind), "choices": [self._choice(each) for each in self.choices]}
        return JSONResponse({**body, "usage": self._usage()})

    def streamed(self) -> Response:
        """The answer as server-sent events."""
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(
            self._events(), media_type="text/event-stream", headers=headers
        )  # fmt: skip

    async def _events(self) -> AsyncIterator[bytes]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        head = self._head(kind)
        if self.usage_in_stream:
            head["usage"] = None
        try:
            # 1. what comes before the first token
            for choice in self.choices:
                if self.chat:
                    delta = {"role": "assistant", "content": ""}
                    yield _event({**head, "choices": [_delta(choice.index, delta)]})
                elif choice.before:
                    text = {"text": choice.before, "index": choice.index}
                    yield _event({**head, "choices": [{**text, **_OPEN}]})
            # 2. tokens
            async for step in self.stream:
                if step.error is not None:
                    yield b"data: " + error_body(clean(str(step.error)), "server_error") + b"\n\n"
                    break
                choice = self._take(step)
                # nothing to show yet: the text may become a stop string, or a character
                if not (step.text or step.is_last or self.logprobs or self.token_ids):
                    continue
                yield _event({**head, "choices": [self._piece(choice, step)]})
            # 3. the end
            for choice in self.choices:
                if not choice.steps:  # max_tokens: 0
                    end = _delta(choice.index, {}) if self.chat else {"text": "", "index": 0}
                    yield _event({**head, "choices": [{**end, "finish_reason": "length"}]})
            if self.usage_in_stream:
                yield _event({**head, "choices": [], "usage": self._usage()})
            yield b"data: [DONE]\n\n"
        finally:
            self.stream.cancel()

    def _take(self, step: Step) -> CompletionChoice:
        """Counts a step for its choice."""
        choice = self._by_request[id(step.request)]
        if step.error is None:
            choice.steps.append(step)
            self._generated.inc()
            if self._first and self.stream.first_token_at is not None:
                seconds = self.stream.first_token_at - self.began
                self.metrics.first_token_seconds.labels(self.served.name).observe(seconds)
                self._first = False
        return choice

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.served.name,
            "system_fingerprint": None,
        }

    def _usage(self) -> dict[str, int]:
        completion = sum(len(each.steps) for each in self.choices)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
        }

    def _choice(self, choice: CompletionChoice) -> dict[str, Any]:
        text = choice.request.sequence.text
        extra: dict[str, Any] = {}
        if self.token_ids:
            extra["token_ids"] = [step.token for step in choice.steps]
        if self.chat:
            message = {"role": "assistant", "content": text, "refusal": None}
            extra["message"] = message
        else:
            extra["text"] = choice.before + text
        return {
            "index": choice.index,
            **extra,
            "logprobs": self._logprobs(choice, choice.steps, len(choice.before)),
            "finish_reason": choice.finish_reason,
        }

    def _piece(self, choice: CompletionChoice, step: Step) -> dict[str, Any]:
        offset = len(choice.before) + sum(len(each.text) for each in choice.steps[:-1])
        piece = {
            "index": choice.index,
            "logprobs": self._logprobs(choice, [step], offset),
            "finish_reason": choice.finish_reason if step.is_last else None,
        }
        if self.token_ids:
            piece["token_ids"] = [step.token]
        if self.chat:
            return {**piece, "delta": {"content": step.text} if step.text else {}}
        return {**piece, "text": step.text}

    def _logprobs(self, choice: CompletionChoice, steps: Sequence[Step], offset: int) -> Any:
        """In the shape of chat completions, or of the older completions."""
        if not self.logprobs:
            return None
        name = self.served.token_text
        if self.chat:
            return {"content": [self._token(step) for step in steps], "refusal": None}
        offsets = []
        for step in steps:
            offsets.append(offset)
            offset += len(name(step.token))
        found = {
            "tokens": [name(step.token) for step in steps],
            "token_logprobs": [step.logprob for step in steps],
            "top_logprobs": [{name(each.token): each.logprob for each in s.top} for s in steps],
            "text_offset": offsets,
        }
        if self.token_ids:
            found["top"] = [
                [{"id": t.token, "token": name(t.token), "logprob": t.logprob} for t in step.top]
                for step in steps
            ]
        return found

    def _token(self, step: Step) -> dict[str, Any]:
        top = [self._entry(each.token, each.logprob) for each in step.top]
        return {**self._entry(step.token, step.logprob), "top_logprobs": top}

    def _entry(self, token: int, logprob: float | None) -> dict[str, Any]:
        text = self.served.token_text(token)
        spelled = list(self.served.model.tokenizer.spell(token))
        # JSON has no infinity; the reference server writes this number instead
        return {"token": text, "logprob": max(logprob or 0.0, -9999.0), "bytes": spelled}


_OPEN: dict[str, Any] = {"logprobs": None, "finish_reason": None}


def _delta(index: int, delta: dict[str, str]) -> dict[str, Any]:
    return {"index": index, "delta": delta, **_OPEN}


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=True).encode() + b"\n\n"


async def until_disconnect(request: Request, work: Coroutine[Any, Any, None]) -> bool:
    """Runs `work`, whose request was read whole, until it is done or the client has left.

    Returns:
        Whether it is done.
    """
    task = asyncio.ensure_future(work)

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    watcher = asyncio.ensure_future(watch())
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()  # raises what it raised
            return True
        return False
    finally:
        for each in (task, watcher):
            each.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)
