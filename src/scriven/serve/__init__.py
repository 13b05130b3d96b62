"""The HTTP server; its packages are an extra."""

from ..errors import MissingExtra

try:
    import fastapi  # noqa: F401
    import llguidance  # noqa: F401
    import prometheus_client  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    raise MissingExtra(str(error.name), "serve", "the server") from error
