"""Whatever tifffile reads of the zoo is read equal, or refused with a reason and a way."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from zoo import animals

from scout_dask_io.core.messages import Option
from scout_dask_io.errors import TiffReadError
from scout_dask_io.jobs.info import info
from scout_dask_io.read.tiff import imread
from scout_dask_io.run.lazy import source_of

pytestmark = pytest.mark.filterwarnings("ignore")


def as_tifffile_reads(path: Path) -> list[np.ndarray] | None:
    """Give the series of a file with samples last; ``None`` where tifffile cannot make them."""
    found = []
    try:
        with tifffile.TiffFile(path) as tif:
            for series in tif.series:
                data, axes = series.asarray(), series.axes
                if data.shape != series.shape:
                    return None  # it says so itself: they are no such array
                if "S" in axes[:-1]:
                    data = np.moveaxis(data, axes.index("S"), -1)
                found.append(data)
    except Exception:
        return None
    return found


def assert_read_as(path: Path, how: str, expected: list[np.ndarray]) -> None:
    for number, whole in enumerate(expected):
        try:
            lazy = imread(path, series=number)
        except TiffReadError as err:
            way = way_out(path, str(err), how)
            if "pages" in way:  # a miscount, of which tifffile's log says that it is one
                with tifffile.TiffFile(path) as tif:
                    plain = [page.asarray() for page in tif.pages]
                found = imread(path, **way).compute(scheduler="sync")
                np.testing.assert_array_equal(found.reshape(-1, *plain[0].shape), plain)
                return
            lazy = imread(path, series=number, **way)
        assert (lazy.shape, lazy.dtype) == (whole.shape, whole.dtype), how
        np.testing.assert_array_equal(lazy.compute(scheduler="sync"), whole, err_msg=how)
        source = source_of(lazy)
        assert source is not None
        part = tuple(slice(n // 3, n // 3 + max(1, n // 2)) for n in whole.shape)
        np.testing.assert_array_equal(source[part], whole[part], err_msg=how)
    assert info(path, allow_sparse=True).shape == expected[0].shape, how


def way_out(path: Path, refusal: str, how: str) -> dict[str, Any]:
    """Give the argument that an error names as the way out."""
    assert path.name in refusal, how
    ways: list[dict[str, Any]] = [{"allow_sparse": True}, {"pages": "all"}]
    for way in ways:
        if str(Option(*next(iter(way.items())))) in refusal:
            return way
    raise AssertionError(f"{how}: {refusal}")


def walk_through(folder: Path, seed: int, n: int) -> int:
    """Hold files against tifffile, and give how many there were to hold."""
    n_read = 0
    for path, how in animals(folder, np.random.default_rng(seed), n):
        expected = as_tifffile_reads(path)
        if expected is not None:
            assert_read_as(path, f"seed {seed}: {how}", expected)
            n_read += 1
        path.unlink()
    return n_read


def test_a_walk_through_the_zoo_meets_nothing_that_is_read_otherwise(tmp_path: Path):
    assert walk_through(tmp_path, 0, 80) > 70


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_nor_does_a_long_walk(tmp_path: Path, seed: int):
    assert walk_through(tmp_path, seed, 300) > 270


# ------------------------------------------------------------------ animals made by hand
def ndpi(planes: list[np.ndarray]) -> bytes:
    """Give a file of Hamamatsu's scanners: offsets of 64 bits in a classic TIFF."""
    import struct

    data, link = bytearray(struct.pack("<2sHQ", b"II", 42, 0)), 4
    for plane in planes:
        at = len(data)
        data += plane.tobytes()
        tags = [(256, 3, plane.shape[1]), (257, 3, plane.shape[0]), (258, 3, 16), (259, 3, 1)]
        tags += [(262, 3, 1), (273, 4, at), (277, 3, 1), (278, 3, plane.shape[0])]
        tags += [(279, 4, plane.nbytes), (65420, 4, 1), (65421, 11, 0)]
        struct.pack_into("<Q", data, link, len(data))
        data += struct.pack("<H", len(tags))
        for code, kind, value in tags:
            data += struct.pack("<HHII", code, kind, 1, value)
        link = len(data)
        # The next directory, and then the upper halves of the values.
        data += bytes(8 + 4 * len(tags))
    return bytes(data)


def test_a_slide_of_hamamatsu_is_read_by_its_own_offsets(tmp_path: Path):
    rng = np.random.default_rng(0)
    planes = [rng.integers(0, 999, (31, 42), "u2") for _ in range(2)]
    path = tmp_path / "slide.ndpi"
    path.write_bytes(ndpi(planes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = tifffile.imread(path)
    np.testing.assert_array_equal(imread(path).compute(), expected)
    np.testing.assert_array_equal(imread(path, pages="all").compute(), np.stack(planes))


@pytest.mark.parametrize("code", [34661, 34676, 32809, 99, 65535])
def test_a_compression_that_nobody_decodes_is_refused_by_its_name(tmp_path: Path, code: int):
    path = tmp_path / "odd.tif"
    tifffile.imwrite(path, np.zeros((31, 42), "u1"), metadata=None, rowsperstrip=8)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags[259].overwrite(code)
    with pytest.raises(TiffReadError, match=r"odd\.tif") as caught:
        imread(path).compute()
    assert re.search(rf"compression.*{code}|{code}.*compression", str(caught.value))
