"""`scriven export`: a run for other programs, checked in them."""

from .base import Json, Run, UserArch, emit, note


def export(
    run: Run,
    *,
    to: str,
    out: str | None = None,
    dtype: str | None = None,
    arch: UserArch = None,
    json: Json = False,
) -> None:
    """Write a run for another program, load it there, and compare the two.

    Parameters
    ----------
    to
        gguf (llama.cpp, Ollama), onnx, ctranslate2, hf (the Hugging Face files alone), or the path
        of your own target file.
    out
        The folder to make; RUN/exports/TARGET-DTYPE without it.
    dtype
        How numbers are stored: f32, f16, bf16, or smaller where the target has it (q8_0, int8).
    """
    from ..export.export import export as write
    from ..format import format_bytes

    result = write(run, to, out=out, dtype=dtype, arch=arch, tell=note if json else print)
    size = format_bytes(sum(result["files"].values()))
    emit(result, f"done: {result['out']} ({size})", json)
