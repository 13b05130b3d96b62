"""A server in a thread of the tests' own process."""

import threading
import time
from typing import Any

import httpx

from scriven.serve.models import ServedModel
from scriven.serve.server import ServeOptions, build_server, url_of


class Running:
    """A server in a thread of this process."""

    def __init__(self, served: list[ServedModel], **options: Any) -> None:
        self.options = ServeOptions(port=0, **options)
        self.served = served
        self.server, listener = build_server(served, self.options)
        self.draining = self.server.draining
        self.url = url_of(self.options, listener).rstrip("/")
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [listener]}, daemon=True
        )
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=60, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60, **options)
