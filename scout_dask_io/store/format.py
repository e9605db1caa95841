"""The description of a Zarr v2 array that chunk files are written and read by.

Source: the Zarr v2 specification, "Arrays": a JSON object ``.zarray`` with
``zarr_format``, ``shape``, ``chunks``, ``dtype``, ``compressor``, ``fill_value``,
``order``, ``filters`` and, since zarr 2.8, ``dimension_separator``.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numcodecs.abc import Codec
from numcodecs.registry import get_codec

from scout_dask_io.core.grid import Shape
from scout_dask_io.errors import LayoutError

__all__ = ["ArrayFormat"]

_SPECIAL_FLOATS: dict[Any, Any] = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}


@dataclass(frozen=True)
class ArrayFormat:
    """What turns a chunk into bytes and back: picklable, no open files.

    Attributes
    ----------
    shape, chunks : tuple of int
        In elements.
    dtype : numpy.dtype
        As stored, byte order included.
    fill_value : numpy scalar or None
        What a chunk without a file holds; ``None`` is undefined, read as zeros as zarr does.
    order : str
        ``"C"`` or ``"F"``: how elements lie inside a chunk.
    separator : str
        Between the chunk indices in a key, ``"/"`` or ``"."``.
    codec : dict or None
        The compressor's numcodecs configuration.
    """

    shape: Shape
    chunks: Shape
    dtype: np.dtype[Any]
    fill_value: Any
    order: str
    separator: str
    codec: dict[str, Any] | None

    @classmethod
    def from_metadata(cls, meta: dict[str, Any], separator: str) -> ArrayFormat | None:
        """Give the format of a ``.zarray``, or ``None`` where zarr itself must be asked.

        Numeric and bool arrays without filters are handled here; structured,
        object and string dtypes, filters and unknown codecs are not.
        """
        if meta.get("zarr_format") != 2 or meta.get("filters"):
            return None
        if not isinstance(meta.get("dtype"), str):
            return None
        dtype = np.dtype(meta["dtype"])
        if dtype.kind not in "biufc":
            return None
        config = meta.get("compressor")
        if config is not None:
            try:
                get_codec(dict(config))
            except (ValueError, KeyError, TypeError):
                return None
        return cls(
            shape=tuple(int(n) for n in meta["shape"]),
            chunks=tuple(int(n) for n in meta["chunks"]),
            dtype=dtype,
            fill_value=_decode_fill(meta.get("fill_value"), dtype),
            order=meta.get("order", "C"),
            separator=separator,
            codec=config,
        )

    @property
    def chunk_nbytes(self) -> int:
        """Size of one decoded chunk, in bytes; edge chunks are stored whole too."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def max_nbytes(self) -> int:
        """Size that no encoding of a chunk exceeds, in bytes.

        Blosc grows a chunk that it cannot compress by 16 bytes a block at most;
        zlib and others by less than this.
        """
        return self.chunk_nbytes + self.chunk_nbytes // 64 + 4096

    def described(self) -> dict[str, Any]:
        """Give what a manifest's settings say of the format, by the same names."""
        return {
            "zarr_format": 2,
            "shape": list(self.shape),
            "chunks": list(self.chunks),
            "dtype": self.dtype.str,
            "codec": self.codec,
        }

    def make_codec(self) -> Codec | None:
        """Give the compressor."""
        return None if self.codec is None else get_codec(dict(self.codec))

    def fill(self) -> Any:
        """Give the value of elements without a chunk file."""
        return self.dtype.type(0) if self.fill_value is None else self.fill_value

    def chunk_path(self, root: str, index: Shape) -> str:
        """Give where a chunk's file lies under the array's directory."""
        # Text, not a Path: made for every chunk, and a Path costs 20 microseconds.
        return f"{root}/{self.separator.join(map(str, index)) if index else '0'}"


def _decode_fill(value: Any, dtype: np.dtype[Any]) -> Any:
    if value is None:
        return None
    try:
        if isinstance(value, str) and value in _SPECIAL_FLOATS:
            return np.array(_SPECIAL_FLOATS[value], dtype=dtype)[()]
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value), dtype)[0]
        if isinstance(value, list) and dtype.kind == "c":
            real, imaginary = (_SPECIAL_FLOATS[v] if isinstance(v, str) else v for v in value)
            return np.array(complex(real, imaginary), dtype=dtype)[()]
        return np.array(value, dtype=dtype)[()]
    except (ValueError, TypeError, OverflowError, KeyError, IndexError) as err:
        raise LayoutError(
            f"fill_value {value!r} in .zarray does not fit dtype {dtype}: {err}"
        ) from err
