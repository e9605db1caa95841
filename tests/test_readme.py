"""What README.md shows is what happens, and so is every row for callers of scout.io."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from helpers import REPO, make_volume, write_channels, write_planes

import scout_dask_io as io

README = (REPO / "README.md").read_text()
FROM_SCOUT = (REPO / "docs/from/scout.md").read_text()
BRAIN = make_volume((2, 5, 230, 170))
CELLS = make_volume((230, 170), seed=1)
VOLUME = make_volume((9, 40, 50), seed=2)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the working directory, with the data that README.md speaks of."""
    monkeypatch.chdir(tmp_path)
    write_channels(tmp_path / "brain", BRAIN, names=["ch0", "ch1"])
    for c, channel in enumerate(BRAIN):
        names = [f"mouse_C{c:02d}_xyz-Table Z{z:04d}.ome.tif" for z in range(len(channel))]
        write_planes(tmp_path / "mouse", channel, names=names)
    tifffile.imwrite(tmp_path / "cells.tif", CELLS)
    io.write_zarr(tmp_path / "volume.zarr", VOLUME, (4, 16, 16))
    return tmp_path


def code_blocks(language: str) -> list[str]:
    """Give the fenced blocks of a language, each after as many newlines as stand before it."""
    found = re.finditer(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return ["\n" * README.count("\n", 0, m.start(1)) + m[1] for m in found]


def migration_rows() -> list[tuple[str, str]]:
    """Give the code of each row of the migration table: the old call and the new one."""
    section = FROM_SCOUT.split("## The seven functions")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \|", section, re.MULTILINE)
    return [row for row in rows if row[0] != "scout.io"]


def test_the_python_of_the_readme_runs_and_gives_the_right_arrays(data: Path):
    blocks = code_blocks("python")
    assert len(blocks) == 1
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(blocks[0], "README.md", "exec"), names)

    mask = (BRAIN[0] > BRAIN[0].mean()).astype("u1")
    mask[0, :10] = 0
    np.testing.assert_allclose(names["profile"], BRAIN[0][:, 100:200].mean(axis=(1, 2)))
    np.testing.assert_array_equal(names["both"].compute(), BRAIN)
    np.testing.assert_array_equal(zarr.open(data / "ch0.zarr")[...], BRAIN[0])
    np.testing.assert_array_equal(tifffile.imread(data / "mask.tif"), mask)


def _is_lazy(expected: np.ndarray) -> Callable[[Any], None]:
    def check(found: Any) -> None:
        assert isinstance(found, da.Array)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.compute(), expected)

    return check


def _is_array(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Callable[[Any], None]:
    def check(found: Any) -> None:
        assert isinstance(found, zarr.Array)
        assert (found.shape, found.chunks, found.dtype) == (shape, chunks, np.dtype("u2"))

    return check


def _is_a_copy(found: Any) -> None:
    assert found is None
    np.testing.assert_array_equal(tifffile.imread("copy.tif"), CELLS)


def _is_the_volume(found: Any) -> None:
    _is_array((9, 40, 50), (4, 16, 16))(found)
    np.testing.assert_array_equal(found[...], VOLUME)


CHECKS: dict[str, Callable[[Any], None]] = {
    "imread": _is_lazy(CELLS),
    "imread_folder": _is_lazy(BRAIN[0]),
    "imread_parallel": _is_lazy(BRAIN[0, :2]),
    "imsave": _is_a_copy,
    "new_zarr": _is_array((64, 512, 512), (64, 64, 64)),
    "new_zarr_like": _is_array((9, 40, 50), (4, 16, 16)),
    "open": _is_the_volume,
}


@pytest.mark.parametrize(
    ("old", "new"), migration_rows(), ids=[old.split("(")[0] for old, _ in migration_rows()]
)
def test_each_row_of_the_migration_table_runs(data: Path, old: str, new: str):
    name = old.split("(")[0]
    assert new.startswith(f"io.{name}(")
    CHECKS[name](eval(new, {"io": io}))


def test_the_migration_table_has_all_seven_functions():
    assert [old.split("(")[0] for old, _ in migration_rows()] == list(CHECKS)


def test_the_thirty_lines_are_thirty_at_most():
    lines = [line for line in code_blocks("python")[0].splitlines() if line.strip()]
    assert len(lines) <= 30


def test_the_two_commands_are_single_lines():
    commands = [block.strip() for block in code_blocks("bash")]
    assert commands == ["pip install . && scout-dask-io demo", "pip install '.[test]' && pytest"]


def test_names_in_the_readme_exist():
    called = set(re.findall(r"\bio\.([A-Za-z_]+)\(", README))
    assert called <= set(io.__all__)
    assert {"write_zarr", "read_zarr", "write_ome_zarr"} <= called


def test_the_readme_fits_on_two_screens():
    assert len(README) < 8_000


def test_files_that_the_readme_points_to_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (REPO / target).exists(), target
