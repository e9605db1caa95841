"""What lies at a path, and a lazy array of it: how the jobs open whatever they are given.

Sources of any axes and channels as OME-Zarr has them, in the order ``(t, c, z, y, x)``.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import dask.array as da

from scout_dask_io.core.axes import ORDER, are_letters, axes_of, in_order, pages_as_planes
from scout_dask_io.core.image_info import FilledPlane, ImageInfo, named_channels
from scout_dask_io.core.messages import RESUME, Option, Way, joined, warn
from scout_dask_io.core.ome_metadata import Multiscale
from scout_dask_io.core.selection import AS_IT_IS, Selection
from scout_dask_io.core.voxel_size import VoxelSize, VoxelSizeLike, as_voxel_size
from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.files.location import Location, as_local, locate
from scout_dask_io.files.remote import is_url
from scout_dask_io.read import hdf5, npy
from scout_dask_io.read.channels import describe_channels
from scout_dask_io.read.dataset import Reading, dataset_at, grid_of_stacks, odd_about, open_grid
from scout_dask_io.read.hdf5 import Hdf5Source, find_dataset, split_path
from scout_dask_io.read.missing_planes import filled_in
from scout_dask_io.read.npy import NpySource
from scout_dask_io.run.lazy import lazy_array, source_of, turned
from scout_dask_io.run.scheduler import check_nb_workers
from scout_dask_io.store.conventions import check_other_store
from scout_dask_io.store.metadata import NODE_FILES, Node
from scout_dask_io.store.nodes import check_no_zip, find_node, open_node
from scout_dask_io.store.source import level_source
from scout_dask_io.store.staging import find_staging
from scout_dask_io.tiff.dataset import holds_tiffs_below
from scout_dask_io.tiff.describe import describe_image, describe_planes
from scout_dask_io.tiff.folder import about_names, is_tiff, list_planes
from scout_dask_io.tiff.source import TiffSource

_LOG = logging.getLogger(__name__)

#: ``"tiff"`` is one file, ``"folder"`` one of planes, ``"channels"`` one with a
#: folder of planes a channel, ``"dataset"`` one whose names carry other axes, in whatever
#: folders; ``"zarr"`` is an array or a group; ``"hdf5"`` a file or a dataset in one, ``"npy"`` a
#: file of numpy.
Kind: TypeAlias = Literal["tiff", "folder", "channels", "dataset", "zarr", "hdf5", "npy"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A path, opened.

    Attributes
    ----------
    place : Path or RemoteLocation
        Absolute.
    kind : str
        ``"tiff"``, ``"folder"``, ``"channels"``, ``"dataset"``, ``"zarr"``, ``"hdf5"`` or
        ``"npy"``.
    array : dask.array.Array
        Lazy, straight from the reader.
    info : ImageInfo
        What the files state of it.
    image : Multiscale or None
        The OME-Zarr image that lies there, of which the array is level 0.
    reading : NameReading or SetReading or None
        How the files of a dataset were read, those of all positions.
    unclear : str
        Why it cannot be told what the axes of a stack of stacks are.
    node : Node or None
        The Zarr array that is read.
    """

    place: Location
    kind: Kind
    array: da.Array
    info: ImageInfo
    image: Multiscale | None = None
    reading: Reading | None = None
    unclear: str = ""
    node: Node | None = None

    @property
    def path(self) -> str:
        """What to call it."""
        return str(self.place)

    @property
    def axes(self) -> str:
        """A letter an axis, as the files state them or by their number."""
        return self.info.axes or axes_of(self.array.ndim, channels=bool(self.info.names))

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of its channels, where it has an axis for them."""
        axes, names = self.info.axes, self.info.names
        at = axes.find("c") if axes else 0
        return names if names and at >= 0 and len(names) == self.array.shape[at] else ()

    @property
    def filled(self) -> tuple[FilledPlane, ...]:
        """Planes that hold the fill value because their files could not be read."""
        return filled_in(self.array)


def open_any(
    path: str | os.PathLike[str] | Location,
    nb_workers: int | None = None,
    selection: Selection = AS_IT_IS,
    *,
    voxel_size: VoxelSizeLike = None,
) -> Opened:
    """Open a TIFF file, folders of planes, channels or a dataset, or Zarr, whichever it is.

    Of an OME-Zarr image that is level 0, with what the image says of it.

    Reads headers and metadata, no pixels. What it was taken for is logged.

    Parameters
    ----------
    path : path-like
        What to open; URLs as :func:`locate_all` gives them.
    nb_workers : int, optional
        How many threads of a process read the files at once.
    selection : Selection
        Which files, images and pages, and what may be odd about them.
    voxel_size : VoxelSize or sequence of float, optional
        Counts instead of whatever is stated.

    Raises
    ------
    PathNotFoundError
        If there is nothing at the path that can be read.
    ArgumentError
        If something is chosen that what lies there does not have.
    TiffReadError, ShapeMismatchError, LayoutError
        If what is there is damaged, or does not fit together.
    """
    check_nb_workers(nb_workers)
    opened = _open(locate(path), nb_workers, selection, as_voxel_size(voxel_size))
    _LOG.info(
        "%s: read as %s, %s of %s, axes %s",
        opened.path,
        opened.kind if opened.reading is None else f"{opened.kind}, {opened.reading}",
        opened.array.shape,
        opened.array.dtype,
        opened.info.axes or "not stated",
    )
    return opened


def _open(
    found: Location, nb_workers: int | None, selection: Selection, given: VoxelSize | None
) -> Opened:
    kind = kind_of(found)
    grid = dataset_at(found, kind, selection)
    if kind in ("hdf5", "npy"):
        data = Hdf5Source(find_dataset(found)) if kind == "hdf5" else NpySource(found)
        return Opened(found, kind, lazy_array(data), data.info_with(given))
    if grid is not None:
        return _open_dataset(found, grid, nb_workers, selection, given)
    if kind == "zarr":
        return open_zarr(open_node(found, reads=True), given)
    if kind == "tiff":
        source = describe_image(found, selection)
    elif kind == "folder":
        source = describe_planes(list_planes(found, selection.order), nb_workers, selection)
    else:
        source = describe_channels(found, nb_workers, selection)
    array, info = lazy_array(source, name="imread"), source.info_with(given)
    if source.lead_ndim > source.file_ndim > 0:
        # Stacks, of which names and files both have axes.
        try:
            return _open_dataset(found, grid_of_stacks(found), nb_workers, selection, given)
        except ArgumentError as err:
            return Opened(found, kind, array, replace(info, axes=""), unclear=_said(err))
    return Opened(found, kind, array, info)


def _said(err: ArgumentError) -> str:
    return err.args[0] if err.args and isinstance(err.args[0], str) else str(err)


def _open_dataset(
    place: Location,
    grid: Reading,
    nb_workers: int | None,
    selection: Selection,
    given: VoxelSize | None,
) -> Opened:
    array = open_grid(grid, nb_workers, selection)
    source = source_of(array)
    info = ImageInfo() if source is None else source.info_with(given)
    return Opened(place, "dataset", array, info, reading=grid)


def open_zarr(
    node: Node,
    voxel_size: VoxelSize | None = None,
    level: tuple[Multiscale, int] | None = None,
) -> Opened:
    """Give an array, or level 0 of an image, as :func:`open_any` does; ``node`` is not read again.

    ``level`` says of which image an array is which level, where that is known.

    Raises
    ------
    PathNotFoundError
        If it is another group.
    LayoutError
        If it cannot be told how the chunks lie.
    """
    source = level_source(node, 0)
    if level is not None and len(level[0].axes) == len(source.shape):
        source.level = level
    array = lazy_array(source, name="read-zarr")
    image = None if source.level is None else source.level[0]
    info = source.info_with(voxel_size)
    return Opened(node.location, "zarr", array, info, image, node=source.node)


def check_names(opened: Opened, selection: Selection) -> None:
    """Refuse a folder whose names tell of no one stack or dataset, or warn of what is odd.

    Only the names are looked at. What is read is what is there: no plane is put in a gap.

    Raises
    ------
    ArgumentError
        If names are to be checked, and numbers are missing or come twice, several fields vary,
        or files are not named as the others are.
    """
    if opened.reading is not None and selection.pattern is None:
        warn(
            f"{opened.path!r} is read {opened.reading.how}: {opened.reading}. "
            + Option("pattern", "")
            + " reads them otherwise, "
            + Option("names", "ignore")
            + " stacks them as they are."
        )
    found = list(_odd_names(opened))
    if found and selection.names == "check":
        raise ArgumentError(
            joined("; ", [text.removesuffix(".") for text in found])
            + ". If that is meant, give "
            + Option("names", "allow")
            + "."
        )
    for text in found:
        warn(text)


def _odd_names(opened: Opened) -> Iterator[str]:
    if opened.reading is not None:
        yield from (f"{opened.path!r}: {text}" for text in odd_about(opened.reading))
        return
    source = source_of(opened.array)
    if not isinstance(source, TiffSource) or not source.file_ndim:
        return
    folders: dict[str, list[str]] = defaultdict(list)
    for path in [*(f.path for f in source.files), *(f.file for f in source.filled)]:
        folder, name = os.path.split(path)
        folders[folder].append(name)
    for folder, names in folders.items():
        yield from about_names(folder, names)


def node_at_url(path: Location, *, reads: bool = False) -> Node | None:
    """Give the whole array or group at a URL, as :func:`find_node` does; of a disk nothing.

    What tells it tells the kind too: :func:`kind_of` would ask the store for it once more.
    """
    return None if path.on_disk or is_tiff(path.name) else find_node(path, reads=reads)


def kind_of(path: Location) -> Kind:
    """Tell what lies at a path: by names, and by the first bytes of a file that has none of TIFF.

    Raises
    ------
    PathNotFoundError
        If there is nothing, or a folder that holds neither Zarr nor TIFF.
    """
    if path.on_disk:
        if split_path(path)[1] is not None:
            return "hdf5"
        if not path.exists():
            raise _nothing_at(path)
        if not path.is_folder:
            return _kind_of_file(path)
        # A dangling link or a FIFO is something, and is refused when it is read.
        if any((path / name).stands() for name in NODE_FILES):
            return "zarr"
    else:
        if is_tiff(path.name) and path.is_file():
            return "tiff"
        if find_node(path) is not None:
            return "zarr"
        check_no_zip(path)
        for kind, endings in (("an HDF5", hdf5.SUFFIXES), ("a .npy", (".npy",))):
            if path.name.lower().endswith(endings):
                raise ArgumentError(
                    f"{path} is {kind} file behind a URL, and these are read on disks alone: copy "
                    "it to one first"
                )
    folders = _folders_of(path)
    if folders is None:
        return "folder"
    if any(_holds_tiffs(folder) for folder in folders):
        return "channels"
    if folders and holds_tiffs_below(path):
        return "dataset"
    if not path.on_disk and path.is_file():
        return "tiff"
    check_other_store(path)
    told = "Give a TIFF file" if path.on_disk else "Check the URL; it may be of a TIFF file"
    raise PathNotFoundError(
        f"{path} holds no Zarr array (.zarray or zarr.json), no TIFF file, and no folder "
        f"with any. {told}, a folder of planes, a folder of such folders, or a Zarr array."
    )


def _kind_of_file(path: Location) -> Kind:
    """Tell what a file on a disk is: by its name, or by one look at its first bytes."""
    if not path.is_file() or is_tiff(path.name):
        return "tiff"
    head = path.read(len(hdf5.SIGNATURE)) or b""
    if head == hdf5.SIGNATURE:
        return "hdf5"
    if head.startswith(npy.SIGNATURE):
        return "npy"
    check_no_zip(path, head)
    return "tiff"


def _nothing_at(path: Location) -> PathNotFoundError:
    staging = find_staging(as_local(path))
    text: str = f"there is nothing at {path}"
    if staging is not None:
        text += f"; an unfinished write of it lies in {staging.job}: repeat the write with "
        text += RESUME + " to finish it"
    return PathNotFoundError(text)


def _folders_of(path: Location) -> list[Location] | None:
    """Give the folders in a folder, or ``None`` if there is a TIFF file; hidden ones not.

    The empty object that stands for a folder in some stores is no file.
    """
    shown = [(child, folder) for child, folder in path.entries() if not child.name.startswith(".")]
    if any(is_tiff(child.name) and not folder for child, folder in shown):
        return None
    return [child for child, folder in shown if folder]


def _holds_tiffs(folder: Location) -> bool:
    """Tell whether a folder has a TIFF file; one that may not be listed is told of and has none."""
    try:
        return _folders_of(folder) is None
    except PathNotFoundError as err:
        warn(f"{err}; what it holds is passed over")
        return False


def locate_all(*paths: Any) -> list[Location]:
    """Give several paths, the last argument being the ``storage_options`` for the URLs among them.

    Raises
    ------
    ArgumentError
        If there are options and no URL.
    """
    *given, options = paths
    if options and not any(is_url(path) for path in given):
        return [locate(path, options) for path in given]
    return [locate(path, options if is_url(path) else None) for path in given]


def is_guess(opened: Opened) -> bool:
    """Tell whether nothing says what the axes of three or more are, not even indirectly.

    Sizes of a voxel are of (z, y, x), and names of channels of an axis for them.
    """
    info, ndim = opened.info, opened.array.ndim
    told = (ndim == 3 and info.voxel_size is not None) or (ndim == 4 and opened.channels)
    return ndim > 2 and not info.axes and not told


def with_axes(opened: Opened, axes: str) -> Opened:
    """Give what was opened with axes that count instead of those that are stated or guessed.

    What is stated of an axis of the same letter stays.

    Raises
    ------
    ArgumentError
        If they are not a letter an axis.
    """
    ndim, info = opened.array.ndim, opened.info
    if not isinstance(axes, str) or not are_letters(axes, ndim):
        raise ArgumentError(
            Option("axes")
            + f" must be {ndim} different letters, one an axis of {opened.path}, of shape "
            f"{opened.array.shape}: y, x and some of t, c, z and s for samples of colour, got "
            f"{axes!r}"
        )
    return replace(opened, info=info.renamed(axes, opened.array.shape), unclear="")


# Names of colour samples, and how they are shown as channels; alpha is no colour.
_SAMPLES = {"red": "FF0000", "green": "00FF00", "blue": "0000FF", "alpha": "000000"}


def as_image(opened: Opened) -> tuple[da.Array, ImageInfo]:
    """Give what was opened with its axes in OME-Zarr's order, and what is known of it then.

    Colour samples become channels. An array whose axes lie in order is given as
    it is; another one is read turned.

    Raises
    ------
    ArgumentError
        If an OME-Zarr image cannot have the axes.
    """
    if opened.unclear:
        raise ArgumentError(opened.unclear)
    array, axes = opened.array, image_axes(opened)
    names, colors = opened.info.names, opened.info.colors
    if "s" in opened.axes and "c" not in opened.axes:
        n_samples = array.shape[axes.index("c")]
        names = tuple(_SAMPLES)[:n_samples] if n_samples > 2 else ()  # of two, one is grey
    order = in_order(axes)
    if not set(axes) <= set(ORDER) or not order.endswith("yx") or source_of(array) is None:
        raise ArgumentError(
            f"{opened.path} has the axes {axes!r}, and an OME-Zarr image has (t, c, z, y, x) or "
            "some of these: "
            + Way(
                "read it, bring its axes into that order, and use write_ome_zarr",
                "without --ome it becomes an array of its own axes",
            )
        )
    array = turned(array, axes, order)
    n_channels = array.shape[order.index("c")] if "c" in order else 1
    channels = opened.info.channels
    if len(channels) != n_channels:
        names = names if "c" in order and len(names) == n_channels else ()
        channels = named_channels(names, colors if len(colors) == n_channels else ())
    if rgb := () if any(c.color for c in channels) else _sample_colors([c.name for c in channels]):
        channels = tuple(replace(c, color=k) for c, k in zip(channels, rgb, strict=True))
    info = replace(opened.info, axes=axes).transposed([axes.index(a) for a in order])
    return array, replace(info, channels=channels)


def image_axes(opened: Opened) -> str:
    """Give the axes of what was opened as an image would have them: samples are channels.

    Pages of a TIFF file that does not say what they are lie along z; positions of a stage
    ("r") do not.
    """
    axes = opened.axes
    if "c" not in axes:
        axes = axes.replace("s", "c")
    return axes if opened.kind == "zarr" else pages_as_planes(axes)


def has_alpha(info: ImageInfo) -> bool:
    """Tell whether channels are colour samples, and the last of them is alpha."""
    return info.names == tuple(_SAMPLES)


def _sample_colors(names: Sequence[str]) -> tuple[str, ...]:
    """Give the colours of channels that are colour samples; empty for any others."""
    is_rgb = len(names) in (3, 4) and tuple(names) == tuple(_SAMPLES)[: len(names)]
    return tuple(_SAMPLES.values())[: len(names)] if is_rgb else ()


def leading_channels(opened: Opened) -> tuple[str, ...]:
    """Give the names along the first axis of what was opened, where they are stated."""
    return opened.channels if opened.info.axes[:1] in ("", "c") else ()
