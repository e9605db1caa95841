"""Datasets in HDF5 files, lazily: ``file.h5::/path/of/dataset``, or the only array in a file.

h5py is imported when a file is opened; it comes with the extra ``hdf5``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

from scout_dask_io.core.axes import stated_axes
from scout_dask_io.core.blocks import default_blocks
from scout_dask_io.core.formatting import format_shape
from scout_dask_io.core.grid import Blocks, Region, Shape, clipped_chunks, region_shape
from scout_dask_io.core.image_info import Axis, Channel, ImageInfo
from scout_dask_io.core.messages import joined
from scout_dask_io.core.source import Piece, Source
from scout_dask_io.core.voxel_size import VoxelSize, micrometres_of
from scout_dask_io.errors import (
    ArgumentError,
    ChunkReadError,
    LayoutError,
    PathNotFoundError,
    SourceChangedError,
)
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import Location

#: The first bytes of a file, and what its name ends in.
SIGNATURE = b"\x89HDF\r\n\x1a\n"
SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5", ".ims", ".nc", ".nc4")
#: Between the path of a file and that of a dataset in it.
SEPARATOR = "::"
# Arrays that a message names.
_NAMED = 20
# As much of a region is read at a time.
_PIECE_NBYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Dataset:
    """One array in a file.

    Attributes
    ----------
    file : str
        The path of the file.
    name : str
        Its path in the file.
    shape : tuple of int
        Without what pads whole chunks, where the file says so.
    dtype : numpy.dtype
        As stored.
    chunks : tuple of int or None
        ``None`` where it lies in one piece.
    codec : str
        Names of its filters.
    info : ImageInfo
        What the file states of it.
    stored_nbytes : int
        What it takes in the file.
    """

    file: str
    name: str
    shape: Shape
    dtype: np.dtype[Any]
    chunks: Shape | None
    codec: str
    info: ImageInfo
    stored_nbytes: int

    @property
    def path(self) -> str:
        """What to give to read it."""
        return f"{self.file}{SEPARATOR}{self.name}"

    @property
    def text(self) -> str:
        """A line for people."""
        return f"{self.name}: {format_shape(self.shape)}, {self.dtype}"


def split_path(place: Location) -> tuple[Location, str | None]:
    """Give the file that a path names, and the dataset in it, where it names one."""
    file, separator, name = str(place).partition(SEPARATOR)
    if not place.on_disk or not separator or not os.path.isfile(file):
        return place, None
    return LocalLocation(file), "/" + name.strip("/")


def list_datasets(place: Location) -> list[Dataset]:
    """Give the arrays of numbers, of two axes or more, in an HDF5 file. Reads no pixels.

    Raises
    ------
    LayoutError
        If the file cannot be opened.
    ArgumentError
        If h5py is not installed.
    """
    h5py, found = _h5py(place), []
    with _opened(h5py, str(place)) as file:

        def visit(name: str, node: Any) -> None:
            is_array = isinstance(node, h5py.Dataset) and node.shape and len(node.shape) > 1
            if is_array and node.dtype.kind in "biufc":
                found.append(_describe(str(place), file, node))

        file.visititems(visit)
    return found


def find_dataset(place: Location) -> Dataset:
    """Give the dataset that a path names, or the only array of a file. Reads no pixels.

    Raises
    ------
    PathNotFoundError
        If there is none of the name, or several and none is named; the message lists them.
    LayoutError
        If it holds no numbers, or the file cannot be opened.
    ArgumentError
        If h5py is not installed.
    """
    file, name = split_path(place)
    found = list_datasets(file)
    if name is None:
        if len(found) == 1:
            return found[0]
        what = f"{len(found)} arrays" if found else "no array of two axes or more"
        ask = f" Name one, as in {found[0].path!r}." if found else ""
        raise PathNotFoundError(f"{file} holds {what}, expected one{_listed(found)}.{ask}")
    h5py = _h5py(file)
    with _opened(h5py, str(file)) as opened:
        node = opened.get(name)
        if not isinstance(node, h5py.Dataset):
            what = "nothing" if node is None else "a group"
            raise PathNotFoundError(
                f"{file} has {what} at {name!r}, expected an array; it holds{_listed(found)}."
            )
        if not node.shape or node.dtype.kind not in "biufc":
            raise LayoutError(
                f"{file}{SEPARATOR}{name} holds {node.dtype} of shape {node.shape}, expected an "
                "array of numbers: read it with h5py"
            )
        return _describe(str(file), opened, node)


def _listed(found: list[Dataset]) -> str:
    return f" ({joined('; ', (d.text for d in found), _NAMED)})" if found else " none"


def _describe(path: str, file: Any, node: Any) -> Dataset:
    shape = tuple(map(int, node.shape))
    attributes = node.attrs
    # Imaris pads arrays to whole chunks, and says of the channel how large it is.
    extents = [_number(node.parent.attrs.get(f"ImageSize{a}")) for a in "ZYX"]
    fits = len(shape) == 3 and all(
        n is not None and 0 < n <= m for n, m in zip(extents, shape, strict=True)
    )
    if fits:
        shape = tuple(n for n in extents if n is not None)
    axes = stated_axes([dim.label or None for dim in node.dims], len(shape))
    info = _imaris(path, file, node, shape) if fits and not axes else ImageInfo(axes)
    size = info.voxel_size
    found = attributes.get("element_size_um")
    if found is not None and np.size(found) == 3:
        z, y, x = (float(v) for v in np.ravel(found))
        if all(np.isfinite(v) and v > 0 for v in (z, y, x)):
            size = VoxelSize(z, y, x, f"element_size_um of {path}{SEPARATOR}{node.name}")
    filters = [n for n, on in (("shuffle", node.shuffle), (node.compression, True)) if on and n]
    return Dataset(
        path,
        node.name,
        shape,
        np.dtype(node.dtype),
        None if node.chunks is None else tuple(node.chunks),
        " + ".join(map(str, filters)) or "none",
        info.sized(size),
        int(node.id.get_storage_size()),
    )


def _imaris(path: str, file: Any, node: Any, shape: Shape) -> ImageInfo:
    """Give what Imaris states of the channel that an array is: size, place, name and display.

    The extents of its image are those of the outer edges, in one unit of length.
    """
    image, info = file.get("DataSetInfo/Image"), ImageInfo("zyx")
    if image is None:
        return info
    unit = _text(image.attrs.get("Unit")) or "um"
    factor, frame = micrometres_of(unit), []
    for k, n in zip((2, 1, 0), shape, strict=True):
        low, top = (_real(image.attrs.get(f"Ext{end}{k}")) for end in ("Min", "Max"))
        if factor is None or low is None or top is None or not low < top:
            break
        step = (top - low) / n
        # The centre of the first voxel is half of one from the edge.
        frame.append(Axis(step * factor, (low + step / 2) * factor, "micrometer"))
    else:
        z, y, x = (axis.scale for axis in frame)
        size = VoxelSize(z, y, x, f"DataSetInfo/Image of {path}")
        info = ImageInfo("zyx", size, frame=tuple(frame))
    channel = file.get(f"DataSetInfo/{node.parent.name.rpartition('/')[2]}")
    return info if channel is None else replace(info, channels=(_imaris_channel(channel.attrs),))


def _imaris_channel(attributes: Any) -> Channel:
    reds = [_real(v) for v in _text(attributes.get("Color")).split()]
    ends = [_real(v) for v in _text(attributes.get("ColorRange")).split()]
    color = None
    if len(reds) == 3 and all(v is not None and 0 <= v <= 1 for v in reds):
        color = "".join(f"{round(255 * (v or 0.0)):02X}" for v in reds)
    window = None
    if len(ends) == 2 and ends[0] is not None and ends[1] is not None and ends[0] < ends[1]:
        window = (ends[0], ends[1])
    return Channel(_text(attributes.get("Name")).strip(), color, window)


def _text(found: Any) -> str:
    """Give a text as Imaris has it, a character each; empty of what is none."""
    try:
        return b"".join(bytes(c) for c in np.ravel(found)).decode("utf-8", "replace")
    except TypeError:
        return ""


def _real(found: Any) -> float | None:
    try:
        value = float(found if isinstance(found, str) else _text(found))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _number(found: Any) -> int | None:
    """Give a whole number as Imaris has it: digits, a character each."""
    try:
        return int(b"".join(bytes(c) for c in np.ravel(found)))
    except (TypeError, ValueError):
        return None


def _h5py(place: object) -> ModuleType:
    try:
        import h5py
    except ImportError as err:
        raise ArgumentError(
            f"{place} is an HDF5 file, which h5py reads, and h5py is not installed: "
            "pip install 'scout-dask-io[hdf5]'"
        ) from err
    found: ModuleType = h5py
    return found


def _opened(h5py: ModuleType, path: str) -> Any:
    try:
        return h5py.File(path, "r")
    except OSError as err:
        raise LayoutError(
            f"{path} cannot be opened as an HDF5 file: {err}. It is damaged, cut, or being written."
        ) from err


class Hdf5Source(Source):
    """A dataset in a file, which is opened anew wherever a region is read: it travels as a path.

    Parameters
    ----------
    dataset : Dataset
        What is read.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.shape = dataset.shape
        self.dtype = dataset.dtype.newbyteorder("=")
        self.state = _state(dataset.file)
        self.token = f"{dataset.path}-{self.state}-{self.shape}"

    @property
    def read_shape(self) -> Shape:
        """One chunk; a row where there are none."""
        rows = (*(1,) * (len(self.shape) - 1), self.shape[-1])
        chunks = self.dataset.chunks or rows
        return clipped_chunks(chunks, self.shape)

    @property
    def default_chunks(self) -> Blocks:
        """A few whole chunks a block."""
        return default_blocks(self.shape, self.read_shape, self.dtype.itemsize)

    def _look(self, given: VoxelSize | None = None) -> ImageInfo:
        return self.dataset.info.sized(given)

    def sample_files(self) -> list[tuple[str, int]]:
        """Give the file."""
        return [(self.dataset.file, self.state[0])]

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield slabs of a few chunks, so that little more than they is in memory.

        Raises
        ------
        ChunkReadError
            If a chunk cannot be decoded.
        SourceChangedError
            If the file is no longer the one that was opened.
        """
        path = self.dataset.path
        if _state(self.dataset.file) != self.state:
            raise SourceChangedError(f"{path} has changed since it was opened: open it again")
        lengths = region_shape(region)
        row_nbytes = max(1, self.dtype.itemsize * int(np.prod(lengths[1:])))
        cell = self.read_shape[0]
        step = max(1, _PIECE_NBYTES // (row_nbytes * cell)) * cell
        first, stop = region[0].start, region[0].stop
        # Cut where chunks are, so that none is decoded twice.
        cuts = [first, *range((first // cell + 1) * cell + step - cell, stop, step), stop]
        with _opened(_h5py(path), self.dataset.file) as file:
            node = file[self.dataset.name]
            for a, b in pairwise(cuts):
                try:
                    values = np.asarray(node[(slice(a, b), *region[1:])])
                except (OSError, RuntimeError) as err:
                    raise ChunkReadError(
                        f"{path}: [{a}:{b}] along the first axis cannot be read ({err}). It is "
                        "damaged, or a filter is not installed, which hdf5plugin may bring."
                    ) from err
                where = (slice(a - first, b - first), *(slice(0, n) for n in lengths[1:]))
                yield where, values


def _state(file: str) -> tuple[int, int]:
    try:
        found = os.stat(file)
    except OSError as err:
        raise PathNotFoundError(f"{file} is not there any more, or cannot be read: {err}") from err
    return found.st_size, found.st_mtime_ns
