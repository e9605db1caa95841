"""Folders of which it is not known how many planes there will be, until a file says so."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from following import Stage, Stopped, assert_as_converted, pixels, put
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.jobs import follow_engine

VOLUME = make_volume((22, 40, 50))


def steps_of(src, done, n=22, order=None):
    steps = [
        lambda z=z: put(src / f"z{z:04d}.tif", VOLUME[z]) for z in order or range(n)
    ]  # fmt: skip
    return [*steps, lambda: done.touch()]


@pytest.mark.parametrize("n", [22, 16, 5, 1])
@pytest.mark.parametrize("room", [8, 10, 16, 64])
@pytest.mark.parametrize(
    "options",
    [{}, {"ome": True, "levels": 2, "qc": True}, {"zarr_format": 3}],
    ids=["", "ome", "3"],
)
def test_the_array_ends_with_the_last_plane_whatever_room_there_was(
    tmp_path, n, room, options, monkeypatch
):
    monkeypatch.setattr(follow_engine, "_ROOM", room)
    src, done = tmp_path / "planes", tmp_path / "done"
    dst = tmp_path / ("a.ome.zarr" if "ome" in options else "a.zarr")
    report = Stage(steps_of(src, done, n)).follow(src, dst, None, until=done, **options)
    assert report.n_planes == n
    assert np.array_equal(pixels(dst), VOLUME[:n])
    assert_as_converted(src, dst, tmp_path, units=False, **options)


def test_levels_that_only_the_number_of_planes_tells_are_made_by_converting_anew(tmp_path):
    src, done, dst = tmp_path / "planes", tmp_path / "done", tmp_path / "a.ome.zarr"
    # There is room for 256 planes, of which a pyramid down to 256 makes no lower level, and
    # 300 come.
    steps = [lambda z=z: put(src / f"z{z:04d}.tif", VOLUME[z % 22]) for z in range(300)]
    burst = [lambda: [step() for step in steps], lambda: done.touch()]
    with pytest.warns(UserWarning, match="converted anew"):
        Stage(burst).follow(src, dst, None, until=done, ome=True)
    assert_as_converted(src, dst, tmp_path, units=False, ome=True)
    assert sorted(zarr.open_group(str(dst), mode="r").array_keys()) == ["0", "1"]


def test_planes_that_still_grow_when_the_file_is_there_are_waited_for(tmp_path):
    src, done, dst = tmp_path / "planes", tmp_path / "done", tmp_path / "a.zarr"
    steps = steps_of(src, done, 9)
    late = src / "z0008.tif"
    steps[8] = lambda: late.write_bytes(b"II*\0")
    steps += [lambda: None] * 6 + [lambda: put(late, VOLUME[8])]
    Stage(steps).follow(src, dst, None, until=done)
    assert np.array_equal(pixels(dst), VOLUME[:9])


@pytest.mark.parametrize("stop_at", range(3, 34, 4))
def test_it_goes_on_after_a_kill(tmp_path, stop_at, monkeypatch):
    monkeypatch.setattr(follow_engine, "_ROOM", 8)
    src, done, dst = tmp_path / "planes", tmp_path / "done", tmp_path / "a.zarr"
    stage = Stage(steps_of(src, done))
    stage.stop_at = stop_at
    try:
        stage.follow(src, dst, None, until=done, qc=True)
    except Stopped:
        stage.follow(src, dst, None, until=done, qc=True, resume=True)
    assert np.array_equal(pixels(dst), VOLUME)
    assert_as_converted(src, dst, tmp_path, units=False, qc=True)


@pytest.mark.posix  # a growing array is seen by hard links alone
def test_readers_see_it_grow_and_that_its_end_is_not_known(tmp_path, monkeypatch):
    monkeypatch.setattr(follow_engine, "_ROOM", 8)
    src, done, dst = tmp_path / "planes", tmp_path / "done", tmp_path / "a.zarr"
    seen = []

    def see():
        if dst.exists():
            array = zarr.open_array(str(dst), mode="r")
            told = array.attrs.get("scout_growing")
            seen.append((array.shape[0], told and told["planned"]))
            assert np.array_equal(array[...], VOLUME[: array.shape[0]])

    Stage(steps_of(src, done), see).follow(src, dst, None, until=done)
    extents = [n for n, _ in seen]
    assert extents == sorted(extents)
    assert {planned for n, planned in seen if n < 20} == {None}
    assert len(set(extents)) > 3


def test_it_gives_up_when_neither_planes_nor_the_file_come(tmp_path):
    src, done, dst = tmp_path / "planes", tmp_path / "done", tmp_path / "a.zarr"
    with pytest.raises(io.PathNotFoundError, match=r"9 planes are whole and there is no .*done"):
        Stage(steps_of(src, done, 9)[:-1]).follow(src, dst, None, until=done)
    done.touch()
    Stage().follow(src, dst, None, until=done, resume=True)
    assert np.array_equal(pixels(dst), VOLUME[:9])


@pytest.mark.parametrize(
    ("planes", "options", "match"),
    [
        (None, {}, r"give planes=400.*or.*until"),
        (4, {"until": "done"}, "one of the two"),
        (None, {"until": "done", "pattern": "t{t}_z{z}.tif"}, "more axes give planes"),
    ],
)
def test_either_the_number_or_the_file_says_when_it_is_over(tmp_path, planes, options, match):
    options = {k: tmp_path / v if k == "until" else v for k, v in options.items()}
    with pytest.raises(io.ArgumentError, match=match):
        Stage().follow(tmp_path / "planes", tmp_path / "a.zarr", planes, **options)
