"""`scriven serve`: an OpenAI-compatible server and a page for trained models."""

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..errors import InputError
from .base import Precision, UserArch, note, open_model

if TYPE_CHECKING:
    from ..serve.models import ServedModel


def serve(
    *runs: Annotated[
        str, Parameter(help="Run folders, names under runs/, latest, or other models.")
    ],
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    allowed_host: tuple[str, ...] = (),
    allowed_origin: tuple[str, ...] = (),
    slots: int = 32,
    max_queue: int = 256,
    dtype: Precision = None,
    arch: UserArch = None,
    access_log: bool = False,
    open: bool = False,
) -> None:
    """Serve models to programs (OpenAI's HTTP API) and to people (a page in the browser).

    Parameters
    ----------
    host
        Address to listen on; any other than this machine's own needs an API key.
    port
        Port to listen on; 0 takes any free one.
    api_key
        Key that every request needs; also read from SCRIVEN_API_KEY.
    allowed_host
        A name that the server is reached by, such as models.example.org; may be given several
        times.
    allowed_origin
        A foreign page that may call the server (CORS), such as https://example.org.
    slots
        Texts that are generated at once by each model.
    max_queue
        Requests that may wait for a slot; more are refused with status 429.
    access_log
        One line of JSON for each request on standard error, without its text.
    open
        Open the page in the browser.
    """
    if not runs:
        raise InputError("name at least one run: scriven serve latest")
    from ..serve.server import ServeOptions, build_server, url_of

    # 1. refuse what cannot be served before any model is loaded
    options = ServeOptions(
        host, port, api_key or os.environ.get("SCRIVEN_API_KEY") or None, allowed_host,
        allowed_origin, access_log,
    )  # fmt: skip
    # 2. the models
    limits = {"slots": slots, "max_queue": max_queue}
    served = [_open(run, dtype, arch, limits) for run in dict.fromkeys(runs)]
    names = [each.name for each in served]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two models are called {name}: rename one of the folders")
    # 3. listen
    server, listener = build_server(served, options)
    url = url_of(options, listener)
    note(f"serving {', '.join(each.name for each in served)} at {url} (Ctrl-C ends)")
    if open:
        open_browser(url)
    server.run(sockets=[listener])
    sys.stderr.flush()


def open_browser(url: str) -> None:
    """Opens a page where there is a display; a browser in the terminal would take it over."""
    import webbrowser

    if sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    ):
        webbrowser.open(url)


def _open(run: str, dtype: Precision, arch: str | None, limits: dict[str, int]) -> "ServedModel":
    """A loaded model, with its warnings on standard error."""
    from ..serve.models import ServedModel

    reopen = partial(open_model, run, arch, dtype)
    return ServedModel(reopen(), reopen, **limits)
