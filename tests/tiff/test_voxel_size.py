"""Voxel sizes are what files say in a unit of length, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import shared_data

from scout_dask_io import info, voxel_size
from scout_dask_io.core.voxel_size import VoxelSize
from scout_dask_io.tiff.describe import describe_image
from scout_dask_io.tiff.metadata import file_sizes


def written(path: Path, **options: Any) -> VoxelSize | None:
    tifffile.imwrite(path, np.zeros((3, 8, 9), "u2"), photometric="minisblack", **options)
    return first(path)


def first(path: Path) -> VoxelSize | None:
    """Give what counts first of what a file states."""
    return next(iter(file_sizes(path)), None)


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
        assert found.source == "OME-XML of a.ome.tif"


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("um", 1),
        ("micron", 1),
        ("\\u00B5m", 1),
        ("mm", 1000),
        ("pixel", None),
        ("", None),
        ("Microns", 1),
        ("micrometres", 1),
        ("nanometers", 0.001),
        ("inches", 25400),
        ("pixels", None),
    ],
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
        assert found.source == "ImageJ metadata of a.tif"


def test_imagej_without_spacing_knows_no_z(tmp_path):
    found = written(tmp_path / "a.tif", imagej=True, resolution=(2.0, 2.0), metadata={"unit": "um"})
    assert found is not None
    assert found.micrometres == (None, 0.5, 0.5)


def test_resolution_tags_count_where_they_have_a_unit_and_are_no_print_resolution(tmp_path):
    found = written(tmp_path / "a.tif", resolution=(5000, 2500), resolutionunit="CENTIMETER")
    assert found == VoxelSize(None, 4.0, 2.0, "resolution tags of a.tif")
    assert written(tmp_path / "b.tif", resolution=(72, 72), resolutionunit="INCH") is None
    assert written(tmp_path / "c.tif", resolution=(5000, 5000), resolutionunit="NONE") is None
    assert written(tmp_path / "d.tif") is None
    # 100 pixels a centimetre are voxels of 100 micrometres; 118.11 are 300 a print's inch.
    found = written(tmp_path / "e.tif", resolution=(100, 100), resolutionunit="CENTIMETER")
    assert found is not None
    assert found.micrometres == (None, 100.0, 100.0)
    assert written(tmp_path / "f.tif", resolution=(118.11, 118.11), resolutionunit=3) is None


def test_a_lower_level_has_larger_voxels(tmp_path):
    data = np.zeros((3, 64, 96), "u1")
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        tif.write(data, subifds=1, metadata={"axes": "ZYX", **sizes})
        tif.write(data[:, ::2, ::2], subfiletype=1)
    path = str(tmp_path / "a.ome.tif")
    full, half = (describe_image(path, level=k).info.voxel_size for k in (0, 1))
    assert full is not None
    assert half is not None
    assert full.micrometres == (2.0, 0.25, 0.5)
    assert half.micrometres == (2.0, 0.5, 1.0)


def test_real_files_say_what_they_say():
    found = first(shared_data("organoid_slice.tif"))
    assert found is not None
    assert found.micrometres == (None, pytest.approx(1.0816669), pytest.approx(1.0816529))
    assert first(next(shared_data("brain", "ch0").glob("*.tif"))) is None


@pytest.mark.parametrize("per_cm", [2**32 - 1, 0.01, 96])
def test_resolutions_that_cannot_be_are_no_sizes(tmp_path, per_cm):
    path = tmp_path / "a.tif"
    pair = (int(per_cm), 1) if per_cm >= 1 else (1, 100)
    tifffile.imwrite(
        path, np.zeros((5, 6), "u1"), metadata=None, resolution=(pair, pair),
        resolutionunit="CENTIMETER",
    )  # fmt: skip
    assert voxel_size(path) is None


@pytest.mark.parametrize("text", ["SCIFIO=0.40.0\naxes=X,Y\nunit=null\n", None])
def test_a_placeholder_of_ten_thousand_a_centimetre_is_a_size_of_whoever_means_it(tmp_path, text):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, np.zeros((5, 6), "u1"), metadata=None, description=text,
        resolution=(10000, 10000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    found = voxel_size(path)
    assert (None if found is None else found.x) == (None if text else 1.0)


def test_a_unit_that_lost_its_letter_is_told_of(tmp_path):
    path = tmp_path / "a.ome.tif"
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="6" '
        'SizeY="5" SizeZ="1" SizeC="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeXUnit="?m">'
        "<TiffData/></Pixels></Image></OME>"
    )
    tifffile.imwrite(path, np.zeros((5, 6), "u1"), metadata=None, description=xml.encode())
    with pytest.warns(UserWarning, match=r"in '\?m', which is no unit"):
        assert voxel_size(path) is None


@pytest.mark.parametrize(
    ("per_unit", "code", "units", "expected"),
    [
        # Micro-Manager: the tags count pixels a centimetre, the text says micrometres.
        ((1912, 1912), 3, {"unit": "um", "spacing": 2.0}, (2.0, 5.2301, 5.2301)),
        ((625, 400), 3, {"unit": "micron"}, (None, 25.0, 16.0)),
        # What some programs leave in the tag of the unit means nothing: a pixel has no millimetres.
        ((2.5, 2.5), 3, {"unit": "um"}, (None, 0.4, 0.4)),
        ((4.0, 2.0), 2, {"unit": "\\u00B5m", "spacing": 3}, (3.0, 0.5, 0.25)),
        # Each axis has its own unit, of which the tags know that of x.
        ((5, 6), 3, {"unit": "cm", "yunit": "mm"}, (None, 1000 / 6, 2000.0)),
        (
            (5, 6),
            1,
            {"unit": "mm", "yunit": "um", "zunit": "nm", "spacing": 7},
            (0.007, 1 / 6, 200),
        ),
        # ImageJ itself.
        ((2.5, 2.5), 3, {"unit": "cm"}, (None, 4000.0, 4000.0)),
        ((2.5, 5), 1, {"unit": "nm"}, (None, 0.0002, 0.0004)),
    ],
)
def test_units_of_imagej_and_of_the_tags_are_told_apart(
    tmp_path, recwarn, per_unit, code, units, expected
):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((3, 8, 9), "u1"), imagej=True, resolution=per_unit,
        resolutionunit=code, metadata=units,
    )  # fmt: skip
    found = voxel_size(tmp_path / "a.tif")
    assert found is not None
    for got, want in zip(found.micrometres, expected, strict=True):
        assert got == (None if want is None else pytest.approx(want, rel=1e-3))
    assert not [str(w.message) for w in recwarn]


@pytest.mark.parametrize(
    ("per_unit", "code", "units"),
    [
        ((2**32 - 1, 2**32 - 1), 1, {"unit": "um"}),
        ((96, 96), 3, None),
        ((2**32 - 1, 2**32 - 1), 3, None),
    ],
)
def test_a_resolution_that_is_ignored_is_told_of(tmp_path, per_unit, code, units):
    path = tmp_path / "a.tif"
    how = {"imagej": True, "metadata": units} if units else {"metadata": None}
    tifffile.imwrite(
        path, np.zeros((3, 8, 9), "u1"), resolution=per_unit, resolutionunit=code,
        photometric="minisblack", **how,
    )  # fmt: skip
    n = per_unit[0]
    with pytest.warns(UserWarning, match=rf"a\.tif: .* state {n:,} pixels.*ignored.*voxel_size="):
        assert voxel_size(path) is None


@pytest.mark.parametrize("per_inch", [72, 300, 2**32 - 1])
def test_info_says_which_resolution_is_ignored(tmp_path, per_inch):
    path = tmp_path / "planes" / "a.tif"
    path.parent.mkdir()
    tifffile.imwrite(
        path, np.zeros((8, 9), "u1"), resolution=(per_inch, per_inch), resolutionunit=2,
    )  # fmt: skip
    for place in (path, path.parent):
        assert any(f"state {per_inch:,} pixels an inch" in d for d in info(place).details)


def test_a_resolution_is_not_told_of_where_the_size_is_known(tmp_path, recwarn):
    sizes = {f"PhysicalSize{a}": 0.5 for a in "XY"}
    written(
        tmp_path / "a.ome.tif", ome=True, metadata={"axes": "ZYX", **sizes},
        resolution=(72, 72), resolutionunit="INCH",
    )  # fmt: skip
    written(tmp_path / "b.tif", metadata=None)
    for name in ("a.ome.tif", "b.tif"):
        voxel_size(tmp_path / name)
    assert not recwarn.list


@pytest.mark.parametrize("unit", ["?m", "\ufffdm", "furlong"])
def test_a_unit_of_imagej_that_cannot_be_read_is_told_of(tmp_path, unit):
    path = tmp_path / "a.tif"
    text = f"ImageJ=1.53t\nimages=1\nunit={unit}\n".encode("latin-1", "replace")
    tifffile.imwrite(
        path, np.zeros((8, 9), "u1"), metadata=None, description=text, resolution=(2, 2),
        resolutionunit=1,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="ImageJ's metadata state.*no unit"):
        assert voxel_size(path) is None
