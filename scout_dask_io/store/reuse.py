"""Units of a write that need no work: their chunks are those of an array that stands.

What is written anew of an array that changed in part are the units that changed. The others take
the files of the array that stands, by hard links, or as copies where the disk has none, and are
noted in the journal as if they had been written: the write then goes on as one that was
interrupted, and publishes a whole array in one step.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scout_dask_io.core.grid import Blocks, Region, chunk_cells, iter_block_regions
from scout_dask_io.files.disk import make_dirs, naming_errors
from scout_dask_io.files.system import NO_LINK
from scout_dask_io.store.chunk_format import ChunkFormat
from scout_dask_io.store.journal import append_unit
from scout_dask_io.store.local_transaction import LocalTransaction


@dataclass(frozen=True)
class Standing:
    """An array that stands, of which files are taken.

    Attributes
    ----------
    root : Path
        Where it lies.
    format : ChunkFormat
        How its chunks are stored.
    records : numpy.ndarray
        Of its chunks, as the manifest has them.
    """

    root: Path
    format: ChunkFormat
    records: np.ndarray


def reuse_units(
    txn: LocalTransaction,
    level: int | None,
    units: Blocks,
    numbers: Iterable[int],
    standing: Standing,
) -> int:
    """Let some units of a write have the chunks of an array that stands; give how many files.

    Each unit is noted once all its files are there. What is there already stays.

    Raises
    ------
    WriteError
        If a file can neither be linked nor copied.
    """
    wanted = set(numbers)
    fmt, root = txn.format(level), txn.array(level)
    n_files = 0
    with naming_errors(root, "chunks of the array that stands cannot be taken over"):
        for unit, (_, region) in enumerate(iter_block_regions(units)):
            if unit in wanted:
                n_files += _take(fmt, root, region, standing)
                records = standing.records[chunk_cells(region, fmt.chunks)].reshape(-1)
                append_unit(txn.journal(level), unit, records, durable=txn.durable)
    return n_files


def note_units(
    txn: LocalTransaction,
    level: int | None,
    units: Blocks,
    numbers: Iterable[int],
    standing: Standing,
) -> None:
    """Note units of a patch as finished, whose chunks stay where they stand.

    Raises
    ------
    WriteError
        If they cannot be noted.
    """
    wanted, fmt, journal = set(numbers), txn.format(level), txn.journal(level)
    with naming_errors(journal, "chunks of the array that stands cannot be noted"):
        for unit, (_, region) in enumerate(iter_block_regions(units)):
            if unit in wanted:
                records = standing.records[chunk_cells(region, fmt.chunks)].reshape(-1)
                append_unit(journal, unit, records, durable=txn.durable)


def _take(fmt: ChunkFormat, root: Path, region: Region, standing: Standing) -> int:
    """Link the files of a unit's chunks, and give how many there are."""
    cells = chunk_cells(region, fmt.chunks)
    own = standing.records[cells]["nbytes"]
    n_files = 0
    for index in np.argwhere(own):
        at = tuple(int(i) + c.start for i, c in zip(index, cells, strict=True))
        source = f"{standing.root}/{standing.format.chunk_key(at)}"
        target = f"{root}/{fmt.chunk_key(at)}"
        n_files += 1
        try:
            _link(source, target)
        except FileNotFoundError:
            make_dirs(Path(os.path.dirname(target)), root)
            _link(source, target)
    return n_files


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        if not os.path.samefile(source, target):
            os.unlink(target)
            _link(source, target)
    except OSError as err:
        if err.errno not in NO_LINK:
            raise
        shutil.copy2(source, target)
