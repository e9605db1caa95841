"""The exceptions of the library: one family, each also the built-in that fits.

``except ScoutIOError`` catches whatever the library raises on purpose;
``except FileNotFoundError`` and friends keep working where callers use them.
A message says what is wrong, what was found, what was expected and what to do.
"""

from __future__ import annotations

from typing import Any


class ScoutIOError(Exception):
    """Base of every error that the library raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError keeps errno beside its arguments, and would lose it on the way from a worker.
        state = dict(self.__dict__)
        if isinstance(self, OSError):
            state["errno"] = self.errno
        return type(self), self.args, state


class ArgumentError(ScoutIOError, ValueError):
    """An argument is not what the call accepts."""


class PathNotFoundError(ScoutIOError, FileNotFoundError):
    """A path that should be read does not exist, or holds nothing to read."""


class TargetExistsError(ScoutIOError, FileExistsError):
    """A path that should be written already holds something."""


class TiffReadError(ScoutIOError, OSError):
    """A TIFF file is damaged, truncated, hostile or of a kind that is not read."""


class SourceChangedError(ScoutIOError, OSError):
    """A file is no longer the one that the lazy array was built from."""


class ShapeMismatchError(ScoutIOError, ValueError):
    """Files or arrays that belong together differ in shape, dtype or count."""


class ChunkError(ScoutIOError, ValueError):
    """Chunk extents, or a region, do not fit the array or its chunk grid."""


class LayoutError(ScoutIOError, ValueError):
    """What lies on disk at a Zarr path cannot be told apart safely."""


class ChunkReadError(ScoutIOError, OSError):
    """A stored chunk is damaged or is not the chunk that the metadata describes."""


class MemoryLimitError(ScoutIOError, MemoryError):
    """A job cannot fit in the memory it is allowed; nothing was created."""


class ClusterError(ScoutIOError, RuntimeError):
    """A dask cluster cannot do the work, or was lost on the way; the message names the worker."""


class ResumeError(ScoutIOError, ValueError):
    """An unfinished write cannot be continued with the given source or settings."""


class WriteError(ScoutIOError, OSError):
    """Writing failed; the destination is as it was before."""
