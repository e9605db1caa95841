"""Every verb on TIFF files whose descriptions are damaged, hostile or odd."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import odd_descriptions as odd
import pytest
from answers import alarmed, faults, told, view

import scout_dask_io as io
from scout_dask_io.view.napari import get_reader


def _corner(array: Any) -> Any:
    return np.asarray(array[(slice(0, 1),) * array.ndim])


def _napari(path: Path, out: Path) -> Any:
    read = get_reader(str(path))
    return read and [
        _corner(data[0] if isinstance(data, list) else data) for data, *_ in read(str(path))
    ]


VERBS: dict[str, Callable[[Path, Path], Any]] = {
    "imread": lambda path, out: _corner(io.imread(path)),
    "imread, all pages": lambda path, out: io.imread(path, pages="all").compute(),
    "imread_folder": lambda path, out: _corner(io.imread_folder(path.parent)),
    "imread_dataset": lambda path, out: _corner(io.imread_dataset(path.parent)),
    "info": lambda path, out: str(io.info(path)),
    "scan": lambda path, out: str(io.scan(path)),
    "scan of its folder": lambda path, out: str(io.scan(path.parent)),
    "preview": lambda path, out: io.preview(path),
    "view": view,
    "convert": lambda path, out: io.convert(path, out / "c.zarr"),
    "convert to an image": lambda path, out: io.convert(path, out / "i.zarr", ome=True),
    "export": lambda path, out: io.export(path, out / "e.tif"),
    "napari": _napari,
    "voxel_size": lambda path, out: io.voxel_size(path),
    "channel_names": lambda path, out: io.channel_names(path),
}


@pytest.mark.parametrize("n", [9, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_row_27_hostile_descriptions_are_one_error_of_every_verb_or_the_data(
    tmp_path: Path, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All of them, some 1,300, where a setting says so.
    chosen = odd.documents() if os.environ.get("ODD_DOCUMENTS") == "all" else odd.sample(n, seed=27)
    monkeypatch.setattr(logging.getLogger("tifffile"), "disabled", True)
    path = tmp_path / "planes" / "a.tif"
    path.parent.mkdir()
    wrong: list[str] = []
    with alarmed():
        for name, description in chosen:
            odd.write(path, description)
            was = path.read_bytes()
            for verb, call in VERBS.items():
                answers = faults(call, path, tmp_path / "out")
                wrong += [f"{name} · {verb}: {w}" for w in answers]
            if path.read_bytes() != was or [p.name for p in path.parent.iterdir()] != ["a.tif"]:
                wrong.append(f"{name}: changed")
            # Whatever it says, its pages are there for who asks for them.
            np.testing.assert_array_equal(io.imread(path, pages="all").compute(), odd.PLANES)
    found = told("hostile descriptions", len(chosen), len(VERBS), wrong, slow=n > 100)
    assert not found, "\n".join(found)
