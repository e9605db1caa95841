"""What is written into a region of an array that stands: whole chunks, each replaced in one step.

There is no staging: chunk files are written beside their places, in
``.scout-region-<job>`` inside the array, and renamed; in an object store they are put
in one step. A reader sees each chunk old or new, and after a failure the region is a
mixture of whole chunks, which the manifest calls unknown until the same region has been
written again.

In an object store, ``.scout-region-<job>`` in the array holds what is noted until all
are in; once it is gone, another array has taken this one's place, and a writer that
comes late stops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Blocks, Region, Shape, chunk_cells, region_shape
from scout_dask_io.files.location import Location
from scout_dask_io.store.chunk_format import ChunkFormat
from scout_dask_io.store.manifest import MANIFEST_NAME, manifest_data, parse_manifest
from scout_dask_io.store.metadata import read_node, replace_attributes
from scout_dask_io.store.unfinished import gather_records

#: What the names of directories begin with in which chunks of regions are in the making.
REGION_PREFIX = ".scout-region-"
#: What a message adds where a region could not be written to its end.
MIXED = "Some chunks of the region are new. Write the region again when the cause is mended."


@dataclass(frozen=True, slots=True)
class RegionWrite:
    """One region that a transaction writes into. Picklable.

    Attributes
    ----------
    region : tuple of slice
        Whole chunks of the array.
    format : ChunkFormat
        How the array's chunks are stored.
    attributes : dict
        What is added to lists among the array's attributes, by their names.
    note : str
        In an object store, the name of the note that says which chunks are concerned.
    """

    region: Region
    format: ChunkFormat
    attributes: Mapping[str, list[Any]] = field(default_factory=dict)
    note: str = ""

    @property
    def origin(self) -> Shape:
        """Where in the array the units' coordinates begin."""
        return tuple(s.start for s in self.region)

    @property
    def cells(self) -> Region:
        """Its chunks, in the chunk grid."""
        return chunk_cells(self.region, self.format.chunks)

    def records(self, units: Blocks, noted: dict[int, np.ndarray], where: str) -> np.ndarray:
        """Give the records of its chunks from those of the units.

        Raises
        ------
        ResumeError
            If a unit is missing.
        """
        # The region as an array of its own: it begins on the edge of a chunk.
        return gather_records(region_shape(self.region), self.format.chunks, units, noted, where)


def add_to_attributes(
    path: Location, added: Mapping[str, list[Any]], *, durable: bool = False
) -> None:
    """Add to lists among an array's attributes; what is in them is not added again."""
    node = read_node(path, (MANIFEST_NAME,)) if added else None
    if node is None:
        return
    attributes = dict(node.attributes)
    for name, entries in added.items():
        there = attributes.get(name)
        if there is None:
            raw = manifest_data(node)
            settings = {} if raw is None else parse_manifest(raw, path).settings
            noted = settings.get("attributes")
            there = noted.get(name) if isinstance(noted, dict) else None
        there = there if isinstance(there, list) else []
        attributes[name] = [*there, *(entry for entry in entries if entry not in there)]
    replace_attributes(node, attributes, durable=durable)
