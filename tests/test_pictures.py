"""The pictures of known layouts: what they show is what comes of the names in them."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import zarr
from helpers import REPO, make_volume, read_ome

import scout_dask_io as io
from scout_dask_io.core.name_fields import NameGrid, grid_of_names
from scout_dask_io.core.name_layouts import LAYOUTS

PICTURES = sorted((REPO / "docs" / "pictures").glob("*.svg"))
PAGE = (REPO / "docs" / "datasets.md").read_text(encoding="utf8")
SVG = "{http://www.w3.org/2000/svg}"


def texts_of(path: Path, kind: str) -> list[ElementTree.Element]:
    root = ElementTree.parse(path).getroot()
    return [e for e in root.iter(f"{SVG}text") if e.get("class") == kind]


def names_in(path: Path) -> list[str]:
    return ["".join(e.itertext()) for e in texts_of(path, "f")]


def grid_in(path: Path) -> NameGrid:
    return grid_of_names(names_in(path))


@pytest.mark.parametrize("path", PICTURES, ids=lambda p: p.stem)
def test_a_picture_says_what_comes_of_its_names(path: Path, tmp_path: Path):
    grid = grid_in(path)
    assert not grid.strays
    assert not grid.holes
    root = ElementTree.parse(path).getroot()
    assert root.findtext(f"{SVG}desc") == f"{grid.axes}: {' x '.join(map(str, grid.shape))}"
    for field in grid.fields:
        of_axis = [t for e in texts_of(path, "f") for t in e if t.get("class") == field.axis]
        assert len({t.text for t in of_axis}) == len(field.values), field.axis
    (claim,) = ("".join(e.itertext()) for e in texts_of(path, "a"))
    claimed = re.search(r"\((.*?), y, x\)", claim)
    assert claimed is not None
    lead = "".join(claimed[1].split(", "))
    assert lead == grid.axes.replace("p", "") + ("z" if "z inside" in claim else "")
    assert claim.startswith(f"{len(grid.positions)} positions") == ("p" in grid.axes)
    data = write(tmp_path, names_in(path), (4,) if "z inside" in claim else ())
    position = grid.positions[-1] if "p" in grid.axes else None
    array = io.imread_dataset(tmp_path, position=position)
    assert array.ndim == len(lead) + 2
    if position is None:
        whole = np.sort(data.reshape(-1))
        np.testing.assert_array_equal(np.sort(array.compute().reshape(-1)), whole)


@pytest.mark.parametrize("path", PICTURES, ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore:.*is read by the names of its files:UserWarning")
def test_every_job_agrees_about_axes_names_and_pixels_of_a_layout(path: Path, tmp_path: Path):
    models = pytest.importorskip("ome_zarr_models.v04.image")
    src = tmp_path / "src"
    (claim,) = ("".join(e.itertext()) for e in texts_of(path, "a"))
    write(src, names_in(path), (4,) if "z inside" in claim else ())
    positions = io.dataset_positions(src)
    how = {"position": str(positions[-1])} if len(positions) > 1 else {}
    data = io.imread_dataset(src, **how)
    scanned = io.scan(src)
    assert (scanned.ok, scanned.positions) == (True, tuple(positions))
    told = io.info(src, **how)
    axes = told.axes
    io.convert(src, tmp_path / "plain.zarr", **how)
    assert (told.shape, len(axes)) == (data.shape, data.ndim)
    assert io.info(tmp_path / "plain.zarr").axes == axes
    image = tmp_path / "a.ome.zarr"
    io.convert(src, image, ome=True, **how)
    made = io.info(image)
    assert (made.shape, made.axes) == (data.shape, axes)
    assert made.channels == told.channels
    assert list(told.channels) == (io.channel_names(src) if "c" in axes else [])
    assert io.verify(src, image, **how).ok
    models.Image.from_zarr(zarr.open_group(image, mode="r"))
    io.export(image, tmp_path / "a.ome.tif")
    back = io.info(tmp_path / "a.ome.tif")
    assert back.axes == axes
    assert back.channels == told.channels or "c" not in axes
    np.testing.assert_array_equal(io.imread(tmp_path / "a.ome.tif"), data)
    if "t" not in axes:
        io.export(image, tmp_path / "planes")
        read = io.imread_dataset if "c" in axes else io.imread_folder
        np.testing.assert_array_equal(np.reshape(read(tmp_path / "planes"), data.shape), data)
    assert read_ome(tmp_path / "a.ome.tif").images


def write(folder: Path, names: list[str], inside: tuple[int, ...]) -> np.ndarray:
    """Write a file of each name, all of different pixels, and give these."""
    data = make_volume((len(names), *inside, 5, 6))
    for name, values in zip(names, data, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / name, values, photometric="minisblack", metadata=None)
    return data


@pytest.mark.parametrize("path", PICTURES, ids=lambda p: p.stem)
def test_a_picture_stands_on_the_page_and_is_read_by_day_and_by_night(path: Path):
    title = ElementTree.parse(path).getroot().findtext(f"{SVG}title")
    (claim,) = ("".join(e.itertext()) for e in texts_of(path, "a"))
    assert f"### {title}\n![{claim}](pictures/{path.name})" in PAGE
    text = path.read_text(encoding="utf8")
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"href|url\(|<script|<image", text)


def test_each_layout_that_is_known_by_name_has_a_picture():
    shown = {grid_in(path).layout for path in PICTURES}
    assert {layout.name for layout in LAYOUTS} <= shown
