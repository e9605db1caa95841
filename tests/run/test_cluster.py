"""The same calls on a cluster: workers are asked first, memory is theirs, errors are the same."""

from __future__ import annotations

import json
import os
import pickle
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from clusters import cluster, in_background, scheduler, wait_for, worker
from distributed import Client
from helpers import make_volume, python, write_planes

import scout_dask_io as io
from scout_dask_io.core.source import ArraySource
from scout_dask_io.errors import ClusterError, MemoryLimitError, TiffReadError, WriteError
from scout_dask_io.run import cluster as module
from scout_dask_io.run.lazy import lazy_array
from scout_dask_io.tiff.page_layout import FILE, FileTable, PageLayout, SourceFile
from scout_dask_io.tiff.page_table import PageTable
from scout_dask_io.tiff.source import TiffSource

pytestmark = pytest.mark.cluster

VOLUME = make_volume((13, 50, 62), seed=31)
CHUNKS = (4, 16, 64)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with cluster(2, limit="1GB") as found:
        yield found


@pytest.fixture(autouse=True)
def _is_current(client: Client) -> Iterator[None]:
    with client.as_current():
        yield


@pytest.fixture
def planes(tmp_path: Path) -> Path:
    write_planes(tmp_path / "planes", VOLUME)
    return tmp_path / "planes"


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_folder_is_converted_compared_and_checked_on_a_cluster(planes: Path, tmp_path: Path):
    seen: list[tuple[int, int, int]] = []
    array = io.write_zarr(
        tmp_path / "a.zarr",
        io.imread_folder(planes),
        CHUNKS,
        progress=lambda *c: seen.append(c),
    )
    assert (array.shape, array.chunks, array.dtype) == (VOLUME.shape, CHUNKS, VOLUME.dtype)
    assert (array[:] == VOLUME).all()
    assert seen[0] == (0, seen[-1][1], 0)
    assert seen[-1] == (seen[-1][1], seen[-1][1], VOLUME.nbytes)
    assert io.verify(planes, tmp_path / "a.zarr").equal
    assert io.verify(tmp_path / "a.zarr").ok
    assert (io.read_zarr(tmp_path / "a.zarr").compute() == VOLUME).all()
    assert names(tmp_path) == {"planes", "a.zarr"}


def test_the_sheet_of_the_planes_is_gathered_from_all_workers(planes: Path, tmp_path: Path):
    io.write_zarr(tmp_path / "a.zarr", io.imread_folder(planes), CHUNKS, qc=True)
    assert names(tmp_path) == {"planes", "a.zarr", "a.zarr.qc.json", "a.zarr.qc.html"}
    found = json.loads((tmp_path / "a.zarr.qc.json").read_text())
    assert found["planes"]["min"] == VOLUME.min(axis=(1, 2)).tolist()
    assert found["planes"]["max"] == VOLUME.max(axis=(1, 2)).tolist()
    sample = VOLUME.mean(axis=(1, 2))
    np.testing.assert_allclose(found["planes"]["mean"], sample, atol=1e-4)
    assert (tmp_path / "a.zarr.qc.html").read_text().endswith("</html>\n")


def test_a_worker_that_does_not_see_the_files_is_named_and_nothing_is_created(
    planes: Path, tmp_path: Path, client: Client
):
    # To this one worker, the folder of planes does not exist.
    blind = tmp_path / "blind"
    blind.mkdir()
    (blind / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
        import os
        stat = os.stat
        def blind(path, *args, **kwargs):
            if str(path).startswith({str(planes)!r}):
                raise FileNotFoundError(2, "No such file or directory", path)
            return stat(path, *args, **kwargs)
        os.stat = blind
        """)
    )
    before = names(tmp_path)
    data, known = io.imread_folder(planes), set(client.nthreads())
    with worker(client, first_on_path=blind):
        (address,) = set(client.nthreads()) - known
        with pytest.raises(ClusterError, match="cannot be seen") as caught:
            io.write_zarr(tmp_path / "a.zarr", data, CHUNKS)
        assert address in str(caught.value)
        assert str(planes / "z0000.tif") in str(caught.value)
        others = [w for w in client.nthreads() if w != address]
        assert not any(w in str(caught.value) for w in others)
        assert names(tmp_path) == before
        with pytest.raises(ClusterError, match="cannot be seen"):
            io.write_zarr(tmp_path / "a.zarr", data + 1, CHUNKS)
        with pytest.raises(ClusterError, match="cannot be seen"):
            io.verify(planes, planes)
        # Left out, it need not see them.
        with dask.annotate(workers=others):
            io.write_zarr(tmp_path / "a.zarr", data, CHUNKS)
    assert (io.open(tmp_path / "a.zarr")[:] == VOLUME).all()


def test_a_worker_with_another_version_is_named(planes: Path, tmp_path: Path, client: Client):
    older = tmp_path / "older"
    older.mkdir()
    (older / "sitecustomize.py").write_text(
        "import numcodecs\nnumcodecs.__version__ = '0.0.7'\n"
        "import scout_dask_io\nscout_dask_io.__version__ = '0.0.1'\n"
    )
    before = names(tmp_path)
    with (
        worker(client, first_on_path=older),
        pytest.raises(ClusterError, match=r"numcodecs is 0\.0\.7, here") as caught,
    ):
        io.convert(planes, tmp_path / "a.zarr", chunks=CHUNKS)
    assert f"scout_dask_io is 0.0.1, here {io.__version__}" in str(caught.value)
    assert names(tmp_path) == before


def test_a_worker_that_cannot_write_there_is_named(tmp_path: Path, client: Client):
    deaf = tmp_path / "deaf"
    deaf.mkdir()
    (deaf / "sitecustomize.py").write_text(
        textwrap.dedent("""
        import builtins
        real = builtins.open
        def deny(path, mode="r", *args, **kwargs):
            if "x" in mode and ".a.zarr" in str(path):
                raise PermissionError(13, "Permission denied", path)
            return real(path, mode, *args, **kwargs)
        builtins.open = deny
        """)
    )
    before = names(tmp_path)
    with (
        worker(client, first_on_path=deaf),
        pytest.raises(ClusterError, match=f"{tmp_path}/new cannot be written|Permission denied"),
    ):
        io.write_zarr(tmp_path / "new" / "a.zarr", VOLUME, CHUNKS)
    assert names(tmp_path) == before


class WatchedSource(ArraySource):
    """Reading ends when a worker that does not see the file has tried to."""

    file = ""

    def narrow(self, region):
        return self, region

    def sample_files(self):
        return [(self.file, 3)]

    def iter_pieces(self, region):
        tried = Path(self.file).with_name("tried")
        if not os.access(self.file, os.R_OK):
            tried.touch()
            raise TiffReadError(f"cannot read {self.file}")
        while not tried.exists():
            time.sleep(0.01)
        yield from super().iter_pieces(region)


def watched_source(folder: Path) -> WatchedSource:
    folder.mkdir()
    (folder / "planes").write_bytes(b"123")
    source = WatchedSource(VOLUME, "watched")
    source.file = str(folder / "planes")
    return source


def blind(folder: Path, file: str) -> Path:
    """Give a path on which a worker does not see a file."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
        import os
        access = os.access
        os.access = lambda path, mode: str(path) != {file!r} and access(path, mode)
        """)
    )
    return folder


# Units that read; and reads of dask's. More of them than the others have asked for.
@pytest.mark.parametrize("offset", [0, 1])
def test_a_worker_that_joins_later_fails_with_an_error_that_names_it(
    tmp_path: Path, client: Client, offset: int
):
    source = watched_source(tmp_path / "data")
    data = lazy_array(source, (1, -1, -1)) + offset if offset else lazy_array(source)
    known = set(client.nthreads())
    write = in_background(lambda: io.write_zarr(tmp_path / "a.zarr", data, (1, 64, 64)))
    wait_for(lambda: list(tmp_path.glob(".a.zarr.scout-partial")))
    with worker(client, first_on_path=blind(tmp_path / "path", source.file)):
        (address,) = set(client.nthreads()) - known
        with pytest.raises(TiffReadError, match=f"cannot read {source.file}") as caught:
            write.result(timeout=60)
    (where,) = (n for n in caught.value.__notes__ if "ran in worker" in n)
    assert address in where
    assert not any(w in where for w in known)
    assert not (tmp_path / "a.zarr").exists()
    wait_for(lambda: set(client.nthreads()) == known)
    array = io.write_zarr(tmp_path / "a.zarr", data, (1, 64, 64), resume=True)
    assert (array[:] == VOLUME + offset).all()


def test_without_workers_there_is_an_error_and_not_an_endless_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    with (
        scheduler(tmp_path) as (address, _),
        Client(address),
        pytest.raises(ClusterError, match=r"no worker .*dask worker tcp://"),
    ):
        io.write_zarr(tmp_path / "a.zarr", VOLUME, CHUNKS)
    assert names(tmp_path) == {"scheduler.json"}


def test_max_mem_is_a_share_of_the_workers_limit_and_every_thread_has_its_part(
    planes: Path, tmp_path: Path, client: Client
):
    data = io.imread_folder(planes)
    plan = io.plan_zarr(data, CHUNKS)
    assert (plan.nb_workers, plan.max_mem) == (1, 500_000_000)
    with worker(client, "--nthreads", "4", "--memory-limit", "400MB"):
        plan = io.plan_zarr(data, CHUNKS)
        assert (plan.nb_workers, plan.max_mem) == (4, 200_000_000)
        assert plan.projected_mem <= plan.max_mem
        # Where it is given, it counts for one worker: a quarter for each of four threads.
        plan = io.plan_zarr(data, CHUNKS, max_mem="800kB")
        assert (plan.nb_workers, plan.max_mem) == (4, 800_000)
        with pytest.raises(MemoryLimitError, match="one of 4 threads"):
            io.plan_zarr(data, CHUNKS, max_mem="60kB")
        with pytest.raises(MemoryLimitError, match="one of 4 threads"):
            io.plan_zarr(data.map_blocks(np.negative), CHUNKS, max_mem="20kB")


def executed(client: Client) -> dict[str, int]:
    """Give how many tasks each worker has run."""
    return client.run(lambda dask_worker: dask_worker.state.executed_count)


def test_annotations_pin_the_tasks_of_a_write(planes: Path, tmp_path: Path, client: Client):
    data, others = io.imread_folder(planes), set(client.nthreads())
    with worker(client, "--resources", "IO=1"):
        before = executed(client)
        with dask.annotate(resources={"IO": 1}):
            delayed = io.write_zarr(tmp_path / "b.zarr", data, CHUNKS, compute=False)
            io.write_zarr(tmp_path / "a.zarr", data, CHUNKS)
        assert delayed.dask.layers[delayed.key].annotations == {"resources": {"IO": 1}}
        client.compute(delayed).result()
        after = executed(client)
        assert {w for w in after if after[w] > before[w]} == set(after) - others
    with dask.annotate(resources={"IO": 1}), pytest.raises(ClusterError, match="annotations"):
        io.write_zarr(tmp_path / "c.zarr", data, CHUNKS)
    assert (io.open(tmp_path / "a.zarr")[:] == VOLUME).all()
    assert (io.open(tmp_path / "b.zarr")[:] == VOLUME).all()
    assert names(tmp_path) == {"planes", "a.zarr", "b.zarr"}


def fails_once(block: np.ndarray, folder: str) -> np.ndarray:
    mark = Path(folder) / "failed"
    if block.size == 0 or mark.exists():  # dask tries the function on nothing first
        return block
    mark.touch()
    raise OSError("the share was away")


def test_a_task_that_failed_is_tried_again_as_often_as_annotated(tmp_path: Path):
    (tmp_path / "log").mkdir()
    data = da.from_array(VOLUME, chunks=(4, 16, -1)).map_blocks(
        fails_once, str(tmp_path / "log"), dtype=VOLUME.dtype
    )
    with pytest.raises(OSError, match="the share was away"):
        io.write_zarr(tmp_path / "a.zarr", data, CHUNKS)
    (tmp_path / "log" / "failed").unlink()
    with dask.annotate(retries=1):
        io.write_zarr(tmp_path / "a.zarr", data, CHUNKS, overwrite=True)
    assert (io.open(tmp_path / "a.zarr")[:] == VOLUME).all()


def test_a_delayed_write_composes_with_other_graphs(planes: Path, tmp_path: Path, client: Client):
    data = io.imread_folder(planes)
    first = io.write_zarr(tmp_path / "a.zarr", data, CHUNKS, compute=False)
    second = io.write_zarr(tmp_path / "b.zarr", data.max(axis=0), (16, 64), compute=False)
    both = client.compute([dask.delayed(sorted)([first.shape, second.shape]), data.sum()])
    shapes, total = client.gather(both)
    assert shapes == [VOLUME.shape, VOLUME.shape[1:]]
    assert total == VOLUME.sum()
    assert (io.open(tmp_path / "b.zarr")[:] == VOLUME.max(axis=0)).all()


def test_errors_travel_with_their_class_number_and_notes():
    error = WriteError("z.zarr/0/0 cannot be written: no space")
    error.errno = 28
    error.add_note("resume=True goes on")
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is WriteError
    assert (str(found), found.errno) == (str(error), 28)
    assert found.__notes__ == ["resume=True goes on"]


def test_a_damaged_plane_is_the_same_error_on_a_cluster_and_on_threads(
    planes: Path, tmp_path: Path
):
    data = io.imread_folder(planes)
    bad = planes / "z0009.tif"
    whole = bad.read_bytes()
    found = []
    bad.write_bytes(whole[:-900])
    for scheduler_name in (None, "threads"):
        with (
            dask.config.set(scheduler=scheduler_name),
            pytest.raises(io.ScoutIOError, match=r"z0009\.tif") as caught,
        ):
            io.write_zarr(tmp_path / "a.zarr", data, (1, 16, 64), overwrite=True)
        found.append((type(caught.value), str(caught.value)))
        assert any("resume=True" in n for n in caught.value.__notes__)
    assert found[0] == found[1]
    assert not (tmp_path / "a.zarr").exists()


class SlowSource(ArraySource):
    """Planes of an array; reading the third fails, and the others take their time."""

    folder = ""

    def narrow(self, region):
        return self, region

    def iter_pieces(self, region):
        folder, first = Path(self.folder), region[0].start
        if first == 8:
            while not list(folder.glob("begun-*")):
                time.sleep(0.01)
            raise TiffReadError("cannot read 'z0008.tif'")
        (folder / f"begun-{first}").touch()
        time.sleep(0.2)
        (folder / f"ended-{first}").touch()
        yield from super().iter_pieces(region)


def test_units_at_work_are_waited_for_when_another_fails(tmp_path: Path):
    source = SlowSource(VOLUME, "slow")
    source.folder = str(tmp_path / "log")
    (tmp_path / "log").mkdir()
    with pytest.raises(TiffReadError, match=r"z0008\.tif"):
        io.write_zarr(tmp_path / "a.zarr", lazy_array(source), (4, 64, 64))
    log = names(tmp_path / "log")
    assert {n for n in log if n.startswith("begun")} != set()
    for n in log:
        assert n.replace("begun", "ended") in log


def test_the_command_line_works_on_a_cluster_that_runs(
    planes: Path, tmp_path: Path, client: Client
):
    target, before = tmp_path / "a.zarr", executed(client)
    at = ("--scheduler", client.scheduler.address, "--chunks", "4,16,64")
    said = python("-m", "scout_dask_io", "convert", str(planes), str(target), *at)
    assert "Wrote" in said
    after = executed(client)
    assert min(after[w] - before[w] for w in after) > 0
    assert (io.open(target)[:] == VOLUME).all()


@pytest.mark.slow
def test_the_command_line_works_on_a_scheduler_of_its_own_command(planes: Path, tmp_path: Path):
    target = tmp_path / "a.zarr"
    with (
        scheduler(tmp_path) as (address, _),
        Client(address, set_as_default=False) as own,
        worker(own),
        worker(own),
    ):
        args = (str(planes), str(target), "--scheduler", address)
        python("-m", "scout_dask_io", "convert", "--chunks", "4,16,64", *args)
        ran = executed(own)
        said = python("-m", "scout_dask_io", "verify", *args)
    assert min(ran.values()) > 0
    assert "equal" in said
    assert (io.open(target)[:] == VOLUME).all()


def test_tasks_of_a_hundred_thousand_planes_carry_their_own_few_files(tmp_path: Path):
    n, rows, columns = 100_000, 7000, 7000
    layout = PageLayout(
        rows, columns, 0, False, "<u2", 1, 1, False, segment_rows=rows, segment_columns=columns,
        coding="raw",
    )  # fmt: skip
    pages = np.zeros((n, 4), np.int64)
    pages[:, FILE] = np.arange(n)
    files = FileTable.of(
        SourceFile(f"/volume/ch0/brain_488nm_z{z:06d}.tif", rows * columns * 2, 15 * 10**17 + z, z)
        for z in range(n)
    )
    data = lazy_array(TiffSource(PageTable(files, (layout,), pages), "described", file_ndim=1))
    with dask.config.set(scheduler="threads"):
        write: Any = io.write_zarr(
            tmp_path / "a.zarr", data, max_mem="2GB", voxel_size=(1, 1, 1), compute=False
        )
    assert len(pickle.dumps(write.dask)) <= 20_000_000
    tasks = dict(write.dask)
    publish = tasks.pop(write.key)
    assert len(tasks) > 10_000
    assert max(len(pickle.dumps(task)) for task in list(tasks.values())[::97]) <= 10_000
    assert {d for task in tasks.values() for d in task.dependencies} == set()
    assert publish.dependencies == set(tasks)
