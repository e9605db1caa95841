"""A plain web server lists nothing: what can be read is, and nothing is made of the rest."""

from __future__ import annotations

import functools
import http.server
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import make_volume
from servers import http_server

import scout_dask_io as io
from scout_dask_io.errors import PathNotFoundError, WriteError

DATA = make_volume((4, 20, 24))


class Plain(http.server.SimpleHTTPRequestHandler):
    """Gives files, and lists no folder."""

    def list_directory(self, path: Any) -> None:
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serve a folder on loopback."""
    handler = functools.partial(Plain, directory=str(tmp_path))
    with http_server(handler) as found:
        yield found


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_is_not_listed_is_read_and_not_counted(tmp_path: Path, address: str, zarr_format: int):
    io.write_zarr(tmp_path / "a.zarr", DATA, 8, zarr_format=zarr_format, axes="zyx")
    version = {2: "0.4", 3: "0.5"}[zarr_format]
    io.write_ome_zarr(tmp_path / "i.zarr", DATA, 8, axes="zyx", levels=2, version=version)
    io.write_labels(tmp_path / "i.zarr", "cells", DATA)
    for name in ("a.zarr", "i.zarr", "i.zarr/labels/cells"):
        url = f"{address}/{name}"
        np.testing.assert_array_equal(io.read_zarr(url).compute(), DATA)
        assert io.verify(url).ok
        found = io.info(url)
        assert (found.n_present, found.n_files, found.stored_nbytes) == (None, None, None)
        assert found.n_chunks == sum(level.n_chunks for level in found.levels) or 9
        text = found.render()
        assert "lists nothing" in text
        assert "0 B" not in text
        assert "present" not in text
        assert io.info(tmp_path / name).n_present == found.n_chunks


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_group_that_is_not_listed_is_not_said_to_be_empty(
    tmp_path: Path, address: str, zarr_format: Any
):
    group = zarr.open_group(tmp_path / "g", mode="w", zarr_format=zarr_format)
    group.create_array("inner", data=DATA)
    with pytest.raises(PathNotFoundError, match="lists nothing, so that it cannot be told"):
        io.read_zarr(f"{address}/g")
    zarr.consolidate_metadata(tmp_path / "g")
    with pytest.raises(PathNotFoundError, match=f"arrays inner.*as {address}/g/inner"):
        io.read_zarr(f"{address}/g")
    np.testing.assert_array_equal(io.read_zarr(f"{address}/g/inner").compute(), DATA)


@pytest.mark.parametrize("name", ["a b", "a+b#c", "plain"])
def test_parts_of_files_are_read_where_a_server_gives_whole_files_alone(
    tmp_path: Path, address: str, name: str
):
    # A name with an escape is asked for by fsspec, another one by obstore.
    io.write_zarr(tmp_path / f"{name}.zarr", DATA, (2, 5, 6), zarr_format=3, shards=(4, 10, 12))
    io.imsave(tmp_path / f"{name}.tif", DATA)
    url = f"{address}/{urllib.parse.quote(name)}"
    np.testing.assert_array_equal(io.read_zarr(f"{url}.zarr").compute(), DATA)
    np.testing.assert_array_equal(io.read_zarr(f"{url}.zarr")[1:3, 4:9, 5:7], DATA[1:3, 4:9, 5:7])
    np.testing.assert_array_equal(io.imread(f"{url}.tif")[2].compute(), DATA[2])


def test_repair_looks_at_chunks_where_nothing_is_listed(tmp_path: Path, address: str):
    io.write_zarr(tmp_path / "a.zarr", DATA, 8)
    document = json.loads((tmp_path / "a.zarr/.zarray").read_text())
    del document["dimension_separator"]
    (tmp_path / "a.zarr/.zarray").write_text(json.dumps(document))
    assert len(io.repair(f"{address}/a.zarr", dry_run=True).actions) == 1
    with pytest.raises(WriteError, match=r"\.zarray: it cannot be written"):
        io.repair(f"{address}/a.zarr")


def test_a_server_that_forbids_what_is_not_there_is_read_as_one_that_lists_nothing(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
):
    send = Plain.send_error
    monkeypatch.setattr(
        Plain, "send_error", lambda self, code, *a: send(self, 403 if code == 404 else code, *a)
    )
    io.write_zarr(tmp_path / "a.zarr", DATA, 8)
    io.write_ome_zarr(tmp_path / "i.zarr", DATA, 8, axes="zyx", levels=2, voxel_size=(4, 2, 2))
    for name, size in (("a.zarr", None), ("i.zarr", (4, 2, 2))):
        url = f"{address}/{name}"
        np.testing.assert_array_equal(io.read_zarr(url).compute(), DATA)
        found = io.info(url)
        assert (found.shape, found.n_present) == (DATA.shape, None)
        assert io.verify(url).ok
        stated = io.voxel_size(url)
        assert (stated and stated.micrometres) == size
        assert io.preview(url).shape == DATA.shape
