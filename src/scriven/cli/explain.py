"""`scriven explain`: one forward and backward pass of a model over a text, in numbers."""

from pathlib import Path

from .base import Json, Run, UserArch, emit, note, open_model


def explain(
    run: Run,
    text: str,
    *,
    layer: int = 0,
    head: int = 0,
    lr: float = 0.001,
    html: Path | None = None,
    arch: UserArch = None,
    json: Json = False,
) -> None:
    """Explain one forward and backward pass over a text: tokens, shapes, attention, next token,
    loss, gradients, and what one update would change. The run stays as it is.

    Parameters
    ----------
    text
        What the model reads: at least one token, and less than the context.
    layer
        The layer whose attention is shown, counted from 0.
    head
        The head whose attention is shown, counted from 0.
    lr
        Learning rate of the update, which is plain gradient descent.
    html
        Also writes the explanation as a page into this file.
    """
    from .. import __version__
    from ..files import write_file
    from ..report.explanation import as_html, as_text

    model = open_model(run, arch)
    found = model.explain(text, layer=layer, head=head, lr=lr)
    if html is not None:
        write_file(html, as_html(found, model.folder.name, __version__).encode())
        note(f"wrote {html}")
    emit(found, as_text(found), json)
