"""The sheet of the planes that a write leaves beside an array: what it says, when it is there."""

from __future__ import annotations

import html.parser
import json
import re
import xml.etree.ElementTree as ET
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask.array as da
import numpy as np
import pytest
import zarr
from helpers import make_volume, write_channels, write_planes
from PIL import Image

import scout_dask_io as io
from scout_dask_io.errors import ArgumentError, LayoutError, ResumeError, TargetExistsError
from scout_dask_io.jobs.convert import convert, plan_convert
from scout_dask_io.store import staging as publishing
from scout_dask_io.write.qc import run as qc_run

CHUNKS = (4, 16, 32)


def striking() -> np.ndarray:
    """Give a volume with a blank plane, two equal ones, and a saturated patch."""
    volume = make_volume((13, 70, 145))
    volume[4] = 9
    volume[7] = volume[2]
    volume[11, 20:30, 5:25] = 65535
    return volume


FINDINGS = [
    "1 plane is blank, every pixel is 9: z=4.",
    "2 planes are identical: z=2, 7.",
    "200 pixels are saturated at 65535, the largest value of uint16 (0.15 %), most at z=11 (2 %).",
]


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{path}.qc.json").read_text())
    return found


def check_sheet(path: Path) -> str:
    """Check that a sheet is well-formed and needs nothing but itself; give its text."""
    text = Path(f"{path}.qc.html").read_text()
    html.parser.HTMLParser().feed(text)
    root = ET.fromstring(text)
    pictures = [node.attrib["src"] for node in root.iter("img")]
    assert all(p.startswith("data:image/png;base64,") for p in pictures)
    without = re.sub(r"data:image/png;base64,[^\"]*", "", text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<link", without)
    return "".join(root.itertext())


def check_planes(found: dict[str, Any], volume: np.ndarray) -> None:
    """Check what is exact against numpy."""
    planes = volume.reshape(-1, *volume.shape[-2:])
    assert found["shape"] == list(volume.shape)
    assert found["planes"]["shape"] == list(volume.shape[:-2])
    assert found["planes"]["min"] == planes.min(axis=(1, 2)).tolist()
    assert found["planes"]["max"] == planes.max(axis=(1, 2)).tolist()
    assert found["planes"]["n_saturated"] == (planes == 65535).sum(axis=(1, 2)).tolist()
    step = found["sampled"]["means_percentiles_histogram"]
    sample = planes[:, :: step["every_nth_row"], :: step["every_nth_column"]]
    np.testing.assert_allclose(found["planes"]["mean"], sample.mean(axis=(1, 2)), atol=1e-4)


def test_a_folder_becomes_an_array_and_a_sheet_beside_it(tmp_path: Path) -> None:
    volume = striking()
    write_planes(tmp_path / "src" / "planes", volume)
    out = tmp_path / "out" / "a.zarr"
    report = convert(tmp_path / "src" / "planes", out, chunks=CHUNKS, qc=True, voxel_size=(4, 2, 2))
    np.testing.assert_array_equal(zarr.open_array(out, mode="r")[...], volume)
    assert names(out.parent) == ["a.zarr", "a.zarr.qc.html", "a.zarr.qc.json"]
    found = document(out)
    check_planes(found, volume)
    assert found["findings"] == FINDINGS
    assert found["blank"] == [[4]]
    assert found["duplicates"] == [{"planes": [[2], [7]], "compared": True}]
    assert found["saturation"] == {"value": 65535, "n": 200, "n_pixels": volume.size}
    assert found["source"] == str(tmp_path / "src" / "planes")
    assert (found["axes"], found["voxel_size_um"]) == ("zyx", [4, 2, 2])
    assert report.qc is not None
    assert (report.qc.data, report.qc.sheet) == (f"{out}.qc.json", f"{out}.qc.html")
    assert list(report.qc.findings) == FINDINGS
    text = check_sheet(out)
    assert all(sentence in text for sentence in FINDINGS)
    assert "13 x 70 x 145 uint16" in text
    assert io.verify(out).ok


def test_other_readers_of_the_array_and_of_its_folder_see_it_alone(tmp_path: Path) -> None:
    write_planes(tmp_path / "planes", striking())
    convert(tmp_path / "planes", tmp_path / "a.zarr", chunks=CHUNKS, qc=True)
    convert(tmp_path / "planes", tmp_path / "plain.zarr", chunks=CHUNKS)

    def inside(path: Path) -> list[str]:
        return sorted(p.relative_to(path).as_posix() for p in path.rglob("*"))

    assert inside(tmp_path / "a.zarr") == inside(tmp_path / "plain.zarr")


def test_an_ordinary_volume_has_a_sheet_that_says_so(tmp_path: Path) -> None:
    volume = make_volume((5, 40, 50))
    io.write_zarr(tmp_path / "a.zarr", volume, CHUNKS, qc=True)
    assert document(tmp_path / "a.zarr")["findings"] == []
    assert "Nothing stands out" in check_sheet(tmp_path / "a.zarr")


@pytest.mark.parametrize("max_mem", [None, 120_000])
@pytest.mark.parametrize(
    "blocks", [(8, 32, 64), (5, 17, 145), (1, 70, 145)], ids=["blocks", "gather", "planes"]
)
def test_every_route_and_unit_gives_the_same(
    tmp_path: Path, blocks: tuple[int, ...], max_mem: int | None
) -> None:
    volume = striking()
    lazy = da.from_array(volume, chunks=blocks) + np.uint16(0)
    io.write_zarr(tmp_path / "a.zarr", lazy, CHUNKS, qc=True, max_mem=max_mem, nb_workers=2)
    io.write_zarr(tmp_path / "b.zarr", volume, (13, 70, 145), qc=True)
    found, other = document(tmp_path / "a.zarr"), document(tmp_path / "b.zarr")
    check_planes(found, volume)
    for key in ("array", "written", "source"):
        del found[key], other[key]
    assert found == other


def test_shards_are_gathered_as_chunks_are(tmp_path: Path) -> None:
    volume = striking()
    io.write_zarr(tmp_path / "a.zarr", volume, CHUNKS, zarr_format=3, shards=(8, 32, 64), qc=True)
    check_planes(document(tmp_path / "a.zarr"), volume)
    assert document(tmp_path / "a.zarr")["findings"] == FINDINGS


def test_channels_are_told_apart_by_name(tmp_path: Path) -> None:
    volume = np.stack([striking(), make_volume((13, 70, 145), seed=3)])
    volume[1, 5] = volume[0, 3]
    volume[1, 9] = 0
    write_channels(tmp_path / "brain", volume)
    convert(tmp_path / "brain", tmp_path / "a.zarr", chunks=CHUNKS, qc=True)
    found = document(tmp_path / "a.zarr")
    check_planes(found, volume)
    assert found["channels"] == ["color_0", "color_1"]
    assert found["findings"][0] == (
        "2 planes are blank, all pixels have one value: color_0 z=4; color_1 z=9."
    )
    assert "2 planes are identical: color_0 z=3; color_1 z=5." in found["findings"]
    text = check_sheet(tmp_path / "a.zarr")
    assert "color_0" in text
    assert len(found["histogram"]["counts"]) == 2


def test_an_image_has_a_sheet_of_its_full_level(tmp_path: Path) -> None:
    volume = striking()
    write_planes(tmp_path / "planes", volume)
    report = convert(
        tmp_path / "planes", tmp_path / "a.ome.zarr", ome=True, levels=2, chunks=CHUNKS, qc=True
    )
    assert len(report.levels) == 2
    check_planes(document(tmp_path / "a.ome.zarr"), volume)
    assert document(tmp_path / "a.ome.zarr")["findings"] == FINDINGS
    assert names(tmp_path) == [
        "a.ome.zarr", "a.ome.zarr.qc.html", "a.ome.zarr.qc.json", "planes"
    ]  # fmt: skip


def test_filled_planes_are_named_as_such_and_not_as_blank(tmp_path: Path) -> None:
    volume = striking()
    paths = write_planes(tmp_path / "planes", volume)
    for k in (5, 6):
        paths[k].write_bytes(b"")
    with pytest.warns(UserWarning, match="cannot be read"):
        convert(tmp_path / "planes", tmp_path / "a.zarr", chunks=CHUNKS, missing="fill", qc=True)
    found = document(tmp_path / "a.zarr")
    assert found["findings"][0].startswith(
        "2 planes could not be read and hold the fill value: z=5, 6 (z0005.tif:"
    )
    assert found["findings"][1:] == FINDINGS
    assert found["blank"] == [[4]]
    assert [f["plane"] for f in found["filled"]] == [[5], [6]]
    assert "not read" in check_sheet(tmp_path / "a.zarr")


def test_what_is_not_finite_is_a_finding_and_valid_json(tmp_path: Path) -> None:
    volume = make_volume((5, 40, 50), "f4")
    volume[1, 3, 4:7] = np.nan
    volume[3] = np.nan
    io.write_zarr(tmp_path / "a.zarr", volume, CHUNKS, qc=True)
    text = Path(tmp_path / "a.zarr.qc.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert found["findings"] == ["2,003 pixels are NaN or infinite (20 %), in 2 planes: z=1, 3."]
    assert found["planes"]["n_not_finite"] == [0, 3, 0, 2000, 0]
    assert found["planes"]["min"][3] is None
    assert found["planes"]["min"][1] == pytest.approx(float(np.nanmin(volume[1])))
    assert found["blank"] == []
    check_sheet(tmp_path / "a.zarr")


@pytest.mark.parametrize("dtype", ["bool", "u1", "i2", "i4", "u8", "f4", "f8"])
def test_every_dtype_has_a_sheet(tmp_path: Path, dtype: str) -> None:
    volume = make_volume((5, 40, 50), dtype)
    io.write_zarr(tmp_path / "a.zarr", volume, CHUNKS, qc=True)
    found = document(tmp_path / "a.zarr")["planes"]
    assert found["max"] == volume.max(axis=(1, 2)).tolist()
    check_sheet(tmp_path / "a.zarr")


@pytest.mark.parametrize("shape", [(40, 50), (5, 1, 1), (3, 2, 40, 50), (2, 3, 4, 20, 30)])
def test_other_numbers_of_axes_have_sheets_too(tmp_path: Path, shape: tuple[int, ...]) -> None:
    volume = make_volume(shape)
    io.write_zarr(tmp_path / "a.zarr", volume, (4, 16, 16)[-volume.ndim :], qc=True)
    check_planes(document(tmp_path / "a.zarr"), volume)
    check_sheet(tmp_path / "a.zarr")


def test_a_sheet_is_the_same_each_time_and_says_what_is_drawn(tmp_path: Path) -> None:
    sheets = []
    for _ in range(2):
        io.write_zarr(tmp_path / "a.zarr", striking(), CHUNKS, qc=True, overwrite=True)
        sheets.append((tmp_path / "a.zarr.qc.html").read_text())
    found, want = (re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", text) for text in sheets)
    assert found == want
    # What is drawn has a text for those who cannot see it.
    assert re.findall('<svg role="img" aria-label="([^"]*)"', found) == [
        "Maxima along z, x and y; voxels drawn as cubes", "Histogram of a sample", "Intensity",
        "Largest", "Least", "Saturated at 65,535, per cent of the pixels",
    ]  # fmt: skip


def test_the_projections_are_of_the_brightness_of_the_pixels(tmp_path: Path) -> None:
    volume = np.zeros((3, 40, 50), "u1")
    volume[1] = np.linspace(0, 250, 2000).reshape(40, 50)
    io.write_zarr(tmp_path / "a.zarr", volume, CHUNKS, qc=True)
    pictures = re.findall(r'base64,([^"]*)"', (tmp_path / "a.zarr.qc.html").read_text())
    xy, zy, zx = (np.asarray(Image.open(BytesIO(b64decode(text)))) for text in pictures)
    assert (xy.shape, zy.shape, zx.shape) == ((40, 50), (40, 3), (3, 50))
    low, high = np.percentile(volume.max(axis=0), (0.5, 99.8))
    want = np.clip((volume.max(axis=0) - low) / (high - low), 0, 1) ** 0.7 * 255
    np.testing.assert_allclose(xy, want, atol=0.51)
    assert not zy[:, [0, 2]].any()
    np.testing.assert_array_equal(zx[1], xy.max(axis=0))


def test_a_constant_volume_is_blank_throughout(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "a.zarr", np.full((20, 40, 50), 3, "u2"), CHUNKS, qc=True)
    found = document(tmp_path / "a.zarr")
    assert found["findings"] == ["20 planes are blank, every pixel is 3: z=0 to 19."]
    check_sheet(tmp_path / "a.zarr")


def test_a_plane_that_is_saturated_throughout_is_a_hundred_per_cent_of_it(tmp_path: Path) -> None:
    volume = make_volume((5, 40, 50))
    volume[2] = 65535
    io.write_zarr(tmp_path / "a.zarr", volume, CHUNKS, qc=True)
    found = document(tmp_path / "a.zarr")["findings"]
    assert found[-1] == (
        "2,000 pixels are saturated at 65535, the largest value of uint16 (20 %), "
        "most at z=2 (100 %)."
    )


@pytest.mark.in_process
def test_planes_that_agree_in_all_that_was_gathered_are_compared(tmp_path: Path) -> None:
    # Two rows that change places: none is of the grid.
    volume = np.zeros((4, 80, 80), "u2")
    volume[0, 1, 8:12] = 7
    volume[1, 3, 8:12] = 7
    volume[2, 3, 8:12] = 7
    volume[3] = make_volume((80, 80))
    io.write_zarr(tmp_path / "a.zarr", volume, (4, 80, 80), qc=True)
    assert document(tmp_path / "a.zarr")["duplicates"] == [{"planes": [[1], [2]], "compared": True}]
    with patch.object(qc_run, "PROOF_NBYTES", 0):
        io.write_zarr(tmp_path / "b.zarr", volume, (4, 80, 80), qc=True)
    assert document(tmp_path / "b.zarr")["findings"] == [
        "3 planes are probably identical (not every pixel was compared): z=0 to 2."
    ]


class _Stop(Exception):
    pass


def interrupted(after: int) -> Any:
    """Give a report of progress that stops the write after so many units."""

    def report(finished: int, total: int, nbytes: int) -> None:
        if finished == after:
            raise _Stop

    return report


@pytest.mark.parametrize("ome", [False, True])
def test_the_sheet_of_a_resumed_run_is_whole(tmp_path: Path, ome: bool) -> None:
    volume = striking()
    write_planes(tmp_path / "planes", volume)
    options: dict[str, Any] = {"chunks": CHUNKS, "ome": ome, "qc": True, "nb_workers": 1}
    options |= {"levels": 2} if ome else {}
    convert(tmp_path / "planes", tmp_path / "whole.zarr", **options)
    out = tmp_path / "a.zarr"
    with pytest.raises(_Stop):
        convert(tmp_path / "planes", out, **options, progress=interrupted(3))
    assert names(tmp_path) == [
        ".a.zarr.scout-partial", "planes", "whole.zarr", "whole.zarr.qc.html", "whole.zarr.qc.json"
    ]  # fmt: skip
    with pytest.raises(ResumeError, match="qc was True, is False"):
        convert(tmp_path / "planes", out, **{**options, "qc": False}, resume=True)
    report = convert(tmp_path / "planes", out, **options, resume=True)
    assert 3 <= report.n_resumed < report.n_units
    found, want = document(out), document(tmp_path / "whole.zarr")
    for key in ("array", "written"):
        del found[key], want[key]
    assert found == want
    assert found["findings"] == FINDINGS
    assert ".a.zarr.scout-partial" not in names(tmp_path)
    # Nothing is left to do, and what it found is still told.
    again = convert(tmp_path / "planes", out, **options, resume=True)
    assert again.qc is not None
    assert list(again.qc.findings) == FINDINGS


def test_a_run_that_fails_at_once_leaves_nothing(tmp_path: Path) -> None:
    def broken(block: np.ndarray) -> np.ndarray:
        raise _Stop

    lazy = da.zeros((4, 40, 50), chunks=(4, 40, 50), dtype="u2").map_blocks(broken, dtype="u2")
    with pytest.raises(_Stop):
        io.write_zarr(tmp_path / "a.zarr", lazy, CHUNKS, qc=True)
    assert names(tmp_path) == []


@pytest.mark.in_process
def test_a_kill_between_the_array_and_its_sheet_is_mended_by_resuming(tmp_path: Path) -> None:
    volume = striking()
    out = tmp_path / "a.zarr"
    with (
        patch.object(publishing, "move_beside", side_effect=OSError(5, "Input/output error")),
        pytest.raises(io.WriteError, match="stands, whole, but not what lies beside it"),
    ):
        io.write_zarr(out, volume, CHUNKS, qc=True)
    np.testing.assert_array_equal(zarr.open_array(out, mode="r")[...], volume)
    assert names(tmp_path) == [".a.zarr.scout-partial", "a.zarr"]
    io.write_zarr(out, volume, CHUNKS, qc=True, resume=True)
    assert names(tmp_path) == ["a.zarr", "a.zarr.qc.html", "a.zarr.qc.json"]
    assert document(out)["findings"] == FINDINGS


def test_a_sheet_that_stands_is_replaced_with_its_array_alone(tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    io.write_zarr(out, striking(), CHUNKS, qc=True)
    before = Path(f"{out}.qc.html").read_bytes()
    with pytest.raises(TargetExistsError):
        io.write_zarr(out, make_volume((5, 40, 50)), CHUNKS, qc=True)
    with pytest.raises(_Stop):
        io.write_zarr(out, make_volume((50, 40, 50)), CHUNKS, qc=True, overwrite=True,
                      nb_workers=1, progress=interrupted(2))  # fmt: skip
    assert Path(f"{out}.qc.html").read_bytes() == before
    io.write_zarr(out, make_volume((5, 40, 50)), CHUNKS, qc=True, overwrite=True)
    assert document(out)["findings"] == []


def test_a_sheet_without_its_array_is_not_replaced_unless_that_is_said(tmp_path: Path) -> None:
    write_planes(tmp_path / "planes", striking())
    (tmp_path / "a.zarr.qc.json").write_text('{"format": "scout-dask-io qc"}')
    for call in (convert, plan_convert):
        with pytest.raises(TargetExistsError, match="already tells of the planes"):
            call(tmp_path / "planes", tmp_path / "a.zarr", chunks=CHUNKS, qc=True)
    assert names(tmp_path) == ["a.zarr.qc.json", "planes"]
    convert(tmp_path / "planes", tmp_path / "a.zarr", chunks=CHUNKS, qc=True, overwrite=True)
    assert document(tmp_path / "a.zarr")["findings"] == FINDINGS


def test_a_file_of_another_kind_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.zarr.qc.html").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(TargetExistsError, match="not a file of this library"):
            io.write_zarr(tmp_path / "a.zarr", striking(), CHUNKS, qc=True, overwrite=overwrite)
    assert names(tmp_path) == ["a.zarr.qc.html"]
    assert (tmp_path / "a.zarr.qc.html").read_text() == "mine"


def test_an_old_sheet_that_stays_is_a_warning(tmp_path: Path) -> None:
    write_planes(tmp_path / "planes", striking())
    convert(tmp_path / "planes", tmp_path / "a.zarr", chunks=CHUNKS, qc=True)
    with pytest.warns(UserWarning, match=r"a\.zarr\.qc\.html tells of the array that is replaced"):
        convert(tmp_path / "planes", tmp_path / "a.zarr", chunks=CHUNKS, overwrite=True)


@pytest.mark.parametrize(
    ("data", "more", "match"),
    [
        (np.zeros(50, "u2"), {}, "tells of planes"),
        (np.zeros((4, 0, 5), "u2"), {}, "tells of planes"),
        (np.zeros((4, 5, 6), "c8"), {}, "tells of planes"),
        (np.zeros((4, 5, 6), "u2"), {"path": "s3://bucket"}, "is a whole bucket"),
        (np.zeros((4, 5, 6), "u2"), {"region": (slice(0, 4),) * 3}, "region goes with none"),
    ],
)
def test_what_cannot_have_a_sheet_is_refused_and_nothing_is_created(
    tmp_path: Path, data: np.ndarray, more: dict[str, Any], match: str
) -> None:
    path = more.pop("path", tmp_path / "a.zarr")
    with pytest.raises(ArgumentError, match=match):
        io.write_zarr(path, data, 4, qc=True, **more)
    assert names(tmp_path) == []


def test_colour_samples_are_no_planes_unless_they_become_channels(tmp_path: Path) -> None:
    io.imsave(tmp_path / "rgb.tif", np.zeros((4, 5, 6), "u1"))
    import tifffile

    tifffile.imwrite(tmp_path / "rgb.tif", make_volume((40, 50, 3), "u1"), photometric="rgb")
    with pytest.raises(ArgumentError, match=r"axes 'yxs'.* give ome=True"):
        convert(tmp_path / "rgb.tif", tmp_path / "a.zarr", qc=True)
    assert names(tmp_path) == ["rgb.tif"]
    convert(tmp_path / "rgb.tif", tmp_path / "a.ome.zarr", qc=True, ome=True)
    assert document(tmp_path / "a.ome.zarr")["axes"] == "cyx"


def test_a_damaged_json_file_is_named(tmp_path: Path) -> None:
    write_planes(tmp_path / "planes", striking())
    convert(tmp_path / "planes", tmp_path / "a.zarr", chunks=CHUNKS, qc=True)
    (tmp_path / "a.zarr.qc.json").write_text("{")
    with pytest.raises(LayoutError, match=r"a\.zarr\.qc\.json is damaged"):
        convert(tmp_path / "planes", tmp_path / "a.zarr", chunks=CHUNKS, qc=True, resume=True)


def test_a_plan_says_where_the_sheet_would_lie(tmp_path: Path) -> None:
    write_planes(tmp_path / "planes", striking())
    plan = plan_convert(tmp_path / "planes", tmp_path / "a.zarr", qc=True)
    assert plan.qc_sheet == str(tmp_path / "a.zarr.qc.html")
    assert plan_convert(tmp_path / "planes", tmp_path / "a.zarr").qc_sheet == ""
    assert names(tmp_path) == ["planes"]


def test_a_delayed_write_has_its_sheet_when_it_is_computed(tmp_path: Path) -> None:
    delayed = io.write_zarr(tmp_path / "a.zarr", striking(), CHUNKS, qc=True, compute=False)
    assert not (tmp_path / "a.zarr.qc.json").exists()
    delayed.compute()
    assert document(tmp_path / "a.zarr")["findings"] == FINDINGS


def test_info_tells_where_the_sheet_lies(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "a.zarr", striking(), CHUNKS, qc=True)
    report = io.info(tmp_path / "a.zarr")
    assert report.qc_sheet == str(tmp_path / "a.zarr.qc.html")
    assert f"sheet       {tmp_path / 'a.zarr.qc.html'}" in report.render()
    io.write_zarr(tmp_path / "b.zarr", striking(), CHUNKS)
    assert io.info(tmp_path / "b.zarr").qc_sheet is None
