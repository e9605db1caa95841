"""What a dask graph holds, however deep: the objects that its tasks will use, looked at unrun.

Anyone's reader may be in a graph, as an array of zarr, a wrapper of xarray around one, or a
function with a URL in it. What reaches them all is how Python itself takes objects apart, to
pickle them; nothing is kept of what that gives.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any

import dask.array as da
import numpy as np

from scout_dask_io.run.lazy import SourceLayer


def search_graph(array: da.Array, look: Callable[[Any], bool]) -> None:
    """Show every object in the graph of an array to a function; no task is run.

    Sources that a reader of this library gave come whole; elements of numpy arrays are not
    looked at, nor what only an imported function knows.

    Parameters
    ----------
    array : dask.array.Array
        Lazy, or computed on.
    look : callable
        Gets an object; tells whether it need not be taken apart.
    """
    search = _Search(look)
    for layer in getattr(array.dask, "layers", {"": array.dask}).values():
        search.dump(layer.source if isinstance(layer, SourceLayer) else layer)


#: What holds no reader, or is no task's own.
_PLAIN = (np.ndarray, np.generic, bytes, bytearray, ModuleType, type)


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        """Forget some bytes."""
        return len(data)


class _Search(pickle.Pickler):
    """Goes through objects as a pickle does, and through what cannot be pickled too."""

    def __init__(self, look: Callable[[Any], bool]) -> None:
        super().__init__(_Nowhere(), protocol=5)
        self._look = look

    def persistent_id(self, obj: Any) -> Any:
        """Show an object; what has an id here is not taken apart."""
        return 0 if isinstance(obj, _PLAIN) or self._look(obj) else None

    def reducer_override(self, obj: Any) -> Any:
        """Give the parts of an object, as ``pickle`` asks for them."""
        if isinstance(obj, FunctionType):
            return _parts(_function_parts(obj))
        if isinstance(obj, CodeType):
            return _parts(obj.co_consts)
        try:
            found = obj.__reduce_ex__(5)
        except Exception:  # whatever a lock, a file or a handle raises
            return _parts(getattr(obj, "__dict__", {}).values())
        return _parts(()) if isinstance(found, str) else found


def _parts(values: Any) -> tuple[Any, ...]:
    return tuple, (list(values),)


def _function_parts(function: FunctionType) -> list[Any]:
    """Give what a function holds: constants, defaults, what it closes over, and its globals."""
    found: list[Any] = [function.__code__, function.__defaults__, function.__kwdefaults__]
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # it is empty
            continue
    if (function.__module__ or "").partition(".")[0] in ("dask", "numpy", "scout_dask_io"):
        return found  # their globals are of the library, and many
    given = (function.__globals__.get(name) for name in function.__code__.co_names)
    return [*found, *(v for v in given if not callable(v) or _is_beside(v, function))]


def _is_beside(other: Any, function: FunctionType) -> bool:
    """Tell whether something is a function of the same script or module, which a task may call."""
    return isinstance(other, FunctionType) and other.__module__ == function.__module__
