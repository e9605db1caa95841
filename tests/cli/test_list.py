"""``convert --list``: a table of conversions, each by itself."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import zarr
from helpers import make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.cli import main

ONE, OTHER = make_volume((5, 30, 40)), make_volume((4, 30, 40), seed=1)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_planes(tmp_path / "one", ONE)
    write_planes(tmp_path / "other", OTHER)
    return tmp_path


def code_of(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["convert", *args])
    return int(ended.value.code or 0)


def test_each_line_is_converted_with_its_own_options(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("jobs.csv").write_text(
        'src,dst,voxel-size,ome,chunks\none,a.zarr,"4,1.8,1.8",,\nother,b.ome.zarr,,yes,"8,8,8"\n'
    )
    assert code_of("--list", "jobs.csv", "--chunks", "8,16,16", "-q") == 0
    assert zarr.open_array("a.zarr").chunks == (8, 16, 16)
    np.testing.assert_array_equal(zarr.open_array("a.zarr")[...], ONE)
    size = io.voxel_size("a.zarr")
    assert size is not None
    assert size.micrometres == (4, 1.8, 1.8)
    assert zarr.open_array("b.ome.zarr/0").chunks == (8, 8, 8)
    np.testing.assert_array_equal(io.read_zarr("b.ome.zarr"), OTHER)
    out = capsys.readouterr().out
    assert "1 of 2: one -> a.zarr" in out
    assert out.splitlines()[-1] == "2 conversions: 2 done"


def test_one_that_fails_stops_no_other_and_resuming_does_what_lacks(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("jobs.csv").write_text("src;dst\none;a.zarr\nnone;b.zarr\nother;c.zarr\n")
    assert code_of("--list=jobs.csv", "-q") == 1
    told = capsys.readouterr()
    assert "3 conversions: 2 done, 1 failed" in told.out
    assert "failed    none" in told.out
    assert "convert --list jobs.csv -q --resume" in told.out
    assert "none" in told.err
    assert sorted(p.name for p in here.glob("*.zarr")) == ["a.zarr", "c.zarr"]
    before = (here / "a.zarr" / ".zarray").stat().st_mtime_ns
    write_planes(here / "none", ONE)
    assert code_of("--list", "jobs.csv", "--resume", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [job["outcome"] for job in found["jobs"]] == ["kept", "done", "kept"]
    assert (found["n_done"], found["n_kept"], found["n_failed"]) == (1, 2, 0)
    assert found["jobs"][1]["report"]["shape"] == [5, 30, 40]
    assert (here / "a.zarr" / ".zarray").stat().st_mtime_ns == before


def test_json_has_the_error_of_each_that_failed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("jobs.csv").write_text("src,dst\nnone,b.zarr\none,a.zarr\n")
    assert code_of("--list", "jobs.csv", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [job["outcome"] for job in found["jobs"]] == ["failed", "done"]
    assert found["jobs"][0]["error"]["type"] == "PathNotFoundError"


def test_ctrl_c_ends_the_list_and_says_how_to_go_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("jobs.csv").write_text("src,dst\none,a.zarr\nother,b.zarr\n")
    with patch("scout_dask_io.jobs.convert.plan_convert", side_effect=KeyboardInterrupt):
        assert code_of("--list", "jobs.csv", "-q") == 130
    assert "0 of 2 conversions were come to. The same command with --resume" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "its first line must name the columns, src, dst"),
        ("src,dst,colour\none,a.zarr,red\n", "of which 'colour' is none"),
        ("src,dst\n", "names no conversion"),
        ("src,dst\none,\n", "line 2: it names no destination"),
        ("src,dst\none,a.zarr\nother,./a.zarr\n", "line 3: ./a.zarr is the destination of an ear"),
        ("src,dst,voxel-size\none,a.zarr,4,1.8,1.8\n", 'such as "4,1.8,1.8", into quotes'),
        ("src,dst,ome\none,a.zarr,perhaps\n", "--ome is yes or no, got 'perhaps'"),
    ],
)
def test_a_table_that_cannot_be_is_refused_before_anything_is_done(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, match: str
) -> None:
    Path("jobs.csv").write_text(text)
    assert code_of("--list", "jobs.csv") == 2
    assert match in capsys.readouterr().err
    assert not list(here.glob("*.zarr"))


def test_a_list_that_is_not_there_and_what_it_does_not_go_with(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of("--list", "jobs.csv") == 2
    assert "jobs.csv: no such file" in capsys.readouterr().err
    assert code_of("one", "a.zarr", "--list", "jobs.csv") == 2
    assert "it goes with no SRC" in capsys.readouterr().err
    assert code_of() == 2
    assert "Missing argument 'SRC'" in capsys.readouterr().err
