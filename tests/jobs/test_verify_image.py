"""``verify`` of an OME-Zarr image looks at every level, and names what is wrong where."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.cli import main
from scout_dask_io.errors import ArgumentError

VOLUME = make_volume((13, 70, 50))


@pytest.fixture(params=["0.4", "0.5"])
def image(request: Any, tmp_path: Path) -> Path:
    """Give an image of three levels of ``VOLUME``."""
    write_planes(tmp_path / "planes", VOLUME)
    io.write_ome_zarr(
        tmp_path / "a.zarr", io.imread_folder(tmp_path / "planes"), (4, 16, 16), levels=3,
        version=request.param,
    )  # fmt: skip
    return tmp_path / "a.zarr"


def chunk_file(image: Path, level: int, *index: int) -> Path:
    inside = ["c"] if (image / "zarr.json").exists() else []
    return image.joinpath(str(level), *inside, *map(str, index))


def test_a_whole_image_is_as_written(image: Path):
    report: Any = io.verify(image)
    assert report.ok
    assert [r.path for r in report.levels] == [str(image / str(n)) for n in range(3)]
    assert [r.n_files for r in report.levels] == [4 * 5 * 4, 2 * 3 * 2, 1 * 2 * 1]
    assert "3 levels, as written" in report.render()
    assert json.loads(report.to_json())["ok"] is True


def test_a_changed_chunk_of_a_lower_level_is_named(image: Path, capsys):
    path = chunk_file(image, 1, 1, 2, 0)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    chunk_file(image, 2, 0, 0, 0).unlink()
    report: Any = io.verify(image)
    assert not report.ok
    assert [r.n_bad for r in report.levels] == [0, 1, 1]
    assert (report.levels[1].bad[0].kind, report.levels[1].bad[0].index) == ("corrupt", (1, 2, 0))
    assert (report.levels[2].bad[0].kind, report.n_bad) == ("missing", 2)
    with pytest.raises(SystemExit) as done:
        main(["verify", str(image), "-q"])
    assert done.value.code == 1
    shown = capsys.readouterr().out
    assert "3 levels, of which not as written: 1, 2" in shown
    assert str(path) in shown


def test_a_level_that_is_gone_or_no_longer_named_is_a_finding(image: Path):
    name = "zarr.json" if (image / "zarr.json").exists() else ".zattrs"
    shutil.rmtree(image / "2")
    report: Any = io.verify(image)
    assert (report.ok, report.mismatch) == (False, "level 2 is not there")
    assert len(report.levels) == 2
    document = json.loads((image / name).read_text())
    holder = document["attributes"]["ome"] if name == "zarr.json" else document
    holder["multiscales"][0]["datasets"].pop()
    (image / name).write_text(json.dumps(document))
    report = io.verify(image)
    assert (report.ok, report.mismatch) == (False, "the metadata name 2 levels, 3 were written")


def test_the_full_level_is_compared_with_the_source(image: Path, tmp_path: Path):
    found = io.verify(tmp_path / "planes", image)
    assert found.equal
    assert (found.shape, found.n_voxels) == (VOLUME.shape, VOLUME.size)
    changed = VOLUME.copy()
    changed[7, 40, 20] ^= 1
    write_planes(tmp_path / "planes", changed)
    found = io.verify(tmp_path / "planes", image)
    assert (found.equal, found.n_differing) == (False, 1)
    assert found.regions[0].index == (7, 40, 20)
    assert found.regions[0].region == (slice(4, 8), slice(32, 48), slice(16, 32))
    assert found.regions[0].src_value == np.uint16(changed[7, 40, 20])


def test_an_image_without_manifests_is_checked_by_decoding_alone(image: Path):
    for manifest in image.rglob(".scout-manifest"):
        manifest.unlink()
    with pytest.raises(ArgumentError, match="deep=True"):
        io.verify(image)
    report: Any = io.verify(image, deep=True)
    assert report.ok
    assert [r.deep for r in report.levels] == [True] * 3
