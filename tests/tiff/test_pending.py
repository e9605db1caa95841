"""``check="first"``: few headers are read at first, and each other before its first pixel."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import write_planes
from object_store import Lab

import scout_dask_io as io
from scout_dask_io.errors import (
    ArgumentError,
    ShapeMismatchError,
    SourceChangedError,
    TiffReadError,
)
from scout_dask_io.tiff import describe, pending
from scout_dask_io.tiff.page_reader import AreaReader

N = 40
DATA = np.arange(N * 9 * 14, dtype="u2").reshape(N, 9, 14)
#: A plane that is none of the first, the last and those between that are sampled.
ODD = next(k for k in range(N) if k not in pending.sampled(N))


@pytest.fixture(autouse=True)
def fresh() -> None:
    pending._described.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_planes(tmp_path / "planes", DATA, names=[f"z{z:03d}.tif" for z in range(N)])
    return tmp_path / "planes"


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    real = describe.describe_plane

    def counted(path: Any, *args: Any, **kwargs: Any) -> Any:
        names.append(Path(str(path)).name)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(describe, "describe_plane", counted)
    return names


def test_few_headers_are_read_and_the_array_is_the_same(folder: Path, described: list[str]) -> None:
    lazy = io.imread_folder(folder, check="first")
    assert len(described) == pending.N_SAMPLED + 2
    assert {"z000.tif", f"z{N - 1:03d}.tif"} <= set(described)
    every = io.imread_folder(folder)
    assert (lazy.shape, lazy.dtype, lazy.chunks) == (every.shape, every.dtype, every.chunks)
    assert lazy.name == every.name
    described.clear()
    assert (lazy[ODD].compute() == DATA[ODD]).all()
    assert described == [f"z{ODD:03d}.tif"]
    np.testing.assert_array_equal(lazy.compute(), DATA)
    np.testing.assert_array_equal(lazy[::3, 2:5].compute(), DATA[::3, 2:5])


def test_a_header_is_read_once_a_process_and_what_is_not_asked_for_never(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda p, *a, **k: opened.append(os.path.basename(str(p))) or real(p, *a, **k)
    )
    lazy = io.imread_folder(folder, check="first")
    assert len(opened) == pending.N_SAMPLED + 2
    opened.clear()
    for _ in range(3):
        lazy[ODD].compute()
    assert opened == [f"z{ODD:03d}.tif"] * 4


def as_float(path: Path) -> None:
    tifffile.imwrite(path, DATA[ODD].astype("f4"))


def of_two_pages(path: Path) -> None:
    tifffile.imwrite(path, DATA[:2])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def text(path: Path) -> None:
    path.write_text("no TIFF at all, but long enough to look like one")


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda path: tifffile.imwrite(path, DATA[ODD][:, 1:]), ShapeMismatchError),
        (as_float, ShapeMismatchError),
        (of_two_pages, ShapeMismatchError),
        (cut, TiffReadError),
        (text, TiffReadError),
    ],
    ids=["shape", "dtype", "pages", "cut", "text"],
)
def test_a_plane_that_differs_is_the_same_error_before_its_first_pixel(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, error: type[Exception]
) -> None:
    path = folder / f"z{ODD:03d}.tif"
    spoil(path)
    with pytest.raises(error) as at_once:
        io.imread_folder(folder)
    lazy = io.imread_folder(folder, check="first")
    np.testing.assert_array_equal(lazy[:ODD].compute(), DATA[:ODD])
    np.testing.assert_array_equal(lazy[ODD + 1].compute(), DATA[ODD + 1])
    read: list[str] = []
    real = AreaReader._fill

    def recorded(self: AreaReader, page: Any, offset: int, out: memoryview) -> None:
        read.append(os.path.basename(page.file.path))
        real(self, page, offset, out)

    monkeypatch.setattr(AreaReader, "_fill", recorded)
    with pytest.raises(error, match=path.name) as late:
        lazy[ODD - 1 : ODD + 1].compute(num_workers=1)
    assert path.name not in read
    assert str(at_once.value).startswith(str(late.value).rstrip("."))


@pytest.mark.parametrize("write", [io.write_zarr, io.write_ome_zarr])
def test_a_write_with_a_plane_that_differs_leaves_nothing(
    folder: Path, tmp_path: Path, write: Any
) -> None:
    as_float(folder / f"z{ODD:03d}.tif")
    with pytest.raises(ShapeMismatchError, match=f"z{ODD:03d}"):
        write(tmp_path / "a.zarr", io.imread_folder(folder, check="first"), (16, 8, 8))
    assert not (tmp_path / "a.zarr").exists()


def test_planes_that_are_stored_otherwise_are_read_as_they_are(folder: Path) -> None:
    tifffile.imwrite(folder / f"z{ODD:03d}.tif", DATA[ODD], compression="zlib", rowsperstrip=4)
    tifffile.imwrite(folder / f"z{ODD + 1:03d}.tif", DATA[ODD + 1].astype(">u2"), byteorder=">")
    lazy = io.imread_folder(folder, check="first", chunks=(8, 9, -1))
    np.testing.assert_array_equal(lazy.compute(), DATA)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazy)).compute(), DATA)


def test_what_changed_or_went_since_is_an_error(folder: Path) -> None:
    path = folder / f"z{ODD:03d}.tif"
    lazy = io.imread_folder(folder, check="first")
    tifffile.imwrite(path, DATA[ODD][:, :5])
    with pytest.raises(SourceChangedError, match="changed after the array was built"):
        lazy[ODD].compute()
    path.unlink()
    with pytest.raises((SourceChangedError, FileNotFoundError), match=path.name):
        lazy[ODD].compute()


@pytest.mark.parametrize("kind", ["empty", "missing", "folder"])
def test_what_a_look_finds_is_an_error_at_once(folder: Path, kind: str) -> None:
    path = folder / f"z{ODD:03d}.tif"
    path.unlink()
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    paths = [folder / f"z{z:03d}.tif" for z in range(N)]
    with pytest.raises((TiffReadError, FileNotFoundError, ArgumentError), match=path.name):
        io.imread_parallel(paths, check="first")


def test_files_of_several_pages_channels_and_datasets(tmp_path: Path) -> None:
    for c in range(2):
        (tmp_path / f"ch{c}").mkdir()
        for k in range(30):
            stack = np.stack([DATA[k] + c, DATA[k] + 100 * c])
            tifffile.imwrite(tmp_path / f"ch{c}" / f"f{k:02d}.tif", stack)
    lazy = io.imread_channels(tmp_path, check="first")
    every = io.imread_channels(tmp_path)
    assert lazy.shape == (2, 30, 2, 9, 14)
    np.testing.assert_array_equal(lazy.compute(), every.compute())
    np.testing.assert_array_equal(lazy[1, 3:20, 1].compute(), every[1, 3:20, 1].compute())
    flat = tmp_path / "flat"
    flat.mkdir()
    for c in range(2):
        for z in range(30):
            tifffile.imwrite(flat / f"a_Z{z:03d}_C{c}.tif", DATA[z] + c)
    found = io.imread_dataset(flat, check="first")
    np.testing.assert_array_equal(found.compute(), io.imread_dataset(flat).compute())


def test_a_store_is_asked_for_few_headers_and_for_no_object_alone(lab: Lab) -> None:
    import io as stdio

    for z, plane in enumerate(DATA):
        out = stdio.BytesIO()
        tifffile.imwrite(out, plane)
        lab.put(f"planes/z{z:03d}.tif", out.getvalue())
    url = f"s3://{lab.bucket}/planes"
    lazy = io.imread_folder(url, check="first", storage_options=lab.options)
    np.testing.assert_array_equal(lazy.compute(), DATA)
    out = stdio.BytesIO()
    tifffile.imwrite(out, DATA[ODD][:5])
    lab.put(f"planes/z{ODD:03d}.tif", out.getvalue())
    lazy = io.imread_folder(url, check="first", storage_options=lab.options)
    with pytest.raises(ShapeMismatchError, match=f"z{ODD:03d}"):
        lazy[ODD].compute()


def test_what_is_no_check_is_refused(folder: Path) -> None:
    with pytest.raises(ArgumentError, match="'all', 'first'"):
        io.imread_folder(folder, check="none")
    with pytest.raises(ArgumentError, match="needs every header"):
        io.imread_folder(folder, check="first", missing="fill")
    lazy = io.imread_folder(folder, check="all", missing="fill")
    assert lazy.shape == DATA.shape
