"""What somebody meets on a first day: names, sizes and places that are not what was meant."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_volume, write_channels

import scout_dask_io as io
from scout_dask_io.cli import cli
from scout_dask_io.cli import main as command_line
from scout_dask_io.errors import ArgumentError, ClusterError
from scout_dask_io.jobs.convert import plan_convert
from scout_dask_io.run.cluster import connect
from scout_dask_io.run.memory import parse_nbytes, resolve_max_mem

VOLUME = make_volume((2, 5, 30, 40))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the working directory: two channels, the same as an array, an empty folder."""
    monkeypatch.chdir(tmp_path)
    write_channels(tmp_path / "brain", VOLUME, names=["ch0", "ch1"])
    io.write_zarr(tmp_path / "a.zarr", VOLUME[0], 16)
    return tmp_path


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Give what runs a command line: its exit code, stdout and stderr."""

    def run(line: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            command_line(line.split())
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("line", "named", "then"),
    [
        ("convert brain x.tif", "x.zarr", "convert brain x.zarr"),
        ("convert brain deep/x.TIFF --ome", "deep/x.zarr", "convert brain deep/x.zarr --ome"),
        ("convert brain x.ims --dry-run", "x.zarr", "convert brain x.zarr --dry-run"),
        ("convert brain/ch0 ch0.png/", "ch0.zarr", "convert brain/ch0 ch0.zarr"),
        ("pyramid a.zarr a.tif --levels 2", "a.zarr", "pyramid a.zarr b.zarr --levels 2"),
        ("export a.zarr out.png", "out.tif", "export a.zarr out.tif"),
        ("export a.zarr out.Zarr", "or out for a folder", "export a.zarr out"),
        ("export a.zarr out.h5", "out.tif", "export a.zarr out.tif"),
        ("preview brain x.zarr", ".png", "preview brain x.png"),
    ],
)
def test_the_name_of_another_format_is_refused_and_the_way_out_works(
    here: Path, run: Callable[..., tuple[int, str, str]], line: str, named: str, then: str
):
    before = sorted(here.rglob("*"))
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert named in err
    assert sorted(here.rglob("*")) == before
    assert run(then)[0] == 0


@pytest.mark.parametrize("name", ["x.zarr", "x", "x.v2", "12.5um", ".hidden", "x.tif.zarr", "a.n5"])
def test_other_names_are_taken_as_they_are(here: Path, name: str):
    assert plan_convert("brain", name).destination == name


def test_an_array_that_stands_under_such_a_name_is_still_replaced_and_resumed(here: Path):
    (here / "a.zarr").rename("old.tif")
    io.convert("brain/ch1", "old.tif", overwrite=True)
    np.testing.assert_array_equal(io.read_zarr("old.tif").compute(), VOLUME[1])
    assert io.convert("brain/ch1", "old.tif", resume=True).n_resumed == 1


def test_a_tiff_is_not_saved_under_the_name_of_a_picture(here: Path):
    with pytest.raises(ArgumentError, match=r"x\.tif"):
        io.imsave("x.jpg", VOLUME[0])
    io.imsave("x", VOLUME[0])  # as scout.io did


def test_an_array_named_as_an_image_is_told_of(run: Callable[..., tuple[int, str, str]]):
    code, _, err = run("convert brain x.ome.zarr -q")
    assert code == 0
    assert "warning: x.ome.zarr is named as an OME-Zarr image" in err
    assert "--ome " in err
    assert run("convert brain y.ome.zarr --ome -q")[2] == ""


@pytest.mark.parametrize("value", ["2", " 16 ", "2.5", "0512", "99999"])
def test_a_size_without_its_unit_is_asked_for_one(value: str):
    with pytest.raises(ArgumentError, match=rf"give one, such as {value.strip()}GB"):
        resolve_max_mem(value)
    assert parse_nbytes(f"{value.strip()}GB") == float(value) * 1e9


def test_sizes_in_bytes_are_still_taken():
    assert [resolve_max_mem(v) for v in ("2000000", "10kB", "512 B", 2)] == [2000000, 10000, 512, 2]


@pytest.mark.parametrize("name", ["out", "ch2"])
def test_an_array_among_the_channels_is_told_of_and_taken_for_none(
    run: Callable[..., tuple[int, str, str]], name: str
):
    code, _, err = run(f"convert brain/ch0 brain/{name} -q")
    assert code == 0
    assert f"name it {name}.zarr" in err
    assert io.channel_names("brain") == ["ch0", "ch1"]
    np.testing.assert_array_equal(io.imread_channels("brain").compute(), VOLUME)
    np.testing.assert_array_equal(io.imread_dataset("brain").compute(), VOLUME)
    report = json.loads(run("scan brain --json")[1])
    assert [Path(f["path"]).name for f in report["folders"]] == ["ch0", "ch1"]
    assert run("convert brain whole.zarr -q")[2] == ""


def test_a_destination_beside_a_folder_that_is_no_channel_is_not_told_of(
    run: Callable[..., tuple[int, str, str]],
):
    assert run("convert brain/ch0 brain/ch0.zarr -q")[2] == ""
    assert run("convert brain out -q")[2] == ""


@pytest.mark.parametrize(
    "line",
    [
        *(f"{name} nope" for name in ("info", "scan", "verify", "repair")),
        *(f"{name} nope out" for name in ("convert", "pyramid", "export")),
        "preview nope out.png", "verify a.zarr nope", "verify nope a.zarr", "export a.zarr nope/x",
    ],
)  # fmt: skip
def test_a_path_that_is_not_there_has_one_exit_code(
    run: Callable[..., tuple[int, str, str]], line: str
):
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert "nope" in err


@pytest.mark.parametrize(
    "line", ["convert brain o.zarr", "pyramid a.zarr o.zarr", "export a.zarr o"]
)
def test_ctrl_c_names_resume_before_anything_is_kept_too(
    run: Callable[..., tuple[int, str, str]], line: str, monkeypatch: pytest.MonkeyPatch
):
    name = line.split()[0]
    job = __import__(f"scout_dask_io.jobs.{name}", fromlist=["x"])

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, f"plan_{name}", interrupted)
        code, out, err = run(line)
    assert (code, out) == (130, "")
    assert "with --resume" in err
    assert run(f"{line} --resume --levels 2" if name == "pyramid" else f"{line} --resume")[0] == 0


@pytest.fixture
def other_server() -> Iterator[str]:
    """Give the address of a server that is no scheduler: it answers as web servers do."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            try:
                while True:
                    with server.accept()[0] as peer:
                        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            except OSError:
                return

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_an_address_without_a_scheduler_is_an_error_of_ours(other_server: str):
    with pytest.raises(ClusterError, match=r"no scheduler answers at tcp://127\.0\.0\.1:1"):
        connect("tcp://127.0.0.1:1")
    with pytest.raises(ClusterError, match="is no dask scheduler"):
        connect(other_server)
    with pytest.raises(ValueError, match="missing port"):
        connect("nowhere")


def test_commands_that_the_reference_lists_are_all(here: Path):
    listed = (Path(__file__).parents[2] / "docs/reference/commands.md").read_text()
    assert all(f"`scout-dask-io {name} " in listed for name in cli.commands)


@pytest.mark.parametrize("name", ["write_zarr", "write_ome_zarr", "plan_zarr", "plan_ome_zarr",
                                  "convert", "pyramid", "imsave"])  # fmt: skip
def test_an_editor_knows_what_data_and_codec_may_be(name: str):
    hints = {k: v for k, v in getattr(io, name).__annotations__.items() if k in ("data", "codec")}
    assert hints
    assert "Any" not in hints.values()
