"""Images that are written validate, and OME-Zarr's own reader finds scale, place, names, labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import make_volume
from hypothesis import given, settings
from hypothesis import strategies as st

import scout_dask_io as io

models = pytest.importorskip("ome_zarr_models")
ome_zarr_io = pytest.importorskip("ome_zarr.io")
reader = pytest.importorskip("ome_zarr.reader")

pytestmark = pytest.mark.compat
EXTENTS = {"t": 2, "c": 3, "z": 5, "y": 20, "x": 24}


def layers(path: Path) -> dict[str, Any]:
    """Give what OME-Zarr's reader finds, by name: images, and labels below them."""
    found = reader.Reader(ome_zarr_io.parse_url(str(path), mode="r"))()
    return {str(node.zarr.basename()): node for node in found if node.data}


@settings(max_examples=6, deadline=None, derandomize=True)
@given(data=st.data())
def test_an_image_validates_and_is_read_with_what_it_states(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    draw, path = data.draw, tmp_path_factory.mktemp("i") / "a.zarr"
    axes = draw(st.sampled_from(["yx", "zyx", "cyx", "tyx", "czyx", "tzyx", "tczyx"]))
    version = draw(st.sampled_from(["0.4", "0.5"]))
    pixels = make_volume([EXTENTS[a] for a in axes])
    size = tuple(draw(st.floats(0.1, 9)) for _ in "zyx")
    names = ["dapi", "gfp", "syto 16"] if "c" in axes else ["dapi"]
    io.write_ome_zarr(
        path, pixels, 8, axes=axes, levels=draw(st.integers(1, 3)), channels=names,
        colors=["FF0000", "00FF00", "0000FF"][: len(names)], voxel_size=size, version=version,
    )  # fmt: skip
    label = make_volume([EXTENTS[a] for a in axes if a != "c"], "u1")
    io.write_labels(path, "cells", label, colors={1: "00FF00"})
    for place in (path, path / "labels" / "cells"):
        kind = models.open_ome_zarr(zarr.open_group(place, mode="r"))
        assert kind.ome_zarr_version == version
    found = layers(path)
    image, cells = found["a.zarr"], found["cells"]
    np.testing.assert_array_equal(np.asarray(image.data[0]), pixels)
    np.testing.assert_array_equal(np.asarray(cells.data[0]), label)
    assert [a["name"] for a in image.metadata["axes"]] == list(axes)
    known = dict(zip("zyx", size, strict=True))
    for node, letters in ((image, axes), (cells, axes.replace("c", ""))):
        steps = node.metadata["coordinateTransformations"][0]
        assert steps[0]["scale"] == pytest.approx([known.get(a, 1.0) for a in letters])
    assert list(image.metadata["channel_names"]) == names
    assert len(image.data) == len(cells.data)
