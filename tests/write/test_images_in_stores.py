"""OME-Zarr images written to object stores: whole or refused, and resumed, at whatever point."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from helpers import make_volume
from object_store import Failing, Memory

import scout_dask_io as io
from scout_dask_io.errors import (
    ArgumentError,
    ChunkReadError,
    PathNotFoundError,
    ResumeError,
    TargetExistsError,
    WriteError,
)
from scout_dask_io.files.remote import RemoteLocation

VOLUME = make_volume((13, 70, 50))
#: Levels of odd chunks have a pass each, in which the level above is read back.
FUSED, APART = (4, 16, 16), (5, 17, 15)


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and ".scout" not in p.name
    }


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("chunks", [FUSED, APART], ids=["fused", "apart"])
def test_the_objects_are_the_files_of_the_same_image_on_a_disk(
    memory: Memory, tmp_path: Path, version: str, chunks: tuple[int, ...]
) -> None:
    options: dict[str, Any] = {
        "levels": 3, "version": version, "voxel_size": (4, 2, 2), "nb_workers": 1,
        "shards": (8, 32, 32) if version == "0.5" and chunks == FUSED else None,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = io.write_ome_zarr(memory.url, VOLUME, chunks, **options)
        shapes = [array.shape for _, array in sorted(group.arrays())]
    assert shapes == [(13, 70, 50), (13, 35, 25), (7, 18, 13)]
    io.write_ome_zarr(tmp_path / "a.zarr", VOLUME, chunks, **options)
    assert memory.objects() == files(tmp_path / "a.zarr")
    own = [name for name in memory.names() if ".scout" in name]
    assert own == [".scout-manifest", *(f"{n}/.scout-manifest" for n in range(3))]
    there = zarr.storage.FsspecStore.from_url(memory.url)
    np.testing.assert_array_equal(zarr.open_group(there, mode="r")["0"][...], VOLUME)
    assert io.verify(memory.url).ok


@pytest.mark.parametrize("chunks", [FUSED, APART], ids=["fused", "apart"])
def test_an_unfinished_image_is_refused_and_resumed(
    memory: Memory, failing: Failing, chunks: tuple[int, ...], tmp_path: Path
) -> None:
    data = da.from_array(VOLUME, chunks=(chunks[0] * 2, -1, -1)) + np.uint16(0)
    options: dict[str, Any] = {"levels": 3, "nb_workers": 1}
    io.write_ome_zarr(tmp_path / "a.zarr", data, chunks, **options)
    io.write_ome_zarr(memory.url, data, chunks, **options)
    whole, n_writes = memory.objects(), len(failing.log)
    assert whole == files(tmp_path / "a.zarr")
    memory.fs.rm(memory.key, recursive=True)
    failing.left = n_writes // 2
    with pytest.raises(WriteError, match="on purpose") as failed:
        io.write_ome_zarr(memory.url, data, chunks, **options)
    assert "write units are finished and kept" in " ".join(failed.value.__notes__)
    failing.left = 10**9
    keys = memory.names()
    assert not [k for k in keys if k.rpartition("/")[2] in (".zarray", ".zgroup", ".zattrs")]
    places = (memory.url, f"{memory.url}/0", f"{memory.url}/2")
    for refuse in (io.read_zarr, io.info, io.verify, io.preview):
        for place in places:
            with pytest.raises(PathNotFoundError, match=r"unfinished write.*resume=True"):
                refuse(place)
    for place in places:
        with pytest.raises(PathNotFoundError, match=r"unfinished write.*resume=True"):
            io.open(place, mode="r")
    with pytest.raises(PathNotFoundError, match="unfinished"):
        io.read_zarr(memory.url, level=1)
    with pytest.raises(TargetExistsError, match=r"unfinished write.*resume=True"):
        io.write_ome_zarr(memory.url, data, chunks, **options)
    with pytest.raises(ResumeError, match="levels was"):
        io.write_ome_zarr(memory.url, data, chunks, **{**options, "levels": 2}, resume=True)
    with pytest.raises(ResumeError, match="attributes was"):
        io.write_zarr(memory.url, data, chunks, resume=True)
    assert memory.names() == keys
    noted = {k for k in keys if k.startswith(".scout-journal")}
    assert noted
    failing.log.clear()
    io.write_ome_zarr(memory.url, data, chunks, **options, resume=True)
    assert not {k.removeprefix(f"{memory.url}/") for k in failing.log} & noted
    assert memory.objects() == whole
    assert [k for k in memory.names() if ".scout" in k] == [
        ".scout-manifest", *(f"{n}/.scout-manifest" for n in range(3))
    ]  # fmt: skip
    failing.log.clear()
    io.write_ome_zarr(memory.url, data, chunks, **options, resume=True)
    assert failing.log == []


@pytest.mark.parametrize("kind", ["image", "array"])
@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
def test_whichever_write_fails_nothing_reads_until_resume_made_it_whole(
    memory: Memory, failing: Failing, kind: str, overwrite: bool
) -> None:
    old = make_volume((6, 20, 30), seed=7)
    # Of the new one a chunk is empty where the old one has one, that must not stay.
    new = make_volume((6, 20, 30), seed=8)
    new[:4, :16, :16] = 0
    data = da.from_array(new, chunks=(8, 16, -1)) + np.uint16(0)

    def write(what: Any, **options: Any) -> None:
        if kind == "image":
            io.write_ome_zarr(memory.url, what, FUSED, levels=2, nb_workers=1, **options)
        else:
            io.write_zarr(memory.url, what, FUSED, nb_workers=1, **options)

    write(data)
    whole = memory.objects()
    memory.fs.rm(memory.key, recursive=True)
    failed, at = 0, 0
    while failed == at:
        if memory.names():
            memory.fs.rm(memory.key, recursive=True)
        if overwrite:
            write(old)
        failing.left, at = at, at + 1
        try:
            write(data, overwrite=overwrite)
        except WriteError:
            failed += 1
        failing.left = 10**9
        if failed < at:
            break
        try:
            found = io.read_zarr(memory.url).compute()
        except PathNotFoundError:
            pass
        else:
            # Before it has begun the old array stands.
            np.testing.assert_array_equal(found, old)
            assert (overwrite, at) == (True, 1)
            continue
        write(data, resume=True)
        assert memory.objects() == whole
        np.testing.assert_array_equal(io.read_zarr(memory.url).compute(), new)
        assert io.verify(memory.url).ok
    assert failed > 12
    assert memory.objects() == whole


def test_arrays_and_images_take_each_others_place_and_strangers_stay(memory: Memory) -> None:
    io.write_zarr(memory.url, VOLUME, FUSED)
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        io.write_ome_zarr(memory.url, VOLUME, FUSED, levels=2)
    io.write_ome_zarr(memory.url, VOLUME, FUSED, levels=2, overwrite=True)
    assert ".zarray" not in memory.names()
    # Labels beside the levels are Zarr too, and not the image's to remove.
    io.open(f"{memory.url}/labels")
    io.write_ome_zarr(f"{memory.url}/labels/nuclei", VOLUME, FUSED, levels=2, labels=True)
    with pytest.raises(TargetExistsError, match="also holds 'labels'"):
        io.write_zarr(memory.url, VOLUME, FUSED, overwrite=True)
    memory.fs.rm(f"{memory.key}/labels", recursive=True)
    io.write_zarr(memory.url, VOLUME, FUSED, overwrite=True)
    assert not [k for k in memory.names() if k.startswith(("labels", "1/.z"))]
    np.testing.assert_array_equal(io.read_zarr(memory.url).compute(), VOLUME)
    io.write_ome_zarr(memory.url, VOLUME, FUSED, levels=2, overwrite=True)
    for stranger in ("notes.txt", "labels/notes.txt", "0/notes.txt", "0/0/0/0.txt"):
        memory.put(stranger, b"mine")
        before = memory.names()
        for write in (io.write_zarr, io.write_ome_zarr):
            with pytest.raises(TargetExistsError, match="never removed"):
                write(memory.url, VOLUME, FUSED, overwrite=True)
        assert memory.names() == before
        memory.fs.rm_file(f"{memory.key}/{stranger}")
    above = memory.url.rpartition("/")[0]
    with pytest.raises(TargetExistsError, match="never removed"):
        io.write_ome_zarr(above, VOLUME, FUSED, overwrite=True)


def test_an_image_is_not_overwritten_by_what_is_read_from_it(memory: Memory) -> None:
    io.write_ome_zarr(memory.url, VOLUME, FUSED, levels=2)
    before = memory.objects()
    for lazy in (io.read_zarr(memory.url), io.read_zarr(memory.url, level=1) + 1):
        for write in (io.write_zarr, io.write_ome_zarr):
            with pytest.raises(ArgumentError, match="removes before they are written"):
                write(memory.url, lazy, FUSED, overwrite=True)
    assert memory.objects() == before


def test_errors_repeat_no_secret(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"client_kwargs": {"aws_secret": "hush-hush"}, "token": "hush", "endpoint_url": "http"}
    place = RemoteLocation(memory.url, given)

    def told(*_: Any, **__: Any) -> Any:
        raise OSError("http says: hush-hush and hush are not allowed")

    monkeypatch.setattr(RemoteLocation, "fs", memory.fs)
    for name in ("cat_file", "pipe_file", "rm_file", "info"):
        monkeypatch.setattr(memory.fs, name, told)
    doings: list[Any] = [place.read, lambda: place.write(b""), place.remove, place.info]
    for do in doings:
        with pytest.raises((ChunkReadError, WriteError), match=r"http says: .* and .*") as failed:
            do()
        assert "hush" not in str(failed.value)
    assert "hush" not in repr(place) + str(place)


def test_convert_makes_images_at_urls(memory: Memory, tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "a.zarr", VOLUME, FUSED, voxel_size=(4, 2, 2))
    plan_keys = memory.names()
    report = io.convert(tmp_path / "a.zarr", memory.url, ome=True, levels=2, chunks=FUSED)
    assert plan_keys == []
    assert (report.path, report.levels) == (memory.url, ((13, 70, 50), (13, 35, 25)))
    assert report.stored_nbytes == sum(memory.fs.sizes(memory.fs.find(memory.key)))
    assert report.n_units > 0
    assert io.verify(tmp_path / "a.zarr", memory.url).equal
    resumed = io.convert(
        tmp_path / "a.zarr", memory.url, ome=True, levels=2, chunks=FUSED, resume=True
    )
    assert resumed.n_resumed == resumed.n_units == report.n_units


def test_a_delayed_image_is_made_at_its_url_when_it_is_computed(memory: Memory) -> None:
    later = io.write_ome_zarr(memory.url, VOLUME, APART, levels=2, compute=False)
    assert memory.names() == [".scout-unfinished"]
    assert sorted(name for name, _ in later.compute().arrays()) == ["0", "1"]
    assert ".scout-unfinished" not in memory.names()
    assert io.verify(memory.url).ok


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_pyramid_in_a_store_has_the_array_copied_by_the_store(
    memory: Memory, failing: Failing, tmp_path: Path, zarr_format: int
) -> None:
    for url in (f"{memory.url}/plain", str(tmp_path / "plain.zarr")):
        io.write_zarr(url, VOLUME, FUSED, zarr_format=zarr_format, voxel_size=(4, 2, 2))
    before = memory.objects()
    failing.log.clear()
    report = io.pyramid(f"{memory.url}/plain", f"{memory.url}/a.zarr", levels=3)
    # Of the full level no object went through this machine.
    put = [name for name in failing.log if name.startswith(f"{memory.url}/a.zarr/0")]
    assert put == []
    io.pyramid(tmp_path / "plain.zarr", tmp_path / "a.zarr", levels=3)
    found = {n.removeprefix("a.zarr/"): d for n, d in memory.objects().items() if n not in before}
    assert found == files(tmp_path / "a.zarr")
    assert {n: memory.objects()[n] for n in before} == before
    assert io.verify(f"{memory.url}/a.zarr").ok
    assert report.copied
    assert "copied by the store" in report.render()
    memory.fs.rm(f"{memory.key}/plain", recursive=True)
    assert io.verify(f"{memory.url}/a.zarr").ok


def test_a_pyramid_is_not_made_across_stores_and_resumed_in_one(
    memory: Memory, failing: Failing, tmp_path: Path
) -> None:
    io.write_zarr(f"{memory.url}/plain", VOLUME, FUSED)
    io.write_zarr(tmp_path / "plain.zarr", VOLUME, FUSED)
    pairs = [
        (f"{memory.url}/plain", tmp_path / "b.zarr"), (tmp_path / "plain.zarr", f"{memory.url}/b")
    ]  # fmt: skip
    for src, dst in pairs:
        with pytest.raises(ArgumentError, match="different file systems or stores"):
            io.pyramid(src, dst, levels=2)
    options: dict[str, Any] = {"levels": 3, "nb_workers": 1}
    failing.left = 12
    with pytest.raises(WriteError, match="on purpose"):
        io.pyramid(f"{memory.url}/plain", f"{memory.url}/a.zarr", **options)
    failing.left = 10**9
    with pytest.raises(PathNotFoundError, match="unfinished"):
        io.read_zarr(f"{memory.url}/a.zarr")
    io.pyramid(f"{memory.url}/plain", f"{memory.url}/a.zarr", **options, resume=True)
    assert io.verify(f"{memory.url}/a.zarr").ok
    np.testing.assert_array_equal(io.read_zarr(f"{memory.url}/a.zarr").compute(), VOLUME)
    assert list(tmp_path.iterdir()) == [tmp_path / "plain.zarr"]
