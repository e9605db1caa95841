"""Checking every level of an OME-Zarr image against its manifest."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from scout_dask_io.core.formatting import format_count
from scout_dask_io.core.ome_metadata import Multiscale
from scout_dask_io.files.location import AnyPath
from scout_dask_io.jobs.json_text import to_json
from scout_dask_io.jobs.verify_manifest import CheckReport, check
from scout_dask_io.store.image import place_of_level, read_image
from scout_dask_io.store.manifest import read_manifest
from scout_dask_io.store.metadata import read_node

__all__ = ["ImageCheckReport", "check_image"]


@dataclass(frozen=True, slots=True)
class ImageCheckReport:
    """What :func:`check_image` found.

    Attributes
    ----------
    path : str
        The group.
    mismatch : str
        How its levels differ from those that were written; empty where they do not.
    levels : tuple of CheckReport
        A report for each level that is there, the full one first.
    elapsed_s : float
        From opening the image to this report.
    """

    path: str
    mismatch: str
    levels: tuple[CheckReport, ...]
    elapsed_s: float

    @property
    def ok(self) -> bool:
        """Whether all levels are as they should be."""
        return not self.mismatch and all(level.ok for level in self.levels)

    @property
    def n_bad(self) -> int:
        """Chunks of all levels that are not as they should be."""
        return sum(level.n_bad for level in self.levels)

    def to_json(self) -> str:
        """Give the report as JSON."""
        return to_json(self)

    def render(self) -> str:
        """Give the report as text."""
        count = format_count(len(self.levels), "level")
        bad = [str(n) for n, level in enumerate(self.levels) if not level.ok]
        verdict = f"{count}, as written"
        if bad:
            verdict = f"{count}, of which not as written: {', '.join(bad)}"
        lines = [f"{self.path}: {self.mismatch or verdict}"]
        for level in self.levels:
            lines += [f"  {line}" for line in level.render().splitlines()]
        return "\n".join(lines)


def check_image(path: AnyPath, **options: Any) -> ImageCheckReport | None:
    """Check the levels of an image, each as :func:`~scout_dask_io.jobs.verify_manifest.check` does; ``None`` of what is none.

    Raises
    ------
    LayoutError
        If the metadata or a manifest are damaged.
    ArgumentError
        If a level has no manifest and ``deep`` is not given.
    """
    start = time.perf_counter()
    image = read_image(path)
    if image is None:
        return None
    places = [place_of_level(path, image, n) for n in range(len(image.levels))]
    lost = [str(n) for n, place in enumerate(places) if read_node(place) is None]
    mismatch = f"level {', '.join(lost)} is not there" if lost else _mismatch(path, image)
    there = [place for n, place in enumerate(places) if str(n) not in lost]
    return ImageCheckReport(
        path=str(path),
        mismatch=mismatch,
        levels=tuple(check(place, **options) for place in there),
        elapsed_s=time.perf_counter() - start,
    )


def _mismatch(found: Any, image: Multiscale) -> str:
    manifest = read_manifest(found)
    written = None if manifest is None else manifest.settings.get("levels")
    if written is None or len(written) == len(image.levels):
        return ""
    return f"the metadata name {len(image.levels)} levels, {len(written)} were written"
