"""Converting while planes arrive: held against a conversion afterwards, file by file."""

from __future__ import annotations

import errno
import json
import os
import re

import numpy as np
import pytest
import tifffile
import zarr
from following import (
    Stage,
    Stopped,
    assert_as_converted,
    growing,
    pixels,
    put,
    rename_into,
    tiff_bytes,
)
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.jobs import follow_engine
from scout_dask_io.jobs.convert import ConvertPlan
from scout_dask_io.store import local_transaction
from scout_dask_io.store.staging import find_staging

VOLUME = make_volume((18, 40, 50))


def name(z: int) -> str:
    return f"z{z:04d}.tif"


def steps_of(folder, volume=VOLUME, order=None, write=put):
    return [
        lambda z=z: write(folder / name(z), volume[z]) for z in order or range(len(volume))
    ]  # fmt: skip


def test_planes_that_come_one_by_one_become_what_convert_makes_of_all(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    report = Stage(steps_of(src)).follow(src, dst, 18)
    assert np.array_equal(pixels(dst), VOLUME)
    assert_as_converted(src, dst, tmp_path)
    assert (report.n_planes, report.n_again) == (18, 0)
    assert report.path == str(dst)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "fresh", "planes"]


@pytest.mark.parametrize(
    "options",
    [
        {"qc": True},
        {"ome": True, "levels": 3},
        {"ome": True, "qc": True, "zarr_format": 3},
        {"zarr_format": 3, "shards": (8, 32, 32)},
        {"codec": "none", "durable": True},
        {"ome": True, "levels": 4, "max_mem": "300kB"},
        {"voxel_size": (4, 1, 1), "ome": True, "levels": 3},
    ],
    ids=lambda o: "-".join(map(str, o)),
)
def test_whatever_convert_writes_is_bit_equal_when_it_is_followed(tmp_path, options):
    name = "a.ome.zarr" if "ome" in options else "a.zarr"
    src, dst = tmp_path / "planes", tmp_path / name
    Stage(steps_of(src)).follow(src, dst, 18, **options)
    assert np.array_equal(pixels(dst), VOLUME)
    assert_as_converted(src, dst, tmp_path, **options)


def test_planes_that_grow_in_place_or_come_by_a_rename_are_read_whole(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    steps = []
    for z in range(18):
        if z % 3 == 0:
            steps += growing(src / name(z), VOLUME[z], compression="zlib")
        else:
            steps += steps_of(src, order=[z], write=(put, rename_into)[z % 2])
    Stage(steps).follow(src, dst, 18)
    assert np.array_equal(pixels(dst), VOLUME)
    assert_as_converted(src, dst, tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_planes_may_come_in_any_order(tmp_path, seed):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    order = np.random.default_rng(seed).permutation(18).tolist()
    Stage(steps_of(src, order=order)).follow(src, dst, 18)
    assert np.array_equal(pixels(dst), VOLUME)
    assert_as_converted(src, dst, tmp_path)


def test_a_lower_name_that_comes_late_moves_all_planes_and_they_are_written_again(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    report = Stage(steps_of(src, order=[*range(1, 18), 0])).follow(src, dst, 18)
    assert report.n_again > 0
    assert np.array_equal(pixels(dst), VOLUME)
    assert_as_converted(src, dst, tmp_path)


def test_a_plane_that_changes_after_it_was_read_is_converted_again(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    other = VOLUME.copy()
    other[2] = VOLUME[3][::-1]
    steps = steps_of(src)
    steps.insert(12, lambda: put(src / name(2), other[2]))
    report = Stage(steps).follow(src, dst, 18, qc=True)
    assert report.n_again == 1
    assert np.array_equal(pixels(dst), other)
    assert_as_converted(src, dst, tmp_path, qc=True)


def test_a_plane_that_becomes_all_fill_value_leaves_no_chunk_behind(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    volume = VOLUME.copy()
    volume[0:8] = 0
    steps = steps_of(src)
    steps[12:12] = [lambda: [put(src / name(z), volume[z]) for z in range(8)]]
    Stage(steps).follow(src, dst, 18, ome=True)
    assert np.array_equal(pixels(dst), volume)
    assert_as_converted(src, dst, tmp_path, ome=True)


@pytest.mark.posix  # a growing array is seen by hard links alone
def test_readers_are_given_the_chunks_that_have_files_and_no_other_is_asked_for(
    tmp_path, monkeypatch
):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    volume = VOLUME.copy()
    volume[:, 16:] = 0
    link, linked = os.link, []

    def count(source, target):
        linked.append(source)
        link(source, target)

    monkeypatch.setattr("scout_dask_io.store.excerpt.os.link", count)
    Stage(steps_of(src, volume)).follow(src, dst, 18)
    assert len(linked) == 5 * 1 * 4, "of 5 slabs one row of four chunks"
    assert np.array_equal(pixels(dst), volume)


@pytest.mark.posix  # a growing array is seen by hard links alone
def test_readers_see_whole_slabs_whose_extent_grows_and_nothing_else(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    seen = []

    def see():
        if dst.exists():
            array = zarr.open_array(str(dst), mode="r")
            seen.append(array.shape[0])
            assert np.array_equal(array[...], VOLUME[: array.shape[0]])
            told = array.attrs["scout_growing"]
            assert told == {"axis": 0, "whole": array.shape[0], "planned": 18}
            ours = io.read_zarr(dst)
            assert np.array_equal(ours.compute(), VOLUME[: len(ours)])

    Stage(steps_of(src), see).follow(src, dst, 18)
    assert seen == sorted(seen)
    assert set(seen) <= {4, 8, 12, 16, 18}
    assert len(set(seen)) > 2
    array = zarr.open_array(str(dst), mode="r")
    assert "scout_growing" not in array.attrs
    assert not (dst / ".scout-excerpt").exists()


@pytest.mark.posix  # a growing array is seen by hard links alone
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_readers_see_the_levels_of_an_image_that_are_made_with_the_full_one(tmp_path, zarr_format):
    src, dst = tmp_path / "planes", tmp_path / "a.ome.zarr"
    seen = []
    options = {"ome": True, "levels": 2, "zarr_format": zarr_format}
    whole = tmp_path / "whole.ome.zarr"

    def see():
        if dst.exists():
            group = zarr.open_group(str(dst), mode="r")
            ome = dict(group.attrs).get("ome", group.attrs)
            paths = [d["path"] for d in ome["multiscales"][0]["datasets"]]
            n = group["0"].shape[0]
            seen.append((n, paths))
            for path in paths:
                lower = np.asarray(group[path])
                expected = zarr.open_group(str(whole), mode="r")[path][: len(lower)]
                assert np.array_equal(lower, expected)
                assert len(lower) in (n, -(-n // 2))
            assert len(io.read_zarr(dst)) == n

    for step in steps_of(tmp_path / "all"):
        step()
    io.convert(tmp_path / "all", whole, chunks=(4, 16, 16), nb_workers=2, **options)
    Stage(steps_of(src), see).follow(src, dst, 18, **options)
    assert len({n for n, _ in seen}) > 1
    assert_as_converted(src, dst, tmp_path, **options)


@pytest.mark.parametrize("stop_at", range(2, 40, 3))
def test_a_run_that_is_killed_at_any_time_goes_on_with_resume(tmp_path, stop_at):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    stage = Stage(steps_of(src))
    stage.stop_at = stop_at
    try:
        stage.follow(src, dst, 18, qc=True)
    except Stopped:
        stage.follow(src, dst, 18, qc=True, resume=True)
    assert np.array_equal(pixels(dst), VOLUME)
    assert_as_converted(src, dst, tmp_path, qc=True)


def test_a_plane_that_changes_between_two_runs_is_converted_again(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    stage = Stage(steps_of(src))
    stage.stop_at = 14
    with pytest.raises(Stopped):
        stage.follow(src, dst, 18)
    other = VOLUME.copy()
    other[1] = VOLUME[2][::-1]
    put(src / name(1), other[1])
    report = stage.follow(src, dst, 18, resume=True)
    assert report.n_again == 1
    assert np.array_equal(pixels(dst), other)
    assert_as_converted(src, dst, tmp_path)


@pytest.mark.parametrize("options", [{"qc": True}, {"ome": True, "levels": 3}], ids=str)
@pytest.mark.parametrize("changes", [False, True])
@pytest.mark.parametrize("where", ["run", "publish"])
def test_a_run_that_is_killed_while_convert_finishes_it_goes_on_with_resume(
    tmp_path, monkeypatch, options, changes, where
):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    stage = Stage(steps_of(src))

    def stop(*_, **__):
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(ConvertPlan if where == "run" else local_transaction, where, stop)
        with pytest.raises(Stopped):
            stage.follow(src, dst, 18, **options)
    wanted = VOLUME.copy()
    if changes:
        wanted[1] = VOLUME[2][::-1]
        put(src / name(1), wanted[1])
    report = stage.follow(src, dst, 18, resume=True, **options)
    assert report.n_again == changes
    assert np.array_equal(pixels(dst), wanted)
    assert_as_converted(src, dst, tmp_path, **options)


@pytest.mark.parametrize(("slow", "rest_s"), [("describe_plane", 0.5), ("state_of", 20 * 0.1)])
def test_headers_do_not_put_off_the_next_poll_and_looks_at_the_folder_do(
    tmp_path, monkeypatch, slow, rest_s
):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    (stage, rests) = Stage(steps_of(src)), []
    quick, pause = getattr(follow_engine, slow), stage.pause

    def slowly(*args, **options):
        stage.now_s += 0.1
        return quick(*args, **options)

    def note(running, seconds):
        rests.append(seconds)
        pause(running, seconds)

    monkeypatch.setattr(follow_engine, slow, slowly)
    monkeypatch.setattr(stage, "pause", note)
    stage.follow(src, dst, 18, idle_s=1000.0)
    assert (max(rests) >= rest_s) if slow == "state_of" else (max(rests) <= rest_s)
    assert np.array_equal(pixels(dst), VOLUME)


def test_a_plane_is_taken_in_when_it_has_settled_however_seldom_the_folder_is_listed(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    burst = [lambda: [step() for step in steps_of(src)]]
    report = Stage(burst).follow(src, dst, 18, poll_s=10.0, settle_s=1.0)
    # Nothing is there at first; 10 s later they are seen, a second after that they are whole.
    assert report.elapsed_s - report.lag_s == 11.0
    assert np.array_equal(pixels(dst), VOLUME)


def test_what_stands_finished_is_left_alone_by_resume(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    Stage(steps_of(src)).follow(src, dst, 18)
    before = (dst / ".scout-manifest").read_bytes()
    report = Stage().follow(src, dst, 18, resume=True)
    assert (dst / ".scout-manifest").read_bytes() == before
    assert report.n_planes == 18


def test_what_is_replaced_stands_until_the_new_array_is_whole(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    io.write_zarr(dst, np.full((3, 3), 7, "u2"))

    def see():
        assert np.array_equal(pixels(dst), np.full((3, 3), 7, "u2"))

    with pytest.raises(io.TargetExistsError, match="overwrite"):
        Stage(steps_of(src)).follow(src, dst, 18)
    Stage(steps_of(src), see).follow(src, dst, 18, overwrite=True)
    assert np.array_equal(pixels(dst), VOLUME)


def test_when_nothing_comes_it_gives_up_and_says_what_lacks_and_how_to_go_on(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    steps = steps_of(src, order=[*range(10), 11, 12])
    steps.append(lambda: (src / name(13)).write_bytes(tiff_bytes(VOLUME[13])[:-7]))
    with pytest.raises(io.PathNotFoundError) as caught:
        Stage(steps).follow(src, dst, 18)
    text = str(caught.value)
    assert "12 of 18 planes are whole" in text
    assert "z0013.tif" in text
    assert "z 10" in text
    assert "resume=True" in text
    assert any("write units are finished" in note for note in caught.value.__notes__)
    later = steps_of(src, order=[10, *range(13, 18)])
    Stage(later).follow(src, dst, 18, resume=True)
    assert_as_converted(src, dst, tmp_path)


def test_a_share_that_does_not_answer_for_a_while_is_asked_again(tmp_path, monkeypatch):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    real, calls = os.scandir, []

    def scandir(path):
        if str(path) == str(src):
            calls.append(path)
            if len(calls) in (5, 6, 9):
                raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr("scout_dask_io.tiff.placement.os.scandir", scandir)
    Stage(steps_of(src)).follow(src, dst, 18)
    assert len(calls) > 9
    assert np.array_equal(pixels(dst), VOLUME)


def test_a_share_that_never_answers_again_is_named(tmp_path, monkeypatch):
    (tmp_path / "planes").mkdir()
    real = os.scandir

    def scandir(path):
        if str(path) != str(tmp_path / "planes"):
            return real(path)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("scout_dask_io.tiff.placement.os.scandir", scandir)
    with pytest.raises(io.PathNotFoundError, match="could not be listed last"):
        Stage().follow(tmp_path / "planes", tmp_path / "a.zarr", 18)


def test_a_folder_that_is_gone_for_a_while_costs_nothing_again(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    steps = steps_of(src)
    steps[10:10] = [
        lambda: src.rename(tmp_path / "away"),
        lambda: None,
        lambda: (tmp_path / "away").rename(src),
    ]
    report = Stage(steps).follow(src, dst, 18)
    assert report.n_again == 0
    assert_as_converted(src, dst, tmp_path)


def test_a_full_disk_is_an_error_after_which_it_goes_on(tmp_path, monkeypatch):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    real, calls = local_transaction.write_file, []

    def write(path, *args, **how):
        calls.append(path)
        if len(calls) == 40:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, *args, **how)

    monkeypatch.setattr(local_transaction, "write_file", write)
    stage = Stage(steps_of(src))
    with pytest.raises(io.WriteError, match="No space left") as caught:
        stage.follow(src, dst, 18)
    assert "resume=True" in str(caught.value)
    stage.follow(src, dst, 18, resume=True)
    assert_as_converted(src, dst, tmp_path)


def test_what_came_of_an_acquisition_that_was_stopped_is_converted_by_convert(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    with pytest.raises(io.PathNotFoundError, match="overwrite=True"):
        Stage(steps_of(src)[:10]).follow(src, dst, 18)
    io.convert(src, dst, chunks=(4, 16, 16), overwrite=True)
    assert np.array_equal(pixels(dst), VOLUME[:10])
    assert find_staging(dst) is None


def test_when_nothing_ever_comes_nothing_is_made(tmp_path):
    with pytest.raises(io.PathNotFoundError, match="0 of 18 planes"):
        Stage().follow(tmp_path / "planes", tmp_path / "a.zarr", 18)
    assert list(tmp_path.iterdir()) == []


def test_a_plane_of_another_shape_is_the_error_of_convert_and_can_be_mended(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    steps = steps_of(src)
    steps[9] = lambda: put(src / name(9), VOLUME[9][:30])
    stage = Stage(steps)
    with pytest.raises(io.ShapeMismatchError, match=r"z0009\.tif.*\(30, 50\).*\(40, 50\)"):
        stage.follow(src, dst, 18)
    put(src / name(9), VOLUME[9])
    stage.follow(src, dst, 18, resume=True)
    assert np.array_equal(pixels(dst), VOLUME)


def test_more_planes_than_were_to_come_are_an_error_that_names_them(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    with pytest.raises(io.ShapeMismatchError, match=r"17 planes.*16 were to come.*z0016\.tif"):
        Stage([lambda: [step() for step in steps_of(src)[:17]]]).follow(src, dst, 16)
    (src / name(16)).unlink()
    Stage().follow(src, dst, 16, resume=True)
    assert np.array_equal(pixels(dst), VOLUME[:16])


def test_a_gap_in_the_numbers_is_refused_in_the_end_as_convert_refuses_it(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    steps = steps_of(src, order=[*range(9), *range(10, 18)])
    with pytest.raises(io.ArgumentError, match="z0009") as caught:
        Stage(steps).follow(src, dst, 17)
    assert "names" in str(caught.value)
    with pytest.warns(UserWarning, match="z0009"):
        Stage().follow(src, dst, 17, resume=True, names="allow")
    assert np.array_equal(pixels(dst), np.delete(VOLUME, 9, axis=0))


def test_with_a_marker_nothing_need_settle(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"

    def write(path, plane):
        put(path, plane)
        path.with_name(path.name + ".done").touch()

    stage = Stage(steps_of(src, write=write))
    stage.follow(src, dst, 18, marker=".done", settle_s=50.0)
    assert stage.now_s < 1050
    assert np.array_equal(pixels(dst), VOLUME)


def test_progress_tells_of_planes_that_came_and_are_converted_and_of_the_lag(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    told = []
    Stage(steps_of(src)).follow(src, dst, 18, progress=told.append)
    assert told[-1].n_converted == told[-1].n_arrived == told[-1].n_planes == 18
    assert told[-1].lag_s == 0
    assert told[-1].nbytes == VOLUME.nbytes
    assert any(t.n_arrived > t.n_converted and t.lag_s > 0 for t in told)
    assert [t.n_converted for t in told] == sorted(t.n_converted for t in told)
    assert "18 of 18 planes have come, 18 are converted" in str(told[-1])


def test_a_disk_without_hard_links_shows_nothing_before_all_is_whole(tmp_path, monkeypatch):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("scout_dask_io.store.excerpt.os.link", refuse)
    with pytest.warns(UserWarning, match="no hard links"):
        Stage(steps_of(src), lambda: dst.exists() and pytest.fail("shown")).follow(src, dst, 18)
    assert np.array_equal(pixels(dst), VOLUME)


def test_what_else_comes_to_stand_at_the_destination_is_never_replaced(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    steps = steps_of(src)
    steps.insert(1, lambda: io.write_zarr(dst, np.full((3, 3), 7, "u2")))
    with pytest.raises(io.TargetExistsError):
        Stage(steps).follow(src, dst, 18)
    assert np.array_equal(pixels(dst), np.full((3, 3), 7, "u2"))


@pytest.mark.parametrize(
    ("planes", "options", "match"),
    [
        (0, {}, "1 or more"),
        ({"x": 3}, {}, "t, c and z"),
        ({"c": 3}, {}, "along z or t"),
        (4, {"missing": "fill"}, "missing"),
        (4, {"pages": "all"}, "pages"),
        (4, {"settle_s": -1}, "settle_s"),
        (4, {"idle_s": 1.0}, "idle_s"),
    ],
)
def test_what_cannot_be_followed_is_refused_before_anything_is_made(
    tmp_path, planes, options, match
):
    (tmp_path / "planes").mkdir()
    with pytest.raises(io.ArgumentError, match=match):
        Stage().follow(tmp_path / "planes", tmp_path / "a.zarr", planes, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["planes"]


@pytest.mark.parametrize("remote", ["src", "dst"])
def test_object_stores_are_refused_with_the_way(tmp_path, remote):
    paths = {"src": tmp_path / "planes", "dst": tmp_path / "a.zarr"} | {remote: "memory://a/b.zarr"}
    with pytest.raises(io.ArgumentError, match=r"object store.*once it is whole"):
        Stage().follow(paths["src"], paths["dst"], 3)


@pytest.mark.parametrize(
    ("data", "photometric"),
    [(make_volume((3, 20, 30)), "minisblack"), (np.full((20, 30, 3), 7, "u1"), "rgb")],
    ids=["stack", "colour"],
)
def test_colour_and_stacks_are_refused_with_the_way(tmp_path, data, photometric):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    src.mkdir()
    files = [src / name(z) for z in range(2)]

    def come() -> None:
        for file in files:
            tifffile.imwrite(file, data, photometric=photometric)

    shape = re.escape(str(data.shape))
    with pytest.raises(io.ArgumentError, match=rf"{name(0)}' holds {shape}.*one grey plane each"):
        Stage([come]).follow(src, dst, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["planes"]
    # The way: once all are there, converting takes them.
    io.convert(src, dst)
    assert np.array_equal(pixels(dst), np.stack([data, data]))


def test_a_write_that_is_followed_is_not_taken_for_one_of_convert(tmp_path):
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    stage = Stage(steps_of(src))
    stage.stop_at = 14
    with pytest.raises(Stopped):
        stage.follow(src, dst, 18)
    with pytest.raises(io.ResumeError, match="source"):
        io.convert(src, dst, chunks=(4, 16, 16), resume=True)
    settings = json.loads((find_staging(dst).job / "job.json").read_text())
    assert settings["shape"] == [18, 40, 50]
    stage.follow(src, dst, 18, resume=True)
    assert np.array_equal(pixels(dst), VOLUME)
