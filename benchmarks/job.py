"""What a child process is told to do: plain values that survive JSON. Standard library alone."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["BACKGROUND", "Job"]

#: What the computed case subtracts, in counts.
BACKGROUND = 100


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one contender on one case."""

    case: str
    kind: str
    shape: tuple[int, int, int]
    chunks: tuple[int, int, int]
    codec: dict[str, Any]
    n_workers: int
    planes: str  # folder of TIFFs, "" where the case has none
    stored: str  # Zarr array, "" where the case has none
    out: str  # a path that does not exist, in a folder that does
    compression: str = "none"
    max_mem: int | None = None
    box: tuple[int, int, int] | None = None
    n_boxes: int = 0
    seed: int = 7

    @property
    def paths(self) -> list[str]:
        """Paths of the planes, in z order."""
        return [str(p) for p in sorted(Path(self.planes).glob("*.tif"))]

    @property
    def slabs(self) -> list[tuple[int, int]]:
        """First and last-plus-one plane of each slab one chunk thick."""
        n, step = self.shape[0], self.chunks[0]
        return [(z, min(z + step, n)) for z in range(0, n, step)]

    @property
    def boxes(self) -> list[tuple[slice, slice, slice]]:
        """Random boxes inside the array; the same for every contender."""
        if self.box is None:
            return []
        rng = random.Random(self.seed)
        found = []
        for _ in range(self.n_boxes):
            extents = [min(b, n) for b, n in zip(self.box, self.shape, strict=True)]
            starts = [rng.randint(0, n - b) for b, n in zip(extents, self.shape, strict=True)]
            z, y, x = (slice(s, s + b) for s, b in zip(starts, extents, strict=True))
            found.append((z, y, x))
        return found

    def dump(self) -> str:
        """Give the job as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Job:
        """Give back what :meth:`dump` wrote."""
        values = json.loads(text)
        for name in ("shape", "chunks", "box"):
            if values[name] is not None:
                values[name] = tuple(values[name])
        return cls(**values)
