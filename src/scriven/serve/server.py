"""`scriven serve`: the application, its errors, and the server that runs it."""

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import InputError, ScrivenError, SettingError
from ..tokenizers import clean
from .metrics import ServerMetrics
from .models import Model, ServedModel
from .playground import build_playground
from .routes import ContextLengthError, Models, UnknownModelError, build_router
from .scheduler import ClosedError, QueueFullError
from .security import BODY_SECONDS, LOOPBACK, Guard, Scope, error_body

PAGE = Path(__file__).parent / "page"
GRACE_SECONDS = 30.0
"""How long running answers may go on after the server was asked to end."""
KEEP_ALIVE_SECONDS = 15


@dataclass
class ServeOptions:
    """How a server listens."""

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    access_log: bool = False
    grace_seconds: float = GRACE_SECONDS

    def __post_init__(self) -> None:
        """Raises SettingError where anybody on the network could use the server."""
        if not 0 <= self.port < 65536:
            raise SettingError(f"--port={self.port}: from 0 (any free one) to 65535")
        if self.host not in LOOPBACK and not self.api_key:
            raise SettingError(
                f"--host={self.host} lets other machines in: add --api-key KEY (or set "
                "SCRIVEN_API_KEY)"
            )

    @property
    def hosts(self) -> tuple[str, ...] | None:
        """The names that a request may be addressed to; None: any, as the key protects it."""
        if self.allowed_hosts:
            return (*self.allowed_hosts, *LOOPBACK)
        return LOOPBACK if self.host in LOOPBACK else None


class Draining:
    """Whether the server is shutting down, and what it is still answering."""

    def __init__(self) -> None:
        self.asked, self.active = False, 0

    def __call__(self) -> bool:
        return self.asked


def build_asgi_app(served: Sequence[ServedModel], options: ServeOptions, draining: Draining) -> Any:
    """The ASGI application with everything around it."""
    metrics, models = ServerMetrics(), Models(served)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        yield
        for each in served:
            each.close()

    app = FastAPI(title="Scriven", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(build_router(models, metrics))
    app.include_router(build_playground(models))

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the server answers; the only route without a key."""
        return {"status": "stopping" if draining() else "ok"}

    @app.get("/metrics")
    async def prometheus() -> Response:
        """Counters for Prometheus."""
        for each in models.served.values():
            if each.scheduler is not None:
                metrics.running.labels(each.name).set(each.scheduler.running)
                metrics.waiting.labels(each.name).set(each.scheduler.waiting)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    _add_error_handlers(app)
    app.mount("/", StaticFiles(directory=PAGE, html=True))

    def answered(scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "") or "other"  # never a path as it was sent
        metrics.requests.labels(route, str(status)).inc()
        metrics.request_seconds.labels(route).observe(seconds)
        if options.access_log:  # never a prompt
            line = {"time": round(time.time(), 3), "method": scope["method"], "route": route,
                    "status": status, "seconds": round(seconds, 4)}  # fmt: skip
            print(json.dumps(line), file=sys.stderr, flush=True)

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":  # the lifespan of the program lasts until it has ended
            return await app(scope, receive, send)
        draining.active += 1
        try:
            await app(scope, receive, send)
        finally:
            draining.active -= 1

    return Guard(
        counted, hosts=options.hosts, api_key=options.api_key, origins=options.allowed_origins,
        answered=answered, is_draining=draining,
    )  # fmt: skip


def _add_error_handlers(app: FastAPI) -> None:
    """Errors in the form of OpenAI's API; texts are ours, never Python's."""

    def reply(
        status: int, text: str, code: str | None = None, param: str | None = None
    ) -> Response:
        kinds = {404: "invalid_request_error", 429: "rate_limit_error", 503: "server_error"}
        kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
        headers = {"retry-after": "2"} if status in (429, 503) else None
        body = error_body(clean(text), kind, code, param)
        return Response(body, status, headers, "application/json")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"] if part != "body"][:4]
        # of alternatives (a text or a list of texts) pydantic names each; the field is enough
        param = clean(place[0])[:80] if place else None
        text = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            text = f"unrecognized request argument supplied: {param}"
        elif first["type"] == "json_invalid":
            text, param = "the body is not valid JSON", None
        elif param is not None:
            text = f"{param}: {text}"
        return reply(400, text, None, param)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        text = error.detail if error.status_code in (408, 413) else {
            400: "the body is not valid JSON", 404: "there is no such route",
            405: "this route has another method",
        }.get(error.status_code, "the request cannot be answered")  # fmt: skip
        return reply(error.status_code, text)

    @app.exception_handler(ScrivenError)
    async def failed(_: Request, error: ScrivenError) -> Response:
        text = str(error)
        if isinstance(error, UnknownModelError):
            return reply(404, text, "model_not_found", "model")
        if isinstance(error, ContextLengthError):
            return reply(400, text, "context_length_exceeded", "prompt")
        if isinstance(error, QueueFullError):
            return reply(429, text, "queue_full")
        if isinstance(error, ClosedError):
            return reply(503, text)
        return reply(400 if isinstance(error, InputError | SettingError) else 500, text)


class Protocol(H11Protocol):
    """Closes connections whose request head does not arrive: uvicorn has no such limit."""

    def connection_made(self, transport: Any) -> None:
        """Starts the clock."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(BODY_SECONDS, self._close_without_request)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops it."""
        self._head_timer.cancel()
        super().connection_lost(exc)

    def _close_without_request(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """Ends gracefully: running answers finish, new ones get 503, and after a while all are cut."""

    def __init__(self, config: uvicorn.Config, draining: Draining, grace: float) -> None:
        super().__init__(config)
        self.draining, self.grace = draining, grace

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends at once."""
        if self.draining.asked:
            self.should_exit = self.force_exit = True
            return
        self.draining.asked = True
        self.draining_task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        ends = time.monotonic() + self.grace
        while self.draining.active and time.monotonic() < ends:
            await asyncio.sleep(0.05)
        self.should_exit = True


def bind(options: ServeOptions) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Raises:
        InputError: the port is taken, or the host is not this machine's.
    """
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.host, options.port))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot listen on {options.host}:{options.port} ({reason}): use another --port"
        ) from error
    return listener


def build_server(
    served: Sequence[ServedModel], options: ServeOptions
) -> tuple["Server", socket.socket]:
    """A server that is ready to run, and the socket it listens on."""
    listener, draining = bind(options), Draining()
    config = uvicorn.Config(
        build_asgi_app(served, options, draining),
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=64 << 10,
        backlog=2048,
    )
    return Server(config, draining, options.grace_seconds), listener


def url_of(options: ServeOptions, listener: socket.socket) -> str:
    """The address of the page."""
    port = listener.getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"http://{host}:{port}/"


class ServerHandle:
    """A server in a background thread; `url` is its address."""

    def __init__(self, served: Sequence[ServedModel], options: ServeOptions) -> None:
        """Starts it, and returns once it answers.

        Raises:
            InputError: the port is taken.
        """
        self._server, listener = build_server(served, options)
        self.url = url_of(options, listener)
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [listener]},
            name="scriven-serve",
            daemon=True,
        )
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends the server; what it is answering is cut."""
        self._server.should_exit = True
        self._thread.join()

    def __repr__(self) -> str:
        return f"<scriven server at {self.url}>"


def serve_in_background(model: Model, reopen: Callable[[], Model], **options: Any) -> ServerHandle:
    """Serves one model.

    Args:
        reopen: loads it again, with its newest weights.
        options: of `ServeOptions`.

    Raises:
        InputError: the port is taken. SettingError: other machines could use it without a key.
        MissingExtra: a package is not installed.
    """
    checked = ServeOptions(**options)
    return ServerHandle([ServedModel(model, reopen)], checked)
