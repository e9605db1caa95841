"""Images whose pages lie in several files: OME-TIFF, Micro-Manager, NDTiff."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tifffile
from file_sets import stack_file
from helpers import make_volume

from scout_dask_io import PathNotFoundError, TiffReadError, imread, info

UUID = "urn:uuid:00000000-0000-4000-8000-00000000000"


def ome_set(folder, planes, names):
    """Write a plane a file; each file's OME-XML describes the whole set."""
    data = "".join(
        f'<TiffData IFD="0" FirstZ="{k}" PlaneCount="1"><UUID FileName="{name}">{UUID}{k}</UUID>'
        "</TiffData>"
        for k, name in enumerate(names)
    )
    for k, name in enumerate(names):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{UUID}{k}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            f'Type="uint16" SizeX="{planes.shape[2]}" SizeY="{planes.shape[1]}" '
            f'SizeZ="{len(planes)}" SizeC="1" SizeT="1">{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(folder / name, planes[k], description=xml.encode(), metadata=None)


def micromanager(path, planes, coords, counts):
    """Write a file of a multi-file stack; ``coords`` are (channel, slice, frame, position)."""
    names = ("Channels", "Slices", "Frames", "Positions")
    summary = {
        "MicroManagerVersion": "2.0",
        "Prefix": "run",
        **dict(zip(names, counts, strict=True)),
    }
    stack_file(path, planes, coords, summary)


@pytest.fixture(params=["inside", "outside"])
def place(request, tmp_path, monkeypatch):
    """Give a folder, with the program running in it or elsewhere."""
    folder = tmp_path / "set"
    folder.mkdir()
    monkeypatch.chdir(folder if request.param == "inside" else "/")
    return folder


def test_an_ome_tiff_of_several_files_is_one_image(place):
    planes = make_volume((4, 11, 13))
    names = [f"run_{k}.ome.tif" for k in (3, 1, 2, 0)]
    ome_set(place, planes, names)
    for name in names:
        np.testing.assert_array_equal(imread(place / name).compute(), planes)
    assert (info(place / names[0]).shape, info(place / names[0]).axes) == ((4, 11, 13), "zyx")
    os.remove(place / names[2])
    with pytest.raises(PathNotFoundError, match=r"one of 4 files.*1 are not.*run_2\.ome\.tif"):
        imread(place / names[0])
    np.testing.assert_array_equal(imread(place / names[3], pages="all").compute(), planes[3])


def test_a_micromanager_stack_of_several_files_is_the_same_from_anywhere(place):
    planes = make_volume((8, 11, 13)).reshape(2, 2, 2, 11, 13)
    coords = [(c, z, t, 0) for t in range(2) for z in range(2) for c in range(2)]
    flat = list(planes.reshape(-1, 11, 13))
    names = ["run_MMStack_Pos0.ome.tif", "run_MMStack_Pos0_1.ome.tif"]
    for k, name in enumerate(names):
        part = slice(4 * k, 4 * k + 4)
        micromanager(place / name, flat[part], coords[part], (2, 2, 2, 1))
    np.testing.assert_array_equal(tifffile.imread(place / names[0]), planes)
    for name in names:
        np.testing.assert_array_equal(imread(place / name).compute(), planes)
        np.testing.assert_array_equal(
            imread(name if os.getcwd() == str(place) else place / name), planes
        )
    os.remove(place / names[1])
    with pytest.raises(TiffReadError, match=r"of 8 planes, of which 4.*pages=\"counted\""):
        imread(place / names[0])
    assert imread(place / names[0], pages="counted").shape == (2, 2, 11, 13)
    assert imread(place / names[0], pages="all").shape == (4, 11, 13)


def test_an_ome_tiff_that_was_renamed_is_read(place):
    planes = make_volume((3, 11, 13))
    data = "".join(
        f'<TiffData IFD="{k}" FirstZ="{k}" PlaneCount="1"><UUID FileName="was.ome.tif">{UUID}0'
        "</UUID></TiffData>"
        for k in range(3)
    )
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        f'SizeX="13" SizeY="11" SizeZ="3" SizeC="1" SizeT="1">{data}</Pixels></Image></OME>'
    )
    with tifffile.TiffWriter(place / "is.ome.tif") as out:
        for k, plane in enumerate(planes):
            text = xml.encode() if k == 0 else None
            out.write(plane, description=text, metadata=None, contiguous=False)
    np.testing.assert_array_equal(imread(place / "is.ome.tif").compute(), planes)
    assert info(place / "is.ome.tif").axes == "zyx"
