"""Where a write begins: afresh, where an earlier one ended, or not at all since all is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da

from scout_dask_io.core.plan import WritePlan
from scout_dask_io.errors import ArgumentError, MemoryLimitError
from scout_dask_io.files.location import AnyPath, RemotePath
from scout_dask_io.run.lazy import sources_in
from scout_dask_io.store.beside import check_beside
from scout_dask_io.store.unfinished import NewArray, is_finished
from scout_dask_io.write.job import place_of
from scout_dask_io.write.unit import Target

__all__ = ["begin_or_resume", "check_remote"]


def begin_or_resume(
    destination: AnyPath,
    data: Any,
    plan: WritePlan,
    arrays: Sequence[NewArray],
    settings: dict[str, Any],
    units: dict[str, Any],
    *,
    overwrite: bool,
    resume: bool,
    durable: bool,
    qc: bool,
) -> tuple[list[Target], dict[str, Any]] | None:
    """Give the growing arrays, and what was noted when they were begun, now or earlier.

    ``None`` where they stand finished with the same data and settings, and ``resume``
    asks for no more.

    Parameters
    ----------
    destination : Path or RemotePath
        Where they are to stand.
    data, plan
        What is written, and the plan of it; checked where a write begins afresh.
    arrays : sequence of NewArray
        One, or the levels of an image.
    settings : dict
        What a resumed write must share with the one that began.
    units : dict
        What is noted beside them: the units, which a resumed write takes over.
    overwrite, resume, durable, qc : bool
        As for :func:`~scout_dask_io.write_zarr`.

    Raises
    ------
    TargetExistsError, ResumeError, MemoryLimitError, ArgumentError, WriteError
        If the write cannot begin; nothing is created.
    """
    place = place_of(destination)
    levels = [new.level for new in arrays]
    resumed = place.resume(settings, levels, durable=durable) if resume else None
    if resumed is None and resume and not overwrite and is_finished(destination, settings):
        return None
    if qc:
        # In a store, what lies there may be this write's own.
        ours = resumed is not None and isinstance(destination, RemotePath)
        check_beside(destination, overwrite=overwrite or ours)
    if resumed is not None:
        return resumed
    check_remote(destination, plan, data, overwrite=overwrite)
    noted = {**settings, **units}
    return place.begin(arrays, noted, overwrite=overwrite, durable=durable), noted


def check_remote(destination: AnyPath, plan: WritePlan, data: Any, *, overwrite: bool) -> None:
    """Refuse what goes on a disk and not in an object store, of a write that is to begin there.

    An object store has no room for blocks that are kept for a while. And on a disk
    what is overwritten stands until the new is whole; in a store it is removed first,
    so data must not be read from it.

    Raises
    ------
    MemoryLimitError, ArgumentError
        If it is asked for.
    """
    if not isinstance(destination, RemotePath):
        return
    if plan.route == "scratch":
        raise MemoryLimitError(
            f"max_mem cannot hold a row of the array's blocks, which cross the borders of "
            f"chunks, and {destination} has no disk to keep them on. Raise max_mem, give the "
            "array smaller blocks, or write to a disk first and copy that."
        )
    sources = sources_in(data) if isinstance(data, da.Array) else [data]
    if overwrite and any(_lies_in(source, destination) for source in sources):
        raise ArgumentError(
            f"the data are read from {destination}, which overwrite=True removes before they are "
            "written: write to another path"
        )


def _lies_in(source: Any, place: RemotePath) -> bool:
    # A view has what it is a view of.
    root, below = getattr(source, "root", None), getattr(source, "source", None)
    if below is not None and _lies_in(below, place):
        return True
    return isinstance(root, RemotePath) and f"{root}/".startswith(f"{place}/")
