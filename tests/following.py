"""A writer that is moved by the follower's own pauses: no clock runs and nothing sleeps.

What a follower sees of time is :class:`Stage`: every pause lets what is being written end, moves
the clock, and lets the writer do its next steps.
"""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from scout_dask_io.jobs.convert import convert, options_of
from scout_dask_io.jobs.follow import run_follow
from scout_dask_io.jobs.follow_engine import FollowOptions
from scout_dask_io.store.manifest import parse_manifest

Step = Callable[[], Any]


class Stopped(BaseException):
    """What a test kills a follower by, as SIGKILL would: nothing may be tidied up by it."""


class Stage:
    """Time, as a follower and its writer share it.

    ``steps`` are the writer's, some taken at each pause; ``see`` is called at each pause too.
    """

    def __init__(self, steps: Iterator[Step] | list[Step] = (), see: Step | None = None) -> None:
        self.now_s = 1000.0
        self.steps, self.see = iter(steps), see
        self.n_pauses = 0
        self.stop_at = -1

    def clock(self) -> float:
        return self.now_s

    def pause(self, running: set[Future[int]], seconds: float) -> None:
        wait(running)
        self.now_s += max(seconds, 0.01)
        self.n_pauses += 1
        step = next(self.steps, None)
        if step is not None:
            step()
        if self.see is not None:
            self.see()
        if self.n_pauses == self.stop_at:
            raise Stopped

    def follow(self, src: Path, dst: Path, planes: Any, **options: Any) -> Any:
        how = {
            k: options.pop(k)
            for k in ("settle_s", "poll_s", "idle_s", "marker", "until")
            if k in options
        }
        how = {"settle_s": 1.0, "poll_s": 0.5, "idle_s": 60.0} | how
        counts = {"z": planes} if isinstance(planes, int) else planes or {}
        progress = options.pop("progress", False)
        return run_follow(
            src,
            dst,
            FollowOptions(counts, clock=self.clock, pause=self.pause, **how),
            options_of({"chunks": (4, 16, 16), "nb_workers": 2} | options),
            progress,
        )


def tiff_bytes(plane: np.ndarray, **how: Any) -> bytes:
    """Give a plane as the bytes of its file."""
    out = io.BytesIO()
    tifffile.imwrite(out, plane, photometric="minisblack", **how)
    return out.getvalue()


def put(path: Path, plane: np.ndarray, **how: Any) -> None:
    """Write a plane in one go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiff_bytes(plane, **how))


def rename_into(path: Path, plane: np.ndarray, **how: Any) -> None:
    """Write a plane under a temporary name, and give it its own."""
    draft = path.with_name(f"{path.name}.part")
    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.write_bytes(tiff_bytes(plane, **how))
    draft.replace(path)


def growing(path: Path, plane: np.ndarray, n: int = 4, **how: Any) -> list[Step]:
    """Give the steps of a plane that grows at its place."""
    data = tiff_bytes(plane, **how)
    cuts = [len(data) * k // n for k in range(n + 1)]

    def add(a: int, b: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if a else "wb") as file:
            file.write(data[a:b])

    return [lambda a=a, b=b: add(a, b) for a, b in pairwise(cuts)]


def tree(path: Path, *, units: bool = True) -> dict[str, bytes]:
    """Give all files below a path, manifests without what names the run and the time.

    Without ``units``, neither with how the work was cut.
    """
    found = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        data = file.read_bytes()
        if file.name == ".scout-manifest":
            manifest = parse_manifest(data, file)
            settings = dict(manifest.settings)
            if not units:
                settings = {k: v for k, v in settings.items() if k not in ("units", "passes")}
            told = replace(manifest, written="", job="", records=(), settings=settings)
            data = repr(told).encode() + manifest.records.tobytes()
        found[file.relative_to(path).as_posix()] = data
    return found


def assert_as_converted(
    src: Path, dst: Path, work: Path, *, units: bool = True, **options: Any
) -> None:
    """Hold what was followed against a conversion of the whole folder, file by file."""
    fresh = work / "fresh" / dst.name
    convert(src, fresh, **({"chunks": (4, 16, 16), "nb_workers": 2} | options))
    found, wanted = tree(dst, units=units), tree(fresh, units=units)
    assert sorted(found) == sorted(wanted)
    differing = [name for name in wanted if found[name] != wanted[name]]
    assert differing == [], {name: (found[name][:500], wanted[name][:500]) for name in differing}
    if options.get("qc"):
        sheets = [json.loads((p.parent / f"{p.name}.qc.json").read_text()) for p in (dst, fresh)]
        for sheet in sheets:
            sheet.pop("written")
        assert sheets[0] == sheets[1]


def pixels(path: Path) -> np.ndarray:
    """Give an array, or the full level of an image, as zarr reads it."""
    node = zarr.open(str(path), mode="r")
    return np.asarray((node if isinstance(node, zarr.Array) else node["0"])[...])


def bursts(steps: list[Step], seed: int) -> list[Step]:
    """Give steps in bursts of random length, with pauses between."""
    rng = random.Random(seed)
    found: list[Step] = []
    left = list(steps)
    while left:
        n = rng.choice([0, 1, 1, 2, 5, 20])
        now, left = left[:n], left[n:]
        found.append(lambda now=now: [step() for step in now])
    return found


def wipe(path: Path) -> None:
    """Remove a file that a writer takes back."""
    os.unlink(path)
