"""What every request has to pass: host, origin, key, size and speed of its body.

Plain ASGI, so that streams pass through it piece by piece.
"""

import asyncio
import base64
import binascii
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 8 << 20
BODY_SECONDS = 30.0
"""Time for a whole body; a client that writes a byte a second holds no connection for long."""
TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES >> 20} MiB"
TOO_SLOW = f"the body did not arrive within {BODY_SECONDS:g} seconds"
OPEN_ROUTES = ("/health",)
"""Need no key."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
"""On every answer: nothing foreign is loaded or run, and no other page may embed it."""


class Guard:
    """Checks requests before the application sees them, and logs them afterwards."""

    def __init__(
        self,
        app: App,
        *,
        hosts: tuple[str, ...] | None,
        api_key: str | None = None,
        origins: tuple[str, ...] = (),
        answered: Callable[[Scope, int, float], None] = lambda *_: None,
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wraps an application.

        Args:
            hosts: names that the Host header may have (DNS rebinding); None: any.
            api_key: needed for every route but /health.
            origins: foreign pages that may call (CORS), such as https://example.org.
            answered: called with the request, its status and seconds.
            is_draining: whether the server is shutting down.
        """
        self.app, self.hosts, self.api_key, self.origins = app, hosts, api_key, origins
        self.answered, self.is_draining = answered, is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets
            await send({"type": "websocket.close", "code": 1008})
            return
        began, status = time.monotonic(), 500
        headers = {name.decode("latin-1").lower(): value for name, value in scope["headers"]}
        origin = headers.get("origin", b"").decode("latin-1")
        method, path = scope["method"], scope["path"]

        async def guarded_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                if origin in self.origins:
                    added += [
                        (b"access-control-allow-origin", origin.encode()),
                        (b"vary", b"Origin"),
                    ]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        try:
            refusal = self._refusal(method, path, headers, origin)
            if refusal is not None:
                await _answer(guarded_send, *refusal)
            elif method == "OPTIONS" and origin in self.origins:
                await _preflight(guarded_send)
            else:
                limited = _Body(receive, headers.get("content-length"))
                await self.app(scope, limited, guarded_send)
        finally:
            self.answered(scope, status, time.monotonic() - began)

    def _refusal(
        self, method: str, path: str, headers: dict[str, bytes], origin: str
    ) -> tuple[int, str, str] | None:
        """(status, text, type) of what is wrong with a request before its body."""
        host = headers.get("host", b"").decode("latin-1")
        name = _hostname(host)
        if name is None or (self.hosts is not None and name not in self.hosts):
            return 421, "this server does not answer for that host name", "invalid_request_error"
        if origin and origin not in self.origins:
            scheme, _, netloc = origin.partition("://")
            if scheme not in ("http", "https") or netloc != host:
                return 403, "requests of other pages are not allowed", "permission_error"
        if self.api_key is not None and path not in OPEN_ROUTES and not self._has_key(headers):
            return 401, "the API key is missing or wrong", "authentication_error"
        if self.is_draining() and path not in OPEN_ROUTES:
            return 503, "the server is shutting down", "server_error"
        return None

    def _has_key(self, headers: dict[str, bytes]) -> bool:
        """Bearer, as programs send it, or Basic with any user name, which a browser asks for."""
        assert self.api_key is not None
        kind, _, value = headers.get("authorization", b"").partition(b" ")
        given = value.strip() if kind.lower() == b"bearer" else b""
        if kind.lower() == b"basic":
            try:
                given = base64.b64decode(value, validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                given = b""
        return hmac.compare_digest(given, self.api_key.encode())


class _Body:
    """`receive` with limits of size and time."""

    def __init__(self, receive: Receive, length: bytes | None) -> None:
        self.receive, self.size, self.done = receive, 0, False
        self.ends = time.monotonic() + BODY_SECONDS
        self.announced = int(length) if length is not None and length.isdigit() else 0

    async def __call__(self) -> Message:
        if self.done:  # what comes now is the end of the connection
            return await self.receive()
        if self.announced > MAX_BODY_BYTES:
            raise HTTPException(413, TOO_LARGE)
        try:
            left = max(0.0, self.ends - time.monotonic())
            message = await asyncio.wait_for(self.receive(), left)
        except TimeoutError:
            raise HTTPException(408, TOO_SLOW) from None
        self.size += len(message.get("body", b""))
        if self.size > MAX_BODY_BYTES:
            raise HTTPException(413, TOO_LARGE)
        self.done = not message.get("more_body", False)
        return message


def error_body(text: str, kind: str, code: str | None = None, param: str | None = None) -> bytes:
    """An error in the form of OpenAI's API, as JSON."""
    error = {"message": text, "type": kind, "param": param, "code": code}
    return json.dumps({"error": error}).encode()


def _hostname(host: str) -> str | None:
    """The name in a Host header, without its port; None where it is none."""
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname if parts.netloc == host and "@" not in host else None
    except ValueError:
        return None


async def _answer(send: Send, status: int, text: str, kind: str) -> None:
    body = error_body(text, kind)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="scriven", charset="UTF-8"'))
    if status in (429, 503):
        headers.append((b"retry-after", b"2"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _preflight(send: Send) -> None:
    headers = [
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", b"authorization, content-type"),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
