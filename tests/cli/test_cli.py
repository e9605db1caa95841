"""The command line: most commands in this process, some as a user runs them, in a child."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from helpers import make_volume, shared_data, write_planes

import scout_dask_io
from scout_dask_io.cli import main
from scout_dask_io.jobs.convert import convert

ROOT = str(Path(scout_dask_io.__file__).parent.parent)
COMMAND = [sys.executable, "-m", "scout_dask_io"]
Run = Callable[..., tuple[str, str]]
#: What ``sys.argv`` of such a command begins with.
PROGRAM = str(Path(scout_dask_io.__file__).with_name("__main__.py"))
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")])),
    "COLUMNS": "100",
}


def run(*args: object, cwd: Path, code: int = 0) -> tuple[str, str]:
    """Run a command in this process, check its exit code, and give stdout and stderr."""
    words = [*map(str, args)]
    with pytest.MonkeyPatch.context() as patch, redirected() as (out, err):
        patch.chdir(cwd)
        patch.setenv("COLUMNS", ENVIRONMENT["COLUMNS"])
        patch.setattr(sys, "argv", [PROGRAM, *words])
        with pytest.raises(SystemExit) as ended:
            main()
    return checked((ended.value.code, out.getvalue(), err.getvalue()), code)


def run_child(*args: object, cwd: Path, code: int = 0) -> tuple[str, str]:
    """Run a command in a child process, check its exit code, and give stdout and stderr."""
    done = subprocess.run(
        [*COMMAND, *map(str, args)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return checked((done.returncode, done.stdout, done.stderr), code)


@contextmanager
def redirected() -> Iterator[tuple[StringIO, StringIO]]:
    """Take what is printed meanwhile."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        yield out, err


def checked(ended: tuple[object, str, str], code: int) -> tuple[str, str]:
    assert ended[0] == code, f"exit code {ended[0]}\n{ended[1]}\n{ended[2]}"
    # Nothing that only a terminal understands reaches a pipe.
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", ended[1] + ended[2])
    return ended[1:]


def fails(*args: object, cwd: Path, code: int = 1, run: Run = run) -> str:
    """Run a command that fails, and give its one paragraph on stderr."""
    out, err = run(*args, cwd=cwd, code=code)
    assert out == ""
    assert "Traceback" not in err
    assert err.count("error: ") == 1
    assert "\n\n" not in err.strip() or code == 2  # a usage line may stand above
    return err


def names(folder: Path) -> list[str]:
    """Give every name in a folder, hidden ones too."""
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def planes(tmp_path: Path) -> Path:
    """Give a folder of seven planes of 50 x 70."""
    write_planes(tmp_path / "planes", make_volume((7, 50, 70)))
    return tmp_path / "planes"


# -- convert ---------------------------------------------------------------------------------


def test_convert_writes_the_volume_and_says_what_and_how_to_check_it(planes: Path, tmp_path: Path):
    out, err = run_child("convert", "planes", "out.zarr", "--chunks", "4,16,32", cwd=tmp_path)
    array = zarr.open(tmp_path / "out.zarr", mode="r")
    assert (array.shape, array.chunks, array.dtype) == ((7, 50, 70), (4, 16, 32), np.dtype("u2"))
    np.testing.assert_array_equal(array[...], make_volume((7, 50, 70)))
    assert "Wrote out.zarr\n" in out
    assert "7 x 50 x 70, uint16, 49 kB" in out
    assert "24 chunks of 4 x 16 x 32" in out
    assert "scout_dask_io verify planes out.zarr" in out
    assert re.search(r"^write out.zarr 100 %, ", err)


def test_the_command_that_convert_names_can_be_typed_as_it_stands(planes: Path, tmp_path: Path):
    planes.rename(tmp_path / "it's planes")
    out, _ = run("convert", "it's planes", "out zarr", cwd=tmp_path)
    (line,) = [line for line in out.splitlines() if "verify" in line]
    words = shlex.split(line.removeprefix("  check it"))
    done = subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("codec", ["zstd", "lz4", "none"])
def test_convert_takes_the_codec(planes: Path, tmp_path: Path, codec: str):
    run("convert", "planes", "out.zarr", "--codec", codec, "-q", cwd=tmp_path)
    compressor = json.loads((tmp_path / "out.zarr" / ".zarray").read_text())["compressor"]
    assert (compressor or {"cname": "none"})["cname"] == codec


def test_convert_quietly_prints_nothing(planes: Path, tmp_path: Path):
    assert run("convert", "planes", "out.zarr", "-q", cwd=tmp_path) == ("", "")
    assert (tmp_path / "out.zarr").is_dir()


def test_convert_gives_its_report_as_json(planes: Path, tmp_path: Path):
    out, _ = run("convert", "planes", "out.zarr", "--json", cwd=tmp_path)
    report = json.loads(out)
    assert report["path"] == "out.zarr"
    assert report["shape"] == [7, 50, 70]
    assert report["chunks"] == [64, 64, 64]
    assert report["nbytes"] == 7 * 50 * 70 * 2
    assert report["n_chunks"] == 2
    assert 0 < report["stored_nbytes"] < 2 * report["nbytes"]


def test_convert_bounds_its_threads(planes: Path, tmp_path: Path):
    plan = ["convert", "planes", "out.zarr", "--dry-run", "--json", "--chunks", "4,16,32"]
    out, _ = run(*plan, "-n", 3, cwd=tmp_path)
    assert json.loads(out)["write"]["nb_workers"] == 3


def test_convert_sorts_planes_as_told_and_warns_in_one_line(tmp_path: Path):
    volume = make_volume((3, 20, 30))
    write_planes(tmp_path / "planes", volume, names=["z9.tif", "z10.tif", "z11.tif"])
    _, err = run("convert", "planes", "a.zarr", "-q", cwd=tmp_path)
    np.testing.assert_array_equal(zarr.open(tmp_path / "a.zarr")[...], volume[[1, 2, 0]])
    assert err.startswith("warning: ")
    assert err.count("\n") == 1
    assert "--order natural" in err
    out = run("convert", "planes", "n.zarr", "-q", "--order", "natural", cwd=tmp_path)
    np.testing.assert_array_equal(zarr.open(tmp_path / "n.zarr")[...], volume)
    assert out == ("", "")


def test_convert_replaces_an_array_only_when_told(planes: Path, tmp_path: Path):
    convert(planes, tmp_path / "out.zarr")
    err = fails("convert", "planes", "out.zarr", "--chunks", "8,8,8", cwd=tmp_path)
    assert "out.zarr already holds a Zarr array" in err
    assert "--overwrite" in err
    assert "overwrite=True" not in err
    assert zarr.open(tmp_path / "out.zarr").chunks == (64, 64, 64)
    run("convert", "planes", "out.zarr", "--chunks", "8,8,8", "--overwrite", "-q", cwd=tmp_path)
    assert zarr.open(tmp_path / "out.zarr").chunks == (8, 8, 8)
    assert names(tmp_path) == ["out.zarr", "planes"]


def test_convert_never_removes_what_is_not_zarr(planes: Path, tmp_path: Path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("keep")
    fails("convert", "planes", "notes", "--overwrite", cwd=tmp_path)
    assert (tmp_path / "notes" / "notes.txt").read_text() == "keep"


@pytest.mark.parametrize("dst", ["planes/out.zarr", "planes", "."])
def test_convert_refuses_paths_that_lie_in_one_another(planes: Path, tmp_path: Path, dst: str):
    before = names(planes)
    fails("convert", "planes", dst, "--overwrite", cwd=tmp_path, code=2)
    assert names(planes) == before
    assert names(tmp_path) == ["planes"]


def test_convert_creates_nothing_when_the_source_is_bad(planes: Path, tmp_path: Path):
    (planes / "z0003.tif").write_bytes(b"II*\0 not much of a TIFF")
    assert "z0003.tif" in fails("convert", "planes", "out.zarr", cwd=tmp_path)
    assert "missing" in fails("convert", "missing", "out.zarr", cwd=tmp_path, code=2)
    assert names(tmp_path) == ["planes"]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["convert", "planes"], "DST"),
        (["convert", "planes", "o", "--chunks", "64x64"], "'64x64' is not a chunk shape"),
        (["convert", "planes", "o", "--chunks", "0,64,64"], "'0,64,64' is not a chunk shape"),
        (["convert", "planes", "o", "-n", "0"], "--workers"),
        (["convert", "planes", "o", "--voxel-size", "4,2"], "'4,2' is not a voxel size"),
        (["convert", "planes", "o", "--voxel-size", "4,2,-1"], "'4,2,-1' is not a voxel size"),
        (["convert", "planes", "o", "--codec", "zip"], "'zip'"),
        (["convert", "planes", "o", "--max-mem", "much"], "'much'"),
        (["convert", "planes", "o", "--order", "random"], "'random'"),
        (["convrt"], "convert"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2_and_creates_nothing(
    planes: Path, tmp_path: Path, args: list[str], named: str
):
    assert named in fails(*args, cwd=tmp_path, code=2)
    assert names(tmp_path) == ["planes"]


def test_what_cannot_fit_in_memory_is_refused_with_the_numbers(planes: Path, tmp_path: Path):
    err = fails("convert", "planes", "out.zarr", "--max-mem", "10kB", cwd=tmp_path)
    assert "10 kB" in err
    assert "--max-mem" in err
    assert names(tmp_path) == ["planes"]


def test_a_voxel_size_can_be_given_over_what_is_stated(planes: Path, tmp_path: Path):
    (planes / "voxel_size.csv").write_text("4000,1800,1800\n")
    args = ["convert", "planes", "out.zarr"]
    out, _ = run(*args, "--dry-run", cwd=tmp_path)
    assert "4 x 1.8 x 1.8 micrometres (z, y, x), by " in out
    run(*args, "--voxel-size", "5,0.65,0.65", "-q", cwd=tmp_path)
    assert dict(zarr.open(tmp_path / "out.zarr", mode="r").attrs) == {
        "voxel_size_um": [5.0, 0.65, 0.65]
    }
    found = json.loads(run("info", "out.zarr", "--json", cwd=tmp_path)[0])["voxel_size"]
    assert (found["z"], found["y"], found["x"], found["unit"]) == (5.0, 0.65, 0.65, "micrometer")


def test_dry_run_prints_the_plan_and_creates_nothing(planes: Path, tmp_path: Path):
    args = ["convert", "planes", "deep/out.zarr", "--dry-run", "--chunks", "4,16,32"]
    out, err = run(*args, "--max-mem", "50MB", cwd=tmp_path)
    assert err == ""
    assert names(tmp_path) == ["planes"]
    assert "24 chunks of 4 x 16 x 32" in out
    assert "50 MB allowed" in out
    plan = json.loads(run(*args, "--json", "--max-mem", "50MB", cwd=tmp_path)[0])
    assert plan["n_files"] == 25
    assert plan["n_tasks"] == plan["write"]["n_units"] + 1
    assert plan["write"]["nbytes"] == 7 * 50 * 70 * 2
    assert plan["write"]["read_amplification"] == 1.0
    assert 0 < plan["write"]["projected_mem"] <= plan["write"]["max_mem"] == 50_000_000
    for text in (f"{plan['n_tasks']}: one a unit", "projected peak", "25 at most", "free"):
        assert text in out


def test_dry_run_refuses_what_convert_refuses(planes: Path, tmp_path: Path):
    convert(planes, tmp_path / "out.zarr")
    err = fails("convert", "planes", "out.zarr", "--dry-run", cwd=tmp_path)
    assert "--overwrite" in err
    out, _ = run("convert", "planes", "out.zarr", "--dry-run", "--overwrite", cwd=tmp_path)
    assert "replaces" in out


#: The command line, interrupted as by Ctrl-C once the first unit is in the journal.
INTERRUPTED = """
import os, signal, threading
from scout_dask_io.cli import main
from scout_dask_io.store import local_transaction as sinks
from scout_dask_io.write.attempt import Attempt

cancelled, real, cancel = threading.Event(), sinks.append_unit, Attempt.cancel

def told(attempt):
    cancel(attempt)
    cancelled.set()

def append_unit(*args, **kwargs):
    real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGINT)
    cancelled.wait(60)

Attempt.cancel, sinks.append_unit = told, append_unit
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


def test_an_interrupted_convert_says_how_to_go_on_and_goes_on(tmp_path: Path):
    volume = make_volume((20, 100, 120))
    write_planes(tmp_path / "planes", volume)
    args = [*COMMAND, "convert", "planes", "out.zarr", "--chunks", "4,16,16", "-n", "1"]
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *args[3:]], cwd=tmp_path, env=ENVIRONMENT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    out, err = child.communicate(timeout=120)
    assert child.returncode == 130
    assert out == ""
    said = re.search(r"error: interrupted\. (\d+) of (\d+) write units are finished and kept", err)
    assert said, err
    n_kept, n_units = map(int, said.groups())
    assert 0 < n_kept < n_units
    assert "--resume goes on" in err
    assert "out.zarr is as it was" in err
    assert "Traceback" not in err
    assert not (tmp_path / "out.zarr").exists()
    assert "--resume" in fails(*args[3:], cwd=tmp_path)
    out, err = run(*args[3:], "--resume", cwd=tmp_path)
    assert f"resumed, {n_kept} of {n_units} units were finished" in err
    assert f"{n_kept} of {n_units} write units were finished" in out
    again = json.loads(run(*args[3:], "--resume", "--json", "-q", cwd=tmp_path)[0])
    assert (again["n_resumed"], again["n_units"]) == (n_units, n_units)
    np.testing.assert_array_equal(zarr.open(tmp_path / "out.zarr")[...], volume)
    assert names(tmp_path) == ["out.zarr", "planes"]


@pytest.mark.cluster
def test_convert_and_verify_run_on_a_cluster(planes: Path, tmp_path: Path):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None,
        protocol="tcp", host="127.0.0.1",
    ) as cluster:  # fmt: skip
        at = ["--scheduler", cluster.scheduler_address]
        out, err = run("convert", planes, tmp_path / "out.zarr", *at, cwd=tmp_path)
        assert "Wrote" in out
        assert "write out.zarr 100 %" in err
        out, _ = run("verify", planes, tmp_path / "out.zarr", *at, cwd=tmp_path)
        assert "equal" in out
    np.testing.assert_array_equal(zarr.open(tmp_path / "out.zarr")[...], make_volume((7, 50, 70)))


def test_a_scheduler_that_is_not_there_is_one_paragraph(planes: Path, tmp_path: Path):
    args = ["convert", "planes", "out.zarr", "--scheduler"]
    # A client that finds no scheduler leaves what it began to run.
    at = "tcp://127.0.0.1:1"
    assert at in fails(*args, at, cwd=tmp_path, run=run_child)
    err = fails(*args, "nowhere", cwd=tmp_path, code=2)
    assert "'nowhere': missing port" in err
    assert names(tmp_path) == ["planes"]


# -- verify ----------------------------------------------------------------------------------


def test_verify_says_equal(planes: Path, tmp_path: Path):
    convert(planes, tmp_path / "out.zarr")
    out, _ = run("verify", "planes", "out.zarr", cwd=tmp_path)
    assert "equal" in out
    assert json.loads(run("verify", "planes", "out.zarr", "--json", cwd=tmp_path)[0])["equal"]
    assert run("verify", "planes", "out.zarr", "-q", cwd=tmp_path) == ("", "")


def test_verify_names_the_regions_that_differ_and_exits_with_1(planes: Path, tmp_path: Path):
    convert(planes, tmp_path / "out.zarr", chunks=(4, 16, 32))
    array = zarr.open(tmp_path / "out.zarr")
    array[5, 20, 40] = array[5, 20, 40] + 1
    for quiet in ([], ["-q"]):
        out, err = run("verify", "planes", "out.zarr", *quiet, cwd=tmp_path, code=1)
        assert "differ" in out
        assert re.search(r"5.*20.*40", out)
        assert "Traceback" not in err
    report = json.loads(run("verify", "planes", "out.zarr", "--json", cwd=tmp_path, code=1)[0])
    assert report["equal"] is False


# -- info ------------------------------------------------------------------------------------


def test_info_describes_planes_and_arrays(planes: Path, tmp_path: Path):
    convert(planes, tmp_path / "out.zarr", chunks=(4, 16, 32))
    for path in ("planes", "out.zarr"):
        out, err = run("info", path, cwd=tmp_path)
        assert "7 x 50 x 70" in out
        assert "uint16" in out
        assert err == ""
        found = json.loads(run("info", path, "--json", cwd=tmp_path)[0])
        assert found["shape"] == [7, 50, 70]
    assert "4 x 16 x 32" in out
    assert "missing" in fails("info", "missing", cwd=tmp_path, code=2)


# -- export ----------------------------------------------------------------------------------


def test_export_writes_a_folder_of_planes_or_one_file(planes: Path, tmp_path: Path):
    volume = make_volume((7, 50, 70))
    convert(planes, tmp_path / "out.zarr")
    out, _ = run("export", "out.zarr", "back", cwd=tmp_path)
    assert "Wrote back\n" in out
    assert "7 files" in out
    assert names(tmp_path / "back") == [f"z{z:04d}.tif" for z in range(7)]
    np.testing.assert_array_equal(tifffile.imread(sorted((tmp_path / "back").iterdir())), volume)
    run("export", "out.zarr", "back.tif", "--compress", 0, "-q", cwd=tmp_path)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "back.tif"), volume)
    assert "--overwrite" in fails("export", "out.zarr", "back.tif", cwd=tmp_path)
    report = json.loads(run("export", "out.zarr", "back.tif", "--overwrite", "--json",
                            cwd=tmp_path)[0])  # fmt: skip
    assert report["n_files"] == 1


# -- demo ------------------------------------------------------------------------------------


def test_demo_makes_converts_and_verifies_and_what_it_suggests_works(
    tmp_path: Path, small_demo: tuple[int, int, int]
):
    out, _ = run("demo", "my demo", cwd=tmp_path)
    assert names(tmp_path / "my demo") == ["organoid", "organoid.zarr"]
    assert zarr.open(tmp_path / "my demo" / "organoid.zarr").shape == (2, *small_demo)
    assert "equal" in out
    suggested = [line.strip() for line in out.split("Try next")[1].splitlines()[2::2]]
    assert len(suggested) >= 3
    for line in suggested:
        words = shlex.split(line)
        (python, *program), first = words[: len(COMMAND)], words[len(COMMAND)]
        # As it can be typed: by its name in an environment that is active, else by its path.
        assert Path(shutil.which(python) or "").parent == Path(sys.executable).parent
        assert (program, first.isalpha()) == (COMMAND[1:], True)
        run(*words[len(COMMAND) :], cwd=tmp_path)
    assert "not empty" in fails("demo", "my demo", cwd=tmp_path)


# -- the whole -------------------------------------------------------------------------------


def test_help_names_every_command_and_every_command_has_help(tmp_path: Path):
    out, _ = run_child("--help", cwd=tmp_path)
    assert "Usage: python -m scout_dask_io " in out
    for command in ("convert", "verify", "info", "scan", "repair", "export", "demo"):
        assert re.search(rf"^  {command} ", out, re.MULTILINE)
        detail, _ = run(command, "--help", cwd=tmp_path)
        assert re.match(rf"Usage: .+ {command} ", detail)
        assert f"    scout-dask-io {command}" in detail.split("For example:")[1]


def test_the_list_of_commands_cuts_no_sentence_off_in_eighty_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(ENVIRONMENT, "COLUMNS", "80")
    out, _ = run("--help", cwd=tmp_path)
    listed = out.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    assert len(listed) >= 9
    for line in listed:
        assert re.fullmatch(r"  [a-z]+ +[A-Z].*[^.]\.", line), line
        assert len(line) <= 80


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_options_and_paths(tmp_path: Path, shell: str):
    program = Path(sys.executable).with_name("scout-dask-io")
    if not program.exists():
        pytest.skip("the command is not installed beside this Python")

    def ask(what: str, words: str = "", at: str = "0") -> str:
        env = {**ENVIRONMENT, "_SCOUT_DASK_IO_COMPLETE": f"{shell}_{what}"}
        env |= {"COMP_WORDS": words, "COMP_CWORD": at}
        return subprocess.run(
            [program], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        ).stdout

    assert "scout-dask-io" in ask("source")
    last = {"fish": ("exp", "--ax", "vol")}.get(shell, ("1", "2", "2"))
    assert "export" in ask("complete", "scout-dask-io exp", last[0])
    assert "--axis" in ask("complete", "scout-dask-io export --ax", last[1])
    # The shell itself then lists what lies there.
    assert "file" in ask("complete", "scout-dask-io export vol", last[2])


def test_version_is_the_package_s(tmp_path: Path):
    out, _ = run_child("--version", cwd=tmp_path)
    assert out == f"scout-dask-io {scout_dask_io.__version__}\n"


def test_help_loads_no_heavy_library(tmp_path: Path):
    code = (
        "import sys\n"
        "from scout_dask_io.cli import main\n"
        "try: main(['convert', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('dask', 'numpy', 'zarr', 'tifffile', 'tqdm') if m in sys.modules],"
        " file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("where", ["before", "after"])
def test_debug_shows_the_traceback(tmp_path: Path, where: str):
    args = ["info", "missing"]
    args = ["--debug", *args] if where == "before" else [*args, "--debug"]
    _, err = run(*args, cwd=tmp_path, code=2)
    assert "Traceback" in err
    assert err.rstrip().splitlines()[-1].startswith("error: ")


def test_an_unexpected_error_is_named_in_one_paragraph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*args: object, **options: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("scout_dask_io.jobs.info.info", fail)
    _, err = run("info", "x", cwd=tmp_path, code=1)
    assert re.fullmatch(r"error: unexpected ZeroDivisionError: by nought .*--debug.*\n", err)


def test_a_path_with_the_names_of_parameters_is_printed_as_it_is(planes: Path, tmp_path: Path):
    folder = tmp_path / "max_mem" / "order=natural overwrite=True"
    folder.mkdir(parents=True)
    planes.rename(folder / "nb_workers")
    run("convert", folder / "nb_workers", folder / "n_levels.zarr", "-q", cwd=Path("/"))
    out, _ = run("info", folder / "n_levels.zarr", cwd=Path("/"))
    assert out.startswith(f"{folder}/n_levels.zarr: Zarr array\n")
    err = fails("convert", folder / "nb_workers", folder / "n_levels.zarr", cwd=Path("/"))
    assert f"error: {folder}/n_levels.zarr already holds a Zarr array." in err
    assert "or give --overwrite to replace it" in err
    err = fails("verify", folder / "nb_workers", cwd=Path("/"), code=2)
    assert f"error: {folder}/nb_workers is a folder of planes" in err


@pytest.mark.posix  # a terminal is made of two ends, as POSIX has them
@pytest.mark.parametrize("size", [(40, 100), (0, 0)], ids=["sized", "without a size"])
@pytest.mark.usefixtures("planes")
def test_on_a_terminal_there_is_a_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
):
    import fcntl
    import pty
    import termios

    monkeypatch.chdir(tmp_path)
    # Started by tqdm's lock on Python 3.14, it would keep the terminal open as its stderr.
    resource_tracker.ensure_running()
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    shown = bytearray()

    def read() -> None:
        try:
            while piece := os.read(leader, 4096):
                shown.extend(piece)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        with (
            os.fdopen(follower, "w") as terminal,
            redirect_stdout(StringIO()),
            redirect_stderr(terminal),
            pytest.raises(SystemExit) as ended,
        ):
            main(["convert", "planes", "out.zarr"])
    finally:
        reader.join(timeout=30)
        os.close(leader)
    assert not ended.value.code
    assert re.search(r"write out.zarr 100% \|.*\| \d+/\d+, 49 kB", shown.decode())


# -- real data -------------------------------------------------------------------------------


def test_a_real_channel_converts_and_verifies(tmp_path: Path):
    src = shared_data("brain", "ch0")
    run("convert", src, "ch0.zarr", cwd=tmp_path)
    out, _ = run("verify", src, "ch0.zarr", cwd=tmp_path)
    assert "equal" in out
    array = zarr.open(tmp_path / "ch0.zarr", mode="r")
    assert (array.shape, array.chunks, array.dtype) == (
        (30, 510, 667),
        (64, 64, 64),
        np.dtype("u2"),
    )
    np.testing.assert_array_equal(array[...], tifffile.imread(sorted(src.glob("*.tif"))))


def test_a_real_dataset_keeps_its_channels(tmp_path: Path):
    run("convert", shared_data("brain"), "brain.zarr", "-q", cwd=tmp_path)
    array = zarr.open(tmp_path / "brain.zarr", mode="r")
    assert (array.shape, array.chunks) == ((2, 30, 510, 667), (1, 64, 64, 64))
    assert array.attrs["channels"] == ["ch0", "ch1"]
    planes = sorted(shared_data("brain", "ch1").glob("*.tif"))
    np.testing.assert_array_equal(array[1], tifffile.imread(planes))


def test_a_real_array_of_the_original_software_converts(tmp_path: Path):
    src = shutil.copytree(shared_data("legacy_scout.zarr"), tmp_path / "legacy.zarr")
    run("convert", src, "new.zarr", "-q", cwd=tmp_path)
    run("verify", shared_data("brain", "ch0"), "new.zarr", "-q", cwd=tmp_path)


def test_convert_qc_names_what_stands_out_and_where_the_sheet_is(planes: Path, tmp_path: Path):
    volume = make_volume((7, 50, 70))
    volume[3] = 5
    write_planes(planes, volume)
    out, _ = run("convert", "planes", "a.zarr", "--qc", cwd=tmp_path)
    lines = [line.strip() for line in out.splitlines()]
    assert "planes    1 plane is blank, every pixel is 5: z=3." in lines
    assert "sheet     a.zarr.qc.html" in lines
    assert names(tmp_path) == ["a.zarr", "a.zarr.qc.html", "a.zarr.qc.json", "planes"]
    out, _ = run("convert", "planes", "b.zarr", "--qc", "--json", "-q", cwd=tmp_path)
    found = json.loads(out)["qc"]
    assert found["findings"] == ["1 plane is blank, every pixel is 5: z=3."]
    assert found["sheet"] == str(tmp_path / "b.zarr.qc.html")
    err = fails("convert", "planes", "s3://nowhere", "--qc", cwd=tmp_path, code=2)
    assert "s3://nowhere is a whole bucket" in err
