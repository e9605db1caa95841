"""Zarr as other programs leave it: images below groups, levels that lack, zip files, old lists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr
from helpers import make_volume

import scout_dask_io as io

VOLUME = make_volume((9, 34, 26))
CHUNKS = (4, 16, 16)


def group(path: Path, **attributes: object) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps(attributes))
    return path


@pytest.mark.parametrize(
    ("attributes", "image"),
    [
        ({"bioformats2raw.layout": 3}, "2"),
        ({}, "nested"),
        ({"plate": {"wells": [{"path": "B/03"}], "version": "0.4"}}, "B/03/0"),
    ],
    ids=["bioformats2raw", "no convention", "plate"],
)
def test_an_image_below_a_group_is_named_and_its_path_leads_to_it(
    tmp_path: Path, attributes: dict[str, object], image: str
):
    root = group(tmp_path / "r.zarr", **attributes)
    group(root / "OME", series=["2"])
    for above in Path(image).parents[:-1]:
        group(root / above)
    io.write_ome_zarr(root / image, VOLUME, chunks=CHUNKS, axes="zyx")
    for call in (io.read_zarr, io.channel_names, lambda p: io.convert(p, tmp_path / "c.zarr")):
        with pytest.raises(io.PathNotFoundError, match="it holds images") as found:
            call(root)
        way_out = re.search(r"as (\S+)\.", str(found.value))
        assert way_out is not None
        np.testing.assert_array_equal(io.read_zarr(way_out[1]).compute(), VOLUME)
    assert not (tmp_path / "c.zarr").exists()


def test_a_lower_level_that_is_not_there_is_told_of_and_the_others_are_shown(tmp_path: Path):
    image = tmp_path / "a.ome.zarr"
    io.write_ome_zarr(image, make_volume((40, 140, 150)), chunks=CHUNKS, axes="zyx", levels=3)
    shutil.rmtree(image / "1")
    report = io.info(image)
    assert [level.path for level in report.levels] == ["0", "2"]
    assert "level 1 is stated, and is not there" in report.details
    with pytest.warns(UserWarning, match="level 1 is stated, and is not there"):
        assert io.preview(image).image.any()
    shutil.rmtree(image / "0")
    with pytest.raises(io.PathNotFoundError, match="0"):
        io.info(image)


@pytest.mark.parametrize("name", ["b.zarr.zip", "b.ozx", "b"])
def test_a_zip_file_is_named_as_one_and_what_is_said_unpacks_it(tmp_path: Path, name: str):
    io.write_zarr(tmp_path / "b.zarr", VOLUME, CHUNKS)
    made = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "b.zarr")
    shutil.rmtree(tmp_path / "b.zarr")
    Path(made).rename(tmp_path / name)
    for call in (io.read_zarr, io.info, lambda p: io.convert(p, tmp_path / "c.zarr")):
        with pytest.raises(io.LayoutError, match="is a zip file") as found:
            call(tmp_path / name)
    command = re.search(r"'python (.*?)'", str(found.value))
    assert command is not None
    subprocess.run([sys.executable, *command[1].split()], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "b.zarr").compute(), VOLUME)
    assert not (tmp_path / "c.zarr").exists()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_group_shows_what_lies_there_whatever_was_consolidated(tmp_path: Path, zarr_format: int):
    root = zarr.open_group(tmp_path / "g.zarr", mode="w", zarr_format=zarr_format)
    root.create_array("y", shape=(3, 5), dtype="i4", chunks=(3, 5))[...] = 7
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(tmp_path / "g.zarr")
    zarr.open_array(tmp_path / "g.zarr/y", mode="r+").resize((8, 5))
    assert io.open(tmp_path / "g.zarr", mode="r")["y"].shape == (8, 5)


def test_an_array_has_the_names_of_channels_that_it_stores(tmp_path: Path):
    io.write_zarr(tmp_path / "p.zarr", VOLUME, CHUNKS)
    assert io.channel_names(tmp_path / "p.zarr") == []


def test_fields_of_a_plate_are_named_as_its_wells_name_them(tmp_path: Path):
    wells = {"A/1": ["0"], "B/2": ["7", "right"]}
    root = group(tmp_path / "p.zarr", plate={"wells": [{"path": w} for w in wells]})
    for well, fields in wells.items():
        group(root / well.split("/")[0])
        group(root / well, well={"images": [{"path": f} for f in fields]})
        for field in fields:
            io.write_ome_zarr(root / well / field, VOLUME, chunks=CHUNKS, axes="zyx")
    with pytest.raises(io.PathNotFoundError, match="it holds images") as found:
        io.read_zarr(root)
    for place in ("A/1/0", "B/2/7", "B/2/right"):
        assert str(root / place) in str(found.value)
    with pytest.raises(io.PathNotFoundError, match="it holds images") as found:
        io.read_zarr(root / "B/2")
    assert str(root / "B/2/right") in str(found.value)


@pytest.mark.parametrize("store", ["disk", "memory"])
def test_repair_of_a_group_tells_the_layout_in_consolidated_metadata_too(
    tmp_path: Path, memory: Any, store: str
):
    place = str(tmp_path / "g.zarr") if store == "disk" else memory.url
    made = zarr.open_group(place, mode="w", zarr_format=2)
    for name in ("a", "b/c"):
        array = made.create_array(
            name, shape=VOLUME.shape, chunks=CHUNKS, dtype="u2",
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )  # fmt: skip
        array[...] = VOLUME
    zarr.consolidate_metadata(made.store)
    fs, root = fsspec.core.url_to_fs(place)
    for file in fs.glob(f"{root}/**/.z*"):  # as zarr 2.10 and older wrote them
        text = fs.cat_file(file).decode()
        fs.pipe_file(file, re.sub(r'"dimension_separator": "/",?\s*', "", text).encode())
    fs.invalidate_cache()
    assert not zarr.open_group(place, mode="r", use_consolidated=True)["b/c"][...].any()
    assert len(io.repair(place, dry_run=True).actions) == len(io.repair(place).actions) == 3
    assert io.repair(place).actions == ()
    for consolidated in (True, False):
        found = zarr.open_group(place, mode="r", use_consolidated=consolidated)
        np.testing.assert_array_equal(found["a"][...], VOLUME)
        np.testing.assert_array_equal(found["b/c"][...], VOLUME)


def test_an_array_of_both_layouts_in_a_store_is_refused_as_one_on_a_disk(memory: Any):
    io.write_zarr(memory.url, VOLUME, CHUNKS)
    document = json.loads(memory.fs.cat_file(f"{memory.key}/.zarray"))
    del document["dimension_separator"]
    memory.fs.pipe_file(f"{memory.key}/.zarray", json.dumps(document).encode())
    memory.fs.pipe_file(f"{memory.key}/0.0.0", b"?")
    for verb in (io.read_zarr, io.repair, io.info):
        with pytest.raises(io.LayoutError, match=r"flat chunk files \('0\.0\.0'\) and nested"):
            verb(memory.url)
