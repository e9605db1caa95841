"""Stacks that were cut, whose links go astray, or that hold other pages than they say."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import make_volume

from scout_dask_io import (
    TiffReadError,
    imread,
    imread_folder,
    imread_parallel,
    read_zarr,
    scan,
)
from scout_dask_io.cli.run import main
from scout_dask_io.errors import ArgumentError


def write_chain(path, planes):
    """Write pixels, directory, pixels, directory ..., as libtiff appends pages."""
    out, link, places = bytearray(b"II*\0\0\0\0\0"), 4, []
    for plane in planes:
        at, (rows, columns) = len(out), plane.shape
        out += plane.astype("<u2").tobytes()
        places.append(len(out))
        struct.pack_into("<I", out, link, len(out))
        tags = [(256, columns), (257, rows), (258, 16), (259, 1), (262, 1)]
        tags += [(273, at), (277, 1), (278, rows), (279, plane.nbytes)]
        out += struct.pack("<H", len(tags))
        out += b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in tags)
        link = len(out)
        out += bytes(4)
    path.write_bytes(out)
    return places


def write_pages(path, planes, description):
    with tifffile.TiffWriter(path) as out:
        for k, plane in enumerate(planes):
            text = description if k == 0 else None
            out.write(plane, metadata=None, contiguous=False, description=text)


def cut(raw, places):
    del raw[places[4] + 30 :]


def back(raw, places):
    struct.pack_into("<I", raw, places[4] + 2 + 9 * 12, places[2])


def beyond(raw, places):
    struct.pack_into("<I", raw, places[4] + 2 + 9 * 12, 2**32 - 5)


def emptied(raw, places):
    struct.pack_into("<H", raw, places[5], 0)


def overwritten(raw, places):
    raw[places[5] : places[5] + 40] = b"\xff" * 40


@pytest.mark.parametrize(
    ("harm", "n_left"), [(cut, 4), (back, 5), (beyond, 5), (emptied, 5), (overwritten, 5)]
)
def test_a_chain_that_goes_astray_is_refused_and_what_is_whole_can_be_had(tmp_path, harm, n_left):
    planes, path = make_volume((7, 11, 13)), tmp_path / "astray.tif"
    places = write_chain(path, planes)
    np.testing.assert_array_equal(imread(path).compute(), planes)
    raw = bytearray(path.read_bytes())
    harm(raw, places)
    path.write_bytes(raw)
    said = rf"astray\.tif.* breaks off after {n_left} pages.*pages=\"all\""
    for read in (imread, lambda p: imread_folder(p.parent)):
        with pytest.raises(TiffReadError, match=said):
            read(path)
    assert not scan(path).ok
    for read in (imread, lambda p, **how: imread_folder(p.parent, **how)[0]):
        with pytest.warns(UserWarning, match=rf"astray\.tif.*{n_left} pages are read"):
            whole = read(path, pages="all")
        np.testing.assert_array_equal(whole.compute(), planes[:n_left])


def test_members_that_were_all_cut_alike_are_no_shorter_stacks(tmp_path):
    for k in range(3):
        path = tmp_path / f"t{k}.tif"
        write_chain(path, make_volume((5, 8, 9)) + k)
        os.truncate(path, path.stat().st_size - 150)
    with pytest.raises(TiffReadError, match=r"3 of the 3 files.*breaks off after 4 pages"):
        imread_folder(tmp_path)


def ome(n):
    ns = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return (
        f'<?xml version="1.0"?><OME xmlns="{ns}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        f'DimensionOrder="XYZCT" Type="uint16" SizeX="13" SizeY="11" SizeZ="{n}" SizeC="1" '
        'SizeT="1"><TiffData/></Pixels></Image></OME>'
    ).encode()


def imagej(n):
    return f"ImageJ=1.54f\nimages={n}\nslices={n}\n".encode()


@pytest.mark.parametrize("write", [ome, imagej])
@pytest.mark.parametrize("counted", [3, 8])
def test_a_stack_that_miscounts_says_both_numbers_and_gives_all_on_demand(tmp_path, write, counted):
    planes, path = make_volume((5, 11, 13)), tmp_path / "count.ome.tif"
    write_pages(path, planes, write(counted))
    with pytest.raises(TiffReadError, match=r"count\.ome\.tif") as told:
        imread(path)
    assert str(counted) in str(told.value)
    assert "5" in str(told.value)
    assert 'pages="all"' in str(told.value)
    np.testing.assert_array_equal(imread(path, pages="all").compute(), planes)
    if counted < 5:
        np.testing.assert_array_equal(imread(path, pages="counted").compute(), planes[:counted])


def test_pages_that_are_no_planes_are_told_of_and_left_out(tmp_path):
    planes, path = make_volume((3, 11, 13)), tmp_path / "extra.ome.tif"
    with tifffile.TiffWriter(path) as out:
        for k, plane in enumerate(planes):
            out.write(plane, metadata=None, description=ome(3) if k == 0 else None)
        out.write(np.zeros((4, 5), "u1"), metadata=None, subfiletype=1)
    with pytest.warns(UserWarning, match="counts 3 pages, and the file has 4"):
        np.testing.assert_array_equal(imread(path).compute(), planes)
    with pytest.warns(UserWarning, match="1 thumbnails"):
        np.testing.assert_array_equal(imread(path, pages="all").compute(), planes)


@pytest.mark.parametrize("missing", ["error", "fill"])
def test_the_first_plane_of_a_split_stack_is_a_plane(tmp_path, missing):
    planes = make_volume((4, 11, 13))
    for k, plane in enumerate(planes):
        write_pages(tmp_path / f"{k}.tif", [plane], imagej(4) if k == 0 else None)
    np.testing.assert_array_equal(imread_folder(tmp_path, missing=missing).compute(), planes)


def test_series_of_each_file_of_a_folder_can_be_chosen(tmp_path):
    for k in range(3):
        with tifffile.TiffWriter(tmp_path / f"{k}.tif") as out:
            out.write(np.full((4, 5), k, "u2"), metadata=None)
            out.write(np.full((6, 7), 10 * k, "u1"), metadata=None)
    with pytest.raises(TiffReadError, match="series=0 takes the first"):
        imread_folder(tmp_path)
    assert imread_folder(tmp_path, series=0)[:, 0, 0].compute().tolist() == [0, 1, 2]
    assert imread_folder(tmp_path, series=1)[:, 0, 0].compute().tolist() == [0, 10, 20]


def test_all_pages_are_one_stack_or_an_error(tmp_path):
    path = tmp_path / "two.tif"
    write_pages(path, [np.zeros((4, 5), "u2"), np.zeros((6, 5), "u2")], None)
    with pytest.raises(TiffReadError, match=r"page 1 is \(6, 5\).*series=1"):
        imread(path, pages="all")
    for wrong in ({"pages": "some"}, {"pages": "all", "series": 1}):
        with pytest.raises(ArgumentError, match="pages"):
            imread(path, **wrong)


def test_tifffile_prints_nothing_of_its_own(tmp_path, capfd):
    path = tmp_path / "few.ome.tif"
    write_pages(path, make_volume((3, 11, 13)), ome(9))
    with pytest.raises(TiffReadError):
        imread(path)
    assert "tifffile" not in capfd.readouterr().err


def test_the_command_line_names_its_own_option_and_that_leads_out(tmp_path, capsys):
    planes, path = make_volume((7, 11, 13)), tmp_path / "cut.tif"
    raw = bytearray()
    places = write_chain(path, planes)
    raw += path.read_bytes()
    cut(raw, places)
    path.write_bytes(raw)
    out = str(tmp_path / "a.zarr")
    for command in (["convert", str(path), out], ["scan", str(path)]):
        assert code_of(command) == 1
        assert "--pages all" in "".join(capsys.readouterr())
    assert not (tmp_path / "a.zarr").exists()
    assert code_of(["convert", str(path), out, "--pages", "all", "-q"]) == 0
    np.testing.assert_array_equal(read_zarr(out).compute(), planes[:4])
    assert code_of(["verify", str(path), out, "--pages", "all", "-q"]) == 0
    assert code_of(["scan", str(path), "--pages", "all"]) == 0


def code_of(command):
    with pytest.raises(SystemExit) as ended:
        main(command)
    return ended.value.code or 0


def test_a_plane_whose_description_lies_beyond_the_file_is_a_plane(tmp_path):
    planes = make_volume((2, 11, 13))
    for k, plane in enumerate(planes):
        tifffile.imwrite(tmp_path / f"{k}.tif", plane, description="of a camera", metadata=None)
        raw = bytearray((tmp_path / f"{k}.tif").read_bytes())
        at = raw.index(struct.pack("<HH", 270, 2))
        struct.pack_into("<I", raw, at + 8, 10**7)
        (tmp_path / f"{k}.tif").write_bytes(raw)
    np.testing.assert_array_equal(imread_folder(tmp_path).compute(), planes)


# ------------------------------------------------------------------ stacks in a folder
def ome_text(planes: int, file: str = "") -> bytes:
    uuid = f'<TiffData><UUID FileName="{file}">urn:uuid:1</UUID></TiffData>' if file else ""
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        f'SizeX="31" SizeY="20" SizeZ="{planes}" SizeC="1" SizeT="1">{uuid or "<TiffData/>"}'
        "</Pixels></Image></OME>"
    ).encode()


def write_ome_stacks(folder: Path, n: int, counted: int, file: str = "") -> np.ndarray:
    data = make_volume((3, n, 20, 31))
    for k, stack in enumerate(data):
        with tifffile.TiffWriter(folder / f"s{k}.ome.tif") as out:
            for z, plane in enumerate(stack):
                text = ome_text(counted, file.format(k)) if z == 0 else None
                out.write(plane, metadata=None, contiguous=False, description=text)
    return data


@pytest.mark.parametrize(("n", "counted"), [(6, 4), (3, 5)])
def test_a_stack_in_a_folder_that_holds_other_pages_than_its_xml_counts_says_so(
    tmp_path, n, counted
):
    data = write_ome_stacks(tmp_path, n, counted)
    with pytest.raises(TiffReadError, match=rf"OME-XML counts {counted} pages.*has {n}.*pages="):
        imread_folder(tmp_path)
    np.testing.assert_array_equal(imread_folder(tmp_path, pages="all").compute(), data)
    if counted < n:
        found = imread_folder(tmp_path, pages="counted").compute()
        np.testing.assert_array_equal(found, data[:, :counted])


@pytest.mark.parametrize(
    ("n", "counted", "file"), [(4, 4, "s{}.ome.tif"), (4, 12, "s0.ome.tif"), (1, 9, "")]
)
def test_a_plane_or_a_member_of_a_set_may_tell_of_more(tmp_path, n, counted, file):
    data = write_ome_stacks(tmp_path, n, counted, file or "")
    if file == "s0.ome.tif":
        (tmp_path / "s0.ome.tif").unlink()
        data = data[1:]
    found = imread_parallel(sorted(tmp_path.iterdir())).compute()
    np.testing.assert_array_equal(found, data if n > 1 else data[:, 0])


OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
    'ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="9" SizeY="8" SizeZ="3" SizeC="1" '
    'SizeT="1"><TiffData/></Pixels></Image></OME>'
)
SETS = '<TiffData PlaneCount="4000000000"><UUID FileName="b.tif">urn:uuid:1</UUID></TiffData>'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('SizeZ="3"', 'SizeZ="4000000000"'),
        ('SizeX="9"', 'SizeX="36000000000"'),
        ("<TiffData/>", '<TiffData PlaneCount="4000000000"/>'),
        ("<TiffData/>", '<TiffData IFD="4000000000" PlaneCount="1"/>'),
        ('SizeZ="3" SizeC="1" SizeT="1"><TiffData/>',
         f'SizeZ="4000000000" SizeC="1" SizeT="1"><TiffData IFD="0" PlaneCount="3"/>{SETS}'),
    ],
    ids=["planes", "columns", "pages", "number", "set"],
)  # fmt: skip
def test_planes_that_no_file_holds_are_refused_and_the_pages_are_read(tmp_path, old, new):
    path, planes = tmp_path / "a.tif", make_volume((3, 8, 9))
    write_pages(path, planes, OME)
    np.testing.assert_array_equal(imread(path).compute(), planes)
    write_pages(path, planes, OME.replace(old, new))
    with pytest.raises(TiffReadError, match=r"a\.tif.*counts \d+,\d\d\d.*pages=\"all\""):
        imread(path)
    np.testing.assert_array_equal(imread(path, pages="all").compute(), planes)
