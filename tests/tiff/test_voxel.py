"""Voxel sizes are what files say in a unit of length, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import shared_data

from scout_dask_io.tiff.voxel import VoxelSize, voxel_size


def written(path: Path, **options: Any) -> VoxelSize | None:
    tifffile.imwrite(path, np.zeros((3, 8, 9), "u2"), photometric="minisblack", **options)
    with tifffile.TiffFile(path) as tif:
        return voxel_size(tif)


@pytest.mark.parametrize(
    ("unit", "scale"), [("µm", 1), ("nm", 1e-3), ("mm", 1e3), (None, 1), ("pixel", None)]
)
def test_ome_sizes_are_scaled_to_micrometres(tmp_path, unit, scale):
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.75, "PhysicalSizeZ": 2.0}
    units = {f"PhysicalSize{a}Unit": unit for a in "XYZ"} if unit else {}
    found = written(tmp_path / "a.ome.tif", ome=True, metadata={"axes": "ZYX", **sizes, **units})
    if scale is None:
        assert found is None
    else:
        assert found is not None
        assert found.micrometres == pytest.approx((2.0 * scale, 0.75 * scale, 0.5 * scale))
        assert found.source == "OME"


@pytest.mark.parametrize(
    ("unit", "scale"),
    [("um", 1), ("micron", 1), ("\\u00B5m", 1), ("mm", 1000), ("pixel", None), ("", None)],
)
def test_imagej_sizes_come_from_unit_spacing_and_resolution(tmp_path, unit, scale):
    found = written(
        tmp_path / "a.tif",
        imagej=True,
        resolution=(2.0, 4.0),
        metadata={"unit": unit, "spacing": 3.0},
    )
    if scale is None:
        assert found is None
    else:
        assert found is not None
        assert found.micrometres == pytest.approx((3.0 * scale, 0.25 * scale, 0.5 * scale))
        assert found.source == "ImageJ"


def test_imagej_without_spacing_knows_no_z(tmp_path):
    found = written(tmp_path / "a.tif", imagej=True, resolution=(2.0, 2.0), metadata={"unit": "um"})
    assert found is not None
    assert found.micrometres == (None, 0.5, 0.5)


def test_resolution_tags_count_where_they_have_a_unit_and_are_no_print_resolution(tmp_path):
    found = written(tmp_path / "a.tif", resolution=(5000, 2500), resolutionunit="CENTIMETER")
    assert found == VoxelSize(None, 4.0, 2.0, "resolution tags")
    assert written(tmp_path / "b.tif", resolution=(72, 72), resolutionunit="INCH") is None
    assert written(tmp_path / "c.tif", resolution=(5000, 5000), resolutionunit="NONE") is None
    assert written(tmp_path / "d.tif") is None


def test_real_files_say_what_they_say():
    with tifffile.TiffFile(shared_data("organoid_slice.tif")) as tif:
        found = voxel_size(tif)
    assert found is not None
    assert found.micrometres == (None, pytest.approx(1.0816669), pytest.approx(1.0816529))
    with tifffile.TiffFile(next(shared_data("brain", "ch0").glob("*.tif"))) as tif:
        assert voxel_size(tif) is None
