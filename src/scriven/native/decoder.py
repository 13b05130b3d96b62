"""A decoder whose forward pass is one call of compiled code (decoder.cpp), without Python between
its layers.

The weights of a model are packed once, in float32, bfloat16, int8 or int4. Keys and values stay in
the tensors of `nn/cache.py`. A row's logits do not depend on the other rows of the call, nor on how
its tokens were split into calls, to the last bit.
"""

import ctypes
import math
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from ..nn.cache import Cache, KVCache
from ..runtime import available_memory
from ..tasks.base import BaseTask
from .library import Settings, load_library, pack_settings
from .weights import Description, UnsupportedError

BYTES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.125, "int4": 0.625}
"""Of a packed weight, with its part of a scale."""
MAX_MEMORY_SHARE = 0.5
"""Of the free memory; the packed weights stand beside the model's own."""
CACHE_DTYPES = {torch.float32: 0, torch.bfloat16: 1}


class Tokens(ctypes.Structure):
    """The tokens of a pass, as in decoder.cpp."""

    _fields_ = [
        ("count", ctypes.c_int),
        *[(name, ctypes.c_void_p) for name in ("ids", "rows", "positions", "keys", "values")],
        *[(name, ctypes.c_int64) for name in ("row_stride", "head_stride")],
        ("cache_is_bfloat16", ctypes.c_int),
        ("num_outputs", ctypes.c_int), ("outputs", ctypes.c_void_p),
        ("logits", ctypes.c_void_p), ("vocab_size", ctypes.c_int),
        ("num_banned", ctypes.c_int), ("banned", ctypes.c_void_p),
        ("threads", ctypes.c_int),
    ]  # fmt: skip


class NativeDecoder:
    """The packed weights of a decoder on a CPU."""

    def __init__(self, task: BaseTask, dtype: str = "float32", *, wait: bool = False) -> None:
        """Packs the weights; embedding and positions stay where they are.

        Args:
            wait: until the library is compiled, where it has never been on this machine.

        Raises:
            UnsupportedError: the model has a part that decoder.cpp lacks, or there is no library.
        """
        library = load_library(wait)
        if library is None:
            raise UnsupportedError("no compiled library")
        packed = sum(weight.numel() for weight in task.parameters()) * BYTES[dtype]
        if packed > MAX_MEMORY_SHARE * (available_memory() or math.inf):
            raise UnsupportedError("not enough memory")
        described = Description(task, dtype)
        self.library = library
        self.address = library.decoder_new(ctypes.byref(described.model))
        self._kept = described.kept
        if not self.address:
            raise UnsupportedError("not enough memory")

    def __del__(self) -> None:
        if getattr(self, "address", None):
            self.library.decoder_delete(self.address)


class LazyDecoder:
    """The native decoder of a model, from the moment on when there is a library."""

    def __init__(self, task: BaseTask, dtype: str) -> None:
        self._task: BaseTask | None = task
        self._dtype = dtype
        self._decoder: NativeDecoder | None = None

    def get(self) -> NativeDecoder | None:
        """The decoder; None where the model has none, or the library is being compiled."""
        if self._decoder is None and self._task is not None and load_library() is not None:
            with suppress(UnsupportedError):
                self._decoder = NativeDecoder(self._task, self._dtype)
            self._task = None
        return self._decoder


class NativeSession:
    """Forward passes of one batch with a native decoder."""

    def __init__(self, decoder: NativeDecoder, vocab_size: int, banned: Sequence[int]) -> None:
        """Gives logits of the ids below `vocab_size`, -inf for the `banned` ones."""
        self._decoder, self._vocab_size, self._banned = decoder, vocab_size, array("q", banned)
        self._cache: tuple[Cache, int] | None = None
        self._tokens = Tokens(
            vocab_size=vocab_size, num_banned=len(banned), banned=_address(self._banned),
            threads=torch.get_num_threads(),
        )  # fmt: skip

    def read(
        self,
        tokens: Sequence[Sequence[int]],
        cache: Cache,
        rows: Sequence[int],
        starts: Sequence[int],
        *,
        outputs: int | None = None,
    ) -> Tensor:
        """Reads more tokens of some rows of a cache, whose lengths the caller keeps.

        Args:
            tokens: of each row, any number.
            rows: their places in the cache; starts: the position of the first new token of each.
            outputs: how many of the last tokens of each row get logits; all by default.

        Returns:
            (outputs of all rows, V) float32.
        """
        ids, places, positions, wanted = array("q"), array("i"), array("i"), array("i")
        for own, row, start in zip(tokens, rows, starts, strict=True):
            ids.extend(own)
            places.extend([row] * len(own))
            positions.extend(range(start, start + len(own)))
            first = 0 if outputs is None else len(own) - outputs
            wanted.extend(range(len(ids) - len(own) + first, len(ids)))
        logits = torch.empty(len(wanted), self._vocab_size)
        self._describe(cache, ids, places, positions, wanted, logits)
        if self._decoder.library.decoder_forward(self._decoder.address, ctypes.byref(self._tokens)):
            raise MemoryError("not enough memory or threads for a forward pass")
        return logits

    def generate(
        self,
        last: Sequence[int],
        cache: Cache,
        starts: Sequence[int],
        settings: Sequence[Settings],
        uniforms: Sequence[float],
        ends: Sequence[int],
    ) -> list[list[int]]:
        """Reads the last token of each row of a cache, and draws the next ones.

        Args:
            last, starts: of each row the token and its position.
            settings: how its tokens are drawn.
            uniforms: S random numbers of each row, one for each token: (B · S).
            ends: tokens that end a text, after which no row goes on.

        Returns:
            Up to S tokens of each row, of all as many; the last one is -1 where no logit is finite.
        """
        ids, count = array("q", last), len(last)
        places, positions = array("i", range(count)), array("i", starts)
        drawn = array("q", bytes(8 * len(uniforms)))
        numbers, final = array("d", uniforms), array("q", ends)
        given = ctypes.create_string_buffer(pack_settings(settings, [0.0] * count))
        logits = torch.empty(count, self._vocab_size)
        self._describe(cache, ids, places, positions, places, logits)
        steps = self._decoder.library.decoder_generate(
            self._decoder.address, ctypes.byref(self._tokens), given, _address(numbers),
            len(uniforms) // count, _address(final), len(final), _address(drawn),
        )  # fmt: skip
        if steps < 0:
            raise MemoryError("not enough memory or threads for a forward pass")
        return [drawn[row : steps * count : count].tolist() for row in range(count)]

    def _describe(
        self,
        cache: Cache,
        ids: "array[int]",
        places: "array[int]",
        positions: "array[int]",
        wanted: "array[int]",
        logits: Tensor,
    ) -> None:
        """Fills in the tokens of a pass, whose arrays the caller keeps."""
        self._point_to(cache)
        given = self._tokens
        given.count, given.num_outputs, given.logits = len(ids), len(wanted), logits.data_ptr()
        given.ids, given.rows = _address(ids), _address(places)
        given.positions, given.outputs = _address(positions), _address(wanted)

    def _point_to(self, cache: Cache) -> None:
        """Tells where keys and values are, if they have moved."""
        first = cache.layers[0].self_attn
        assert isinstance(first, KVCache)
        key = first.keys.data_ptr()
        if self._cache is not None and self._cache[0] is cache and self._cache[1] == key:
            return
        caches = [layer.self_attn for layer in cache.layers]
        addresses = ctypes.c_void_p * len(caches)
        self._keys = addresses(*[each.keys.data_ptr() for each in caches])  # type: ignore[union-attr]
        self._values = addresses(*[each.values.data_ptr() for each in caches])  # type: ignore[union-attr]
        tokens, self._cache = self._tokens, (cache, key)
        tokens.keys, tokens.values = ctypes.addressof(self._keys), ctypes.addressof(self._values)
        tokens.row_stride, tokens.head_stride = first.keys.stride()[:2]
        tokens.cache_is_bfloat16 = CACHE_DTYPES[first.keys.dtype]


def _address(numbers: "array[Any]") -> int:
    return numbers.buffer_info()[0]
