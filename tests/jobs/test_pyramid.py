"""``pyramid`` adds levels to an array that stands, and changes no byte of it."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.cli import main
from scout_dask_io.errors import (
    ArgumentError,
    MemoryLimitError,
    PathNotFoundError,
    TargetExistsError,
    WriteError,
)
from scout_dask_io.jobs.pyramid import plan_pyramid
from scout_dask_io.store import local_transaction as sinks

VOLUME = make_volume((13, 70, 50))


def snapshot(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Give every file's bytes, number and time of change."""
    return {
        p.relative_to(folder).as_posix(): (p.read_bytes(), p.stat().st_ino, p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(params=[2, 3])
def array(request: Any, tmp_path: Path) -> Path:
    """Give a stored array of ``VOLUME``."""
    options: dict[str, Any] = {"zarr_format": request.param}
    if request.param == 3:
        options["shards"] = (8, 32, 32)
    io.write_zarr(tmp_path / "a.zarr", VOLUME, (4, 16, 16), voxel_size=(4, 2, 2), **options)
    return tmp_path / "a.zarr"


def test_levels_are_those_of_an_image_written_whole(array: Path, tmp_path: Path):
    before = snapshot(array)
    report = io.pyramid(array, tmp_path / "b.zarr", levels=4)
    assert snapshot(array) == before
    of_v3 = (array / "zarr.json").exists()
    whole = io.write_ome_zarr(
        tmp_path / "b2.zarr", VOLUME, (4, 16, 16), levels=4, voxel_size=(4, 2, 2),
        **({"version": "0.5", "shards": (8, 32, 32)} if of_v3 else {}),
    )  # fmt: skip
    group = zarr.open_group(tmp_path / "b.zarr", mode="r")
    assert report.levels == tuple(whole[str(n)].shape for n in range(4))
    for n in range(4):
        a, b = group[str(n)], whole[str(n)]
        assert (a.dtype, a.chunks, a.shards) == (b.dtype, b.chunks, b.shards)
        expected = dict(b.attrs)
        if n == 0 and not of_v3:
            del expected["_ARRAY_DIMENSIONS"]  # the full level is the array as it stands
        assert dict(a.attrs) == expected
        np.testing.assert_array_equal(a[...], b[...])
    text = json.dumps(dict(group.attrs)).replace("b.zarr", "b2.zarr").replace('"b"', '"b2"')
    assert json.loads(text) == dict(whole.attrs)
    assert io.verify(tmp_path / "b.zarr").ok
    shutil.rmtree(array)
    assert io.verify(tmp_path / "b.zarr").ok


@pytest.mark.posix  # there are disks without hard links, where chunks are copied
def test_the_full_level_takes_no_room(array: Path, tmp_path: Path):
    before = snapshot(array)
    io.pyramid(array, tmp_path / "b.zarr", levels=4)
    linked = snapshot(tmp_path / "b.zarr" / "0")
    assert {name: found[1] for name, found in linked.items()} == {
        name: found[1] for name, found in before.items()
    }


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_interrupted_pyramid_is_resumed(zarr_format: int, tmp_path: Path, monkeypatch):
    array = tmp_path / "a.zarr"
    io.write_zarr(array, VOLUME, (4, 16, 16), zarr_format=zarr_format)
    before = snapshot(array)
    real, written = sinks.write_file, []

    def failing(where: str, *args: Any, **kwargs: Any) -> None:
        if len(written) == 6:
            raise OSError(28, "No space left on device")
        written.append(where)
        real(where, *args, **kwargs)

    monkeypatch.setattr(sinks, "write_file", failing)
    with pytest.raises(WriteError):
        io.pyramid(array, tmp_path / "b.zarr", levels=4, nb_workers=1)
    monkeypatch.undo()
    assert not (tmp_path / "b.zarr").exists()
    with pytest.raises(TargetExistsError, match="unfinished"):
        io.pyramid(array, tmp_path / "b.zarr", levels=4, nb_workers=1)
    io.pyramid(array, tmp_path / "b.zarr", levels=4, nb_workers=1, resume=True)
    assert io.verify(tmp_path / "b.zarr").ok
    assert snapshot(array) == before
    again = snapshot(tmp_path / "b.zarr")
    io.pyramid(array, tmp_path / "b.zarr", levels=4, nb_workers=1, resume=True)
    assert snapshot(tmp_path / "b.zarr") == again


def test_labels_and_channels_of_an_image(tmp_path: Path):
    labels = np.stack([VOLUME % 3 * 1000, VOLUME % 5 * 1000])
    io.write_ome_zarr(
        tmp_path / "a.zarr", labels, (4, 16, 16), levels=1, channels=["a", "b"],
        colors=["00FF00", "112233"],
    )  # fmt: skip
    io.pyramid(tmp_path / "a.zarr", tmp_path / "b.zarr", levels=3, labels=True)
    group = zarr.open_group(tmp_path / "b.zarr", mode="r")
    assert set(np.unique(group["2"][...])) <= {0, 1000, 2000, 3000, 4000}
    io.pyramid(tmp_path / "a.zarr", tmp_path / "c.zarr", levels=3)
    shown = dict(zarr.open_group(tmp_path / "c.zarr", mode="r").attrs)["omero"]["channels"]
    assert [(c["label"], c["color"]) for c in shown] == [("a", "00FF00"), ("b", "112233")]


def sizes(folder: Path) -> dict[str, int]:
    """Give the size of every file."""
    return {
        p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()
    }


@pytest.mark.parametrize(("labels", "method"), [(False, "mean"), (True, "mode")])
def test_the_plan_is_what_is_then_written(array: Path, tmp_path: Path, labels: bool, method: str):
    before = snapshot(tmp_path)
    plan = plan_pyramid(array, tmp_path / "b.zarr", levels=4, labels=labels, max_mem="64MB")
    assert snapshot(tmp_path) == before
    report = io.pyramid(array, tmp_path / "b.zarr", levels=4, labels=labels)
    of_v3 = (array / "zarr.json").exists()
    assert (plan.source, plan.destination) == (str(array), report.path)
    assert (plan.levels, plan.nbytes, plan.copied) == (report.levels, report.nbytes, False)
    group = zarr.open_group(tmp_path / "b.zarr", mode="r")
    for n in range(4):
        assert (plan.chunks, plan.shards) == (group[str(n)].chunks, group[str(n)].shards)
    assert plan.version == ("0.5" if of_v3 else "0.4")
    assert plan.method == method
    assert plan.voxel_size is not None
    assert plan.voxel_size.micrometres == (4, 2, 2)
    shared = sizes(array)
    assert (plan.n_shared_files, plan.shared_nbytes) == (len(shared), sum(shared.values()))
    # No chunk of the volume is empty, so there are as many files as there may be.
    assert plan.n_files == len(sizes(tmp_path / "b.zarr")) - len(shared)
    assert plan.write.shape == plan.levels[1]
    assert plan.write.read_nbytes == 2 * int(np.prod(plan.levels[1]))
    assert 0 < plan.write.projected_mem <= plan.write.max_mem == 64_000_000
    assert plan.n_tasks > plan.write.n_units
    assert plan.free_nbytes is not None
    assert (plan.replaces, plan.resumes) == (False, False)
    assert plan_pyramid(array, tmp_path / "b.zarr", levels=2, overwrite=True).replaces


def test_a_plan_sees_an_unfinished_write(array: Path, tmp_path: Path):
    def failing(done: int, total: int, nbytes: int) -> None:
        if done:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        io.pyramid(array, tmp_path / "b.zarr", levels=4, nb_workers=1, progress=failing)
    before = snapshot(tmp_path)
    with pytest.raises(TargetExistsError, match="unfinished"):
        plan_pyramid(array, tmp_path / "b.zarr", levels=4)
    assert plan_pyramid(array, tmp_path / "b.zarr", levels=4, resume=True).resumes
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("job", [io.pyramid, plan_pyramid])
def test_what_cannot_be_is_refused_before_anything_is_made(job: Any, tmp_path: Path):
    flat = zarr.create_array(
        tmp_path / "flat.zarr", data=VOLUME, chunks=(4, 16, 16), zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": "."},
    )  # fmt: skip
    assert flat.shape == VOLUME.shape
    io.write_zarr(tmp_path / "a.zarr", VOLUME, (4, 16, 16))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ArgumentError, match="nested"):
        job(tmp_path / "flat.zarr", tmp_path / "b.zarr", levels=2)
    with pytest.raises(ArgumentError, match="none to add"):
        job(tmp_path / "a.zarr", tmp_path / "b.zarr")
    with pytest.raises(ArgumentError, match="inside the source"):
        job(tmp_path / "a.zarr", tmp_path / "a.zarr" / "b.zarr", levels=2)
    if Path("/dev/shm").is_dir() and os.stat("/dev/shm").st_dev != tmp_path.stat().st_dev:
        with pytest.raises(ArgumentError, match="different file systems"):
            job(tmp_path / "a.zarr", "/dev/shm/scout-no-such.zarr", levels=2)
    for src, options, error in (
        ("nothing.zarr", {}, PathNotFoundError),
        ("a.zarr", {"storage_options": {"anon": True}}, ArgumentError),
        ("a.zarr", {"codec": "nonsense"}, ArgumentError),
        ("a.zarr", {"max_mem": "1kB"}, MemoryLimitError),
        ("a.zarr", {"voxel_size": (1, 2)}, ArgumentError),
    ):
        with pytest.raises(error):
            job(tmp_path / src, tmp_path / "b.zarr", levels=2, **options)
    with pytest.raises(TargetExistsError, match="already holds"):
        job(tmp_path / "a.zarr", tmp_path / "flat.zarr", levels=2)
    assert sorted(tmp_path.iterdir()) == before


def test_the_command(tmp_path: Path, capsys):
    io.write_zarr(tmp_path / "a.zarr", VOLUME, (4, 16, 16))
    with pytest.raises(SystemExit) as done:
        main(["pyramid", str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr"), "--levels", "2"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert "levels    2: 13 x 70 x 50, 7 x 35 x 25" in shown
    assert zarr.open_group(tmp_path / "b.zarr", mode="r")["1"].shape == (7, 35, 25)


def test_the_command_prints_the_plan_and_writes_nothing(tmp_path: Path, capsys):
    memory = f"memory://{uuid.uuid4().hex}"
    for place in (str(tmp_path), memory):
        io.write_zarr(f"{place}/a.zarr", VOLUME, (4, 16, 16), voxel_size=(4, 2, 2))
        before = io.info(f"{place}/a.zarr")
        line = ["pyramid", f"{place}/a.zarr", f"{place}/b.zarr", "--levels", "3", "--dry-run"]
        if "://" in place:
            line += ["--storage-option", "{}"]
        for more in ([], ["--json"]):
            with pytest.raises(SystemExit) as done:
                main([*line, *more])
            assert not done.value.code
        text, _, found = capsys.readouterr().out.partition("{")
        lines = text.replace(str(tmp_path) + "/", "").splitlines()
        how = "objects" if "://" in place else "files"
        assert lines[0].startswith("Would add levels to ")
        assert lines[0].endswith("b.zarr; nothing was written")
        assert "  levels    3: 13 x 70 x 50, 13 x 35 x 25, 7 x 18 x 13" in lines
        assert "  chunks    4 x 16 x 16" in lines
        assert any(row.startswith(f"  full      {before.n_files} {how} of ") for row in lines)
        assert any(row.startswith("  memory    ") for row in lines)
        plan = json.loads("{" + found)
        assert plan["copied"] == ("://" in place)
        assert (plan["free_nbytes"] is None) == ("://" in place)
        assert plan["levels"] == [[13, 70, 50], [13, 35, 25], [7, 18, 13]]
        assert io.info(f"{place}/a.zarr") == before
        with pytest.raises(PathNotFoundError):
            io.info(f"{place}/b.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
