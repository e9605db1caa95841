"""What other programs write is read with their pixels, axes, scales, places and names.

Each writer is asked for an image of which all is known; what is not installed is passed over.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.errors import LayoutError, PathNotFoundError
from scout_dask_io.run.lazy import source_of

pytestmark = pytest.mark.compat

EXTENTS = {"t": 2, "c": 3, "z": 4, "y": 40, "x": 56}
SCALES = {"t": 1.5, "c": 1.0, "z": 4.0, "y": 0.5, "x": 0.25}
SHIFTS = {"t": 0.0, "c": 0.0, "z": 10.0, "y": 20.0, "x": -30.0}
UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
TYPES = {"t": "time", "c": "channel"}
NAMES = ("dapi", "gfp", "syto 16")


@dataclass
class Stated:
    """What a writer was told, and how much of it its format keeps."""

    axes: str
    names: tuple[str, ...] = ()
    shifted: bool = False
    units: bool = True
    sizes: bool = True

    @property
    def pixels(self) -> np.ndarray:
        return make_volume(tuple(EXTENTS[a] for a in self.axes))


def by_ngff_zarr(path: Path, axes: str, version: str) -> Stated:
    ngff_zarr = pytest.importorskip("ngff_zarr")
    made = Stated(axes, shifted=True)
    image = ngff_zarr.to_ngff_image(
        made.pixels, dims=list(axes), name="image",
        scale={a: SCALES[a] for a in axes if a != "c"},
        translation={a: SHIFTS[a] for a in axes if a != "c"},
        axes_units={a: UNITS[a] for a in axes if a != "c"},
    )  # fmt: skip
    ngff_zarr.to_ngff_zarr(str(path), ngff_zarr.to_multiscales(image, []), version=version)
    return made


def by_ome_zarr(path: Path, axes: str, version: str) -> Stated:
    writer = pytest.importorskip("ome_zarr.writer")
    formats = pytest.importorskip("ome_zarr.format")
    states = version in ("0.4", "0.5")
    names = NAMES if "c" in axes and states else ()
    made = Stated(axes, names, shifted=states, units=states, sizes=states)
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    how: dict[str, Any] = {}
    if states:
        how["axes"] = [
            {"name": a, "type": TYPES.get(a, "space"), **({"unit": UNITS[a]} if a in UNITS else {})}
            for a in axes
        ]
        how["coordinate_transformations"] = [
            [
                {"type": "scale", "scale": [SCALES[a] for a in axes]},
                {"type": "translation", "translation": [SHIFTS[a] for a in axes]},
            ]
        ]
    elif version == "0.3":
        how["axes"] = list(axes)
    if names:
        shown = {"start": 1, "end": 99, "min": 0, "max": 65535}
        how["metadata"] = {
            "omero": {"channels": [{"label": n, "color": "00FF00", "window": shown} for n in names]}
        }
    fmt = formats.format_from_version(version)
    writer.write_multiscale([made.pixels], group, fmt=fmt, **how)
    stored = str(dict(group.attrs))
    if names and "omero" not in stored:  # some versions keep no metadata there
        made.names = ()
    made.units = "'unit'" in stored  # nor some units
    return made


def by_bioio(path: Path, axes: str, version: str) -> Stated:
    writers = pytest.importorskip("bioio_ome_zarr.writers")
    made = Stated(axes, NAMES if "c" in axes else ())
    shape = made.pixels.shape
    channels = [writers.Channel(label=n, color="00FF00") for n in made.names]
    writer = writers.OMEZarrWriter(
        store=str(path), level_shapes=[shape], dtype="uint16", image_name="image",
        zarr_format=3 if version == "0.5" else 2, axes_names=list(axes),
        axes_types=[TYPES.get(a, "space") for a in axes],
        axes_units=[UNITS.get(a) for a in axes],
        physical_pixel_size=[SCALES[a] for a in axes],
        **({"channels": channels} if channels else {}),
    )  # fmt: skip
    writer.write_full_volume(made.pixels)
    return made


def by_iohub(path: Path, axes: str, version: str) -> Stated:
    ngff = pytest.importorskip("iohub.ngff")
    made = Stated(axes, NAMES, shifted=True)
    how = {"version": version}
    steps = [
        ngff.TransformationMeta(type="scale", scale=tuple(SCALES[a] for a in axes)),
        ngff.TransformationMeta(type="translation", translation=tuple(SHIFTS[a] for a in axes)),
    ]
    known = inspect.signature(ngff.open_ome_zarr).parameters
    how = how if "version" in known or "kwargs" in known else {}
    with ngff.open_ome_zarr(
        str(path), layout="fov", mode="w", channel_names=list(NAMES), **how
    ) as fov:
        fov.create_image("0", made.pixels, transform=steps)
    return made


def by_tensorstore(path: Path, axes: str, version: str) -> Stated:
    ts = pytest.importorskip("tensorstore")
    states = version == "zarr3"  # Zarr v2 has no place for either
    made = Stated(axes if states else "", shifted=False, sizes=states)
    pixels = Stated(axes).pixels
    short = {"t": "s", "c": "", "z": "um", "y": "um", "x": "nm"}
    units = [[SCALES[a] * (1000 if a == "x" else 1), short[a]] for a in axes]
    spec = {
        "driver": version, "kvstore": {"driver": "file", "path": str(path)}, "create": True,
        "schema": {
            "dtype": "uint16",
            "chunk_layout": {"chunk": {"shape": [1] * (len(axes) - 2) + [16, 9]}},
            **({"domain": {"labels": list(axes)}, "dimension_units": units} if states else {}),
        },
    }  # fmt: skip
    ts.open(spec, shape=pixels.shape).result()[...] = pixels
    return made


WRITERS: list[tuple[Callable[[Path, str, str], Stated], str, str]] = [
    *((by_ngff_zarr, a, v) for a in ("yx", "zyx", "czyx", "tzyx", "tczyx") for v in ("0.4", "0.5")),
    *((by_ome_zarr, a, v) for a in ("yx", "czyx", "tczyx") for v in ("0.3", "0.4", "0.5")),
    *((by_ome_zarr, "tczyx", v) for v in ("0.1", "0.2")),
    *((by_bioio, a, v) for a in ("zyx", "tyx", "czyx", "tczyx") for v in ("0.4", "0.5")),
    *((by_iohub, "tczyx", v) for v in ("0.4", "0.5")),
    *((by_tensorstore, a, v) for a in ("zyx", "tyx", "czyx") for v in ("zarr", "zarr3")),
]


@pytest.mark.parametrize(
    ("writer", "axes", "version"), WRITERS, ids=[f"{w.__name__}-{a}-{v}" for w, a, v in WRITERS]
)
def test_an_image_of_another_program_is_read_as_it_was_meant(
    tmp_path: Path, writer: Callable[[Path, str, str], Stated], axes: str, version: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the writer's own
        made = writer(tmp_path / "a.zarr", axes, version)
    pixels = Stated(axes).pixels
    lazy = io.read_zarr(tmp_path / "a.zarr")
    np.testing.assert_array_equal(lazy.compute(), pixels)
    info = source_of(lazy).info
    assert info.axes == made.axes
    if made.names:
        assert info.names == made.names
    if made.sizes:
        placed = info.measured
        assert [p.scale for p in placed] == pytest.approx([SCALES[a] for a in axes])
        shifts = [SHIFTS[a] if made.shifted else 0.0 for a in axes]
        assert [p.translation for p in placed] == pytest.approx(shifts)
        known = {a: p.unit for a, p in zip(axes, placed, strict=True) if a != "c"}
        assert known == {a: UNITS[a] if made.units else None for a in axes if a != "c"}
    told = pytest.warns(UserWarning, match="axes") if not made.axes else warnings.catch_warnings()
    with told:
        io.convert(tmp_path / "a.zarr", tmp_path / "b.zarr", ome=True)
    assert io.verify(tmp_path / "a.zarr", tmp_path / "b.zarr").ok
    if made.sizes:
        again = source_of(io.read_zarr(tmp_path / "b.zarr")).info
        assert (again.axes, again.measured) == (info.axes, placed)
        assert again.names == info.names or not info.names


def test_a_position_of_a_plate_of_iohub_is_named_and_read(tmp_path: Path) -> None:
    ngff = pytest.importorskip("iohub.ngff")
    with ngff.open_ome_zarr(
        str(tmp_path / "a.zarr"), layout="hcs", mode="w", channel_names=["dapi"]
    ) as plate:
        for number, place in enumerate((("A", "1", "0"), ("B", "2", "1"))):
            plate.create_position(*place).create_image("0", np.full((1, 1, 2, 8, 9), number, "u2"))
    with pytest.raises(PathNotFoundError, match=r"A.1.0") as told:
        io.read_zarr(tmp_path / "a.zarr")
    assert "B/2/1" in str(told.value)
    assert io.read_zarr(tmp_path / "a.zarr/B/2/1").compute().max() == 1


def test_a_dataset_of_n5_is_named(tmp_path: Path) -> None:
    ts = pytest.importorskip("tensorstore")
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": str(tmp_path / "a.n5")}}
    ts.open({**spec, "create": True}, dtype=ts.uint16, shape=[4, 5]).result()
    for read in (io.read_zarr, io.info, io.preview):
        with pytest.raises(LayoutError, match="is a dataset of N5"):
            read(tmp_path / "a.n5")
