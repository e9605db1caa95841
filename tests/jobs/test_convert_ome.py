"""``convert --ome``: TIFFs of any axes become OME-Zarr, planned and resumed as arrays are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from helpers import make_volume, write_channels, write_planes

import scout_dask_io as io
from scout_dask_io.cli import main
from scout_dask_io.errors import ArgumentError, WriteError
from scout_dask_io.jobs.convert import convert, plan_convert
from scout_dask_io.jobs.verify import verify
from scout_dask_io.store import local_transaction as sinks

BOTH = make_volume((2, 9, 70, 50))


LEVELS = "levels    2: 2 x 9 x 70 x 50, 2 x 5 x 35 x 25"


def run(capsys: Any, *args: Any, code: int = 0) -> tuple[str, str]:
    """Run a command in this process, and give what it prints and its errors."""
    with pytest.raises(SystemExit) as done:
        main([*map(str, args)])
    out, err = capsys.readouterr()
    assert done.value.code == code, err
    return out, err


@pytest.fixture
def brain(tmp_path: Path) -> Path:
    """Give a dataset of two channels, ``BOTH``."""
    write_channels(tmp_path / "brain", BOTH, names=["c0_syto", "c1_sox2"])
    return tmp_path / "brain"


@pytest.mark.parametrize("options", [{}, {"qc": True}, {"ome": True}, {"ome": True, "qc": True}])
def test_tifffile_looks_at_the_first_plane_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
):
    write_planes(
        tmp_path / "p", BOTH[0], imagej=True, resolution=(0.5, 0.5),
        metadata={"unit": "um", "spacing": 4.0},
    )  # fmt: skip
    names = []
    open_file = tifffile.TiffFile.__init__

    def counted(tif: tifffile.TiffFile, *args: Any, **more: Any) -> None:
        names.append(more["name"])
        open_file(tif, *args, **more)

    monkeypatch.setattr(tifffile.TiffFile, "__init__", counted)
    report = convert(tmp_path / "p", tmp_path / "a.zarr", **options)
    assert names == ["z0000.tif"]
    assert report.plan.voxel_size is not None
    assert report.plan.voxel_size.micrometres == (4, 2, 2)


@pytest.mark.parametrize(("zarr_format", "version"), [(2, "0.4"), (3, "0.5")])
def test_a_dataset_becomes_an_image_with_names_and_scales(
    brain: Path, tmp_path: Path, zarr_format: int, version: str
):
    options: dict[str, Any] = {
        "ome": True, "levels": 3, "chunks": (4, 16, 16), "voxel_size": (4, 2, 2),
        "zarr_format": zarr_format, "shards": (8, 32, 32) if zarr_format == 3 else None,
    }  # fmt: skip
    plan = plan_convert(brain, tmp_path / "a.zarr", **options)
    report = convert(brain, tmp_path / "a.zarr", **options)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    attributes = dict(group.attrs)
    image = attributes["ome"] if version == "0.5" else attributes
    (multiscale,) = image["multiscales"]
    assert (image if version == "0.5" else multiscale)["version"] == version
    assert [c["label"] for c in image["omero"]["channels"]] == ["c0_syto", "c1_sox2"]
    steps = [d["coordinateTransformations"][0]["scale"] for d in multiscale["datasets"]]
    assert steps == [[1, 4, 2, 2], [1, 4, 4, 4], [1, 8, 8, 8]]
    np.testing.assert_array_equal(group["0"][...], BOTH)
    shapes = ((2, 9, 70, 50), (2, 9, 35, 25), (2, 5, 18, 13))
    assert report.levels == plan.levels == shapes
    assert (report.shape, report.chunks, report.dtype) == (shapes[0], (1, 4, 16, 16), "uint16")
    assert report.n_chunks == sum(group[str(n)].nchunks for n in range(3))
    assert group["1"].shards == ((1, 8, 32, 32) if zarr_format == 3 else None)
    assert report.nbytes == BOTH.nbytes
    there = [p for p in (tmp_path / "a.zarr").rglob("*") if p.is_file()]
    assert plan.n_files == len(there)
    assert plan.channels == ("c0_syto", "c1_sox2")


def test_the_command_prints_the_plan_and_the_levels(brain: Path, tmp_path: Path, capsys):
    args = ["convert", brain, tmp_path / "a.zarr", "--ome", "--levels", 2, "--chunks", "4,16,16"]
    planned, _ = run(capsys, *args, "--dry-run")
    assert LEVELS in planned
    assert not (tmp_path / "a.zarr").exists()
    done, _ = run(capsys, *args, "-q", "--json")
    assert json.loads(done)["levels"] == [[2, 9, 70, 50], [2, 5, 35, 25]]
    _, err = run(capsys, *args, code=1)
    assert "--overwrite" in err
    text, _ = run(capsys, *args, "--overwrite")
    assert LEVELS in text


def test_an_interrupted_image_is_resumed_and_says_so(brain: Path, tmp_path: Path, monkeypatch):
    options: dict[str, Any] = {"ome": True, "levels": 3, "chunks": (2, 16, 16), "nb_workers": 1}
    whole = convert(brain, tmp_path / "whole.zarr", **options)
    real, written = sinks.write_file, []

    def failing(where: str, *args: Any, **kwargs: Any) -> None:
        if len(written) >= whole.n_chunks * 3 // 4:
            raise OSError(28, "No space left on device")
        written.append(where)
        real(where, *args, **kwargs)

    monkeypatch.setattr(sinks, "write_file", failing)
    with pytest.raises(WriteError):
        convert(brain, tmp_path / "a.zarr", **options)
    monkeypatch.undo()
    assert plan_convert(brain, tmp_path / "a.zarr", **options, resume=True).resumes
    report = convert(brain, tmp_path / "a.zarr", **options, resume=True)
    assert 0 < report.n_resumed < report.n_units == whole.n_units
    for n in range(3):
        a, b = (zarr.open_array(tmp_path / d / str(n)) for d in ("a.zarr", "whole.zarr"))
        np.testing.assert_array_equal(a[...], b[...])
    report = convert(brain, tmp_path / "a.zarr", **options, resume=True)
    assert report.n_resumed == report.n_units == whole.n_units


def test_labels_keep_their_values(tmp_path: Path):
    labels = np.kron(make_volume((5, 30, 25), "u2") % 5 * 1000, np.ones((3, 3, 3), "u2"))
    write_planes(tmp_path / "p", labels)
    convert(tmp_path / "p", tmp_path / "a.zarr", ome=True, labels=True, levels=2)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert set(np.unique(group["1"][...])) <= {0, 1000, 2000, 3000, 4000}
    assert "image-label" in dict(group.attrs)


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("ZCYX", (4, 2, 30, 25), "czyx"),
        ("CYX", (3, 30, 25), "cyx"),
        ("TZYX", (3, 4, 30, 25), "tzyx"),
        ("TZCYX", (3, 4, 2, 30, 25), "tczyx"),
    ],
)
def test_imagej_axes_are_put_into_the_order_of_ome_zarr(tmp_path: Path, axes, shape, expected):
    stack = make_volume(shape)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": axes})
    convert(tmp_path / "a.tif", tmp_path / "a.zarr", ome=True, levels=2)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    found = [a["name"] for a in dict(group.attrs)["multiscales"][0]["axes"]]
    assert "".join(found) == expected
    turned = stack.transpose([axes.lower().index(a) for a in expected])
    np.testing.assert_array_equal(group["0"][...], turned)
    assert verify(tmp_path / "a.tif", tmp_path / "a.zarr").equal


def test_colour_samples_become_channels(tmp_path: Path):
    rgb = make_volume((5, 30, 25, 3), "u1")
    write_planes(tmp_path / "p", rgb, photometric="rgb")
    convert(tmp_path / "p", tmp_path / "a.zarr", ome=True, levels=1)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    np.testing.assert_array_equal(group["0"][...], np.moveaxis(rgb, -1, 0))
    assert verify(tmp_path / "p", tmp_path / "a.zarr").equal
    shown = dict(group.attrs)["omero"]["channels"]
    assert [c["label"] for c in shown] == ["red", "green", "blue"]
    assert [c["color"] for c in shown] == ["FF0000", "00FF00", "0000FF"]


def test_an_image_that_is_converted_keeps_names_and_colours(tmp_path: Path):
    io.write_ome_zarr(
        tmp_path / "a.zarr", make_volume((2, 5, 30, 25)), channels=["cells", "axons"],
        colors=["0000FF", "FF8000"], voxel_size=(4, 1.8, 1.8),
    )  # fmt: skip
    convert(tmp_path / "a.zarr", tmp_path / "b.zarr", ome=True, zarr_format=3)
    image = dict(zarr.open_group(tmp_path / "b.zarr", mode="r").attrs)["ome"]
    shown = [(c["label"], c["color"]) for c in image["omero"]["channels"]]
    assert shown == [("cells", "0000FF"), ("axons", "FF8000")]


def test_what_an_image_cannot_be_is_refused_before_anything_is_made(tmp_path: Path):
    multipage = tmp_path / "pages"
    multipage.mkdir()
    for name in "ab":
        tifffile.imwrite(
            multipage / f"{name}.tif", make_volume((4, 30, 25)), imagej=True,
            metadata={"axes": "ZYX"},
        )  # fmt: skip
    io.write_zarr(tmp_path / "six.zarr", make_volume((3, 4)).reshape(12))
    before = sorted(tmp_path.iterdir())
    for job in (convert, plan_convert):
        with pytest.raises(ArgumentError, match="ome=True"):
            job(multipage, tmp_path / "a.zarr", levels=3)
        with pytest.raises(ArgumentError, match="ome=True"):
            job(multipage, tmp_path / "a.zarr", labels=True)
        with pytest.raises(ArgumentError, match=r"holds stacks, .* what 'a' and 'b' are"):
            job(multipage, tmp_path / "a.zarr", ome=True)
        with pytest.raises(ArgumentError, match="2 to 5 axes"):
            job(tmp_path / "six.zarr", tmp_path / "a.zarr", ome=True)
        with pytest.raises(ArgumentError, match="zarr_format"):
            job(multipage / "a.tif", tmp_path / "a.zarr", ome=True, zarr_format=4)
    assert sorted(tmp_path.iterdir()) == before
