"""Files that change after a lazy array was built, and folders of files that do not fit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile
from harness import figure, run
from helpers import make_volume, write_planes

import scout_dask_io as io

VOLUME = make_volume((3, 40, 42), seed=18)
OTHER = make_volume((3, 40, 42), seed=19)


def imwrite(path: Path, values: np.ndarray, **settings: Any) -> None:
    tifffile.imwrite(path, values, photometric="minisblack", **settings)


def _keeping_time(path: Path, change: Callable[[Path], None]) -> None:
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _link_to_another(path: Path) -> None:
    other = path.with_name("other")
    imwrite(other, OTHER[1])
    path.unlink()
    path.symlink_to(other)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _renamed_over(path: Path) -> None:
    other = path.with_name("other")
    imwrite(other, OTHER[1])
    before = path.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


CHANGES: dict[str, Callable[[Path], None]] = {
    "same shape, other pixels": lambda p: imwrite(p, OTHER[1]),
    "another dtype": lambda p: imwrite(p, OTHER[1].astype("f4")),
    "one pixel": lambda p: imwrite(p, OTHER[1][:1, :1]),
    "another compression": lambda p: imwrite(p, OTHER[1], compression="zlib"),
    "cut": lambda p: os.truncate(p, 2000),
    "gone": lambda p: p.unlink(),
    "a FIFO in its place": _fifo,
    "a link to another file": _link_to_another,
    "another file of the same size and time": _renamed_over,
}


def posix(change: str) -> list[pytest.MarkDecorator]:
    """Mark what makes a FIFO, in a child, where Windows has none."""
    return [pytest.mark.posix] if "FIFO" in change else []


def read_after(folder: str, change: str, scheduler: str) -> str:
    stack = io.imread_folder(folder)
    CHANGES[change](Path(folder) / "z0001.tif")
    values = stack.compute(scheduler=scheduler, num_workers=2)
    return "as built" if np.array_equal(values, VOLUME) else "other data"


@pytest.mark.parametrize(
    ("change", "scheduler"),
    [
        *(pytest.param(change, "threads", marks=posix(change)) for change in CHANGES),
        # Processes start anew, which takes longer than all else.
        ("one pixel", "processes"),
        *(
            pytest.param(change, "processes", marks=[pytest.mark.slow, *posix(change)])
            for change in CHANGES
            if change != "one pixel"
        ),
    ],
)
def test_row_18_a_file_that_changed_is_an_error_that_names_it(
    tmp_path: Path, change: str, scheduler: str
):
    write_planes(tmp_path / "p", VOLUME)
    outcome = run(read_after, str(tmp_path / "p"), change, scheduler, seconds=40)
    figure("source changes", tried=1, silent=0)
    assert outcome.error[:1] == ("SourceChangedError",), str(outcome)
    assert "z0001.tif" in outcome.message


def test_row_20_a_changed_file_is_another_array_to_dask(tmp_path: Path):
    paths = write_planes(tmp_path / "p", VOLUME)
    first = io.imread_folder(tmp_path / "p")
    assert io.imread_folder(tmp_path / "p").name == first.name
    kept = first.persist()
    _keeping_size = OTHER[1]
    imwrite(paths[1], _keeping_size)
    os.utime(paths[1], ns=(1, 10**18))
    second = io.imread_folder(tmp_path / "p")
    assert second.name != first.name
    assert np.array_equal(kept.compute(), VOLUME)
    assert np.array_equal(second.persist()[1].compute(), OTHER[1])
    path = tmp_path / "a.zarr"
    io.write_zarr(path, VOLUME, 16)
    names = {io.read_zarr(path).name}
    io.write_zarr(path, OTHER, 16, overwrite=True)
    names.add(io.read_zarr(path).name)
    assert len(names) == 2


def _plane(shape: tuple[int, int] = (40, 42), dtype: Any = "u2") -> np.ndarray:
    return make_volume((1, *shape), dtype)[0]


def _text(path: Path) -> None:
    path.write_text("not a TIFF")


def _two_shapes(path: Path) -> None:
    imwrite(path, _plane())
    imwrite(path, _plane((9, 9)), append=True)


ODD: dict[str, Callable[[Path], None]] = {
    "float among integers": lambda p: imwrite(p, _plane(dtype="f4")),
    "bytes among words": lambda p: imwrite(p, _plane(dtype="u1")),
    "signed among unsigned": lambda p: imwrite(p, _plane(dtype="i2")),
    "a row less": lambda p: imwrite(p, _plane((39, 42))),
    "turned": lambda p: imwrite(p, _plane((42, 40))),
    "colours": lambda p: tifffile.imwrite(p, make_volume((40, 42, 3), "u1"), photometric="rgb"),
    "two pages": lambda p: imwrite(p, make_volume((2, 40, 42))),
    "two pages of two shapes": _two_shapes,
    "empty": lambda p: p.touch(),
    "text": _text,
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_row_21_a_file_that_does_not_fit_its_folder_is_named(tmp_path: Path, kind: str):
    paths = write_planes(tmp_path / "p", VOLUME)
    paths[1].unlink()
    ODD[kind](paths[1])
    with pytest.raises((io.ShapeMismatchError, io.TiffReadError), match=r"z0001\.tif"):
        io.imread_folder(tmp_path / "p")


def test_row_18_a_stored_array_that_was_replaced_is_not_mixed_with_the_new_one(tmp_path: Path):
    path = tmp_path / "a.zarr"
    io.write_zarr(path, VOLUME, (2, 16, 16))
    lazy = io.read_zarr(path)
    io.write_zarr(path, OTHER, (2, 16, 16), overwrite=True)
    with pytest.raises(io.SourceChangedError, match=r"a\.zarr"):
        lazy.compute()
    shutil.rmtree(path)
    with pytest.raises(io.SourceChangedError, match=r"a\.zarr"):
        lazy.compute()


def test_row_18_a_block_of_another_shape_than_declared_is_refused(tmp_path: Path):
    lazy = dask.array.map_blocks(lambda: np.ones((1, 1), "u2"), chunks=((8, 8), (8,)), dtype="u2")
    with pytest.raises(io.ShapeMismatchError):
        io.write_zarr(tmp_path / "a.zarr", lazy, (8, 8))
    assert not (tmp_path / "a.zarr").exists()
