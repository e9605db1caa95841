"""A zoo of TIFF files: random ones of every kind that tifffile and PIL write, seeded.

Each animal is a file and what it is called; what is in it, tifffile says.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

CODECS: list[Any] = [
    None, "lzw", "adobe_deflate", "deflate", "zstd", "packbits", "lzma", "jpeg", "jpeg2000", "png",
    "webp", "jpegxl", "jpegxr", "lerc", "pixtiff", ("jpeg", 85), ("jpeg2000", 40), "jpegxl_dng",
    "zstd_deprecated", "jpeg_lossy", ("lerc", None, {"compression": "zstd"}),
]  # fmt: skip
DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8", "c16"]
MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F", "LA", "PA"]
PIL_CODECS = [
    "raw", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "jpeg", "packbits", "group3",
    "group4", "tiff_ccitt", "zstd", "lzma",
]  # fmt: skip


def animals(folder: Path, rng: np.random.Generator, n: int) -> Iterator[tuple[Path, str]]:
    """Write ``n`` files, one after the other, and give each with how it was made.

    What tifffile or PIL will not write is made otherwise.
    """
    number = 0
    while number < n:
        path = folder / f"{number}{rng.choice(['.tif', '.tiff', '.btf'])}"
        breed = rng.choice(_BREEDS, p=_SHARES)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                how = breed(path, rng)
        except Exception:  # no such file: the writers say so in many ways
            path.unlink(missing_ok=True)
            continue
        number += 1
        yield path, f"{breed.__name__} {how}"


def _values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.4
    if kind.kind in "fc":
        return (rng.normal(0, 100, shape) + (1j if kind.kind == "c" else 0)).astype(kind)
    top = min(np.iinfo(kind).max, 2**31)
    values = rng.integers(0, top, shape).astype(kind)
    return values // 256 if kind.itemsize > 1 and rng.random() < 0.5 else values


def _pick(rng: np.random.Generator, *choices: Any) -> Any:
    return choices[rng.integers(len(choices))]


def _storage(rng: np.random.Generator, ndim: int) -> dict[str, Any]:
    """Give how segments are stored: strips, tiles or volumes, their codec and predictor."""
    how: dict[str, Any] = {"compression": _pick(rng, *CODECS)}
    how["predictor"] = _pick(rng, None, None, None, True, 2, 3, 34892, 34894)
    segments = _pick(rng, None, "strips", "strips", "tiles", "tiles", "volumes")
    if segments == "strips":
        how["rowsperstrip"] = int(rng.integers(1, 40))
    elif segments == "tiles":
        how["tile"] = tuple(int(16 * k) for k in rng.integers(1, 5, 2))
    elif segments == "volumes" and ndim > 2:
        how["tile"] = (int(rng.integers(1, 6)), *(int(16 * k) for k in rng.integers(1, 4, 2)))
        how["volumetric"] = True
    return {k: v for k, v in how.items() if v is not None}


def _stored(how: dict[str, Any], segments: dict[str, Any]) -> dict[str, Any]:
    """Put both together; fewer bits than the pixels have go with codecs of bytes alone.

    Codecs of images take the pixels as they are, whatever the tag says of their bits.
    """
    if "bitspersample" in how and segments.get("compression") not in (None, "lzw", "packbits"):
        raise ValueError("no such file")
    return how | segments


def _image(rng: np.random.Generator, lead: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Give pixels with some leading axes, and how their samples are said to be."""
    plane = tuple(int(k) for k in rng.integers(1, 70, 2))
    shape = tuple(int(k) for k in rng.integers(1, 5, lead)) + plane
    samples = _pick(rng, 0, 0, 0, 0, 1, 2, 3, 3, 4, 5)
    how: dict[str, Any] = {"photometric": _pick(rng, "minisblack", "minisblack", "miniswhite")}
    dtype = _pick(rng, *DTYPES, "u1", "u1", "u2", "u2", "f4")
    if samples:
        how["planarconfig"] = _pick(rng, "contig", "separate")
        at = len(shape) if how["planarconfig"] == "contig" else len(shape) - 2
        shape = (*shape[:at], samples, *shape[at:])
        if samples > 2:
            how["photometric"] = _pick(rng, "rgb", "rgb", "minisblack", "cielab", "ycbcr")
        if how["photometric"] == "rgb" and samples > 3:
            how["extrasamples"] = [_pick(rng, 0, 1, 2) for _ in range(samples - 3)]
        if samples == 4 and rng.random() < 0.2:
            how = {"photometric": "separated", "planarconfig": how["planarconfig"]}
    elif dtype in ("u1", "u2", "u4") and rng.random() < 0.25:
        how["bitspersample"] = int(rng.integers(1, 8 * np.dtype(dtype).itemsize))
    values = _values(rng, shape, dtype)
    if "bitspersample" in how:
        values %= 2 ** how["bitspersample"]
    elif dtype in ("u1", "u2") and not samples and rng.random() < 0.1:
        how["photometric"] = "palette"
        how["colormap"] = rng.integers(0, 2**16, (3, 2 ** (8 * np.dtype(dtype).itemsize)), "u2")
    return values, how


def plain(path: Path, rng: np.random.Generator) -> str:
    """One call of tifffile's: pages without or with a description of its own."""
    values, how = _image(rng, int(rng.integers(0, 4)))
    how = _stored(how, _storage(rng, values.ndim))
    if rng.random() < 0.4:
        how["metadata"] = None
    file = {"bigtiff": bool(rng.random() < 0.3), "byteorder": _pick(rng, "<", ">")}
    resolution = {"resolution": (int(rng.integers(1, 9999)),) * 2, "resolutionunit": 3}
    tifffile.imwrite(path, values, **file, **how, **_pick(rng, {}, resolution))
    return f"{values.shape} {values.dtype} {file} {_told(how)}"


def ome(path: Path, rng: np.random.Generator) -> str:
    """An OME-TIFF, of some images or one with a pyramid."""
    lead = int(rng.integers(0, 4))
    axes = "".join(rng.permutation(list("TCZ"))[:lead])
    values, how = _image(rng, lead)
    samples = {0: "", 1: "S"}["planarconfig" in how]
    full = axes + ("S" + "YX" if how.get("planarconfig") == "separate" else "YX" + samples)
    how = _stored(how, _storage(rng, 2))
    file = {"bigtiff": bool(rng.random() < 0.3), "byteorder": _pick(rng, "<", ">")}
    n_levels = int(_pick(rng, 0, 0, 1, 2))
    n_images = int(_pick(rng, 1, 1, 2))
    with tifffile.TiffWriter(path, ome=True, **file) as out:
        for _ in range(n_images):
            out.write(values, subifds=n_levels, metadata={"axes": full}, **how)
            for k in range(n_levels):
                step = [slice(None, None, 2 ** (k + 1) if a in "YX" else 1) for a in full]
                out.write(values[tuple(step)], subfiletype=1, **how)
    return f"{full} {values.shape} {values.dtype} {n_levels} {n_images} {file} {_told(how)}"


def imagej(path: Path, rng: np.random.Generator) -> str:
    """A hyperstack of ImageJ's, whose axes are in its order."""
    axes = "".join(a for a in "TZC" if rng.random() < 0.5)
    rgb = rng.random() < 0.2
    shape = tuple(int(k) for k in rng.integers(1, 5, len(axes)))
    shape += tuple(int(k) for k in rng.integers(1, 70, 2)) + ((3,) if rgb else ())
    dtype = "u1" if rgb else _pick(rng, "u1", "u2", "f4")
    values = _values(rng, shape, dtype)
    full = axes + "YX" + ("S" if rgb else "")
    how = {"compression": _pick(rng, None, None, "zlib", "lzw"), "byteorder": _pick(rng, "<", ">")}
    meta = {"axes": full, "unit": _pick(rng, "um", "", "pixel"), "spacing": 2.5}
    tifffile.imwrite(path, values, imagej=True, metadata=meta, **how)
    return f"{full} {shape} {dtype} {how}"


def series(path: Path, rng: np.random.Generator) -> str:
    """Several images after one another, in SubIFDs, or thumbnails that come first."""
    told = []
    with tifffile.TiffWriter(path, bigtiff=bool(rng.random() < 0.5)) as out:
        for _ in range(int(rng.integers(1, 4))):
            values, how = _image(rng, int(rng.integers(0, 2)))
            how = _stored(how, _storage(rng, 2))
            n = int(_pick(rng, 0, 0, 1, 2))
            first = int(_pick(rng, 0, 0, 1))
            out.write(values, subifds=n, metadata=None, subfiletype=first, **how)
            for _ in range(n):
                below, other = _image(rng, values.ndim - 2 - ("planarconfig" in how))
                out.write(below, metadata=None, subfiletype=int(_pick(rng, 0, 1)), **other)
            told.append(f"{values.shape} {values.dtype} {n} {first} {_told(how)}")
    return "; ".join(told)


def sparse(path: Path, rng: np.random.Generator) -> str:
    """One of which some segments were never written, perhaps with GDAL's value for these."""
    values = _values(rng, tuple(int(k) for k in rng.integers(40, 90, 2)), _pick(rng, "u2", "f4"))
    how = {"tile": (32, 16), "compression": _pick(rng, None, "lzw", "zlib", "lzma", "zstd")}
    nodata = _pick(rng, "", "nan", "-9999", "65535", "7")
    tags = [(42113, "s", 0, nodata, True)] if nodata else []
    tifffile.imwrite(path, values, metadata=None, extratags=tags, **how)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        lost = set(rng.integers(0, 6, 2).tolist())
        for code in (324, 325):
            tag = tif.pages.first.tags[code]
            tag.overwrite([0 if k in lost else v for k, v in enumerate(tag.value)])
    return f"{values.shape} {values.dtype} nodata {nodata!r} {how}"


def pil(path: Path, rng: np.random.Generator) -> str:
    """One of PIL's, or of libtiff's through it: fax, palettes, subsampled JPEG, CMYK."""
    mode, codec = str(rng.choice(MODES)), str(rng.choice(PIL_CODECS))
    shape = tuple(int(k) for k in rng.integers(1, 90, 2))
    bands = {"RGB": 3, "YCbCr": 3, "LAB": 3, "RGBA": 4, "CMYK": 4, "LA": 2, "PA": 2}.get(mode, 1)
    dtype = {"I;16": "u2", "I": "i4", "F": "f4"}.get(mode, "u1")
    values = _values(rng, (*shape, bands) if bands > 1 else shape, dtype)
    if mode in ("1", "P"):
        image = Image.fromarray(values).convert(mode)
    else:
        image = Image.frombytes(mode, shape[::-1], values.tobytes())
    image.save(path, compression=codec, **_pick(rng, {}, {"strip_size": 400}))
    return f"{mode} {codec} {shape}"


def _told(how: dict[str, Any]) -> str:
    return str({k: "…" if k == "colormap" else v for k, v in how.items()})


_BREEDS: list[Any] = [plain, ome, imagej, series, sparse, pil]
_SHARES = [0.4, 0.15, 0.1, 0.15, 0.05, 0.15]
