"""Settings of ``dask.config``, and what is logged."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr
from helpers import make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.cli import main

DATA = make_volume((9, 50, 60))


def test_memory_and_threads_are_what_is_configured_where_none_are_given() -> None:
    with dask.config.set({"scout-dask-io.max_mem": "300MB", "scout-dask-io.nb_workers": 3}):
        plan = io.plan_zarr(DATA, 16)
        assert (plan.max_mem, plan.nb_workers) == (300_000_000, 3)
        plan = io.plan_zarr(DATA, 16, max_mem="500MB", nb_workers=1)
        assert (plan.max_mem, plan.nb_workers) == (500_000_000, 1)


def test_a_setting_of_the_environment_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"DASK_SCOUT_DASK_IO__MAX_MEM": "400MB", "DASK_SCOUT_DASK_IO__NB_WORKERS": "2"}
    with dask.config.set(dask.config.collect_env(env)):
        plan = io.plan_zarr(DATA, 16)
    assert (plan.max_mem, plan.nb_workers) == (400_000_000, 2)


def test_chunks_and_codec_are_what_is_configured_where_none_are_given(tmp_path: Path) -> None:
    env = {"DASK_SCOUT_DASK_IO__CHUNKS": "4,32,32", "DASK_SCOUT_DASK_IO__CODEC": "lz4"}
    with dask.config.set(dask.config.collect_env(env)):
        array = io.write_zarr(tmp_path / "a.zarr", DATA)
        given = io.write_zarr(tmp_path / "b.zarr", DATA, (64, 64, 64), codec="zstd")
        write_planes(tmp_path / "planes", DATA)
        io.convert(tmp_path / "planes", tmp_path / "c.zarr")
        image = io.write_ome_zarr(tmp_path / "d.zarr", DATA, axes="zyx", levels=2)
        with pytest.raises(SystemExit):
            main(["convert", str(tmp_path / "planes"), str(tmp_path / "e.zarr"), "--codec=zstd"])
    assert (array.chunks, codec_of(array)) == ((4, 32, 32), "lz4")
    assert (given.chunks, codec_of(given)) == ((64, 64, 64), "zstd")
    found = [zarr.open_array(tmp_path / name) for name in ("c.zarr", "e.zarr")]
    assert [(a.chunks, codec_of(a)) for a in found] == [((4, 32, 32), "lz4"), ((4, 32, 32), "zstd")]
    assert [codec_of(image[n]) for n in "01"] == ["lz4", "lz4"]
    with dask.config.set({"scout-dask-io.codec": ["none", "zstd"]}):
        image = io.write_ome_zarr(tmp_path / "f.zarr", DATA, axes="zyx", levels=2)
        grown = io.write_zarr(tmp_path / "a.zarr", DATA, append="z")
    assert [codec_of(image[n]) for n in "01"] == [None, "zstd"]
    assert (grown.shape, codec_of(grown)) == ((18, 50, 60), "lz4")


def codec_of(array: Any) -> str | None:
    codec = array.metadata.compressor
    return None if codec is None else str(codec.cname)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_mem", "much"), ("nb_workers", 0), ("nb_workers", "two"), ("chunks", "wide"),
        ("chunks", 0), ("codec", "zip"), ("codec", 3),
    ],
)  # fmt: skip
def test_a_setting_that_makes_no_sense_is_an_error(name: str, value: object) -> None:
    with (
        dask.config.set({f"scout-dask-io.{name}": value}),
        pytest.raises(io.ArgumentError, match=str(value)),
    ):
        io.plan_zarr(DATA)


def test_a_write_says_what_it_does_to_whoever_listens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "scout_dask_io"):
        io.write_zarr(tmp_path / "a.zarr", DATA, 16)
    lines = [r.getMessage() for r in caplog.records]
    assert any("a.zarr: (9, 50, 60) of uint16 in chunks of (16, 16, 16)" in t for t in lines)
    assert any(t.startswith("unit 0") for t in lines)
    assert "published after" in lines[-1]
    assert {r.name.partition(".")[0] for r in caplog.records} == {"scout_dask_io"}


def test_nothing_is_printed_where_nobody_listens(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    io.write_zarr(tmp_path / "a.zarr", DATA, 16)
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("scout_dask_io").handlers


@pytest.mark.parametrize("args", [["-v", "convert"], ["convert", "-v"], ["convert", "-vv"]])
def test_the_command_line_logs_to_stderr_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    write_planes(tmp_path / "planes", DATA)
    with pytest.raises(SystemExit) as ended:
        main([*args, str(tmp_path / "planes"), str(tmp_path / "a.zarr"), "--json"])
    out, err = capsys.readouterr()
    assert ended.value.code == 0
    assert out.startswith("{")
    assert "read as folder, (9, 50, 60) of uint16" in err
    assert "published after" in err
    assert ("unit 0" in err) == ("-vv" in args)
    assert not logging.getLogger("scout_dask_io").handlers
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "a.zarr"), DATA)
