"""What each verb takes of memory, beside ``max_mem``: a row of the table for each.

The peak of a process of its own, above what it has when everything is imported and was used once.
Allowed are ``max_mem`` and 150 MB for what a program is beside its data.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
from harness import _reset_peak, _status, figure, run
from helpers import make_volume, write_planes

import scout_dask_io as io

MAX_MEM, BESIDE = 64 * 10**6, 150 * 10**6
#: A strip is decoded whole: what cannot hold one of 128 MB is refused.
STRIPS_MEM = 300 * 10**6
pytestmark = pytest.mark.slow


def _smooth(block: np.ndarray) -> np.ndarray:
    """Take several copies of a block, as filters do."""
    wide = block.astype("f4")
    return ((wide + np.roll(wide, 1, 0) + np.roll(wide, -1, 0)) / 3).astype("u2")


def _overlap(src: Path, out: Path) -> None:
    data = io.read_zarr(src / "a.zarr", chunks=(32, 128, 128))
    io.write_zarr(
        out / "o.zarr", da.map_overlap(_smooth, data, depth=(1, 1, 1), boundary="none"),
        max_mem=MAX_MEM,
    )  # fmt: skip


def _napari(src: Path, out: Path) -> None:
    from scout_dask_io.view.napari import get_reader

    read = get_reader(str(src / "a.zarr"))
    assert read is not None
    np.asarray(read(str(src / "a.zarr"))[0][0][40])


def _view(src: Path, out: Path) -> None:
    import urllib.request

    pytest.importorskip("neuroglancer")
    with io.viewer(src / "a.zarr") as view:
        urllib.request.urlopen(view.url).read()


# Plain functions of a module: they go to a process of their own.
VERBS: dict[str, Callable[[Path, Path], Any]] = {
    "write_zarr": lambda s, o: io.write_zarr(
        o / "w.zarr", io.imread_folder(s / "planes"), max_mem=MAX_MEM
    ),
    "write_zarr, shards": lambda s, o: io.write_zarr(
        o / "w.zarr", io.imread_folder(s / "planes"), (32, 32, 32), max_mem=MAX_MEM,
        zarr_format=3, shards=(64, 64, 256),
    ),
    "write_zarr of overlaps": _overlap,
    "convert": lambda s, o: io.convert(s / "planes", o / "c.zarr", max_mem=MAX_MEM),
    "convert --ome --qc": lambda s, o: io.convert(
        s / "planes", o / "c.ome.zarr", max_mem=MAX_MEM, ome=True, qc=True, voxel_size=(4, 2, 2)
    ),
    "convert of one-strip planes of 128 MB": lambda s, o: io.convert(
        s / "large", o / "c.zarr", max_mem=STRIPS_MEM, chunks=(2, 256, 256)
    ),
    "export to planes": lambda s, o: io.export(s / "a.zarr", o / "e", max_mem=MAX_MEM),
    "export to tiles": lambda s, o: io.export(s / "a.zarr", o / "e.ome.tif", max_mem=MAX_MEM),
    "pyramid": lambda s, o: io.pyramid(s / "a.zarr", o / "p.zarr", max_mem=MAX_MEM, levels=2),
    "verify": lambda s, o: io.verify(s / "a.zarr", deep=True),
    "verify against planes": lambda s, o: io.verify(s / "planes", s / "a.zarr", max_mem=MAX_MEM),
    "preview": lambda s, o: io.preview(s / "a.zarr"),
    "preview, maximum": lambda s, o: io.preview(s / "a.zarr", mode="max"),
    "preview of planes, maximum": lambda s, o: io.preview(s / "planes", mode="max"),
    "view": _view,
    "napari": _napari,
}  # fmt: skip


def measured(verb: str, source: str, out: str) -> int:
    """Give the bytes that a verb takes at its peak."""
    small = Path(source) / "small"
    with dask.config.set(num_workers=2):
        for name, folder in (("first", small), ("second", Path(source))):
            (Path(out) / name).mkdir()
            before = _reset_peak()
            VERBS[verb](folder, Path(out) / name)
    return _status("VmHWM") - before


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with 200 planes of 2 MB and their array, large planes, and small ones."""
    folder = tmp_path_factory.mktemp("memory")
    for place, n, side, wide in ((folder, 200, 1000, 8000), (folder / "small", 8, 80, 90)):
        place.mkdir(exist_ok=True)
        write_planes(place / "planes", make_volume((n, side, side)))
        io.convert(place / "planes", place / "a.zarr", progress=False)
        (place / "large").mkdir()
        plane = make_volume((wide, wide))
        for k in range(2):
            tifffile.imwrite(
                place / "large" / f"{k}.tif", plane + k, rowsperstrip=wide, compression="zlib",
                compressionargs={"level": 1},
            )  # fmt: skip
    return folder


@pytest.mark.timeout(900)
@pytest.mark.parametrize("verb", VERBS)
def test_row_29_a_verb_keeps_to_the_memory_that_it_may_take(
    tmp_path: Path, source: Path, verb: str
) -> None:
    outcome = run(measured, verb, str(source), str(tmp_path), seconds=600, memory_nbytes=2**36)
    assert not outcome.error, str(outcome)
    most = STRIPS_MEM if "one-strip" in verb else MAX_MEM
    figure(f"memory of {verb}", max_mem_MB=most // 10**6, peak_MB=outcome.value // 10**6)
    assert outcome.value <= most + BESIDE
