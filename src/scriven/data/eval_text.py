"""A text that is evaluated as a whole: encoded with a given tokenizer, nothing held out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from ..errors import InputError
from ..files import disk_errors, temporary_folder
from ..settings import DataSettings
from ..tokenizers import Tokenizer
from .pairs import PairDataset
from .pipeline import FILES, encode_split
from .shards import TokenFile
from .sources import PairSources, Sources
from .split import VALIDATION, SplitChunk, normalise


@dataclass(frozen=True)
class EvalText:
    """A text in token ids."""

    file: TokenFile
    bytes: int
    """UTF-8 bytes of the text (of pairs: of the targets), for bits per byte."""
    notes: list[str]
    """What a user should know of the files: those that are passed over."""


@contextmanager
def encode_eval_text(
    sources: Sequence[str], data: DataSettings, tokenizer: Tokenizer, *, pairs: bool = False
) -> Iterator[EvalText]:
    """The texts one after the other, each followed by EOS where there are several.

    The ids are in a temporary folder for the length of the block, so memory stays flat.

    Args:
        pairs: whether the sources are tables of pairs.

    Raises:
        InputError: a source cannot be used, or holds no text.
        ResourceError: the disk is full.
    """
    kind = PairSources if pairs else Sources
    with temporary_folder() as folder, kind(sources, data) as files:
        # 1. EOS is needed only between documents: read up to the end of the second one
        ends = (chunk for chunk in normalise(files.read()) if chunk.ends)
        several = len(list(islice(ends, 2))) > 1
        # 2. encode everything as validation text
        with disk_errors(folder, remedy="set TMPDIR to a folder with more room"):
            text = normalise(files.read())
            facts = encode_split(
                (SplitChunk(VALIDATION, chunk.text, chunk.ends) for chunk in text),
                tokenizer,
                folder,
                characters=1,
                add_eos=several,
            )
        tokens, size = facts["validation_tokens"], facts["validation_bytes"]
        if tokens == 0:
            raise InputError(f"{files.label} holds no text: give a file that has some")
        file = TokenFile(folder / FILES[VALIDATION], facts["dtype"], tokens)
        # only targets are predicted, so only their bytes count
        if pairs:
            size = PairDataset(file, tokenizer.eos).target_bytes(tokenizer)
        try:
            yield EvalText(file, size, files.notes)
        finally:
            file.close()
