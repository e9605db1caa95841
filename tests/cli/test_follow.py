"""``convert --follow`` on the command line, of folders in which all planes are there already."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from helpers import make_volume, write_channels, write_planes

from scout_dask_io.cli import cli
from scout_dask_io.cli import options as opt

VOLUME = make_volume((9, 40, 50))
QUICK = ("--settle", "0", "--poll", "0.01s")


def run(*args: object, code: int = 0):
    done = CliRunner().invoke(cli, [str(a) for a in args])
    assert done.exit_code == code, done.output + done.stderr + str(done.exception)
    return done


def test_a_folder_is_followed_and_the_report_says_how_it_went(tmp_path):
    write_planes(tmp_path / "planes", VOLUME)
    dst = tmp_path / "a.zarr"
    done = run("convert", tmp_path / "planes", dst, "--follow", "--planes", 9, *QUICK)
    assert np.array_equal(zarr.open_array(str(dst), mode="r")[...], VOLUME)
    assert "9 planes" in done.stdout
    assert "behind the last plane" in done.stdout
    assert "check it" in done.stdout
    assert "9 of 9 planes have come, 9 are converted" in done.stderr


def test_channels_are_counted_by_axis_and_json_has_all_figures(tmp_path):
    volume = make_volume((2, 5, 40, 50))
    write_channels(tmp_path / "brain", volume)
    dst = tmp_path / "a.zarr"
    done = run(
        "convert", tmp_path / "brain", dst, "--follow", "--planes", "c=2,z=5", "--json", *QUICK
    )
    found = json.loads(done.stdout)
    assert (found["n_planes"], found["n_again"]) == (10, 0)
    assert found["convert"]["shape"] == [2, 5, 40, 50]
    assert np.array_equal(zarr.open_array(str(dst), mode="r")[...], volume)


def test_a_file_says_that_no_plane_is_to_come(tmp_path):
    write_planes(tmp_path / "planes", VOLUME)
    (tmp_path / "done").touch()
    dst = tmp_path / "a.zarr"
    run("convert", tmp_path / "planes", dst, "--follow", "--until", tmp_path / "done", *QUICK)
    assert np.array_equal(zarr.open_array(str(dst), mode="r")[...], VOLUME)


def test_giving_up_names_the_options_that_go_on(tmp_path):
    write_planes(tmp_path / "planes", VOLUME[:4])
    args = ("convert", tmp_path / "planes", tmp_path / "a.zarr", "--follow", "--planes", 9)
    done = CliRunner().invoke(cli, [*map(str, args), *QUICK, "--idle", "0.05"])
    text = str(done.exception)
    assert "4 of 9 planes are whole" in text
    assert "resume=True goes on" in text  # an Option, which `main` shows as --resume


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--follow"], "--follow needs --planes"),
        (["--planes", "9"], "go with --follow"),
        (["--marker", ".done"], "go with --follow"),
        (["--until", "done"], "go with --follow"),
        (["--follow", "--planes", "9", "--until", "done"], "--follow needs --planes"),
        (["--follow", "--planes", "x"], "counts no planes"),
        (["--follow", "--planes", "z=3,z=4"], "counts no planes"),
        (["--follow", "--planes", "9", "--dry-run"], "--follow goes with none of"),
        (["--follow", "--planes", "9", "--scheduler", "tcp://a:1"], "--follow goes with none of"),
        (["--follow", "--planes", "9", "--idle", "soon"], "is no time"),
        (["--follow", "--planes", "9", "--idle", "3mm"], "is no time"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_is_made(tmp_path, args, told):
    done = run("convert", tmp_path / "planes", tmp_path / "a.zarr", *args, code=2)
    assert told in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("2", 2), ("0.5s", 0.5), ("30m", 1800), ("2h", 7200), (" 1 s", 1)]
)
def test_times_have_units(text, seconds):
    assert opt._seconds(None, None, text) == seconds
