"""What a follower knows in the end it does not look up again; what it does not know it does."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
import pytest
from following import Stage, Stopped, assert_as_converted, pixels, put
from helpers import make_volume

from scout_dask_io.files.local import LocalLocation
from scout_dask_io.jobs.follow_engine import Follower
from scout_dask_io.store.staging import find_staging
from scout_dask_io.tiff import describe

VOLUME = make_volume((18, 40, 50))
KINDS = {
    "folder": (18, lambda k: f"z{k:04d}.tif"),
    "channels": ({"c": 2, "z": 9}, lambda k: f"color_{k // 9}/z{k % 9:02d}.tif"),
    "names": ({"t": 3, "z": 6}, lambda k: f"s_t{k // 6}_Z{k % 6:02d}.tif"),
}
pytestmark = pytest.mark.filterwarnings("ignore:.*is read by the names of its files")
OPTIONS = {
    "plain": {},
    "ome": {"ome": True, "levels": 3},
    "qc": {"qc": True, "durable": True},
}


def steps_of(src, name):
    return [lambda k=k: put(src / name(k), VOLUME[k]) for k in range(18)]


def before_the_finish(monkeypatch, do):
    """Have something done once all is converted, before the follower looks a last time."""
    finish, done = Follower._finish, []

    def first(self, growth):
        if not done:
            done.append(do())
        return finish(self, growth)

    monkeypatch.setattr(Follower, "_finish", first)


def count_looks(monkeypatch) -> Counter:
    """Count headers that convert opens, and chunks that it asks for, from now on."""
    found, opened, states = Counter(), describe.describe_plane, LocalLocation.states

    def count_header(path, *args, **how):
        found["headers"] += 1
        return opened(path, *args, **how)

    def count_states(self, names):
        names = list(names)
        found["chunks"] += len(names)
        return states(self, names)

    monkeypatch.setattr(describe, "describe_plane", count_header)
    monkeypatch.setattr(LocalLocation, "states", count_states)
    return found


@pytest.mark.parametrize(("planes", "name"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_finish_opens_one_header_and_looks_at_no_chunk_of_its_own(
    tmp_path, monkeypatch, planes, name, options
):
    src, dst = tmp_path / "planes", tmp_path / ("a.ome.zarr" if "ome" in options else "a.zarr")
    with monkeypatch.context() as patched:
        looks = []
        before_the_finish(patched, lambda: looks.append(count_looks(patched)))
        Stage(steps_of(src, name)).follow(src, dst, planes, **options)
    # What the first states beside its pixels is asked of it in the end alone.
    assert looks == [{"headers": 1}]
    assert_as_converted(src, dst, tmp_path, **options)


def test_until_a_file_is_there_no_chunk_is_looked_at_for_more_room(tmp_path, monkeypatch):
    monkeypatch.setattr("scout_dask_io.jobs.follow_engine._ROOM", 8)
    src, dst, over = tmp_path / "planes", tmp_path / "a.zarr", tmp_path / "over"
    looks = count_looks(monkeypatch)
    steps = [*steps_of(src, KINDS["folder"][1]), over.touch]
    report = Stage(steps).follow(src, dst, None, until=over)
    assert (report.n_planes, looks["chunks"]) == (18, 0)
    assert_as_converted(src, dst, tmp_path, units=False)


def test_once_another_run_has_gone_on_with_the_write_all_of_it_is_looked_at(tmp_path, monkeypatch):
    planes, name = KINDS["folder"]
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"

    def stop(*_):
        raise Stopped

    def go_on_in_another():
        with monkeypatch.context() as patched:
            patched.setattr(Follower, "_finish", stop)
            with pytest.raises(Stopped):
                Stage().follow(src, dst, planes, resume=True)
        (find_staging(dst).array / "0/1/1").unlink()

    with monkeypatch.context() as patched:
        before_the_finish(patched, go_on_in_another)
        with pytest.warns(UserWarning, match="do not lie there as they were written"):
            Stage(steps_of(src, name)).follow(src, dst, planes)
    assert_as_converted(src, dst, tmp_path)


def write_anew(path, plane):
    put(path, plane)


def set_times_back(path, plane):
    before = path.stat()
    put(path, plane)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(("planes", "name"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(
    "change", [write_anew, pytest.param(set_times_back, marks=pytest.mark.posix)]
)
def test_a_plane_that_is_written_again_between_its_conversion_and_the_finish_is_found(
    tmp_path, monkeypatch, planes, name, options, change
):
    src, dst = tmp_path / "planes", tmp_path / ("a.ome.zarr" if "ome" in options else "a.zarr")
    wanted = VOLUME.copy()
    wanted[7] = VOLUME[3][::-1]
    with monkeypatch.context() as patched:
        before_the_finish(patched, lambda: change(src / name(7), wanted[7]))
        report = Stage(steps_of(src, name)).follow(src, dst, planes, **options)
    assert report.n_again == 1
    assert np.array_equal(pixels(dst).reshape(wanted.shape), wanted)
    assert_as_converted(src, dst, tmp_path, **options)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_after_a_kill_the_finish_looks_at_what_the_run_before_has_written(
    tmp_path, monkeypatch, options
):
    planes, name = KINDS["folder"]
    src, dst = tmp_path / "planes", tmp_path / ("a.ome.zarr" if "ome" in options else "a.zarr")
    stage = Stage(steps_of(src, name))
    stage.stop_at = 20
    with pytest.raises(Stopped):
        stage.follow(src, dst, planes, **options)
    array = find_staging(dst).array / ("0" if "ome" in options else "")
    with monkeypatch.context() as patched:
        before_the_finish(patched, (array / "0/1/1").unlink)
        with pytest.warns(UserWarning, match="do not lie there as they were written"):
            stage.follow(src, dst, planes, resume=True, **options)
    assert np.array_equal(pixels(dst), VOLUME)
    assert_as_converted(src, dst, tmp_path, **options)
