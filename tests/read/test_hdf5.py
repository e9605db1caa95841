"""HDF5 and numpy files: read lazily, a part at a time, wherever they are named."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.errors import ArgumentError, LayoutError, PathNotFoundError, ScoutIOError
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import locate
from scout_dask_io.read.any import kind_of, open_any
from scout_dask_io.run.lazy import source_of

VOLUME = make_volume((11, 37, 45))


def hdf5(path: Path, **arrays: Any) -> Path:
    """Write arrays into a file; ``/`` in a name is ``__``."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            kwargs = {"chunks": (4, 16, 16), "compression": "gzip", "shuffle": True}
            plain = array.ndim != 3
            file.create_dataset(name.replace("__", "/"), data=array, **({} if plain else kwargs))
    return path


def npy(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def opened(path: Any) -> Any:
    return open_any(locate(str(path)))


@pytest.mark.parametrize("kind", ["hdf5", "npy", "fortran"])
@pytest.mark.parametrize("dtype", ["u2", ">i4", "f4", "?", "c8"])
def test_a_part_is_read_as_it_is(tmp_path: Path, kind: str, dtype: str) -> None:
    data = VOLUME.astype(dtype)
    if kind == "hdf5":
        path = hdf5(tmp_path / "a.dat", volume=data)
    else:
        path = npy(tmp_path / "a.npy", np.asfortranarray(data) if kind == "fortran" else data)
    array = pickle.loads(pickle.dumps(opened(path).array))
    assert array.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(array.compute(), data)
    np.testing.assert_array_equal(array[3:9, ::5, 7].compute(), data[3:9, ::5, 7])
    source = source_of(array)
    assert source is not None
    np.testing.assert_array_equal(source[2:10, 5:20, 40:], data[2:10, 5:20, 40:])


def test_a_large_region_is_read_in_slabs_of_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scout_dask_io.read import hdf5 as module

    monkeypatch.setattr(module, "_PIECE_NBYTES", 1)
    source = source_of(opened(hdf5(tmp_path / "a.h5", volume=VOLUME)).array)
    region = (slice(1, 11), slice(0, 37), slice(3, 45))
    pieces = list(source.iter_pieces(region))
    assert [(w[0].start, w[0].stop) for w, _ in pieces] == [(0, 3), (3, 7), (7, 10)]
    np.testing.assert_array_equal(source.read(region), VOLUME[1:11, :, 3:])


def test_of_several_arrays_the_names_are_listed(tmp_path: Path) -> None:
    path = hdf5(
        tmp_path / "a.h5", t00000__s00__cells=VOLUME, resolutions=VOLUME[0], one=VOLUME[0, 0]
    )
    with pytest.raises(PathNotFoundError, match=r"2 arrays.*/resolutions.*t00000/s00/cells: 11"):
        opened(path)
    report = io.info(path)
    assert report.kind == "HDF5 file"
    assert len(report.members) == 2
    one = io.info(f"{path}::/t00000/s00/cells")
    assert (one.shape, one.chunks, one.codec) == (VOLUME.shape, (4, 16, 16), "shuffle + gzip")
    for name, told in (("t00000", "a group"), ("none", "nothing")):
        with pytest.raises(PathNotFoundError, match=f"{told} at.*expected an array"):
            opened(f"{path}::{name}")


def test_what_a_file_states_goes_along(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = hdf5(tmp_path / "a.h5", volume=VOLUME)
    with h5py.File(path, "r+") as file:
        file["volume"].attrs["element_size_um"] = [4.0, 1.5, 1.5]
        for n, label in enumerate("tyx"):
            file["volume"].dims[n].label = label
    io.convert(path, tmp_path / "a.zarr", ome=True)
    size = io.voxel_size(tmp_path / "a.zarr")
    assert size is not None
    assert size.micrometres[1:] == (1.5, 1.5)
    assert io.info(tmp_path / "a.zarr").axes == "tyx"


@pytest.mark.parametrize("kind", ["hdf5", "npy"])
def test_verify_and_preview_take_it(tmp_path: Path, kind: str) -> None:
    if kind == "hdf5":
        path = f"{hdf5(tmp_path / 'a.h5', s00=VOLUME, s01=VOLUME + 1)}::/s00"
    else:
        path = str(npy(tmp_path / "a.npy", VOLUME))
    io.convert(path, tmp_path / "a.zarr", chunks=(5, 20, 20))
    assert io.verify(path, tmp_path / "a.zarr").ok
    io.write_zarr(tmp_path / "b.zarr", VOLUME + 1)
    assert not io.verify(path, tmp_path / "b.zarr").ok
    assert io.preview(path).shape == VOLUME.shape


@pytest.mark.parametrize(
    ("array", "error", "told"),
    [
        (np.array([{"a": 1}, None], object), LayoutError, "Python objects"),
        (np.array(["ab", "c"]), LayoutError, "numbers"),
        (np.zeros(3, [("a", "i4"), ("b", "f8")]), LayoutError, "numbers"),
        (np.array(3), LayoutError, "numbers"),
    ],
)
def test_numpy_files_of_other_things_are_refused(
    tmp_path: Path, array: np.ndarray, error: type[ScoutIOError], told: str
) -> None:
    path = npy(tmp_path / "a.npy", array)
    with pytest.raises(error, match=told):
        io.convert(path, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("kind", ["hdf5", "npy"])
def test_files_that_were_cut_or_changed_are_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.bin"
    if kind == "hdf5":
        hdf5(path, volume=VOLUME)
    else:
        with path.open("wb") as file:
            np.save(file, VOLUME)
    array = opened(path).array
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ScoutIOError, match="changed"):
        array.compute()
    with pytest.raises(LayoutError, match="cut"):
        opened(path)


@pytest.mark.parametrize("name", ["a.npy", "a.h5", "a.ims"])
def test_at_a_url_they_are_named_as_what_is_not_read(name: str) -> None:
    with pytest.raises(ArgumentError, match="on disks alone"):
        io.convert(f"memory://lab/{name}", "/nowhere/a.zarr")


def test_where_h5py_is_missing_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ArgumentError, match=r"scout-dask-io\[hdf5\]"):
        io.info(tmp_path / "a.h5")


def test_what_a_file_is_is_told_by_one_look_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hdf5(tmp_path / "a.data", a=VOLUME)
    npy(tmp_path / "b.npy", VOLUME).rename(tmp_path / "b.data")
    (tmp_path / "c.data").write_bytes(b"something else")
    looks: list[str] = []
    real = LocalLocation.read

    def read(self: LocalLocation, limit: int | None = None) -> bytes | None:
        looks.append(self.name)
        return real(self, limit)

    monkeypatch.setattr(LocalLocation, "read", read)
    found = {name: kind_of(locate(tmp_path / name)) for name in ("a.data", "b.data", "c.data")}
    assert found == {"a.data": "hdf5", "b.data": "npy", "c.data": "tiff"}
    assert looks == ["a.data", "b.data", "c.data"]


def write_imaris(path: Path, data: np.ndarray, **image: Any) -> str:
    """Write a file as Imaris does: texts a character each, arrays padded to whole chunks."""
    h5py = pytest.importorskip("h5py")

    def note(group: Any, **attributes: Any) -> None:
        for key, value in attributes.items():
            group.attrs[key] = np.array([c.encode() for c in str(value)], "S1")

    with h5py.File(path, "w") as file:
        note(file.create_group("DataSetInfo/Image"), **image)
        for c in range(2):
            note(
                file.create_group(f"DataSetInfo/Channel {c}"),
                Name=f"stain {c}", Color="1.000 0.500 0.000", ColorRange="12.000 345.000",
            )  # fmt: skip
            group = file.create_group(f"DataSet/ResolutionLevel 0/TimePoint 0/Channel {c}")
            note(group, **{f"ImageSize{a}": n for a, n in zip("ZYX", data.shape, strict=True)})
            padded = np.pad(data + c, [(0, -n % 16) for n in data.shape])
            group.create_dataset("Data", data=padded, chunks=(4, 16, 16))
    return f"{path}::/DataSet/ResolutionLevel 0/TimePoint 0/Channel 1/Data"


EXTENTS = {
    "ExtMin0": 10.0, "ExtMax0": 22.0, "ExtMin1": 20.0, "ExtMax1": 25.0, "ExtMin2": -3.0,
    "ExtMax2": 5.0,
}  # fmt: skip


@pytest.mark.parametrize(("unit", "times"), [("um", 1.0), ("nm", 0.001), (None, 1.0)])
def test_what_imaris_states_of_a_channel_is_kept(tmp_path: Path, unit: Any, times: float):
    data = make_volume((4, 20, 24))
    named = {} if unit is None else {"Unit": unit}
    path = write_imaris(tmp_path / "a.ims", data, **EXTENTS, **named)
    size = io.info(path).voxel_size
    assert size is not None
    assert size.micrometres == pytest.approx((2 * times, 0.25 * times, 0.5 * times))
    io.convert(path, tmp_path / "b.zarr", ome=True)
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "b.zarr").compute(), data + 1)
    attributes: Any = dict(zarr.open_group(tmp_path / "b.zarr", mode="r").attrs)
    steps = attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert steps[1]["translation"] == pytest.approx([-2 * times, 20.125 * times, 10.25 * times])
    (channel,) = attributes["omero"]["channels"]
    assert (channel["label"], channel["color"]) == ("stain 1", "FF8000")
    assert (channel["window"]["start"], channel["window"]["end"]) == (12.0, 345.0)


@pytest.mark.parametrize(
    "wrong", [{"ExtMax0": 10.0}, {"ExtMin2": "?"}, {"Unit": "furlong"}, {"ExtMax1": "nan"}]
)
def test_extents_of_imaris_that_make_no_sense_are_no_size(tmp_path: Path, wrong: dict[str, Any]):
    path = write_imaris(tmp_path / "a.ims", make_volume((4, 20, 24)), **{**EXTENTS, **wrong})
    assert io.info(path).voxel_size is None
    assert io.info(path).axes == "zyx"
