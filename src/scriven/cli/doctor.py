"""`scriven doctor`: checks this machine, its packages and its arithmetic."""

from ..errors import ResourceError
from ..format import table
from .base import Json, emit


def doctor(*, json: Json = False) -> None:
    """Check device, precision, threads, disk and packages, and run a numerical self-test."""
    from ..machine.doctor import diagnose

    data = diagnose()
    rows = [(name.replace("_", " "), str(value)) for name, value in data.items()]
    emit(data, table(rows), json)
    if data["self_test"] != "passed":
        raise ResourceError(
            "the results of this device differ from those of the CPU: use --runtime.device=cpu"
        )
