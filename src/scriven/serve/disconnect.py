"""Work that ends when its client leaves."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.requests import Request


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
