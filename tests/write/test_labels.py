"""Labels below an image: listed for its readers, and laid upon its levels."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

import scout_dask_io as io
from scout_dask_io.core.image_info import label_color
from scout_dask_io.errors import (
    ArgumentError,
    PathNotFoundError,
    ScoutIOError,
    ShapeMismatchError,
    TargetExistsError,
)
from scout_dask_io.files.location import locate

RAW = np.random.default_rng(3).integers(0, 4000, (2, 6, 60, 44)).astype("u2")
CELLS = np.random.default_rng(4).choice(np.array([0, 900, 901, 70_000], "u4"), RAW.shape[1:])


def said(place: str | Path, **options: Any) -> dict[str, Any]:
    """Give what a group says by OME-Zarr."""
    node = locate(place, options.get("storage_options"))
    raw = (node / "zarr.json").read()
    if raw is not None:
        return dict(json.loads(raw)["attributes"]["ome"])
    assert (node / ".zgroup").read() is not None
    return dict(json.loads((node / ".zattrs").read() or b"{}"))


def image(place: str | Path, version: str = "0.4", **options: Any) -> str:
    io.write_ome_zarr(
        place, RAW, (3, 16, 16), levels=3, voxel_size=(4, 2, 2), version=version,
        channels=["a", "b"], **options,
    )  # fmt: skip
    return str(place)


@pytest.fixture(params=["disk", "memory", "s3"])
def new_place(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[], tuple[str, dict[str, Any]]]:
    """Give places where nothing lies yet, and what it takes to reach them."""

    def give() -> tuple[str, dict[str, Any]]:
        name = f"{uuid.uuid4().hex}.zarr"
        if request.param == "disk":
            return str(tmp_path / name), {}
        if request.param == "memory":
            return f"memory://{name}", {}
        lab = request.getfixturevalue("lab")
        return f"s3://{lab.bucket}/{name}", {"storage_options": lab.options}

    return give


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_lie_upon_their_image(new_place: Any, version: str) -> None:
    place, options = new_place()
    image(place, version, **options)
    io.write_labels(place, "cells", CELLS, colors=True, **options)
    io.write_labels(place, "mask", da.from_array(CELLS > 0, chunks=(2, 30, 30)), **options)
    assert said(f"{place}/labels", **options)["labels"] == ["cells", "mask"]
    own, of_image = said(f"{place}/labels/cells", **options), said(place, **options)
    assert own["image-label"]["source"] == {"image": "../../"}
    colors = {c["label-value"]: tuple(c["rgba"]) for c in own["image-label"]["colors"]}
    assert set(colors) == {900, 901, 70_000}
    assert len(set(colors.values())) == 3
    ours, theirs = own["multiscales"][0], of_image["multiscales"][0]
    assert ours["axes"] == theirs["axes"][1:]
    for n, (mine, full) in enumerate(zip(ours["datasets"], theirs["datasets"], strict=True)):
        for a, b in zip(
            mine["coordinateTransformations"], full["coordinateTransformations"], strict=True
        ):
            assert a[a["type"]] == b[b["type"]][1:]
        shape = io.read_zarr(place, level=n, **options).shape
        lower = io.read_zarr(place, level=n, label="cells", **options)
        assert lower.shape == shape[1:]
        assert set(np.unique(lower.compute())) <= set(np.unique(CELLS).tolist())
    full = io.read_zarr(f"{place}/labels/cells", **options)
    np.testing.assert_array_equal(full.compute(), CELLS)
    mask = io.read_zarr(place, label="mask", **options).compute()
    np.testing.assert_array_equal(mask, (CELLS > 0).astype("u1"))
    report = io.info(place, **options)
    assert report.labels == ("cells", "mask")
    assert "cells, mask" in report.render()
    assert io.verify(place, **options).ok


@pytest.mark.compat
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_hold_against_the_specification(tmp_path: Path, version: str) -> None:
    models = pytest.importorskip(f"ome_zarr_models.v{version.replace('.', '')}.image_label")
    place = image(tmp_path / "a.zarr", version)
    io.write_labels(place, "cells", CELLS, colors={900: "FF0000", 901: (1, 2, 3)})
    models.ImageLabel.from_zarr(zarr.open_group(f"{place}/labels/cells", mode="r"))
    assert zarr.open_group(f"{place}/labels", mode="r")["cells/0"].shape == CELLS.shape


def test_labels_of_a_foreign_image_follow_its_levels_and_units(tmp_path: Path) -> None:
    place = tmp_path / "a.zarr"
    group = zarr.open_group(place, mode="w", zarr_format=2)
    shapes = [(1, 1, 5, 40, 33), (1, 1, 5, 20, 16), (1, 1, 5, 10, 8)]
    steps = [
        [
            {"type": "scale", "scale": [9.0, 1.0, 3.0, 2.0 * 2**n, 2.0 * 2**n]},
            {"type": "translation", "translation": [0, 0, 100.0, 50.0, 25.0]},
        ]
        for n in range(3)
    ]
    for n, shape in enumerate(shapes):
        group.create_array(f"s{n}", shape=shape, dtype="u1", chunks=(1, 1, 5, 16, 16))
    axes = [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "c", "type": "channel"},
        *({"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"),
    ]
    datasets = [{"path": f"s{n}", "coordinateTransformations": own} for n, own in enumerate(steps)]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    group.create_group("labels").attrs["labels"] = ["old"]
    cells = np.arange(5 * 40 * 33, dtype="i4").reshape(5, 40, 33)
    io.write_labels(place, "new", cells)
    assert said(place / "labels")["labels"] == ["old", "new"]
    ours = said(place / "labels/new")["multiscales"][0]
    assert ours["axes"] == axes[2:]
    for mine, theirs in zip(ours["datasets"], steps, strict=True):
        assert mine["coordinateTransformations"][0]["scale"] == theirs[0]["scale"][2:]
        assert mine["coordinateTransformations"][1]["translation"] == [100.0, 50.0, 25.0]
    assert io.read_zarr(place, level=1, label="new").shape == (5, 20, 17)
    # Each time point and channel too, where the data have them.
    io.write_labels(place, "whole", cells[None, None])
    io.write_labels(place, "timed", cells[None], axes="tzyx")
    assert [a["name"] for a in said(place / "labels/timed")["multiscales"][0]["axes"]] == list(
        "tzyx"
    )
    assert said(place / "labels")["labels"] == ["old", "new", "whole", "timed"]


@pytest.mark.parametrize(
    ("name", "data", "error", "told"),
    [
        ("cells", CELLS[:, :-1], ShapeMismatchError, r"\(6, 59, 44\).*\(6, 60, 44\)"),
        ("cells", CELLS[0], ShapeMismatchError, r"\(60, 44\)"),
        ("cells", CELLS.astype("f4"), ArgumentError, r"astype\('uint32'\)"),
        ("cells", np.ma.masked_equal(CELLS, 0), ArgumentError, r"data\.filled\(0\)"),
        ("a/b", CELLS, ArgumentError, "one folder"),
        ("..", CELLS, ArgumentError, "one folder"),
        (".cells", CELLS, ArgumentError, "one folder"),
        ("", CELLS, ArgumentError, "one folder"),
    ],
)
def test_what_is_no_label_of_the_image_is_refused(
    tmp_path: Path, name: str, data: Any, error: type[ScoutIOError], told: str
) -> None:
    place = image(tmp_path / "a.zarr")
    before = sorted(p.relative_to(place) for p in Path(place).rglob("*"))
    with pytest.raises(error, match=told):
        io.write_labels(place, name, data)
    assert sorted(p.relative_to(place) for p in Path(place).rglob("*")) == before


def test_the_ways_out_of_a_refusal_go(tmp_path: Path) -> None:
    place = image(tmp_path / "a.zarr")
    io.write_labels(place, "a", CELLS.astype("f4").astype("uint32"))
    io.write_labels(place, "b", np.ma.masked_equal(CELLS, 0).filled(0))
    np.testing.assert_array_equal(io.read_zarr(place, label="a").compute(), CELLS)


def test_what_is_no_image_has_no_labels(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "plain.zarr", CELLS)
    with pytest.raises(PathNotFoundError, match="no OME-Zarr image"):
        io.write_labels(tmp_path / "plain.zarr", "cells", CELLS)
    place = image(tmp_path / "a.zarr")
    io.write_labels(place, "cells", CELLS)
    with pytest.raises(PathNotFoundError, match="it lists the labels 'cells'"):
        io.read_zarr(place, label="cell")


def test_labels_are_replaced_when_that_is_asked_for_alone(new_place: Any) -> None:
    place, options = new_place()
    image(place, **options)
    io.write_labels(place, "cells", CELLS, **options)
    with pytest.raises(TargetExistsError):
        io.write_labels(place, "cells", CELLS + 1, **options)
    np.testing.assert_array_equal(io.read_zarr(place, label="cells", **options).compute(), CELLS)
    io.write_labels(place, "cells", CELLS + 1, overwrite=True, **options)
    assert said(f"{place}/labels", **options)["labels"] == ["cells"]
    found = io.read_zarr(place, label="cells", **options).compute()
    np.testing.assert_array_equal(found, CELLS + 1)
    np.testing.assert_array_equal(io.read_zarr(place, **options).compute(), RAW)


def test_labels_that_another_writer_put_there_are_listed(new_place: Any) -> None:
    place, options = new_place()
    image(place, **options)
    io.write_ome_zarr(f"{place}/labels/seg", CELLS, levels=2, **options)
    assert said(f"{place}/labels", **options)["labels"] == ["seg"]
    assert "image-label" in said(f"{place}/labels/seg", **options)


def test_labels_that_were_not_listed_any_more_are_by_a_resumed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scout_dask_io.write import ome_zarr

    place = image(tmp_path / "a.zarr")

    def killed(_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ome_zarr, "list_label", killed)
        with pytest.raises(KeyboardInterrupt):
            io.write_labels(place, "cells", CELLS)
    assert not (Path(place) / "labels/.zgroup").exists()
    io.write_labels(place, "cells", CELLS, resume=True)
    assert said(f"{place}/labels")["labels"] == ["cells"]


def test_a_delayed_write_lists_its_labels(tmp_path: Path) -> None:
    place = image(tmp_path / "a.zarr")
    later = io.write_labels(place, "cells", CELLS, compute=False)
    later.compute()
    assert said(f"{place}/labels")["labels"] == ["cells"]


def test_consolidated_metadata_that_hide_labels_are_told_of(tmp_path: Path) -> None:
    place = image(tmp_path / "a.zarr")
    zarr.consolidate_metadata(place)
    with pytest.warns(UserWarning, match="consolidated metadata"):
        io.write_labels(place, "cells", CELLS)


def test_colours_of_labels_are_distinct_and_always_the_same() -> None:
    colors = [tuple(label_color(n)) for n in range(1, 2001)]
    assert len(set(colors)) == len(colors)
    assert colors == [tuple(label_color(n)) for n in range(1, 2001)]


def test_writers_at_once_lose_no_name(tmp_path: Path) -> None:
    place = image(tmp_path / "a.zarr")
    names = [f"seg{n}" for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: io.write_labels(place, name, CELLS), names))
    assert sorted(said(f"{place}/labels")["labels"]) == names
