"""Spilled blocks: what is read back by regions is what was computed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from helpers import make_volume
from hypothesis import given, settings
from hypothesis import strategies as st

from scout_dask_io.core.grid import full_region, iter_block_regions, region_shape
from scout_dask_io.errors import WriteError
from scout_dask_io.run.scratch import ScratchSource, scratch_path, spill
from scout_dask_io.store.staging import Staging


def spilled(folder: Path, data: np.ndarray, blocks: tuple[tuple[int, ...], ...]) -> ScratchSource:
    files = []
    for index, region in iter_block_regions(blocks):
        path = folder / ("-".join(map(str, index)))
        spill(path, data[region])
        files.append((region, path))
    return ScratchSource(data.shape, data.dtype, files)


@st.composite
def cases(
    draw: st.DrawFn,
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...], tuple[slice, ...]]:
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=4)))
    blocks = []
    for n in shape:
        cut = draw(st.integers(0, n))
        blocks.append(tuple(b for b in (cut, n - cut) if b))
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    region = tuple(
        slice(a, draw(st.integers(a + 1, n))) for a, n in zip(starts, shape, strict=True)
    )
    return shape, tuple(blocks), region


@settings(max_examples=60)
@given(cases())
def test_a_region_of_spilled_blocks_is_the_region_of_the_array(
    tmp_path_factory: pytest.TempPathFactory, case: object
) -> None:
    shape, blocks, region = case  # type: ignore[misc]
    folder = tmp_path_factory.mktemp("spill")
    data = np.arange(1, np.prod(shape) + 1, dtype="u2").reshape(shape)
    source = spilled(folder, data, blocks)
    seen = np.zeros(region_shape(region), int)
    for where, values in source.iter_pieces(region):
        np.testing.assert_array_equal(values, data[region][where])
        seen[where] += 1
    assert (seen == 1).all()
    np.testing.assert_array_equal(source.read(full_region(shape)), data)


@pytest.mark.parametrize("dtype", ["?", "i1", "f4", "c16"])
def test_every_dtype_comes_back(tmp_path: Path, dtype: str) -> None:
    data = make_volume((5, 6, 7), dtype)
    source = spilled(tmp_path, data, ((2, 3), (6,), (4, 3)))
    got = source.read(full_region(data.shape))
    assert got.dtype == data.dtype
    np.testing.assert_array_equal(got, data)


def test_a_block_in_any_memory_order_is_spilled_in_c_order(tmp_path: Path) -> None:
    data = np.asfortranarray(make_volume((5, 6, 7)))[::-1, :, ::2]
    spill(tmp_path / "0", data)
    assert (tmp_path / "0").read_bytes() == data.tobytes()


def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(WriteError, match=r"block-3-0: .* 84 bytes .*No space left") as caught:
        spill(tmp_path / "block-3-0", np.zeros((6, 7), "u2"))
    assert "resume=True" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_spilled_file_that_was_cut_is_an_error(tmp_path: Path) -> None:
    data = make_volume((5, 6, 7))
    source = spilled(tmp_path, data, ((5,), (6,), (7,)))
    os.truncate(tmp_path / "0-0-0", 300)
    with pytest.raises(WriteError, match="0-0-0: read"):
        source.read(full_region(data.shape))


def test_scratch_lies_in_the_job_and_goes_with_it(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "a.zarr", tmp_path / "job")
    path = scratch_path(staging.tmp, (3, 0, 12))
    assert path.parent == staging.tmp
    assert path.name == "block-3-0-12"
    assert scratch_path(staging.tmp, (3, 0, 1)) != scratch_path(staging.tmp, (3, 1, 0))


def test_a_read_that_gives_less_than_was_asked_for_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_volume((5, 7, 9))
    source = spilled(tmp_path, data, ((5,), (7,), (9,)))
    real, sizes = os.preadv, []

    def short(fd: int, buffers: list[memoryview], offset: int) -> int:
        # Linux gives 2 GiB - 4 KiB at most.
        sizes.append(real(fd, [buffers[0][:100]], offset))
        return sizes[-1]

    monkeypatch.setattr(os, "preadv", short)
    np.testing.assert_array_equal(source.read(full_region(data.shape)), data)
    assert max(sizes) == 100
    assert sum(sizes) == data.nbytes
    # A file that ends early is still an error.
    (tmp_path / "0-0-0").write_bytes(data.tobytes()[:-1])
    with pytest.raises(WriteError, match=f"read {data.nbytes - 1} of {data.nbytes} bytes"):
        source.read(full_region(data.shape))
