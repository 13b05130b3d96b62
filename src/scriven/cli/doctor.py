"""`scriven doctor`: what this machine offers, and whether its numbers can be trusted."""

from .base import emit, table


def doctor(*, json: bool = False) -> None:
    """Check device, precision, threads, disk and packages, and compare the device's arithmetic.

    Parameters
    ----------
    json
        One JSON object on standard output.
    """
    from ..machine.doctor import diagnose

    data = diagnose()
    rows = [(name.replace("_", " "), str(value)) for name, value in data.items()]
    emit(data, table(rows), json)
    if data["self_test"] != "passed":
        from ..errors import ResourceError

        raise ResourceError(
            "the device's arithmetic differs from the processor's: use --runtime.device=cpu"
        )
