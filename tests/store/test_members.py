"""What lies in an image beside its levels is not removed by an overwrite of the image."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import make_volume
from object_store import Lab, Memory

import scout_dask_io as io
from scout_dask_io.errors import TargetExistsError

VOLUME = make_volume((4, 12, 14))
VERSIONS = [("0.4", 2), ("0.5", 3)]
OVERWRITES: dict[str, Callable[[Any], Any]] = {
    "write_zarr": lambda p: io.write_zarr(p, VOLUME, 4, overwrite=True),
    "write_ome_zarr": lambda p: io.write_ome_zarr(p, VOLUME + 1, 8, overwrite=True, resume=True),
    "new_zarr": lambda p: io.new_zarr(p, VOLUME.shape, 4, "u2", overwrite=True),
    "open": lambda p: io.open(p, mode="w"),
}


def add(root: Path, member: str, zarr_format: Any) -> None:
    """Put an array into a group inside an image, with groups down to it."""
    group = zarr.open_group(str(root), mode="r+", zarr_format=zarr_format)
    array = group.create_array(member, shape=(4, 12), chunks=(4, 6), dtype="u1")
    array[:] = 7


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("verb", OVERWRITES)
@pytest.mark.parametrize(("version", "zarr_format"), VERSIONS)
@pytest.mark.parametrize("member", ["labels/nuclei/0", "tables", "7", "derived/mask"])
def test_an_overwrite_of_an_image_refuses_what_is_no_level(
    tmp_path: Path, verb: str, version: str, zarr_format: int, member: str
) -> None:
    path = tmp_path / "a.zarr"
    io.write_ome_zarr(path, VOLUME, 8, levels=2, version=version)
    add(path, member, zarr_format)
    before = contents(tmp_path)
    top = member.split("/")[0]
    with pytest.raises(TargetExistsError, match=f"also holds '{top}'.*overwrite=True would remove"):
        OVERWRITES[verb](path)
    assert contents(tmp_path) == before
    # The way out leads out: what is to be kept is moved away.
    shutil.move(path / top, tmp_path / top)
    OVERWRITES[verb](path)
    assert contents(tmp_path / top)


@pytest.mark.parametrize("mark", [{"bioformats2raw.layout": 3}, {}, {"plate": {"wells": []}}])
def test_a_group_of_images_is_not_overwritten(tmp_path: Path, mark: dict[str, Any]) -> None:
    root = tmp_path / "a.zarr"
    zarr.create_group(str(root), zarr_format=2, attributes=mark)
    io.write_ome_zarr(root / "0", VOLUME, 8)
    with pytest.raises(TargetExistsError, match="also holds '0'"):
        io.write_zarr(root, VOLUME, overwrite=True)
    np.testing.assert_array_equal(io.read_zarr(root / "0").compute(), VOLUME)


def test_an_image_whose_levels_lie_deeper_is_replaced(tmp_path: Path) -> None:
    root = tmp_path / "a.zarr"
    axes = [{"name": n, "type": "space"} for n in "yx"]
    scale = [{"type": "scale", "scale": [1, 1]}]
    datasets = [{"path": "scale0/image", "coordinateTransformations": scale}]
    image = {"version": "0.4", "axes": axes, "datasets": datasets}
    zarr.create_group(str(root), zarr_format=2, attributes={"multiscales": [image]})
    add(root, "scale0/image", 2)
    io.write_zarr(root, VOLUME, overwrite=True)
    np.testing.assert_array_equal(io.read_zarr(root).compute(), VOLUME)


@pytest.mark.parametrize("where", ["memory", "s3"])
def test_labels_in_a_store_stay_when_their_image_is_not_whole_too(
    lab: Lab, memory: Memory, where: str
) -> None:
    url, fs, key = memory.url, memory.fs, memory.key
    reach: dict[str, Any] = {}
    if where == "s3":
        url, fs, key = lab.url, lab.fs, f"{lab.bucket}/deep/a.zarr"
        reach = {"storage_options": lab.options}
    io.write_ome_zarr(url, VOLUME, 8, levels=2, **reach)
    fs.pipe_file(f"{key}/labels/.zgroup", b'{"zarr_format": 2}')
    fs.pipe_file(f"{key}/labels/.zattrs", b'{"labels": []}')
    for lost in (None, ".zattrs"):
        if lost:
            fs.rm_file(f"{key}/{lost}")
        before = sorted(fs.find(key))
        with pytest.raises(TargetExistsError, match="also holds 'labels'"):
            io.write_ome_zarr(url, VOLUME, 8, overwrite=True, **reach)
        assert sorted(fs.find(key)) == before
