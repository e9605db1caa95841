"""Files that cannot be read: all named in one error, or planes of zeros that are accounted for."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import make_volume, write_channels, write_planes

from scout_dask_io.core.image_info import FilledPlane
from scout_dask_io.errors import ArgumentError, PathNotFoundError, ShapeMismatchError, TiffReadError
from scout_dask_io.read.channels import imread_channels
from scout_dask_io.read.tiff import imread_folder, imread_parallel
from scout_dask_io.run.lazy import source_of

VOLUME = make_volume((7, 45, 37))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def _text(path: Path) -> None:
    path.write_text("no TIFF at all")


def _other_shape(path: Path) -> None:
    tifffile.imwrite(path, VOLUME[0, :-1], photometric="minisblack")


def _other_dtype(path: Path) -> None:
    tifffile.imwrite(path, VOLUME[0].astype("f4"), photometric="minisblack")


def _pages(path: Path) -> None:
    tifffile.imwrite(path, VOLUME[:2], photometric="minisblack")


def _sparse(path: Path) -> None:
    # The offset of its one strip becomes 0.
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags[273].overwrite(0)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (_empty, "it is empty"),
    "truncated": (_cut, "truncated"),
    "no TIFF": (_text, "does not begin as a TIFF"),
    "other shape": (_other_shape, "44 x 37 uint16, most are 45 x 37 uint16"),
    "other dtype": (_other_dtype, "45 x 37 float32"),
    "two pages": (_pages, "2 x 45 x 37"),
    "sparse": (_sparse, "never written"),
}


def filled(volume: np.ndarray, *at: tuple[int, ...]) -> np.ndarray:
    out = volume.copy()
    for index in at:
        out[index] = 0
    return out


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_file_that_cannot_be_read_is_an_error_or_a_plane_of_zeros_on_record(tmp_path, kind):
    damage, reason = DAMAGE[kind]
    paths = write_planes(tmp_path, VOLUME)
    damage(paths[3])
    with pytest.raises((TiffReadError, ShapeMismatchError), match=r'z0003\.tif.*missing="fill"'):
        imread_folder(tmp_path)
    with pytest.warns(UserWarning, match=r"1 of the 7 files.*z0003\.tif.*zeros"):
        lazy = imread_folder(tmp_path, missing="fill")
    assert (lazy.shape, lazy.dtype) == (VOLUME.shape, VOLUME.dtype)
    np.testing.assert_array_equal(lazy.compute(), filled(VOLUME, (3,)))
    (found,) = source_of(lazy).filled
    assert (found.plane, found.file) == ((3,), str(paths[3]))
    assert reason in found.reason
    assert str(tmp_path) not in found.reason


def test_a_bad_first_file_and_the_last_are_filled_and_the_most_common_shape_wins(tmp_path):
    paths = write_planes(tmp_path, VOLUME)
    _other_shape(paths[0])
    _other_shape(paths[6])
    with pytest.warns(UserWarning, match="2 of the 7 files"):
        lazy = imread_folder(tmp_path, missing="fill", chunks=(2, 16, -1))
    np.testing.assert_array_equal(lazy.compute(), filled(VOLUME, (0,), (6,)))


def test_the_error_names_ten_files_and_counts_the_others(tmp_path):
    paths = write_planes(tmp_path, make_volume((40, 8, 9)))
    for path in paths[5:18]:
        _empty(path)
    with pytest.raises(TiffReadError) as caught:
        imread_folder(tmp_path)
    text = str(caught.value)
    assert "13 of the 40 files" in text
    assert all(f"'z{k:04d}.tif' (it is empty)" in text for k in range(5, 15))
    assert "z0015.tif" not in text
    assert "and 3 more" in text
    assert "scan" in text
    assert 'missing="fill"' in text


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib", "rowsperstrip": 7}, {"tile": (16, 16)}]
)
def test_every_region_of_filled_planes_reads_as_zeros(tmp_path, byteorder, options):
    volume = make_volume((2, 5, 45, 37))
    folders = write_channels(tmp_path, volume, byteorder=byteorder, **options)
    at = [(0, 0), (0, 1), (1, 4)]
    for c, z in at:
        _empty(folders[c] / f"z{z:04d}.tif")
    with pytest.warns(UserWarning, match="3 of the 10 files"):
        lazy = imread_channels(tmp_path, missing="fill")
    expected = filled(volume, *at)
    source = source_of(lazy)
    assert [f.plane for f in source.filled] == at
    np.testing.assert_array_equal(source[:], expected)
    for index in [np.s_[0], np.s_[:, 4], np.s_[0, :2], np.s_[1, ::2, 3:9], np.s_[:, [4, 0], :, 5]]:
        np.testing.assert_array_equal(source[index], expected[index])
    again = pickle.loads(pickle.dumps(source))
    assert (again.token, again.filled) == (source.token, source.filled)
    np.testing.assert_array_equal(again[:], expected)


def test_a_narrowed_source_of_filled_planes_alone_carries_no_file(tmp_path):
    paths = write_planes(tmp_path, VOLUME)
    for k in (2, 3):
        _empty(paths[k])
    with pytest.warns(UserWarning, match="2 of the 7"):
        source = source_of(imread_folder(tmp_path, missing="fill"))
    whole = tuple(slice(0, n) for n in VOLUME.shape[1:])
    for start, stop in [(2, 4), (1, 4), (3, 7), (0, 7)]:
        part, region = source.narrow((slice(start, stop), *whole))
        part = pickle.loads(pickle.dumps(part))
        np.testing.assert_array_equal(part.read(region), filled(VOLUME, (2,), (3,))[start:stop])
        names = [f"z{k:04d}.tif" for k in range(start, stop) if k not in (2, 3)]
        assert [os.path.basename(f.path) for f in part.files] == names


def test_stacks_of_pages_are_filled_file_by_file(tmp_path):
    volume = make_volume((4, 3, 20, 21))
    for k, pages in enumerate(volume):
        tifffile.imwrite(tmp_path / f"{k}.tif", pages, photometric="minisblack")
    os.truncate(tmp_path / "1.tif", 1500)
    with pytest.warns(UserWarning, match="1 of the 4"):
        lazy = imread_folder(tmp_path, missing="fill")
    np.testing.assert_array_equal(lazy.compute(), filled(volume, (1,)))
    assert [f.plane for f in source_of(lazy).filled] == [(1,)]


def test_the_name_tells_what_was_filled(tmp_path):
    paths = write_planes(tmp_path, VOLUME)
    whole = imread_folder(tmp_path).name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert imread_folder(tmp_path, missing="fill").name == whole
    good = paths[3].read_bytes()
    names = set()
    for damage in (_empty, _cut, _text):
        paths[3].write_bytes(good)
        damage(paths[3])
        with pytest.warns(UserWarning, match="1 of the 7"):
            names.add(imread_folder(tmp_path, missing="fill").name)
    assert len(names) == 3
    assert whole not in names


def test_what_is_not_there_or_cannot_be_reached_is_never_filled(tmp_path):
    paths = write_planes(tmp_path, VOLUME)
    with pytest.raises(PathNotFoundError, match="nowhere"):
        imread_parallel([*paths, tmp_path / "nowhere.tif"], missing="fill")
    (tmp_path / "z0003b.tif").symlink_to("nowhere.tif")
    with pytest.raises(PathNotFoundError, match=r"z0003b\.tif"):
        imread_folder(tmp_path, missing="fill")
    for path in paths:
        _empty(path)
    (tmp_path / "z0003b.tif").unlink()
    with pytest.raises(TiffReadError, match="7 of the 7"):
        imread_folder(tmp_path, missing="fill")
    with pytest.raises(ArgumentError, match="missing must be one of 'error', 'fill'"):
        imread_folder(tmp_path, missing="skip")


@pytest.mark.parametrize("error", [13, 24, 5])  # EACCES, EMFILE, EIO
def test_a_disk_that_does_not_answer_is_an_error_with_fill_too(tmp_path, monkeypatch, error):
    paths = write_planes(tmp_path, VOLUME)
    real = os.open

    def fail(path, *args, **options):
        if str(path) == str(paths[2]):
            raise OSError(error, os.strerror(error), path)
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(TiffReadError, match=r"z0002\.tif") as caught:
        imread_folder(tmp_path, missing="fill")
    assert "fill" not in str(caught.value)


def test_a_record_of_a_filled_plane_is_plain_data():
    record = FilledPlane((1, 2), "a.tif", "it is empty")
    assert pickle.loads(pickle.dumps(record)) == record
