"""The sheet of the planes beside an array in an object store: as on a disk, and there with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_volume, write_planes
from object_store import Failing, Lab, Memory

import scout_dask_io as io
from scout_dask_io.cli import main
from scout_dask_io.errors import ChunkReadError, ResumeError, TargetExistsError, WriteError
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.jobs.convert import plan_convert

CHUNKS = (4, 16, 32)


@pytest.fixture(scope="module")
def planes(tmp_path_factory: Any) -> Path:
    """Give a folder of planes, of which one is blank and two are equal."""
    folder: Path = tmp_path_factory.mktemp("planes") / "planes"
    volume = make_volume((13, 70, 145))
    volume[4], volume[7] = 9, volume[2]
    write_planes(folder, volume)
    return folder


@pytest.fixture(scope="module")
def expected(planes: Path, tmp_path_factory: Any) -> dict[str, Any]:
    """Give what the sheet of the same array on a disk says."""
    path = tmp_path_factory.mktemp("disk") / "a.zarr"
    io.convert(planes, path, chunks=CHUNKS, qc=True)
    return without_time(Path(f"{path}.qc.json").read_bytes())


def without_time(document: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(document)
    del found["written"]
    return found


def beside(memory: Memory) -> list[str]:
    """Give the names beside the array, but for its own."""
    above, _, name = memory.key.rpartition("/")
    found = (k[len(above) + 1 :] for k in memory.fs.find(above))
    return sorted(k.removeprefix(name) for k in found if not k.startswith(f"{name}/"))


@pytest.mark.parametrize("ome", [False, True])
def test_it_says_what_that_on_a_disk_says(
    memory: Memory, planes: Path, expected: dict[str, Any], ome: bool
) -> None:
    options: dict[str, Any] = {"chunks": CHUNKS, "qc": True, "ome": ome}
    assert plan_convert(planes, memory.url, **options).qc_sheet == f"{memory.url}.qc.html"
    report = io.convert(planes, memory.url, **options, **({"levels": 3} if ome else {}))
    assert report.qc is not None
    assert report.qc.sheet == f"{memory.url}.qc.html"
    assert list(report.qc.findings) == expected["findings"]
    assert "2 planes are identical: z=2, 7." in report.qc.findings
    assert beside(memory) == [".qc.html", ".qc.json"]
    assert without_time(memory.fs.cat_file(f"{memory.key}.qc.json")) == expected
    page = memory.fs.cat_file(f"{memory.key}.qc.html").decode()
    assert "2 planes are identical" in page
    # Nothing of the records is left.
    assert not [n for n in memory.names() if ".planes" in n or "journal" in n]
    assert io.verify(memory.url).ok
    assert io.info(memory.url).qc_sheet == f"{memory.url}.qc.html"


@pytest.mark.parametrize("ome", [False, True])
def test_whatever_write_fails_a_resumed_run_has_the_same(
    memory: Memory, failing: Failing, planes: Path, expected: dict[str, Any], ome: bool
) -> None:
    options: dict[str, Any] = {"chunks": CHUNKS, "qc": True, "ome": ome, "nb_workers": 1}
    options |= {"levels": 2} if ome else {}
    io.convert(planes, memory.url, **options)
    n_writes = len(failing.log)
    last = [n for n, name in enumerate(failing.log) if name.endswith((".planes", ".qc.json"))]
    assert len(last) > 2
    # At the first record and the last, between them, at the sheet, and near the end.
    points = {last[0], last[-2], last[len(last) // 2], last[-1], last[-1] + 1, n_writes - 1}
    for n in sorted(points):
        memory.fs.rm(memory.key.rpartition("/")[0], recursive=True)
        failing.left = n
        with pytest.raises(WriteError, match="on purpose"):
            io.convert(planes, memory.url, **options)
        failing.left = 10**9
        io.convert(planes, memory.url, **options, resume=True)
        assert beside(memory) == [".qc.html", ".qc.json"]
        assert without_time(memory.fs.cat_file(f"{memory.key}.qc.json")) == expected
        assert io.verify(memory.url).ok
    failing.left = last[1]
    with pytest.raises(WriteError, match="on purpose"):
        io.convert(planes, memory.url, **options, overwrite=True)
    failing.left = 10**9
    with pytest.raises(ResumeError, match="qc was True, is False"):
        io.convert(planes, memory.url, **{**options, "qc": False}, resume=True)


def test_what_lies_there_is_not_replaced_unless_it_is_a_sheet_and_that_is_said(
    memory: Memory, planes: Path, expected: dict[str, Any]
) -> None:
    sheet = f"{memory.key}.qc.html"
    memory.fs.pipe_file(sheet, b"<html>somebody's own</html>")
    for overwrite in (False, True):
        with pytest.raises(TargetExistsError, match="is not a file of this library"):
            io.convert(planes, memory.url, chunks=CHUNKS, qc=True, overwrite=overwrite)
    assert memory.names() == []
    assert memory.fs.cat_file(sheet) == b"<html>somebody's own</html>"
    memory.fs.rm(sheet)
    io.convert(planes, memory.url, chunks=CHUNKS, qc=True)
    memory.fs.rm(memory.key, recursive=True)
    with pytest.raises(TargetExistsError, match="already tells of the planes"):
        io.convert(planes, memory.url, chunks=CHUNKS, qc=True)
    io.convert(planes, memory.url, chunks=CHUNKS, qc=True, overwrite=True)
    assert without_time(memory.fs.cat_file(f"{memory.key}.qc.json")) == expected
    with pytest.warns(UserWarning, match="tells of the array that is replaced, and stays"):
        io.convert(planes, memory.url, chunks=CHUNKS, overwrite=True)


def test_a_store_that_says_nothing_of_what_lies_beside_is_written_to(
    memory: Memory, planes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    io.convert(planes, memory.url, chunks=CHUNKS)
    real = RemoteLocation._ask

    def ask(place: RemoteLocation, question: Any) -> Any:
        if ".qc." in place.url:
            raise ChunkReadError(f"{place}: forbidden")
        return real(place, question)

    monkeypatch.setattr(RemoteLocation, "_ask", ask)
    io.convert(planes, memory.url, chunks=CHUNKS, overwrite=True)
    assert io.info(memory.url).qc_sheet is None


def test_it_lies_beside_an_array_on_a_server(
    lab: Lab, planes: Path, expected: dict[str, Any], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = io.convert(
        planes, lab.url, chunks=CHUNKS, qc=True, storage_options=lab.options, nb_workers=2
    )
    assert report.qc is not None
    assert list(report.qc.findings) == expected["findings"]
    assert without_time(lab.fs.cat_file(f"{lab.url}.qc.json")) == expected
    np.testing.assert_array_equal(lab.by_zarr(), io.imread_folder(planes))
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL": lab.address, "FSSPEC_S3_ENDPOINT_URL": lab.address,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    url = lab.url.replace("a.zarr", "b.zarr")
    with pytest.raises(SystemExit) as ended:
        main(["convert", str(planes), url, "--qc"])
    assert ended.value.code == 0
    assert f"  sheet     {url}.qc.html" in capsys.readouterr().out.splitlines()
