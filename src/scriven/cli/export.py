"""`scriven export`: a run for other programs, checked in them."""

from .base import emit, note


def export(
    run: str,
    *,
    to: str,
    out: str | None = None,
    dtype: str | None = None,
    arch: str | None = None,
    json: bool = False,
) -> None:
    """Write a run for another program, load it there, and compare the two.

    Parameters
    ----------
    run
        A run folder, a name under runs/, or latest.
    to
        gguf (llama.cpp, Ollama), onnx, ctranslate2, hf (the Hugging Face files alone), or the path
        of your own target file.
    out
        The folder to make; RUN/exports/TARGET-DTYPE without it.
    dtype
        How numbers are stored: f32, f16, bf16, or smaller where the target has it (q8_0, int8).
    arch
        The file of your own architecture, where the run was made with one.
    json
        One JSON object on standard output.
    """
    from ..export.export import export as write
    from ..format import format_bytes

    result = write(run, to, out=out, dtype=dtype, arch=arch, tell=note if json else print)
    size = format_bytes(sum(result["files"].values()))
    emit(result, f"done: {result['out']} ({size})", json)
