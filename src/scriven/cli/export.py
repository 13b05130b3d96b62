"""`scriven export`: writes a run for another program, and compares the two."""

from .base import Json, Run, UserArch, emit, for_terminal, note


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
        gguf (llama.cpp, Ollama), onnx, ctranslate2, hf (only the Hugging Face files), or a .py file
        of your own.
    out
        The folder to write, or for gguf the file, model.gguf; RUN/exports/TARGET-DTYPE by default.
    dtype
        Data type of the weights: f32, f16, bf16, or quantized where the target has it (q8_0, q4_0,
        int8).
    """
    from ..export.export import export as write
    from ..format import format_bytes

    def say(text: str) -> None:
        if json:
            note(text)
        else:
            print(for_terminal(text), flush=True)

    result = write(run, to, out=out, dtype=dtype, arch=arch, tell=say)
    size = format_bytes(sum(result["files"].values()))
    emit(result, f"done: {result['out']} ({size})", json)
