"""A look at the workers of a cluster before a job begins: can every one do its part.

A directory beside a destination for as long as it takes to see who can write there.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import dask.array as da

from scout_dask_io.core.source import Source
from scout_dask_io.files.disk import hidden_name, naming_errors, remove_tree
from scout_dask_io.files.location import Location, as_local
from scout_dask_io.run.cluster import active_client, check_workers
from scout_dask_io.run.lazy import sources_in
from scout_dask_io.store.staging import DRAFT_SUFFIX


def preflight(
    data: Sequence[Any], destination: Location | None = None, *, in_place: bool = False
) -> None:
    """Ask each worker whether it sees the files, can write, and has the same libraries.

    Without a client, nothing is done. Workers that join later are not asked.

    Raises
    ------
    ClusterError
        If there is no worker, or one could not do its part; nothing is left behind.
    WriteError
        If this process cannot write beside the destination.
    """
    client = active_client()
    if client is None:
        return
    sources = [
        source
        for item in data
        for source in (sources_in(item) if isinstance(item, da.Array) else [item])
        if isinstance(source, Source)
    ]
    files = sorted({found for source in sources for found in source.sample_files()})
    with (
        nullcontext("")
        # An object store answers each worker's first request, or its task fails and says so.
        if destination is None or not destination.on_disk
        else probing(as_local(destination), in_place=in_place) as folder
    ):
        check_workers(client, files, folder)


@contextmanager
def probing(destination: Path, *, in_place: bool = False) -> Iterator[str]:
    """Give a new directory in the nearest one that exists; it is gone afterwards.

    One that a kill leaves beside the destination is swept by the next write.

    Raises
    ------
    WriteError
        If this process cannot make it.
    """
    parent = destination.absolute() if in_place else destination.absolute().parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    probe = parent / f"{hidden_name(destination)}{DRAFT_SUFFIX}{uuid.uuid4().hex}"
    with naming_errors(parent, "nothing can be written there"):
        probe.mkdir()
    try:
        yield os.fspath(probe)
    finally:
        remove_tree(probe)
