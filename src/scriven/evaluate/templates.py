"""Jinja templates of strangers: in Jinja's sandbox, and with a limit of time and size.

The sandbox hides Python's internals. It does not end a template that counts for ever or multiplies
until the memory is full, so both are bounded here.
"""

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from typing import Any

from jinja2 import BaseLoader, StrictUndefined, Template
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment, SecurityError

SECONDS = 5.0
"""Time for one text; usual templates take less than a millisecond."""
LARGEST = 1_000_000
"""Items of a repeated text or list, and the largest number that is raised to a power."""


class TemplateTimeoutError(SecurityError):  # type: ignore[misc]
    """A template that did not end."""


class LimitedTemplate(Template):  # type: ignore[misc]
    """A template whose rendering is interrupted after SECONDS."""

    def render(self, *args: Any, **kwargs: Any) -> str:
        """As Jinja's own. Raises TemplateTimeoutError."""
        with time_limit(SECONDS):
            return str(super().render(*args, **kwargs))


class LimitedEnvironment(SandboxedEnvironment):  # type: ignore[misc]
    """Jinja's sandbox with bounds on `*` and `**`, which are one uninterruptible step."""

    template_class = LimitedTemplate
    intercepted_binops = frozenset(["*", "**"])

    def __init__(self) -> None:
        super().__init__(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """As Jinja's own. Raises SecurityError where the result would be too large."""
        sizes = [len(each) if hasattr(each, "__len__") else 0 for each in (left, right)]
        numbers = [each for each in (left, right) if isinstance(each, int)]
        repeats = any(sizes) and bool(numbers) and max(sizes) * max(numbers) > LARGEST
        powers = operator == "**" and any(abs(each) > 1000 for each in numbers)
        if repeats or powers or any(each.bit_length() > 10_000 for each in numbers):
            raise SecurityError(f"{operator} would give too large a result")
        return super().call_binop(context, operator, left, right)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TemplateTimeoutError in this thread if the block takes longer.

    Not by a signal, which only the main thread can handle. A single operation in C is not
    interrupted.
    """
    thread, ended, lock = threading.get_ident(), False, threading.Lock()

    def interrupt() -> None:
        with lock:  # never after the block
            if not ended:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(TemplateTimeoutError)
                )

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    try:
        try:
            timer.start()  # inside, as a short limit can already end while the thread is started
            yield
        finally:
            with lock:
                ended = True
                # an interrupt that was asked for but not yet raised would hit whatever comes next
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)
            timer.cancel()
    except TemplateTimeoutError:
        raise TemplateTimeoutError(f"it did not end within {seconds:g} seconds") from None
