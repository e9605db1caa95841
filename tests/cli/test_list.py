"""``convert`` of many: a table of conversions, or sources into a folder, each by itself."""

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
from scout_dask_io.cli.base import cli
from scout_dask_io.cli.batch import words_of

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


def test_several_sources_go_into_a_folder_by_their_names(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    assert code_of("one", "--chunks", "8,16,16", "none", "other", "-q", "out") == 1
    told = capsys.readouterr()
    assert "1 of 3: one -> out/one.zarr" in told.out
    assert "3 conversions: 2 done, 1 failed" in told.out
    assert "convert one none other out --chunks 8,16,16 -q --resume" in told.out
    assert zarr.open_array("out/one.zarr").chunks == (8, 16, 16)
    np.testing.assert_array_equal(zarr.open_array("out/other.zarr")[...], OTHER)
    write_planes(here / "none", ONE)
    assert code_of("one", "none", "other", "out", "--chunks", "8,16,16", "--resume", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [job["outcome"] for job in found["jobs"]] == ["kept", "done", "kept"]
    assert found["jobs"][1]["dst"] == "out/none.zarr"


def test_a_destination_that_ends_in_a_slash_is_a_folder_but_for_zarr(here: Path) -> None:
    assert code_of("one/", "made/", "--ome", "-q") == 0
    np.testing.assert_array_equal(io.read_zarr("made/one.ome.zarr"), ONE)
    assert code_of("one", "a.zarr/", "-q") == 0
    assert code_of("one", "a.zarr", "again/", "-q") == 0
    Path("a.zarr").rename("a")
    assert code_of("other", "a/", "-q", "--overwrite") == 0
    np.testing.assert_array_equal(io.read_zarr("a"), OTHER)
    assert sorted(p.name for p in Path("again").iterdir()) == ["a.zarr", "one.zarr"]


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (("one", "128", "128"), "Numbers of one option have commas between them, as in --chunks"),
        (("one", "other", "out"), "several sources go into a folder, and out is not there: make"),
        (("one", "other", "file"), "and file is a file"),
        (("one", "other", "a.zarr"), "and a.zarr is one Zarr array or image"),
        (("one", "other/../one", "out/"), "one and other/../one would both become out/one.zarr"),
        (("one", "other", "out/", "--follow", "--planes", "3"), "--follow goes with one SRC"),
        (("one", "other", "--into", "i.zarr", "--label", "a"), "--into takes the place of DST"),
    ],
)
def test_sources_that_cannot_go_into_a_folder_are_refused_before_anything_is_done(
    here: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], match: str
) -> None:
    Path("file").touch()
    assert code_of(*args) == 2
    assert match in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        ("a -qn 4 b out", "-qn 4"),
        ("-n4 a --levels=2 out", "-n4 --levels=2"),
        ("a --no-labels --list out --codec lz4 b", "--no-labels --codec lz4"),
        ("-vq a -- -b out", "-vq"),
    ],
)
def test_options_are_told_from_what_is_converted(typed: str, options: str) -> None:
    assert words_of(cli.commands["convert"], typed.split(), without="--list") == options.split()
