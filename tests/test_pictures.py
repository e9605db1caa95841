"""The pictures of known layouts: what they show is what comes of the names in them."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from helpers import REPO, make_volume

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
    inside = (4,) if "z inside" in claim else ()
    data = make_volume((len(grid.files), *inside, 5, 6))
    for name, values in zip(names_in(path), data, strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(tmp_path / name, values, photometric="minisblack", metadata=None)
    position = grid.positions[-1] if "p" in grid.axes else None
    array = io.imread_dataset(tmp_path, position=position)
    assert array.ndim == len(lead) + 2
    if position is None:
        whole = np.sort(data.reshape(-1))
        np.testing.assert_array_equal(np.sort(array.compute().reshape(-1)), whole)


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
