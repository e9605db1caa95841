"""Labels stay labels: no job averages them, and what is stated of them goes along."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import scout_dask_io as io
from scout_dask_io.cli import main
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import locate

#: Values that no mean of two is among.
VALUES = np.array([0, 1000, 1001, 7000], "u2")
CELLS = VALUES[np.random.default_rng(5).integers(0, 4, (7, 90, 70))]
RECORD = {
    "colors": [{"label-value": 7000, "rgba": [10, 20, 30, 255]}],
    "properties": [{"label-value": 7000, "class": "nucleus"}],
    "source": {"image": "../../"},
}


def attributes_of(place: Any) -> dict[str, Any]:
    """Give the attributes of a node of version 2 or 3, those of OME-Zarr at the top."""
    node = locate(place)
    raw = (node / "zarr.json").read()
    if raw is None:
        return dict(json.loads((node / ".zattrs").read() or b"{}"))
    found = dict(json.loads(raw)["attributes"])
    return found | found.get("ome", {})


def foreign(where: Path, kind: str) -> Path:
    """Make labels as other software has them, and give what is to be read."""
    seg = where / "scan.zarr/labels/seg"
    version = "0.5" if kind == "0.5" else "0.4"
    root = zarr.open_group(where / "scan.zarr", mode="w", zarr_format=3 if kind == "0.5" else 2)
    group = root.create_group("labels/seg")
    group.create_array("full", shape=CELLS.shape, dtype="u2", chunks=(7, 32, 32))[...] = CELLS
    said: dict[str, Any] = {
        "multiscales": [
            {
                "version": version,
                "axes": [{"name": a, "type": "space"} for a in "zyx"],
                "datasets": [
                    {
                        "path": "full",
                        "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}],
                    }
                ],
            }
        ]
    }
    if kind == "by its place":
        root["labels"].attrs["labels"] = ["seg"]
    else:
        said["image-label"] = {"version": version, **RECORD}
    group.attrs.update({"ome": {"version": version, **said}} if kind == "0.5" else said)
    return seg / "full" if kind == "a level" else seg


@pytest.mark.parametrize("kind", ["0.4", "0.5", "by its place", "a level"])
@pytest.mark.parametrize("job", ["convert", "pyramid", "write", "sliced", "array first"])
def test_labels_are_never_averaged(tmp_path: Path, kind: str, job: str) -> None:
    source, made = foreign(tmp_path, kind), tmp_path / "made.zarr"
    if job == "convert":
        io.convert(source, made, ome=True, levels=3, zarr_format=3 if kind == "0.5" else 2)
    elif job == "pyramid" and kind != "0.5":
        nested = tmp_path / "nested.zarr"
        io.convert(source, nested, chunks=(7, 32, 32))
        io.pyramid(nested, made, levels=3)
    elif job == "array first":
        io.convert(source, tmp_path / "plain.zarr", zarr_format=3)
        io.convert(tmp_path / "plain.zarr", made, ome=True, levels=3)
    else:
        data = io.read_zarr(source)
        io.write_ome_zarr(made, data[1:] if job == "sliced" else data, levels=3)
    for level in (1, 2):
        lower = io.read_zarr(made, level=level).compute()
        assert set(np.unique(lower)) <= set(VALUES.tolist())
    found = attributes_of(made)["image-label"]
    if kind in ("0.4", "0.5") and job != "sliced":
        assert {k: v for k, v in found.items() if k != "version"} == RECORD
    assert "image-label" in attributes_of(made / "1")
    # A level by its own path is one of labels too.
    io.convert(made / "0", tmp_path / "again.zarr", ome=True, levels=2)
    again = io.read_zarr(tmp_path / "again.zarr", level=1).compute()
    assert set(np.unique(again)) <= set(VALUES.tolist())


def test_whoever_says_that_labels_are_none_has_them_averaged(tmp_path: Path) -> None:
    source = foreign(tmp_path, "0.4")
    io.convert(source, tmp_path / "a.zarr", ome=True, levels=2, labels=False)
    lower = io.read_zarr(tmp_path / "a.zarr", level=1).compute()
    assert not set(np.unique(lower)) <= set(VALUES.tolist())
    assert "image-label" not in attributes_of(tmp_path / "a.zarr")


def test_a_folder_that_is_only_named_labels_says_nothing(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "labels/raw.zarr", CELLS, (7, 32, 32))
    io.pyramid(tmp_path / "labels/raw.zarr", tmp_path / "a.zarr", levels=2)
    lower = io.read_zarr(tmp_path / "a.zarr", level=1).compute()
    assert not set(np.unique(lower)) <= set(VALUES.tolist())


def test_labels_at_a_url_stay_labels(tmp_path: Path) -> None:
    place = f"memory://{uuid.uuid4().hex}"
    io.convert(foreign(tmp_path, "by its place"), tmp_path / "a.zarr", ome=True, levels=1)
    io.convert(tmp_path / "a.zarr", f"{place}/a.zarr", ome=True, levels=1)
    io.pyramid(f"{place}/a.zarr", f"{place}/b.zarr", levels=3)
    assert set(np.unique(io.read_zarr(f"{place}/b.zarr", level=2).compute())) <= set(
        VALUES.tolist()
    )
    assert "image-label" in attributes_of(f"{place}/b.zarr")


def test_no_level_of_an_exported_pyramid_averages_labels(tmp_path: Path) -> None:
    big = np.kron(CELLS[:2], np.ones((1, 4, 5), "u2"))
    io.write_ome_zarr(tmp_path / "a.zarr", big, levels=1, labels=True)
    io.export(tmp_path / "a.zarr", tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        levels = [level.asarray() for level in tif.series[0].levels]
    assert len(levels) > 1
    assert all(set(np.unique(level)) <= set(VALUES.tolist()) for level in levels)


def test_a_picture_shows_labels_and_no_mean_of_them(tmp_path: Path) -> None:
    fine = VALUES[np.random.default_rng(6).integers(0, 2, (1, 300, 400))]
    io.write_ome_zarr(tmp_path / "a.zarr", fine, levels=1, labels=True)
    shown = io.preview(str(tmp_path / "a.zarr"), size=64, percentiles=(0, 100))
    io.write_ome_zarr(tmp_path / "b.zarr", fine, levels=1, labels=False)
    meant = io.preview(str(tmp_path / "b.zarr"), size=64, percentiles=(0, 100))
    assert shown.limits == ((0.0, 1000.0),)
    assert meant.limits != shown.limits


def run(line: list[str]) -> int:
    """Run the command line, and give its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(line)
    return int(ended.value.code or 0)


def image_with_labels(place: str | Path) -> np.ndarray:
    """Make an image of two channels with two labels, and give the first."""
    raw = np.stack([CELLS, CELLS // 2])
    io.write_ome_zarr(place, raw, (4, 32, 32), levels=3, voxel_size=(3, 1, 1))
    cells = CELLS.astype("u4")
    io.write_labels(place, "cells", cells, colors={7000: "0A141E"})
    io.write_labels(place, "mask", cells > 0)
    return cells


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_labels_of_an_image_go_along_when_asked(tmp_path: Path, zarr_format: int) -> None:
    cells = image_with_labels(tmp_path / "a.zarr")
    made = tmp_path / "b.zarr"
    report = io.convert(
        tmp_path / "a.zarr", made, ome=True, labels_too=True, levels=3, zarr_format=zarr_format
    )
    assert "cells, mask, which go along" in report.render()
    assert io.info(made).labels == ("cells", "mask")
    np.testing.assert_array_equal(io.read_zarr(made, label="cells").compute(), cells)
    kept = attributes_of(made / "labels/cells")["image-label"]
    assert kept["colors"] == [{"label-value": 7000, "rgba": [10, 20, 30, 255]}]
    assert kept["source"] == {"image": "../../"}
    for level in (1, 2):
        image, label = (io.read_zarr(made, level=level, label=name) for name in (None, "cells"))
        assert label.shape == image.shape[1:]


def test_labels_that_are_left_are_told_of(tmp_path: Path, capsys: Any) -> None:
    image_with_labels(tmp_path / "a.zarr")
    assert run(["convert", str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr"), "--ome"]) == 0
    out = capsys.readouterr().out
    assert "cells, mask are left: --labels-too takes them along" in out
    assert not (tmp_path / "b.zarr/labels").exists()
    for options, told in (({"ome": True}, "lists no labels"), ({}, "ome=True")):
        with pytest.raises(ArgumentError, match=told):
            io.convert(tmp_path / "b.zarr", tmp_path / "c.zarr", labels_too=True, **options)
    assert not (tmp_path / "c.zarr").exists()


@pytest.mark.parametrize("kind", ["pages", "imagej", "zarr", "with a channel"])
def test_the_command_puts_a_segmentation_below_its_image(
    tmp_path: Path, kind: str, capsys: Any
) -> None:
    image_with_labels(tmp_path / "a.zarr")
    seg, source = (CELLS // 3).astype("u2"), tmp_path / "seg.tif"
    if kind == "pages":
        tifffile.imwrite(source, seg)
    elif kind == "imagej":
        tifffile.imwrite(source, seg, imagej=True, metadata={"axes": "ZYX"})
    elif kind == "zarr":
        source = tmp_path / "seg.zarr"
        io.write_zarr(source, seg)
    else:
        source = tmp_path / "seg.ome.zarr"
        io.write_ome_zarr(source, seg[None], levels=1, labels=True)
    line = ["convert", str(source), "--into", str(tmp_path / "a.zarr"), "--label", "new"]
    assert run([*line, "--dry-run"]) == 0
    assert not (tmp_path / "a.zarr/labels/new").exists()
    assert run(line) == 0
    out = capsys.readouterr().out
    assert "a.zarr/labels/new" in out
    assert io.info(tmp_path / "a.zarr").labels == ("cells", "mask", "new")
    made = io.read_zarr(tmp_path / "a.zarr", label="new")
    np.testing.assert_array_equal(made.compute(), seg)
    assert run(line) == 1
    assert run([*line, "--overwrite", "-q"]) == 0
    if kind == "pages":
        assert run(["verify", str(source), str(tmp_path / "a.zarr/labels/new")]) == 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--label", "x"], "go together"),
        (["--into", "i.zarr"], "go together"),
        (["b.zarr", "--into", "i.zarr", "--label", "x"], "one of the two"),
        ([], "Give DST"),
        (["--into", "i.zarr", "--label", "x", "--levels", "2"], "--levels"),
        (["--into", "none.zarr", "--label", "x"], "none.zarr"),
    ],
)
def test_where_labels_go_is_said_in_one_way(
    tmp_path: Path, monkeypatch: Any, capsys: Any, more: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    image_with_labels("i.zarr")
    tifffile.imwrite("seg.tif", CELLS)
    assert run(["convert", "seg.tif", *more]) != 0
    assert told in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i.zarr", "seg.tif"]
