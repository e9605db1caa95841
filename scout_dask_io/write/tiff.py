"""Arrays become TIFF files: numpy by views, dask by a sliding window of blocks.

An array as the rows of TIFF pages: of numpy views, of dask a window of blocks at a time.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import accumulate, product
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.system import CPU_COUNT

from scout_dask_io.core.axes import (
    AXES,
    DIMENSIONS_ATTRIBUTE,
    ORDER,
    are_letters,
    axis_letter,
    in_order,
    stated_axes,
)
from scout_dask_io.core.grid import Region, Shape, full_region, intersect, region_shape, relative_to
from scout_dask_io.core.image_info import ImageInfo, named_channels
from scout_dask_io.core.messages import warn
from scout_dask_io.core.ome_metadata import RECORD_KEY, with_record
from scout_dask_io.core.source import Piece
from scout_dask_io.core.threads import work_ahead
from scout_dask_io.core.voxel_size import VoxelSizeLike, as_voxel_size
from scout_dask_io.errors import (
    ArgumentError,
    PathNotFoundError,
    TargetExistsError,
    WriteError,
)
from scout_dask_io.files.location import locate
from scout_dask_io.files.names import check_tiff_name
from scout_dask_io.files.remote import is_url
from scout_dask_io.read.axes import stated_for
from scout_dask_io.read.data_array import from_xarray, is_data_array
from scout_dask_io.read.labels import labels_for
from scout_dask_io.read.voxel_size import size_for
from scout_dask_io.run.block_groups import BlockGroups
from scout_dask_io.run.lazy import Pixels, source_of
from scout_dask_io.store.image_info import CHANNELS_ATTRIBUTE
from scout_dask_io.tiff.encode import Band, Rows, Values, encode_band, iter_bands
from scout_dask_io.tiff.write_layout import TiffLayout, plan_layout
from scout_dask_io.tiff.write_metadata import ome_notes, plain_notes
from scout_dask_io.tiff.writer import TiffDraft
from scout_dask_io.write.inputs import check_unmasked
from scout_dask_io.write.tasks import checked_block


def imsave(
    path: str | os.PathLike[str],
    data: Pixels | npt.ArrayLike,
    compress: int = 1,
    *,
    voxel_size: VoxelSizeLike = None,
    axes: str | Sequence[str] | None = None,
) -> None:
    """Write a numpy or dask array as a TIFF file that reads back bit-equal, in the same shape.

    Two axes make one page; more make a page for each plane of the last two, in
    C order. A ``uint8`` or ``uint16`` array of three or more axes whose last
    has 3 or 4 elements, and is not known to be something else than colour, is written as
    RGB or RGBA pages. The file carries the
    array's shape, so :func:`imread` and ``tifffile.imread`` give it back
    whichever way it was written. It becomes a BigTIFF where it may exceed 4 GB.

    A name that ends in ``.ome.tif`` or ``.ome.tiff`` makes an OME-TIFF, as
    :func:`export` does: OME-XML with axes and voxel size, tiles of 256 x 256, and a
    pyramid of means, in masks and integers above 16 bits of the most frequent
    values. Axes are those of ``axes``, else those stated for data as a reader gave them, else
    the last of ``(t, c, z, y, x)``, as many as the array has, of which three or more are warned
    of; readers of OME-TIFF, :func:`imread` too, leave out those of one element.

    Of data as a reader gave them, the file carries what else is stated: names and colours of
    channels, where the image lies, contrast windows. So it does of an ``xarray.DataArray``, such
    as :func:`to_xarray` gives, whose axes are brought into OME's order.

    A dask array is computed a few blocks at a time, in order, on the scheduler
    that is active; each block is computed once, and at most one row of blocks
    (all that a band of rows of their planes needs) or 64 MiB of them is held,
    whichever is more. What the blocks of a slab share, planes that were cut
    into cubes for instance, is kept while the slab is written; what most blocks
    need, such as a maximum to divide by, to the end.

    The file appears at ``path`` when it is whole: it is written beside it under
    a hidden name and moved there. After any failure, Ctrl-C too, the hidden
    file is gone and what stood at ``path`` stands. An array that reads the file
    at ``path`` lazily may therefore be written over it.

    Parameters
    ----------
    path : str or path-like
        The file. An existing file is replaced; its directory must exist.
    data : array
        Numpy or dask array, or what either takes, of at least two axes: bool,
        integers of 8 to 64 bits, floats of 16, 32 or 64 bits.
    compress : int
        Lossless: 0 writes the pixels as they are, all pages in one run that
        ``tifffile.memmap`` can map; 1 (fast) to 9 (small) use Deflate, with
        the horizontal predictor for integers of 8 and 16 bits.
    voxel_size : VoxelSize or sequence of float, optional
        ``(z, y, x)`` in micrometres, kept in the file: exactly in its description,
        y and x also as its resolution. By default what :func:`voxel_size` finds
        for data as a reader gave them.
    axes : str or sequence of str, optional
        A letter an axis, such as ``"tyx"``, or names in words; kept in the file, and by the
        name of an OME-TIFF as its SizeT, C and Z. Colour is ``s``, the last one.

    Raises
    ------
    ArgumentError
        If a TIFF, or an OME-TIFF, cannot hold the array, ``compress`` is no level,
        ``voxel_size`` no size, ``axes`` do not fit, or ``path`` the name of a file of another
        format.
    PathNotFoundError
        If the directory of ``path`` does not exist.
    TargetExistsError
        If something that is no regular file stands at ``path``.
    ShapeMismatchError
        If a computed block is not of the shape or dtype that the array says.
    WriteError
        If writing failed, for want of space for example.
    """
    target = check_target(path)
    check_tiff_name(path, folder=False)
    ome = is_ome_name(path)
    data, known = _known_of(data, ome=ome)
    array = _as_array(data)
    known = _with_axes(known, axes, array.shape).sized(as_voxel_size(voxel_size))
    layout = _plan_layout(array, compress, None, ome, known)
    info = _info_of(known, layout, ome=ome)
    if isinstance(array, np.ndarray):
        rows: Iterable[Rows] = rows_of([(full_region(array.shape), array)], array.shape, layout)
    else:
        step = common_step(array.chunks[array.ndim - layout.n_page_axes])
        layout = _plan_layout(array, compress, step, ome, known)
        rows = computed_rows(array, layout)
    notes = (ome_notes if ome else plain_notes)(layout, info)
    with TiffDraft(target, layout) as draft, closing(encode_in_order(layout, rows)) as bands:
        draft.write(bands)
        draft.publish(notes)


def is_ome_name(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file of this name is to be an OME-TIFF."""
    return os.fspath(path).lower().endswith((".ome.tif", ".ome.tiff"))


def _known_of(data: Any, *, ome: bool) -> tuple[Any, ImageInfo]:
    """Give the array that data are, and what is known of it."""
    if is_data_array(data):
        return from_xarray(data)
    source = source_of(data) if isinstance(data, da.Array) else None
    if source is not None:
        return data, replace(source.info, axes=stated_for(source) if ome else source.info.axes)
    known = ImageInfo(voxel_size=size_for(data, None), labels=labels_for(data, None)[0])
    attrs, metadata = getattr(data, "attrs", None), getattr(data, "metadata", None)
    if attrs is None:
        return data, known
    # A stored array that zarr opened says by its attributes what one of ours would.
    stored = dict(attrs)
    names = getattr(metadata, "dimension_names", None) or stored.get(DIMENSIONS_ATTRIBUTE)
    axes = stated_axes(names, data.ndim)
    n = dict(zip(axes, data.shape, strict=False)).get("c", data.shape[0] if not axes else 0)
    found = stored.get(CHANNELS_ATTRIBUTE)
    channels = named_channels(list(map(str, found))) if isinstance(found, list) else ()
    known = replace(known, axes=axes, channels=channels if len(channels) == n else ())
    return data, with_record(known, stored.get(RECORD_KEY), "attributes")


def _with_axes(known: ImageInfo, axes: Any, shape: Shape) -> ImageInfo:
    """Give what is known with the axes that a caller gives.

    Raises
    ------
    ArgumentError
        If they are not a letter an axis.
    """
    if axes is None:
        return known
    letters = "".join(axis_letter(a) for a in axes)
    if not are_letters(letters, len(shape)) or "s" in letters[:-1]:
        raise ArgumentError(
            f"axes must be {len(shape)} different letters, one an axis of the array, of shape "
            f"{tuple(shape)}: y, x and some of t, c, z, and s for samples of colour as the last "
            f"one, got {axes!r}"
        )
    return known.renamed(letters, shape)


def _plan_layout(
    array: np.ndarray | da.Array, compress: int, step: int | None, ome: bool, known: ImageInfo
) -> TiffLayout:
    colour = known.axes.endswith("s") if known.axes else None
    layout = plan_layout(
        array.shape, array.dtype, compress, step=step, tiled=ome,
        n_levels=None if ome else 1, colour=colour,
    )  # fmt: skip
    return replace(layout, labels=known.labels)


def _info_of(known: ImageInfo, layout: TiffLayout, *, ome: bool) -> ImageInfo:
    """Give what a file says of what is known.

    Raises
    ------
    ArgumentError
        If an OME-TIFF has no such axes, or not in this order.
    """
    # Planes that lack are on record in Zarr arrays alone.
    info, size, stated = replace(known, missing=()), known.voxel_size, known.axes
    colour = layout.samples > 1
    if not ome:
        good = set(info.axes) <= set(ORDER + "s") and info.axes.endswith("s") == colour
        return info if good else replace(info, axes="", frame=(), channels=())
    if not stated:
        n = len(layout.shape) - colour
        if n not in AXES:
            raise ArgumentError(
                f"an OME-TIFF has no more axes than (t, c, z, y, x), and the array has shape "
                f"{layout.shape}: give a name that ends in .tif, and not in .ome.tif"
            )
        if n > 2 and size is None:
            warn(
                f"nothing states the axes of the array: the OME-TIFF says that they are "
                f"{', '.join(AXES[n])}, by their number alone. A name that ends in .tif makes a "
                "file that says nothing of them."
            )
        return replace(info, axes=AXES[n] + "s" * colour)
    if not set(stated) <= set(ORDER + "s") or in_order(stated) != stated or (
        stated.endswith("s") != colour
    ):  # fmt: skip
        raise ArgumentError(
            f"the array is stated to have the axes {', '.join(stated)}, and an OME-TIFF has "
            "(t, c, z, y, x) or some of these, in this order, and samples of colour last: bring "
            "them into it, or give a name that ends in .tif, and not in .ome.tif"
        )
    return replace(info, axes=stated)


def check_target(path: str | os.PathLike[str], *, parent: bool = True) -> Path:
    """Give the file that writing to ``path`` means, links followed; nothing is created.

    Raises
    ------
    PathNotFoundError
        If its directory does not exist, unless ``parent`` is false.
    TargetExistsError
        If it exists and is no regular file.
    """
    if is_url(path):
        raise ArgumentError(f"{path} is a URL, expected a local path: TIFF files go to disks alone")
    try:
        target = Path(path)
    except TypeError:
        raise ArgumentError(f"path must be a str or a Path, got {path!r}") from None
    locate(target)  # for its errors
    if target.is_symlink():
        # The file that is linked to is replaced, not the link.
        target = Path(os.path.realpath(target))
    if parent and not target.parent.is_dir():
        raise PathNotFoundError(
            f"{target} cannot be written: there is no directory {target.parent}. Create it first."
        )
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return target
    except OSError as err:
        raise WriteError(f"{target} cannot be written: {err.strerror or err}") from err
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise TargetExistsError(f"{target} is {what}: give the name of a file to write")
    return target


def _as_array(data: Any) -> np.ndarray | da.Array:
    """Give numpy or dask; what has chunks (zarr, h5py) is not loaded."""
    check_unmasked(data)
    if not isinstance(data, da.Array):
        return da.from_array(data) if hasattr(data, "chunks") else np.asarray(data)
    if any(np.isnan(n) for axis in data.chunks for n in axis):
        raise ArgumentError(
            "the dask array does not know its shape: call its compute_chunk_sizes() first"
        )
    return data


def encode_in_order(
    layout: TiffLayout, rows: Iterable[Rows], ahead: int = 2 * CPU_COUNT
) -> Generator[Band]:
    """Encode rows in threads, at most ``ahead`` bands at a time, and yield them in order."""

    def encode(band: Values) -> Band:
        return Band(band.page, band.row, encode_band(layout, band.pixels), band.level)

    bands = iter_bands(layout, rows)
    if layout.is_run:
        # A copy at most: threads would only add to the memory.
        yield from map(encode, bands)
        return
    yield from work_ahead(encode, bands, min(CPU_COUNT, ahead), ahead)


# Blocks that are computed at one time: at least as many as complete some rows
# of their planes, and beyond that about this much, to keep all threads busy.
WINDOW_NBYTES = 64 * 2**20


def common_step(extents: Iterable[int]) -> int:
    """Give the greatest number that all but the last of some extents are multiples of.

    It divides every border between them; one extent alone gives itself.

    Examples
    --------
    >>> common_step((64, 64, 30)), common_step((30,))
    (64, 30)
    """
    *inner, last = extents
    return int(np.gcd.reduce(inner)) if inner else last


def _cut_points(borders: Iterable[int], height: int, row_step: int) -> list[int]:
    """Give the borders between blocks at which a page may be cut, with 0 and ``height``.

    Examples
    --------
    >>> _cut_points([64, 96, 128, 150], 150, 64)
    [0, 64, 128, 150]
    """
    inner = {b for b in borders if b % row_step == 0 and 0 < b < height}
    return [0, *sorted(inner), height]


def rows_of(pieces: list[Piece], shape: Shape, layout: TiffLayout) -> Iterator[Rows]:
    """Yield rows for one strip at a time, page by page, from pieces that tile one region.

    The region is made of whole rows and begins and ends where the layout may
    be cut. Rows that lie in one piece are views of it.
    """
    n_lead = len(layout.lead)
    start = [min(where[axis].start for where, _ in pieces) for axis in range(n_lead + 1)]
    stop = [max(where[axis].stop for where, _ in pieces) for axis in range(n_lead + 1)]
    whole = full_region(shape)[n_lead + 1 :]
    first, last, step = start[n_lead], stop[n_lead], layout.rows_per_write
    bands = [(r, min(r + step, last)) for r in range(first, last, step)]
    touching = [
        [p for p in pieces if p[0][n_lead].start < r1 and r0 < p[0][n_lead].stop]
        for r0, r1 in bands
    ]
    for index in product(*(range(a, b) for a, b in zip(start[:-1], stop[:-1], strict=True))):
        page = int(np.ravel_multi_index(index, layout.lead)) if index else 0
        point = tuple(slice(i, i + 1) for i in index)
        for (r0, r1), near in zip(bands, touching, strict=True):
            values = _gather(near, (*point, slice(r0, r1), *whole), layout.dtype)
            yield page, r0, values.reshape(values.shape[n_lead:])


def _gather(pieces: list[Piece], region: Region, dtype: np.dtype[Any]) -> np.ndarray:
    if len(pieces) == 1:
        where, values = pieces[0]
        return values[relative_to(region, where)]
    out = np.empty(region_shape(region), dtype)
    for where, values in pieces:
        shared = intersect(where, region)
        if shared is not None:
            out[relative_to(shared, region)] = values[relative_to(shared, where)]
    return out


def computed_rows(array: da.Array, layout: TiffLayout) -> Iterator[Rows]:
    """Compute an array group by group, and yield its rows."""
    groups = _plan_groups(array, layout)
    keys = [[index for atom in group for index in atom] for group in groups]
    starts = [list(accumulate(c, initial=0)) for c in array.chunks]
    # The groups of a slab may share what they are computed from (planes cut into cubes),
    # and those of the slabs before and after it too (overlaps).
    slabs = Counter(index[: len(layout.lead)] for group in keys for index in group[:1])
    computed = BlockGroups(array, keys, near=max(slabs.values()) + 1)
    for number, group in enumerate(groups):
        blocks = computed.compute(number)
        for atom in group:
            pieces = []
            for index in atom:
                where = tuple(slice(s[i], s[i + 1]) for s, i in zip(starts, index, strict=True))
                # Let go of each block when its rows are written, not at the end of the group.
                pieces.append((where, checked_block(blocks.pop(index), where, array.dtype)))
            yield from rows_of(pieces, array.shape, layout)
            del pieces  # not to be held while the next group is computed


def _plan_groups(array: da.Array, layout: TiffLayout) -> list[list[list[Shape]]]:
    """Give groups of atoms of block indices; an atom completes some rows of its planes."""
    n_lead = len(layout.lead)
    borders = list(accumulate(array.chunks[n_lead], initial=0))
    cuts = {borders.index(c) for c in _cut_points(borders, layout.height, layout.row_step)}
    counts = array.numblocks
    groups: list[list[list[Shape]]] = []
    room = 0
    for lead in product(*(range(n) for n in counts[:n_lead])):
        atom: list[Shape] = []
        nbytes = 0
        for k in range(counts[n_lead]):
            for rest in product(*(range(n) for n in counts[n_lead + 1 :])):
                index = (*lead, k, *rest)
                extents = (c[i] for c, i in zip(array.chunks, index, strict=True))
                nbytes += int(np.prod(list(extents), dtype=np.int64)) * layout.dtype.itemsize
                atom.append(index)
            if k + 1 in cuts:
                if nbytes > room:
                    groups.append([])
                    room = WINDOW_NBYTES
                groups[-1].append(atom)
                room -= nbytes
                atom, nbytes = [], 0
    return groups
