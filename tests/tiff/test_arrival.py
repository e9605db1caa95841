"""When a file counts as whole, held against a writer that is moved by hand; no clock runs."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import make_volume, write_planes

from scout_dask_io.tiff.arrival import N_CHECKED, Arrivals, state_of
from scout_dask_io.tiff.describe import describe_plane

VOLUME = make_volume((6, 20, 30))


class Watch:
    """A folder that is polled, and how often each file was asked for."""

    def __init__(self, folder: Path, settle_s: float = 2.0, marker: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.looked: Counter[str] = Counter()
        self.parsed: Counter[str] = Counter()
        self.listed = 0
        marked = (lambda name: (folder / (name + marker)).exists()) if marker else None
        self.arrivals = Arrivals(self._names, self._look, self._parse, settle_s, marked)

    def _names(self) -> list[str]:
        self.listed += 1
        return [p.name for p in self.folder.iterdir() if p.suffix == ".tif"]

    def _look(self, name: str):
        self.looked[name] += 1
        return state_of(str(self.folder / name))

    def _parse(self, name: str):
        self.parsed[name] += 1
        return describe_plane(self.folder / name)


def raw_tiff(plane: np.ndarray, tmp_path: Path, **how) -> bytes:
    tifffile.imwrite(tmp_path / "one.tif", plane, photometric="minisblack", **how)
    return (tmp_path / "one.tif").read_bytes()


def test_a_plane_counts_once_nothing_of_it_changed_for_the_settled_time(tmp_path):
    watch = Watch(tmp_path / "planes", settle_s=2)
    write_planes(watch.folder, VOLUME[:1])
    assert watch.arrivals.poll(10.0).whole == ()
    assert watch.arrivals.poll(11.9).whole == ()
    assert watch.parsed == {}, "a file that may still be written is not parsed"
    assert watch.arrivals.poll(12.0).whole == ("z0000.tif",)
    assert watch.arrivals.whole["z0000.tif"].file.shape == (20, 30)
    assert watch.arrivals.poll(13.0).whole == ()


def test_between_two_polls_files_that_are_due_are_looked_at_and_nothing_else(tmp_path):
    watch = Watch(tmp_path / "planes", settle_s=2)
    paths = write_planes(watch.folder, VOLUME[:4])
    paths[3].rename(tmp_path / "late.tif")
    (watch.folder / "z0002.tif").write_bytes(b"II*\0")
    watch.arrivals.poll(10.0)
    (tmp_path / "late.tif").rename(paths[3])
    watch.arrivals.poll(11.0)
    assert watch.arrivals.due_s == 12.0
    rewrite_in_place(paths[1], raw_tiff(VOLUME[5], tmp_path))
    watch.looked.clear()
    watch.listed = 0
    assert watch.arrivals.settle(12.0).whole == ("z0000.tif",)
    assert (watch.listed, sorted(watch.looked)) == (0, ["z0000.tif", "z0001.tif", "z0002.tif"])
    assert watch.arrivals.due_s == 13.0, "of the one that came late; one that is torn is not due"
    assert watch.arrivals.settle(13.0).whole == ("z0003.tif",)
    assert watch.arrivals.due_s == 14.0, "of the one that was written again"
    assert watch.arrivals.settle(14.0).whole == ("z0001.tif",)
    assert watch.arrivals.due_s == float("inf")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_file_that_grows_is_whole_only_when_its_last_byte_is_there(tmp_path, compression):
    # The directory first and the pixels after it, as streaming writers leave it: the header
    # parses from the first bytes on, and says where pixels are to come.
    data = raw_tiff(VOLUME[0], tmp_path, compression=compression, rowsperstrip=4)
    watch = Watch(tmp_path / "planes", settle_s=0)
    path = watch.folder / "z0000.tif"
    now = 0.0
    for size in range(0, len(data) + 1, 97):
        path.write_bytes(data[:size])
        now += 1
        found = watch.arrivals.poll(now)
        assert (found.whole != ()) == (size == len(data)), size
    path.write_bytes(data)
    assert watch.arrivals.poll(now + 1).whole == ("z0000.tif",)


def test_the_settled_time_begins_again_with_every_change(tmp_path):
    data = raw_tiff(VOLUME[0], tmp_path)
    watch = Watch(tmp_path / "planes", settle_s=2)
    path = watch.folder / "z0000.tif"
    path.write_bytes(data[:50])
    assert watch.arrivals.poll(0).stirred
    assert not watch.arrivals.poll(1).stirred
    path.write_bytes(data)
    assert watch.arrivals.poll(1.5).stirred
    assert watch.arrivals.poll(3.4).whole == ()
    assert watch.arrivals.poll(3.5).whole == ("z0000.tif",)


def test_a_file_that_is_not_whole_is_parsed_once_in_each_of_its_states(tmp_path):
    data = raw_tiff(VOLUME[0], tmp_path)
    watch = Watch(tmp_path / "planes", settle_s=1)
    (watch.folder / "z0000.tif").write_bytes(data[:200])
    for now in range(10):
        watch.arrivals.poll(now)
    assert watch.parsed == {"z0000.tif": 1}
    assert list(watch.arrivals.reasons()) == ["z0000.tif"]
    assert "200 bytes" in watch.arrivals.reasons()["z0000.tif"]


def test_a_poll_lists_once_and_looks_at_what_is_not_whole_and_a_part_of_the_rest(tmp_path):
    watch = Watch(tmp_path / "planes", settle_s=1)
    n = N_CHECKED + 40
    data = raw_tiff(VOLUME[0], tmp_path)
    for k in range(n):
        (watch.folder / f"z{k:04d}.tif").write_bytes(data)
    watch.arrivals.poll(0)
    assert len(watch.arrivals.poll(1).whole) == n
    watch.looked.clear()
    watch.listed = 0
    watch.arrivals.poll(2)
    assert (watch.listed, watch.looked.total()) == (1, N_CHECKED)
    watch.arrivals.poll(3)
    assert len(watch.looked) == n, "the others have their turn"
    assert watch.parsed.total() == n, "parsed once"


def rewrite_in_place(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def rename_over(path: Path, data: bytes) -> None:
    draft = path.with_name("draft")
    draft.write_bytes(data)
    draft.replace(path)


def set_times_back(path: Path, data: bytes) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [rewrite_in_place, rename_over, set_times_back])
def test_a_plane_that_changes_after_it_was_whole_is_lost_and_comes_again(tmp_path, change):
    watch = Watch(tmp_path / "planes", settle_s=1)
    (path,) = write_planes(watch.folder, VOLUME[:1])
    os.utime(path, ns=(10**18, 10**18))
    watch.arrivals.poll(0)
    assert watch.arrivals.poll(1).whole == ("z0000.tif",)
    change(path, raw_tiff(VOLUME[1], tmp_path))
    assert watch.arrivals.poll(2).lost == ("z0000.tif",)
    assert watch.arrivals.whole == {}
    assert watch.arrivals.poll(2.5).whole == ()
    assert watch.arrivals.poll(3).whole == ("z0000.tif",)


def test_recheck_looks_at_every_plane(tmp_path):
    watch = Watch(tmp_path / "planes", settle_s=0)
    paths = write_planes(watch.folder, VOLUME)
    assert len(watch.arrivals.poll(0).whole) == 6
    watch.looked.clear()
    assert watch.arrivals.recheck(1) == ()
    assert watch.looked.total() == 6
    paths[2].unlink()
    rewrite_in_place(paths[4], b"II*\0")
    assert watch.arrivals.recheck(2) == ("z0002.tif", "z0004.tif")


def test_a_plane_that_goes_is_lost(tmp_path):
    watch = Watch(tmp_path / "planes", settle_s=0)
    paths = write_planes(watch.folder, VOLUME[:2])
    watch.arrivals.poll(0)
    paths[0].unlink()
    assert watch.arrivals.poll(1).lost == ("z0000.tif",)
    assert list(watch.arrivals.whole) == ["z0001.tif"]


def test_with_a_marker_a_plane_counts_as_soon_as_that_is_there_and_no_sooner(tmp_path):
    watch = Watch(tmp_path / "planes", settle_s=100, marker=".done")
    write_planes(watch.folder, VOLUME[:2])
    (watch.folder / "z0001.tif.done").touch()
    assert watch.arrivals.poll(0).whole == ("z0001.tif",)
    assert watch.arrivals.poll(1000).whole == ()
    (watch.folder / "z0000.tif.done").touch()
    assert watch.arrivals.poll(1001).whole == ("z0000.tif",)


def test_a_folder_a_fifo_and_a_link_to_nothing_are_never_whole(tmp_path):
    watch = Watch(tmp_path / "planes", settle_s=0)
    (watch.folder / "a.tif").mkdir()
    os.mkfifo(watch.folder / "b.tif")
    (watch.folder / "c.tif").symlink_to("nowhere")
    assert watch.arrivals.poll(0).whole == ()
    assert watch.parsed == {}


def test_planes_share_the_layout_that_they_have_in_common(tmp_path):
    watch = Watch(tmp_path / "planes", settle_s=0)
    write_planes(watch.folder, VOLUME)
    watch.arrivals.poll(0)
    layouts = {id(a.file.pages[0].layout) for a in watch.arrivals.whole.values()}
    assert len(layouts) == 1


def test_a_file_that_moves_while_it_is_described_does_not_count(tmp_path):
    watch = Watch(tmp_path / "planes", settle_s=0)
    (path,) = write_planes(watch.folder, VOLUME[:1])
    real = watch.arrivals.describe

    def describe_amid_a_write(name: str):
        watch.arrivals.describe = real
        rename_over(path, raw_tiff(VOLUME[1], tmp_path))
        return real(name)

    watch.arrivals.describe = describe_amid_a_write
    assert watch.arrivals.poll(0).whole == ()
    assert watch.arrivals.poll(1).whole == ("z0000.tif",)
    assert partial(state_of, str(path))() == watch.arrivals.whole["z0000.tif"].state
