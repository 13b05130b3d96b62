"""A thread that runs the model: requests come from the event loop of the server, tokens go back.

One step of the batch at a time holds the lock that all users of the processor share, so that two
models take turns instead of fighting for the cores.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence

from ..errors import ScrivenError
from ..generate.continuous_batching import BatchRequest, ContinuousBatch, Step
from ..generate.engine import Engine

DELIVERY_SECONDS = 0.03
"""Tokens of several steps are handed over together, this late at most: waking the event loop costs
more than a step of a small model. First and last tokens go at once."""
COMPUTE = threading.Lock()
"""Held by whoever computes with a model in this process."""


class QueueFullError(ScrivenError):
    """More requests are waiting than the server allows."""


class ClosedError(ScrivenError):
    """The server is shutting down."""


class Stream:
    """The tokens of some requests: as they come, or all together when the last text has ended."""

    def __init__(
        self, requests: Sequence[BatchRequest], scheduler: "Scheduler", as_they_come: bool
    ) -> None:
        # a text of no tokens is finished before it begins
        self.requests = [each for each in requests if each.sequence.finish_reason is None]
        self.as_they_come = as_they_come
        self.first_token_at: float | None = None
        """By `time.monotonic`, once there is one."""
        self.cancelled, self._scheduler = False, scheduler
        self._unfinished, self._held_back = len(self.requests), list[Step]()
        self._queue: asyncio.Queue[Step] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    async def __aiter__(self) -> AsyncIterator[Step]:
        left = len(self.requests)
        while left:
            step = await self._queue.get()
            left -= step.error is not None or step.is_last
            yield step

    def cancel(self) -> None:
        """Frees the places of these requests at the next token."""
        self.cancelled = True
        for request in self.requests:
            request.cancelled = True
        self._scheduler.wake()

    def put(self, steps: Sequence[Step]) -> None:
        """Hands steps over, or holds them back; called in the thread of the model."""
        if self.first_token_at is None:
            self.first_token_at = time.monotonic()
        self._held_back += steps
        self._unfinished -= sum(each.is_last or each.error is not None for each in steps)
        if self._unfinished and not self.as_they_come:
            return
        steps, self._held_back = self._held_back, []

        def deliver() -> None:
            for step in steps:
                self._queue.put_nowait(step)

        try:
            self._loop.call_soon_threadsafe(deliver)
        except RuntimeError:  # the loop has ended, and nobody listens
            self.cancel()


class Scheduler:
    """The running batch of one model, and the queue in front of it."""

    def __init__(self, engine: Engine, slots: int = 32, max_queue: int = 256) -> None:
        """Starts its thread.

        Args:
            slots: texts that are generated at once.
            max_queue: requests that may wait for a slot.
        """
        self.engine, self.slots, self.max_queue = engine, slots, max_queue
        self._batch = ContinuousBatch(engine, slots)
        self._arrivals: list[Stream] = []
        self._streams: dict[int, Stream] = {}
        self._steps: list[Step] = []  # not handed over yet
        self._delivered = 0.0
        self._condition, self._closing, self._forget = threading.Condition(), False, False
        self._thread = threading.Thread(target=self._run, name="scriven-model", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Texts that are being generated."""
        return self._batch.running

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return len(self._batch.waiting) + sum(len(each.requests) for each in self._arrivals)

    def submit(self, requests: Sequence[BatchRequest], *, as_they_come: bool = True) -> Stream:
        """Queues requests.

        Args:
            as_they_come: False where nobody looks at a token before all texts have ended, so that
                the event loop need not be woken for each.

        Raises:
            QueueFullError, ClosedError
        """
        stream = Stream(requests, self, as_they_come)
        with self._condition:
            if self._closing:
                raise ClosedError("the server is shutting down")
            free = self.slots - self.running
            if self.waiting + len(requests) > self.max_queue + max(0, free):
                raise QueueFullError("too many requests are waiting: try again later")
            if stream.requests:
                self._arrivals.append(stream)
                self._condition.notify()
        return stream

    def wake(self) -> None:
        """Lets the thread look at what was cancelled."""
        with self._condition:
            self._forget = True
            self._condition.notify()

    def close(self) -> None:
        """Ends the thread; what is running is cut."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not (self._arrivals or self._batch or self._closing):
                    self._condition.wait()
                arrivals, self._arrivals = self._arrivals, []
                forget, self._forget = self._forget, False
            if forget:  # cancelled requests have no last step
                self._streams = {k: each for k, each in self._streams.items() if not each.cancelled}
            for stream in arrivals:
                for request in stream.requests:
                    self._streams[id(request)] = stream
                    self._batch.add(request)
            if self._closing:
                self._fail(ClosedError("the server is shutting down"))
                return
            try:
                with COMPUTE:
                    steps = list(self._batch.step())
            except Exception as error:  # one broken step must not end the server
                self._fail(error)
                self._batch = ContinuousBatch(self.engine, self.slots)
                continue
            self._steps += steps
            late = time.monotonic() - self._delivered > DELIVERY_SECONDS
            if late or not self._batch or any(map(self._is_urgent, steps)):
                self._deliver()

    def _deliver(self) -> None:
        steps, self._steps, self._delivered = self._steps, [], time.monotonic()
        by_stream: dict[Stream, list[Step]] = {}
        for step in steps:
            if (stream := self._streams.get(id(step.request))) is not None:
                by_stream.setdefault(stream, []).append(step)
                if step.error is not None or step.is_last:
                    del self._streams[id(step.request)]
        for stream, own in by_stream.items():
            stream.put(own)

    def _fail(self, error: Exception) -> None:
        """Tells every request that is open."""
        self._deliver()
        by_stream: dict[Stream, list[Step]] = {}
        for stream in self._streams.values():
            by_stream[stream] = [
                Step(each, "", -1, error=error) for each in stream.requests
                if id(each) in self._streams
            ]  # fmt: skip
        self._streams.clear()
        for stream, steps in by_stream.items():
            stream.put(steps)

    def _is_urgent(self, step: Step) -> bool:
        if step.is_last or step.error is not None:
            return True
        stream = self._streams.get(id(step.request))
        is_awaited = stream is not None and stream.as_they_come
        return is_awaited and step.request.sequence.num_tokens == 1
