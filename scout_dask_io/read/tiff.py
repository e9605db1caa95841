"""Readers of TIFF: files become lazy dask arrays; no pixel is read before it is computed.

Each array's name follows from the paths, sizes and modification times of its
files, or from the URLs and states of objects in a store. A file that changes
between building and computing is an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dask.array as da

from scout_dask_io.core.messages import warn
from scout_dask_io.core.selection import Selection
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import Location, locate_file
from scout_dask_io.files.remote import is_url
from scout_dask_io.read.dataset import about_folder
from scout_dask_io.run.lazy import lazy_array
from scout_dask_io.run.scheduler import check_nb_workers
from scout_dask_io.tiff.describe import describe_image, describe_planes
from scout_dask_io.tiff.folder import list_planes


def imread(
    path: Any,
    *,
    chunks: Any = None,
    series: int = 0,
    level: int = 0,
    pages: str | None = None,
    allow_sparse: bool = False,
    missing: str = "error",
    storage_options: Mapping[str, Any] | None = None,
) -> da.Array:
    """Give a lazy dask array of one image of a TIFF file.

    Reads classic and BigTIFF, multi-page, ImageJ (stacks above 4 GB too),
    OME-TIFF, tiled and pyramidal files, in any compression that tifffile and
    imagecodecs decode. The shape is the one that ``tifffile.imread`` gives,
    with samples (RGB) always on the last axis. Building the array reads the
    file's directories; a block, when computed, the segments that it needs. Of
    an object in a store these come by ranges, a request or two a page.

    A file that is one of a set (OME-TIFF of several files, Micro-Manager's stacks, NDTiff) gives
    the image of the set, each plane from the file beside it that has it.
    :func:`imread_dataset` of the folder gives each position.

    Parameters
    ----------
    path : str or path
        A TIFF file, or its URL, e.g. ``"s3://bucket/cells.tif"``.
    chunks : optional
        Dask blocks, in any form that dask takes. By default a page a block;
        pages over 256 MiB are cut into bands of whole strips or tiles.
    series : int
        Which image of the file.
    level : int
        Which resolution of it, 0 being the full one.
    pages : {None, "all", "counted"}
        What to read of a file whose metadata count other pages than it has, or whose chain of
        pages breaks off, which is an error by default. ``"all"`` is every page that is whole,
        one after the other, whatever the metadata say; ``"counted"`` what they count.
    allow_sparse : bool
        Strips and tiles that were never written (no bytes, or at offset 0) are
        zeros. By default they are an error: a writer that was cut off leaves them
        too, and the two cannot be told apart.
    missing : {"error", "fill"}
        What to do about files of a set that are not there or cannot be read, and planes that
        are in none: ``"fill"`` puts planes of zeros there, warns, and :func:`write_zarr` records
        them.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Returns
    -------
    dask.array.Array
        ``(y, x)``, with leading axes such as z for pages and a last axis for
        samples, in native byte order.

    Warns
    -----
    UserWarning
        If the file, or the set that it is of, holds several series and the first is given; if
        with ``pages="all"`` a file of a set is read alone; and which planes are filled.

    Raises
    ------
    PathNotFoundError
        If there is no such file (a ``FileNotFoundError``), or files of its set are missing.
    ArgumentError
        If the path is a folder, or there is no such series or level.
    TiffReadError
        If the file is damaged, or the set that it is of lacks planes.

    Examples
    --------
    >>> import scout_dask_io as io
    >>> plane = io.imread("organoid.tif")  # doctest: +SKIP
    >>> corner = plane[:64, :64].compute()  # doctest: +SKIP
    """
    selection = Selection(missing=missing, series=series, pages=pages, allow_sparse=allow_sparse)
    place = locate_file(path, storage_options)
    if place.on_disk and place.is_folder:
        raise ArgumentError(
            f"{place!r} is a folder, not a file; read a folder of planes with "
            "imread_folder, one of channel folders with imread_channels"
        )
    source = describe_image(place, selection, level)
    return lazy_array(source, chunks, name="imread")


def imread_folder(
    path: Any,
    nb_workers: int | None = None,
    *,
    chunks: Any = None,
    order: str = "alphabetical",
    missing: str = "error",
    series: int | None = None,
    pages: str | None = None,
    allow_sparse: bool = False,
    check: str = "all",
    storage_options: Mapping[str, Any] | None = None,
) -> da.Array:
    """Give a lazy dask array of the TIFF files of a folder, stacked along a new first axis.

    Files that end as TIFF files do, ``.tif`` or another of their endings, count; hidden files
    and sub-folders do not. Building the array reads and checks the header of
    every file, in threads; no pixel is read. Compressions, strips and byte
    orders may differ from file to file; shapes and dtypes may not.

    Parameters
    ----------
    path : str or path
        The folder, or its URL, e.g. ``"s3://bucket/brain/ch0"``, of which a listing and the
        first 32 KiB of each file are read.
    nb_workers : int, optional
        How many threads of a process read these files at once, and how many
        headers are read at once now. ``None`` leaves it to dask's scheduler
        (headers: 8).
    chunks : optional
        Dask blocks, in any form that dask takes; by default one a file. Parts
        of files are read as such: ``chunks=(64, 512, -1)`` costs no rechunk.
    order : {"alphabetical", "natural"}
        Order of the files: by name, or with numbers in names as numbers.
    missing : {"error", "fill"}
        What to do about files that cannot be read: empty, truncated, damaged,
        sparse, or of another shape or dtype than most. ``"fill"`` puts a plane of
        zeros in the place of each, warns, and :func:`write_zarr` records them.
        Only headers are looked at: pixels that turn out damaged when they are
        read are an error all the same. So is a file that cannot be reached at
        all, and nothing is put where a number is missing in the names.
    series : int, optional
        Which image of each file, where they hold several; by default that is an error.
    pages : {None, "all", "counted"}
        Which pages of each file, where its metadata count others; see :func:`imread`.
    allow_sparse : bool
        Strips and tiles that were never written are zeros; see :func:`imread`.
    check : {"all", "first"}
        Which headers are read now. ``"first"`` reads the first, the last and 16 between, and looks
        at the size and time of the others, of which each is read before the first pixel of its
        plane is given: one that differs is the same error, then. On a disk that seeks or a share
        2,000 planes open in a tenth of the time.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Returns
    -------
    dask.array.Array
        ``(z, y, x)``, or ``(z, y, x, samples)``; files of several pages give
        ``(file, page, y, x)``.

    Warns
    -----
    UserWarning
        If alphabetical order puts, say, ``z10`` before ``z2``; which planes are filled; and
        where the files may be no one stack: a second field varies in their names, numbers are
        missing, one is not named as the others are, or they are a set of which metadata say
        what each plane is. :func:`imread_dataset` reads such folders as what they are.

    Raises
    ------
    PathNotFoundError
        If the folder is missing or holds no TIFF file.
    ShapeMismatchError
        If files differ in shape, dtype or number of pages.
    TiffReadError
        If a file is damaged, truncated or no regular file.
    ArgumentError
        If an argument is not one of the above.

    Examples
    --------
    >>> import scout_dask_io as io
    >>> planes = io.imread_folder("brain/ch0")  # doctest: +SKIP
    >>> slab = planes[10:20, :256].compute()  # reads ten files, 256 rows each  # doctest: +SKIP
    """
    workers = check_nb_workers(nb_workers)
    how = Selection(
        order, missing, series=series, pages=pages, allow_sparse=allow_sparse, check=check
    )
    place = locate_file(path, storage_options)
    planes = list_planes(place, how.order)
    source = describe_planes(planes, workers, how)
    is_set = source.stated.names_others
    for text in about_folder(place, sorted(p.name for p in planes), is_set=is_set):
        warn(text)
    return lazy_array(source, chunks, name="imread")


def imread_parallel(
    paths: Iterable[Any],
    nb_workers: int | None = None,
    *,
    chunks: Any = None,
    missing: str = "error",
    series: int | None = None,
    pages: str | None = None,
    allow_sparse: bool = False,
    check: str = "all",
    storage_options: Mapping[str, Any] | None = None,
) -> da.Array:
    """Give a lazy dask array of TIFF files, stacked along a new first axis in the given order.

    As :func:`imread_folder` in all but the choice and order of the files.

    Parameters
    ----------
    paths : iterable of str or path
        The files, in stacking order; the same one may come twice. All local, or all URLs.
    nb_workers : int, optional
        How many threads of a process read these files at once.
    chunks : optional
        Dask blocks, in any form that dask takes; by default one a file.
    missing : {"error", "fill"}
        What to do about files that cannot be read; see :func:`imread_folder`.
    series, pages
        Which image and which pages of each file; see :func:`imread_folder`.
    allow_sparse : bool
        Strips and tiles that were never written are zeros; see :func:`imread`.
    check : {"all", "first"}
        Which headers are read now. ``"first"`` reads the first, the last and 16 between, and looks
        at the size and time of the others, of which each is read before the first pixel of its
        plane is given: one that differs is the same error, then. On a disk that seeks or a share
        2,000 planes open in a tenth of the time.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Returns
    -------
    dask.array.Array
        ``(len(paths), y, x)``; see :func:`imread_folder`.

    Raises
    ------
    PathNotFoundError
        If there is no path, or a file is missing.
    ShapeMismatchError
        If files differ in shape, dtype or number of pages.
    TiffReadError
        If a file is damaged, truncated or no regular file.
    ArgumentError
        If ``paths`` is a single path or mixes URLs with local ones, or ``nb_workers`` is no
        positive int.

    Examples
    --------
    >>> import scout_dask_io as io
    >>> pair = io.imread_parallel(["a.tif", "b.tif"])  # doctest: +SKIP
    """
    workers = check_nb_workers(nb_workers)
    if isinstance(paths, (str, bytes, os.PathLike)):
        raise ArgumentError(
            f"paths must be a list of files, got the single path {paths!r}; "
            "read one file with imread, a folder with imread_folder"
        )
    places = _places(list(paths), storage_options)
    how = Selection(
        missing=missing, series=series, pages=pages, allow_sparse=allow_sparse, check=check
    )
    source = describe_planes(places, workers, how)
    return lazy_array(source, chunks, name="imread")


def _places(paths: Sequence[Any], storage_options: Mapping[str, Any] | None) -> list[Location]:
    places = [locate_file(p, storage_options if is_url(p) else None) for p in paths]
    on_disk = [p.on_disk for p in places]
    if any(on_disk) and not all(on_disk):
        raise ArgumentError(
            f"{paths[on_disk.index(False)]} is a URL and {paths[on_disk.index(True)]!s} is not: "
            "give files of a store, or local ones. Copy what is to be stacked with the others."
        )
    if storage_options and all(on_disk):
        locate_file(paths[0], storage_options)  # for its error
    return places
