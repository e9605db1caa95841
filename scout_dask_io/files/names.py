"""What the ending of a name says of a file's format, held against what is to be written there.

A Zarr array called ``x.tif``, or a folder of planes called ``x.png``, opens in nothing that takes
its name at its word.
"""

from __future__ import annotations

from scout_dask_io.core.messages import Option
from scout_dask_io.core.name_layouts import TIFF_ENDINGS
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import Location, locate
from scout_dask_io.files.remote import is_url

#: Endings of names that say what another program expects there, with the format that they mean.
_FORMATS = {
    **dict.fromkeys(TIFF_ENDINGS, "TIFF"),
    **dict.fromkeys((".zarr", ".n5"), "Zarr"),
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jp2": "JPEG 2000", ".gif": "GIF",
    ".bmp": "BMP", ".webp": "WebP", ".svg": "SVG", ".pdf": "PDF", ".mp4": "MP4", ".avi": "AVI",
    ".mov": "QuickTime", ".h5": "HDF5", ".hdf5": "HDF5", ".hdf": "HDF5", ".ims": "Imaris",
    ".nc": "NetCDF", ".npy": "NumPy", ".npz": "NumPy", ".nii": "NIfTI", ".nrrd": "NRRD",
    ".mha": "MetaImage", ".mhd": "MetaImage", ".mrc": "MRC", ".czi": "Zeiss", ".lif": "Leica",
    ".nd2": "Nikon", ".oib": "Olympus", ".oif": "Olympus", ".vsi": "Olympus", ".dcm": "DICOM",
    ".json": "JSON", ".csv": "CSV", ".txt": "text", ".xml": "XML", ".html": "HTML",
    ".zip": "ZIP", ".gz": "gzip", ".tar": "tar", ".raw": "raw pixels",
}  # fmt: skip

#: The files that make a folder a Zarr array or group.
ZARR_FILES = (".zarray", ".zgroup", "zarr.json")


def check_zarr_name(name: object) -> None:
    """Refuse the name of a file of another format for a Zarr array or an image.

    Raises
    ------
    ArgumentError
        If it ends as such names do; it says what does write such a file, where something does.
    """
    ending, meant = _ending(name)
    if not meant or ending.lower() in (".zarr", ".n5"):
        return
    stem = str(name)[: -len(ending)]
    way = f"give a name such as {stem}.zarr"
    if meant == "TIFF":
        way += ", and let export make TIFF of that"
    raise ArgumentError(f"{name} is named as {meant}, and a Zarr array is written there: {way}")


def check_tiff_name(name: object, *, folder: bool) -> None:
    """Refuse the name of another format for TIFF: of one file, or of a ``folder`` of planes.

    Raises
    ------
    ArgumentError
        If it ends as the names of files of such a format do; it says which names would do.
    """
    ending, meant = _ending(name)
    if not meant or meant == "TIFF":
        return
    stem = str(name)[: -len(ending)]
    what = "a folder of TIFF planes" if folder else "a TIFF file"
    way = f"give {stem}.tif for one file"
    if folder:
        way += f", or {stem} for a folder of planes"
    if ending == ".png":
        way += "; preview makes a PNG"
    elif meant == "Zarr":
        way += "; convert writes Zarr"
    raise ArgumentError(f"{name} is named as {meant}, and {what} is written there: {way}")


def format_meant(name: object) -> str:
    """Give the format that the ending of a name means, such as ``"Zarr"``; else ``""``."""
    return _ending(name)[1]


def zarr_stands(place: Location) -> bool:
    """Tell whether a Zarr array or group stands at a place."""
    return any((place / name).is_file() for name in ZARR_FILES)


def stem_of(path: str) -> str:
    """Give the name of what lies at a path without the ending of its format.

    Examples
    --------
    >>> stem_of("lab/x.ome.tif"), stem_of("lab/brain.v2/"), stem_of("file.h5::/t0/cells")
    ('x', 'brain.v2', 'file_t0_cells')
    """
    outer, _, inner = (path, "", "") if is_url(path) else path.partition("::")
    name = locate(outer).name if not is_url(outer) else outer.rstrip("/").rpartition("/")[2]
    ending, meant = _ending(name)
    if meant:
        name = name[: -len(ending)]
    if name.lower().endswith(".ome"):
        name = name[:-4]
    return "_".join([name, *filter(None, inner.split("/"))])


def is_ome_zarr_name(name: object) -> bool:
    """Tell whether a name says that an OME-Zarr image lies there."""
    return str(name).rstrip("/").lower().endswith(".ome.zarr")


def ome_hint(name: object) -> str:
    """Give what to say where a plain array gets the name of an OME-Zarr image."""
    return (
        f"{name} is named as an OME-Zarr image, and becomes a plain array, which viewers of "
        "images do not open: " + Option("ome", True) + " makes an image of it"
    )


def _ending(name: object) -> tuple[str, str]:
    """Give the ending of a name as it is written, and the format that it means, or ``""``."""
    last = str(name).rstrip("/\\").replace("\\", "/").rpartition("/")[2]
    stem, dot, ending = last.rpartition(".")
    ending = dot + ending
    return (ending, _FORMATS.get(ending.lower(), "")) if stem else ("", "")
