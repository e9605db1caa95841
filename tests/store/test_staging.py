"""Where arrays grow: one writer wins, what stands is whole, strangers are safe."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.errors import TargetExistsError
from scout_dask_io.store.staging import (
    Staging,
    begin_staging,
    check_destination,
    discard_staging,
    find_staging,
    publish,
)


def make_array(path: Path, value: int = 1) -> None:
    io.new_zarr(path, (5, 6), (2, 3), "u2")[...] = value


def grown(destination: Path, value: int = 2) -> Staging:
    """An unfinished write whose array is complete but for its name."""
    staging = begin_staging(destination)
    staging.array.rmdir()
    make_array(staging.array, value)
    staging.write_settings({"value": value})
    return staging


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def test_a_begun_write_lies_beside_its_destination(tmp_path: Path) -> None:
    staging = begin_staging(tmp_path / "deep" / "a.zarr")
    assert names(tmp_path / "deep") == [".a.zarr.scout-partial"]
    assert staging.job.parent == tmp_path / "deep" / ".a.zarr.scout-partial"
    assert names(staging.job) == ["array", "journal", "tmp"]
    assert find_staging(tmp_path / "deep" / "a.zarr") == staging
    assert find_staging(tmp_path / "deep" / "b.zarr") is None
    assert find_staging(tmp_path / "missing" / "b.zarr") is None


def test_settings_mark_a_write_as_begun(tmp_path: Path) -> None:
    staging = begin_staging(tmp_path / "a.zarr")
    assert staging.read_settings() is None
    staging.write_settings({"a": [1, 2]})
    assert staging.read_settings() == {"a": [1, 2]}
    for text in ("", "{", "[1]"):
        (staging.job / "job.json").write_text(text)
        assert staging.read_settings() is None


def test_a_second_write_is_refused_while_one_is_unfinished(tmp_path: Path) -> None:
    begin_staging(tmp_path / "a.zarr").write_settings({})
    with pytest.raises(TargetExistsError, match=r"resume=True.*overwrite=True"):
        begin_staging(tmp_path / "a.zarr")
    begin_staging(tmp_path / "b.zarr")


@pytest.mark.parametrize("left", [False, True], ids=["free", "after a kill"])
def test_one_of_many_that_begin_at_once_wins(tmp_path: Path, left: bool) -> None:
    for turn in range(20):
        destination = tmp_path / f"{turn}.zarr"
        if left:
            (tmp_path / f".{turn}.zarr.scout-partial").mkdir()
        meet = threading.Barrier(4)

        def begin(
            destination: Path = destination, meet: threading.Barrier = meet
        ) -> Staging | TargetExistsError:
            meet.wait(30)
            try:
                return begin_staging(destination)
            except TargetExistsError as err:
                return err

        with ThreadPoolExecutor(4) as pool:
            found = [f.result() for f in [pool.submit(begin) for _ in range(4)]]
        won = [f for f in found if isinstance(f, Staging)]
        assert len(won) == 1
        assert names(won[0].job) == ["array", "journal", "tmp"]
        assert names(won[0].job.parent) == [won[0].job.name]
    assert len(names(tmp_path)) == 20


def test_the_draft_of_a_killed_begin_is_swept(tmp_path: Path) -> None:
    for name in ("draft", "dead"):
        (tmp_path / f".a.zarr.scout-{name}-1" / "job" / "array").mkdir(parents=True)
    (tmp_path / ".b.zarr.scout-draft-1").mkdir()
    check_destination(tmp_path / "a.zarr", overwrite=False)
    assert names(tmp_path) == [".b.zarr.scout-draft-1"]


def test_a_begin_whose_draft_is_swept_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Path.mkdir, iter(range(100))

    def mkdir(self: Path, *args: Any, **kwargs: Any) -> None:
        if next(calls) in (2, 5, 9):
            check_destination(tmp_path / "a.zarr", overwrite=False)
        real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", mkdir)
        staging = begin_staging(tmp_path / "a.zarr")
    assert names(staging.job) == ["array", "journal", "tmp"]
    assert names(tmp_path) == [".a.zarr.scout-partial"]


def test_publishing_gives_the_array_its_name_and_removes_the_rest(tmp_path: Path) -> None:
    staging = grown(tmp_path / "a.zarr")
    publish(staging, overwrite=False)
    assert names(tmp_path) == ["a.zarr"]
    assert io.read_zarr(tmp_path / "a.zarr").compute().min() == 2


@pytest.mark.parametrize("durable", [False, True])
def test_publishing_over_an_array_replaces_it_wholly(tmp_path: Path, durable: bool) -> None:
    make_array(tmp_path / "a.zarr", 1)
    (tmp_path / "a.zarr" / "2" / "1").unlink()
    publish(grown(tmp_path / "a.zarr"), overwrite=True, durable=durable)
    assert names(tmp_path) == ["a.zarr"]
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "a.zarr"), np.full((5, 6), 2))


def test_publishing_keeps_what_has_come_to_stand_there(tmp_path: Path) -> None:
    make_array(tmp_path / "other.zarr", 1)
    staging = grown(tmp_path / "a.zarr")
    (tmp_path / "other.zarr").rename(tmp_path / "a.zarr")
    with pytest.raises(TargetExistsError):
        publish(staging, overwrite=False)
    assert io.read_zarr(tmp_path / "a.zarr").compute().max() == 1
    assert staging.array.is_dir()
    publish(staging, overwrite=True)
    assert io.read_zarr(tmp_path / "a.zarr").compute().min() == 2


def test_publishing_never_removes_strangers(tmp_path: Path) -> None:
    make_array(tmp_path / "other.zarr", 1)
    staging = grown(tmp_path / "a.zarr")
    (tmp_path / "other.zarr").rename(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "notes.txt").write_text("precious")
    with pytest.raises(TargetExistsError, match="never removed"):
        publish(staging, overwrite=True)
    assert (tmp_path / "a.zarr" / "notes.txt").read_text() == "precious"
    assert io.read_zarr(tmp_path / "a.zarr").compute().max() == 1


def test_discarding_leaves_the_destination_and_other_writes(tmp_path: Path) -> None:
    make_array(tmp_path / "a.zarr", 1)
    begin_staging(tmp_path / "a.zarr")
    other = begin_staging(tmp_path / "b.zarr")
    discard_staging(tmp_path / "a.zarr")
    discard_staging(tmp_path / "a.zarr")
    assert names(tmp_path) == [".b.zarr.scout-partial", "a.zarr"]
    assert other.tmp.is_dir()


def test_names_that_look_alike_do_not_share_a_place(tmp_path: Path) -> None:
    first = begin_staging(tmp_path / "a")
    second = begin_staging(tmp_path / "a.zarr")
    third = begin_staging(tmp_path / ".a")
    discard_staging(tmp_path / "a")
    assert not first.job.exists()
    assert second.job.exists()
    assert third.job.exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_free_places_are_free(tmp_path: Path, overwrite: bool) -> None:
    check_destination(tmp_path / "a.zarr", overwrite=overwrite)
    (tmp_path / "empty").mkdir()
    check_destination(tmp_path / "empty", overwrite=overwrite)
    assert names(tmp_path) == ["empty"]


def test_only_zarr_alone_may_be_replaced(tmp_path: Path) -> None:
    make_array(tmp_path / "a.zarr")
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        check_destination(tmp_path / "a.zarr", overwrite=False)
    check_destination(tmp_path / "a.zarr", overwrite=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "0").write_text("a file, no chunk")
    (tmp_path / "file").write_text("x")
    os.symlink(tmp_path / "a.zarr", tmp_path / "link")
    for name in ("folder", "file", "link"):
        with pytest.raises(TargetExistsError, match="never removed"):
            check_destination(tmp_path / name, overwrite=True)


def test_a_parent_that_is_a_file_is_an_error_of_the_library(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(io.ScoutIOError) as caught:
        io.write_zarr(tmp_path / "file" / "a.zarr", make_volume((5, 6, 7)), 4)
    assert str(tmp_path / "file") in str(caught.value)
    assert (tmp_path / "file").read_text() == "x"
