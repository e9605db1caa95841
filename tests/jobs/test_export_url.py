"""``export`` of what lies at a URL gives the very files that it gives of the same on a disk."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.cli import main
from scout_dask_io.errors import ArgumentError, SourceChangedError

BOTH = make_volume((2, 9, 40, 50))
CHUNKS = (4, 16, 32)


def pixels(path: Path) -> dict[str, Any]:
    """Give what each file holds and says, but for what names its source or a place in it."""
    found = {}
    for file in sorted(path.rglob("*.tif")) if path.is_dir() else [path]:
        with tifffile.TiffFile(file) as tiff:
            (series,) = tiff.series
            tags = {t.name: repr(t.value) for t in tiff.pages[0].tags}
            for name in ("Software", "ImageDescription", "SubIFDs", "TileOffsets"):
                tags.pop(name, None)
            size = io.voxel_size(file).micrometres
            found[file.relative_to(path).as_posix()] = (
                series.axes,
                series.asarray().tobytes(),
                size,
                tags,
            )
    return found


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}/a.zarr"


@pytest.mark.parametrize(
    ("out", "options"),
    [
        ("planes", {}),
        ("a.tif", {"region": [slice(2, 7), slice(8, 33)], "compress": 0, "channel": 1}),
        ("a.ome.tif", {"level": 1}),
        ("fiji.tif", {"imagej": True}),
        ("cut", {"axis": "y", "dtype": "u1", "scale": (0, 40_000), "level": 0}),
    ],
)
def test_the_files_are_those_of_the_same_on_a_disk(
    tmp_path: Path, url: str, out: str, options: dict[str, Any]
) -> None:
    options = dict(options)
    one = options.pop("channel", None)
    for place in (url, str(tmp_path / "a.zarr")):
        if one is not None:
            io.write_zarr(place, BOTH[one], CHUNKS, voxel_size=(4, 2, 2))
        else:
            io.write_ome_zarr(
                place, BOTH, CHUNKS, levels=2, voxel_size=(4, 2, 2), channels=["syto", "sox2"]
            )
    for folder, place in (("there", url), ("here", tmp_path / "a.zarr")):
        (tmp_path / folder).mkdir()
        io.export(place, tmp_path / folder / out, **options)
    there = pixels(tmp_path / "there" / out)
    assert there == pixels(tmp_path / "here" / out)
    assert there
    # The planes come back as they were.
    if out == "planes":
        np.testing.assert_array_equal(io.imread_channels(tmp_path / "there" / out), BOTH)


def test_tiffs_go_to_no_url_and_options_belong_to_urls(tmp_path: Path, url: str) -> None:
    io.write_zarr(tmp_path / "a.zarr", BOTH, CHUNKS)
    memory = fsspec.filesystem("memory")
    for out in (f"{url}/planes", f"{url}.tif"):
        with pytest.raises(ArgumentError, match="TIFF files go to disks alone"):
            io.export(tmp_path / "a.zarr", out)
    for src in (tmp_path / "a.zarr", io.read_zarr(tmp_path / "a.zarr")):
        with pytest.raises(ArgumentError, match="storage_options are for URLs") as refused:
            io.export(src, tmp_path / "planes", storage_options={"secret": "hush"})
        assert "hush" not in str(refused.value)
    assert not memory.exists(url)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_an_array_that_is_replaced_meanwhile_leaves_no_mixture(tmp_path: Path, url: str) -> None:
    io.write_zarr(url, BOTH[0], CHUNKS)

    def replace(done: int, total: int, nbytes: int) -> None:
        io.write_zarr(url, BOTH[1], CHUNKS, overwrite=True)

    with pytest.raises(SourceChangedError, match="no longer the array"):
        io.export(url, tmp_path / "a.tif", progress=replace, nb_workers=1)
    assert list(tmp_path.iterdir()) == []


def test_the_command_takes_a_url(tmp_path: Path, url: str) -> None:
    io.write_zarr(url, BOTH[0], CHUNKS)
    with pytest.raises(SystemExit) as done:
        main(["export", url, str(tmp_path / "a.tif"), "-q", "--storage-option", "{}"])
    assert done.value.code == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), BOTH[0])
