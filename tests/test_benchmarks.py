"""The benchmark harness measures what it says, and notices wrong data."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(
    not (ROOT / "benchmarks").is_dir(), reason="benchmarks are part of the checkout only"
)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def run_benchmarks(tmp_path: Path, *args: str, expect: int = 0) -> tuple[dict[str, Any], str]:
    """Run the one command at the small size and give its record and its table."""
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "benchmarks", "--size", "small", "--repeat", "1"),
            *("--dir", str(tmp_path), "--results", str(tmp_path / "results"), *args),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    (record,) = (tmp_path / "results").glob("*.json")
    return json.loads(record.read_text()), record.with_suffix(".md").read_text()


def job_of(tmp_path: Path, kind: str = "convert", **changes: Any) -> Any:
    """Make planes that fill no chunk, and the job of converting them."""
    data = importlib.import_module("benchmarks.data")
    layouts = importlib.import_module("benchmarks.layouts")
    job = importlib.import_module("benchmarks.job")
    layout = layouts.Planes(5, 20, 33, **changes)
    return job.Job(
        case="test",
        kind=kind,
        shape=layout.shape,
        chunks=(4, 16, 8),
        codec=dict(layouts.CODEC),
        n_workers=2,
        planes=str(data.make_planes(tmp_path / "data", layout)),
        stored="",
        out=str(tmp_path / "out.zarr"),
        compression=layout.compression,
    )


def contender(name: str) -> Any:
    """Give a contender by its name."""
    registry = importlib.import_module("benchmarks.contenders").CONTENDERS
    return next(c for c in registry if c.name == name)


@pytest.mark.parametrize(
    "more", [(), pytest.param(("scout", "zarr-python", "dask-image"), marks=pytest.mark.slow)]
)
def test_ours_and_peers_give_the_planes_bit_for_bit(tmp_path: Path, more: tuple[str, ...]) -> None:
    names = ("ours", "scout-zarr2", *more)
    record, table = run_benchmarks(tmp_path, "--case", "convert-deflate", "--contender", *names)
    runs = {run["contender"]: run for run in record["convert-deflate"]["runs"]}
    assert set(runs) == set(names)
    here = {"ours", "scout", "zarr-python"} & set(names)
    assert {runs[n]["check"] for n in here} == {"equal"}
    # Two slabs of 4 x 5 chunks and at least the array's own metadata.
    assert all(runs[n]["n_files"] > 40 for n in here)
    assert all(runs[n]["cpu_s"] > 0 and runs[n]["peak_nbytes"] > 1e7 for n in here)
    # What cannot run is in the record and in the table, with the reason.
    assert runs["scout-zarr2"]["status"] == "absent"
    assert "`scout-zarr2`: absent: needs an interpreter of its own" in table
    if more:
        has_peer = importlib.util.find_spec("dask_image") is not None
        assert runs["dask-image"]["status"] == ("ok" if has_peer else "absent")
    # Nothing stays behind but the results.
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


@pytest.mark.slow
def test_every_case_runs_at_the_small_size_and_is_right(tmp_path: Path) -> None:
    record, _ = run_benchmarks(tmp_path, "--contender", "ours", "floor", "tensorstore")
    layouts = importlib.import_module("benchmarks.layouts")
    assert set(record) == {case.name for case in layouts.all_cases(layouts.SIZES["small"])}
    for case in record.values():
        ours = next(run for run in case["runs"] if run["contender"] == "ours")
        assert (ours["status"], ours["check"]) == ("ok", "equal")
        assert not [r for r in case["runs"] if r["status"] == "failed" or "WRONG" in r["check"]]


@pytest.mark.slow
@pytest.mark.cluster
def test_the_cluster_benchmark_says_how_conversions_scale(tmp_path: Path) -> None:
    command = ("-m", "benchmarks.cluster", "scaling", "--repeat", "1", "--dir", str(tmp_path))
    done = subprocess.run(
        [sys.executable, *command, "--shape", "70", "130", "150"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for kind in ("of a cluster", "plain"):
        assert f"two processes {kind} are" in done.stdout
        assert f"1 {kind}: " in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_functions_take_turns_whose_order_turns() -> None:
    by_turns = importlib.import_module("benchmarks.cluster").by_turns
    called: list[str] = []

    def run(name: str) -> float:
        called.append(name)
        return float(len(called))

    found = by_turns(3, {"a": lambda: run("a"), "b": lambda: run("b")})
    assert "".join(called) == "baabbaab"
    # The first round is a warm-up.
    assert found == {"a": [3.0, 6.0, 7.0], "b": [4.0, 5.0, 8.0]}


def test_described_planes_are_those_of_a_folder_of_such_files(tmp_path: Path) -> None:
    described = importlib.import_module("benchmarks.described").described_planes((5, 20, 33))
    for z in range(5):
        tifffile.imwrite(tmp_path / f"{z}.tif", np.full((20, 33), z, "u2"), metadata=None)
    real = importlib.import_module("scout_dask_io.read.tiff").imread_folder(tmp_path)
    assert (described.shape, described.dtype) == (real.shape, real.dtype)
    found = importlib.import_module("scout_dask_io.run.lazy").source_of(real)
    assert described.read_shape == found.read_shape
    assert described.default_chunks == found.default_chunks


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate"])
def test_a_single_wrong_voxel_is_reported(tmp_path: Path, compression: str) -> None:
    job = job_of(tmp_path, compression=compression, rows_per_strip=7)
    check = importlib.import_module("benchmarks.check").check_result
    array = importlib.import_module("benchmarks.contenders.common").new_v2_array(job)
    array[:] = np.stack([tifffile.imread(path) for path in job.paths])
    assert check(job, contender("scout"), None, stored_sum=None) == "equal"
    array[4, 19, 32] += 1
    found = check(job, contender("scout"), None, stored_sum=None)
    assert found.startswith("WRONG: planes 4 to 5")
    assert "differ in 1 voxels" in found


def test_output_in_other_chunks_is_reported(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    check = importlib.import_module("benchmarks.check").check_result
    other = dataclasses.replace(job, chunks=(4, 16, 16))
    importlib.import_module("benchmarks.contenders.common").new_v2_array(other)
    found = check(job, contender("scout"), None, stored_sum=None)
    assert found == "WRONG: chunks are (4, 16, 16), asked for were (4, 16, 8)"


def test_planes_are_seeded_distinct_and_noisy() -> None:
    camera_plane = importlib.import_module("benchmarks.data").camera_plane
    planes = [camera_plane(z, (6, 90, 130)) for z in range(6)]
    assert all(p.shape == (90, 130) and p.dtype == np.uint16 for p in planes)
    assert len({p.tobytes() for p in planes}) == 6
    np.testing.assert_array_equal(planes[3], camera_plane(3, (6, 90, 130)))
    # Neighbours differ in nearly every voxel, as those of a camera do.
    assert (planes[2] != planes[3]).mean() > 0.9


def test_the_stored_array_holds_the_planes(tmp_path: Path) -> None:
    data = importlib.import_module("benchmarks.data")
    layout = importlib.import_module("benchmarks.layouts").Planes(70, 90, 65)
    path, total = data.make_stored(tmp_path, layout)
    found = zarr.open_array(path, mode="r")[:]
    np.testing.assert_array_equal(
        found, np.stack([data.camera_plane(z, layout.shape) for z in range(70)])
    )
    assert total == found.sum(dtype=np.uint64)


def test_sparse_planes_have_true_headers_and_take_no_space(tmp_path: Path) -> None:
    data = importlib.import_module("benchmarks.data")
    layout = importlib.import_module("benchmarks.layouts").Planes(3, 2048, 1024, sparse=True)
    folder = data.make_planes(tmp_path, layout)
    paths = sorted(folder.glob("*.tif"))
    assert len(paths) == 3
    for path in paths[1:]:
        assert tifffile.imread(path).shape == (2048, 1024)
        assert path.stat().st_blocks * 512 < 100_000 < path.stat().st_size


def test_boxes_are_inside_and_the_same_for_every_contender(tmp_path: Path) -> None:
    job = dataclasses.replace(job_of(tmp_path), box=(4, 64, 5), n_boxes=50)
    assert job.boxes == type(job).load(job.dump()).boxes
    assert len({str(box) for box in job.boxes}) > 10
    for box in job.boxes:
        assert [s.stop - s.start for s in box] == [4, 20, 5]
        assert all(s.start >= 0 and s.stop <= n for s, n in zip(box, job.shape, strict=True))


@pytest.mark.parametrize("waited_for", [True, False])
def test_cpu_of_child_processes_is_counted(waited_for: bool) -> None:
    cpu_s = importlib.import_module("benchmarks.meter").cpu_s
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    before = cpu_s()
    with subprocess.Popen(
        [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        if waited_for:
            child.communicate(b"\n")
        used = cpu_s() - before
        if not waited_for:
            child.communicate(b"\n")
    # A tick of the clock of living processes is 10 ms.
    assert used > 0.25


def test_every_contender_can_do_the_kinds_it_claims() -> None:
    registry = importlib.import_module("benchmarks.contenders")
    layouts = importlib.import_module("benchmarks.layouts")
    cases = layouts.all_cases(layouts.SIZES["full"])
    for one in registry.CONTENDERS:
        module = importlib.import_module(f"benchmarks.contenders.{one.module}")
        for kind in one.kinds:
            assert callable(getattr(module, registry.function_name(kind))), (one.name, kind)
        assert set(one.only) <= {case.name for case in cases}
        assert set(one.kinds) <= {case.kind for case in cases}


def test_a_contender_that_would_fill_the_memory_is_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = importlib.import_module("benchmarks.runner")
    layouts = importlib.import_module("benchmarks.layouts")
    monkeypatch.setattr(runner, "available_nbytes", lambda: 1_000_000)
    (case,) = (c for c in layouts.all_cases(layouts.SIZES["small"]) if c.name == "convert-raw")
    settings = runner.Settings(tmp_path, n_repeats=3)
    runs = list(runner.run_case(case, [contender("dask-image")], settings))
    assert [run.status for run in runs] == ["left out"]
    assert "would hold about 0.0 GB" in runs[0].why


def test_a_target_compares_medians_with_the_best_peer() -> None:
    summary = importlib.import_module("benchmarks.summary")

    def run(name: str, wall_s: float, peak: float) -> dict[str, Any]:
        return {
            "contender": name,
            "status": "ok",
            "wall_s": wall_s,
            "cpu_s": 2 * wall_s,
            "peak_nbytes": peak,
            "out_nbytes": 10,
            "n_files": 1,
            "check": "",
        }

    runs = [run("ours", w, 3e8) for w in (1.0, 9.0, 2.0)]
    runs += [run("scout", 5.0, 9e8), run("aszarr", 4.0, 2e9), run("floor", 0.5, 1.0)]
    runs.append({"contender": "zarrs", "status": "absent"})
    rows = summary.summarize(runs, voxels=100)
    assert list(rows) == ["ours", "scout", "aszarr", "floor"]
    assert rows["ours"].wall_s == summary.Spread(2.0, 1.0, 9.0)
    found = {
        (t.figure, t.against, t.ours): (value, bar)
        for t, value, bar in summary.verdicts({"convert-raw": rows})
    }
    assert found["wall_s", "*", "ours"] == (2.0, 4.0)
    assert found["peak_nbytes", "*", "ours"] == (3e8, 9e8 / 4)
    assert found["peak_nbytes", "", "ours"] == (3e8, 350e6)
    assert found["cpu_s", "floor", "ours"] == (4.0, 1.7)
    assert found["cpu_s", "scout", "ours"][1] == pytest.approx(10 / 1.7)
    assert not [key for key in found if key[2] == "ours-lz4"]


@pytest.mark.slow
def test_exports_are_measured_by_turns_and_checked(tmp_path: Path) -> None:
    shape = ("--shape", "5", "256", "512", "--repeat", "1", "--dir", str(tmp_path))
    cases = [f"export-{kind}" for kind in ("planes", "bigtiff", "ome")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pictures", *shape,
         *(word for case in cases for word in ("--case", case))],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [
        [case, name] for case in cases for name in ("export", "plainly")
    ]
    # Each of the 4 x 8 chunks once, whatever is written.
    assert all("32 decoded of 32 chunks" in line for line in lines[::2])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_sheet_of_the_planes_is_measured_by_turns(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.qc", "--shape", "9", "100", "120", "--repeat", "1",
         "--dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("9 x 100 x 120 uint16, medians of 1: plain 0.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_following_is_measured_against_converting_after(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.live", "--shape", "40", "100", "120", "--repeat", "1",
         "--dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("40 x 100 x 120 uint16, 10% of the rows not 0, 200 planes/s for ")
    assert done.stdout.endswith("0 slabs written again\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_planes_that_would_not_fit_are_not_followed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.live", "--shape", "100000000000", "100", "120",
         "--dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "160000.0 GB are needed: give --dir" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_update_is_measured_against_the_whole(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.live", "--update", "--shape", "40", "100", "120",
         "--chunks", "4", "64", "64", "--ome", "--repeat", "1", "--dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    first, _, *rows = done.stdout.splitlines()
    assert first == "40 x 100 x 120 uint16, chunks 4 x 64 x 64, levels; medians of 1"
    names, written = zip(*(row.split(" | ")[:2] for row in rows), strict=True)
    assert names == ("one after the other", "far apart")
    few, more = (int(text.split()[0]) for text in written)
    assert 0 < few < more
    assert list(tmp_path.iterdir()) == []


def test_the_measuring_server_answers_as_s3_does_and_counts():
    s3fs = pytest.importorskip("s3fs")
    s3 = importlib.import_module("benchmarks.storage.s3")
    with s3.running() as server:
        fs = s3fs.S3FileSystem(
            key="a", secret="b", endpoint_url=server.address, use_listings_cache=False
        )
        names = ["lab/a/1", "lab/a/2 %#+[*", "lab/b"]
        for name in names:
            fs.pipe_file(name, name.encode())
        with pytest.raises(FileExistsError):
            fs.pipe_file("lab/b", b"", mode="create")
        assert sorted(fs.find("lab")) == sorted(names)
        assert fs.cat_file("lab/b", start=1, end=3) == b"ab"
        fs.rm_file("lab/a/1")
        server.control(reset=True)
        assert not fs.exists("lab/a/1")
        fs.cat_file("lab/b", start=0, end=2)
        found = server.control()
        assert found["requests"]["GET"] == 1
        assert found["objects"] == 2
        assert found["most_in_flight"] == 1
        server.control(link_nbytes_per_s=1e9)
        whole = bytes(range(256)) * 3000
        fs.pipe_file("lab/whole", whole)
        assert fs.cat_file("lab/whole") == whole  # in three pieces


def test_answers_share_the_link_of_the_measuring_server_one_after_the_other():
    state = importlib.import_module("benchmarks.storage.s3").State()
    assert state.carry(10**6, 5.0) == 0  # no bound
    state.link_nbytes_per_s = 1e6
    assert [state.carry(n, 5.0) for n in (10**6, 500_000)] == [1.0, 1.5]
    assert state.carry(10**6, 6.0) == 1.5  # half a second is still on its way
    assert state.carry(10**6, 50.0) == 1.0


def test_what_is_measured_again_takes_its_place_in_the_record_of_storage(tmp_path: Path) -> None:
    storage = importlib.import_module("benchmarks.storage.__main__")

    def row(kind: str, name: str, wall_s: float) -> dict[str, Any]:
        ways = {"ours": {"wall_s": wall_s}}
        return {"storage": kind, "name": name, "ways": ways, "load": 1.0}

    def run(kind: str, name: str) -> dict[str, Any]:
        return {"storage": kind, "case": name, "way": "ours"}

    path = tmp_path / "storage.json"
    first = [row("s3", "write, 30 ms", 1.0), row("share", "read whole", 2.0)]
    assert storage.recorded(path, first, []) == (first, [])
    path.write_text(json.dumps({"rows": first, "runs": [run("s3", "write, 30 ms")]}))
    again = [row("s3", "write, 30 ms", 3.0), row("disk", "raw planes", 4.0)]
    rows, runs = storage.recorded(path, again, [run("disk", "raw planes")])
    assert [(r["storage"], r["ways"]["ours"]["wall_s"]) for r in rows] == [
        ("s3", 3.0), ("disk", 4.0), ("share", 2.0)
    ]  # fmt: skip
    assert [r["storage"] for r in runs] == ["disk"]
