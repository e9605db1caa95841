"""Groups of other conventions, and other chunked formats, are told as what they are."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr

import scout_dask_io as io
from scout_dask_io.errors import LayoutError, PathNotFoundError


@pytest.fixture(params=["disk", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give a new folder."""
    return str(tmp_path) if request.param == "disk" else f"memory://{uuid.uuid4().hex}"


def make_group(path: str, attributes: dict[str, Any], arrays: dict[str, list[str]]) -> None:
    """Write a group and arrays in it, by zarr alone, each with names of its axes."""
    zarr.open_group(path, mode="w", zarr_format=2).attrs.update(attributes)
    for name, dims in arrays.items():
        if "/" in name:
            zarr.open_group(f"{path}/{name.rpartition('/')[0]}", mode="a", zarr_format=2)
        data = np.arange(6 ** max(len(dims), 1)).reshape((6,) * max(len(dims), 1))
        array = zarr.create_array(f"{path}/{name}", data=data, zarr_format=2)
        array.attrs.update({"_ARRAY_DIMENSIONS": dims} if dims else {})


@pytest.mark.parametrize(
    ("attributes", "arrays", "told", "first"),
    [
        ({"encoding-type": "anndata"}, {"X": [], "obs/age": []}, "an AnnData table", "X"),
        ({"encoding-type": "MuData"}, {"mod/rna/X": []}, "a MuData collection", "mod/rna/X"),
        ({"geff": {"directed": True}}, {"edges/ids": [], "nodes/ids": []}, "geff", "edges/ids"),
        ({"multiscales": {}, "proj:code": "EPSG:1"}, {"r10m/b2": []}, "GeoZarr", "r10m/b2"),
        ({"zarr_conventions": [{"name": "licence"}]}, {"a": []}, "conventions licence", "a"),
        ({}, {"air": ["time", "lat"], "lat": ["lat"], "time": ["time"]}, "xarray dataset", "air"),
        ({"spatialdata_attrs": {"version": "1"}}, {"points/p": []}, "SpatialData", "points/p"),
        ({"note": 1}, {"deep/er/a": []}, "it holds the arrays deep/er/a", "deep/er/a"),
    ],
)  # fmt: skip
def test_a_group_of_another_convention_is_told_with_the_arrays_in_it(
    place: str, attributes: dict[str, Any], arrays: dict[str, list[str]], told: str, first: str
):
    make_group(f"{place}/g.zarr", attributes, arrays)
    for job in (io.read_zarr, io.preview, lambda p: io.convert(p, f"{place}/out.zarr")):
        with pytest.raises(PathNotFoundError, match="is a Zarr group") as caught:
            job(f"{place}/g.zarr")
        text = str(caught.value)
        assert told in text
        way = f"Give an array's path, as {place}/g.zarr/{first}."
        assert text.replace(os.sep, "/").endswith(way.replace(os.sep, "/"))
        assert all(name in text for name in arrays)
    # The way that the error names.
    found = io.read_zarr(f"{place}/g.zarr/{first}").compute()
    assert found.ravel().tolist() == list(range(found.size))
    assert io.info(f"{place}/g.zarr").kind == "Zarr group"


def test_the_images_of_a_collection_are_named(place: str):
    make_group(f"{place}/sd.zarr", {"spatialdata_attrs": {}}, {"images/other": []})
    io.write_ome_zarr(f"{place}/sd.zarr/images/he", np.ones((9, 8), "u1"))
    with pytest.raises(PathNotFoundError, match=r"it holds images.*sd\.zarr.images.he"):
        io.read_zarr(f"{place}/sd.zarr")


@pytest.mark.parametrize(
    ("file", "document", "told"),
    [
        ("attributes.json", {"n5": "2.5.1"}, "a container of N5"),
        (
            "attributes.json",
            {"dimensions": [4, 5], "blockSize": [2, 2], "dataType": "uint8"},
            "a dataset of N5",
        ),
        ("info", {"@type": "neuroglancer_multiscale_volume", "scales": []}, "precomputed"),
        ("info", {"data_type": "uint8", "scales": []}, "precomputed"),
    ],
)
def test_another_chunked_format_is_named(
    place: str, file: str, document: dict[str, Any], told: str
):
    with fsspec.open(f"{place}/v/{file}", "w", auto_mkdir=True) as f:
        json.dump(document, f)
    for job in (io.read_zarr, io.info, io.preview, lambda p: io.convert(p, f"{place}/o.zarr")):
        with pytest.raises(LayoutError, match=told):
            job(f"{place}/v")


@pytest.mark.parametrize("document", ["[1]", "{", "{}", '{"title": "no chunks"}'])
def test_a_file_of_such_a_name_alone_is_no_format(place: str, document: str):
    for file in ("attributes.json", "info"):
        with fsspec.open(f"{place}/v/{file}", "w", auto_mkdir=True) as f:
            f.write(document)
    with pytest.raises(PathNotFoundError):
        io.read_zarr(f"{place}/v")


def test_an_array_that_is_not_read_does_not_hide_the_others_of_its_group(tmp_path: Path):
    make_group(str(tmp_path / "g"), {}, {"good": []})
    zarr.create_array(tmp_path / "g/odd", data=np.ones((3, 4)), zarr_format=3)
    document = json.loads((tmp_path / "g/odd/zarr.json").read_text())
    document["chunk_grid"] = {"name": "rectilinear", "configuration": {"chunk_shapes": [[3], 4]}}
    (tmp_path / "g/odd/zarr.json").write_text(json.dumps(document))
    zarr.create_array(tmp_path / "g/bad", data=np.ones((3, 4)), zarr_format=2)
    (tmp_path / "g/bad/.zarray").write_text("{")
    members = io.info(tmp_path / "g").members
    assert [m.partition(":")[0] for m in members] == ["bad", "good", "odd"]
    assert "cannot be read" in members[0]
    assert "no regular grid" in members[2]
