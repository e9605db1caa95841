"""Runs contenders in turn, each in its own child process, and gathers their figures."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.check import check_result, size_on_disk
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.data import make_planes, make_stored
from benchmarks.job import Job
from benchmarks.layouts import CHUNKS, CODEC, Case, Planes
from benchmarks.machine import available_nbytes
from benchmarks.meter import tree_nbytes

__all__ = ["Run", "Settings", "contenders_of", "run_case"]

#: Seconds between looks at the memory of a contender that started processes.
SAMPLE_S = 0.05


@dataclass(frozen=True)
class Settings:
    """What the command line chose."""

    workdir: Path
    n_repeats: int = 5
    n_workers: int = 2
    check: str = "first"  # "first" | "all" | "none"
    timeout_s: float = 900.0
    interpreters: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Run:
    """The figures of one run, or why there are none."""

    case: str
    contender: str
    repeat: int
    status: str  # "ok" | "absent" | "left out" | "failed"
    why: str = ""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_nbytes: int = 0
    n_files: int = 0
    out_nbytes: int = 0
    check: str = ""
    value: Any = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def is_wrong(self) -> bool:
        """The run failed, or its output is not what it should be."""
        return self.status == "failed" or self.check.startswith("WRONG")

    def as_dict(self) -> dict[str, Any]:
        """Give plain values, for JSON."""
        return asdict(self)


def contenders_of(case: Case, names: Sequence[str] = ()) -> list[Contender]:
    """Give the contenders that take a case, in the registry's order."""
    return [
        c
        for c in CONTENDERS
        if case.kind in c.kinds
        and (not c.only or case.name in c.only)
        and (not names or c.name in names)
    ]


def run_case(
    case: Case,
    contenders: Sequence[Contender],
    settings: Settings,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Run]:
    """Run every contender ``n_repeats`` times, alternating, and yield each run's figures.

    The order turns by one contender a round, so that none is always first. One
    that is absent, left out or fails is not tried again.
    """
    data = settings.workdir / "data"
    job, stored_sum = _make_job(case, data, settings, say)
    warm_up = _warm_up_job(case, data, settings)
    out_of_race: set[str] = set()
    for repeat in range(settings.n_repeats):
        turn = repeat % max(1, len(contenders))
        for contender in [*contenders[turn:], *contenders[:turn]]:
            if contender.name in out_of_race:
                continue
            run = _run_once(case, contender, job, warm_up, repeat, settings, stored_sum)
            if run.status != "ok":
                out_of_race.add(contender.name)
            yield run


def _make_job(
    case: Case, data: Path, settings: Settings, say: Callable[[str], None]
) -> tuple[Job, int | None]:
    planes = stored = ""
    stored_sum = None
    if case.makes_files:
        started = time.perf_counter()
        folder = make_planes(data, case.planes)
        planes = str(folder)
        if case.kind.startswith("read-"):
            path, stored_sum = make_stored(data, case.planes)
            stored = str(path)
        _warm_page_cache(Path(stored or planes), case.planes)
        say(f"{case.name}: data ready in {time.perf_counter() - started:.1f} s")
    return _job(case, case.planes, planes, stored, settings, "out"), stored_sum


def _warm_up_job(case: Case, data: Path, settings: Settings) -> Job:
    """Make the tiny job that every contender does before the clocks start."""
    like = case.planes
    tiny = Planes(
        3,
        70,
        80,
        compression=like.compression,
        rows_per_strip=32 if like.rows_per_strip else None,
        predictor=like.predictor,
        sparse=like.sparse,
    )
    planes = stored = ""
    if case.makes_files:
        planes = str(make_planes(data, tiny))
        if case.kind.startswith("read-"):
            stored = str(make_stored(data, tiny)[0])
    return _job(case, tiny, planes, stored, settings, "warm-up")


def _job(case: Case, layout: Planes, planes: str, stored: str, settings: Settings, out: str) -> Job:
    return Job(
        case=case.name,
        kind=case.kind,
        shape=layout.shape,
        chunks=CHUNKS,
        codec=dict(CODEC),
        n_workers=settings.n_workers,
        planes=planes,
        stored=stored,
        # In a folder of its own: a writer may leave something beside its output.
        out=str(settings.workdir / out / "volume.zarr"),
        compression=layout.compression,
        max_mem=case.max_mem,
        box=case.box,
        n_boxes=min(case.n_boxes, 3) if out == "warm-up" else case.n_boxes,
    )


def _warm_page_cache(path: Path, layout: Planes) -> None:
    if layout.sparse:
        return
    for folder, _, names in os.walk(path):
        for name in names:
            with (Path(folder) / name).open("rb") as file:
                while file.read(1 << 24):
                    pass


def _held_nbytes(contender: Contender, case: Case, settings: Settings) -> float:
    """Give what a contender is known to hold in memory, in bytes."""
    if case.kind == "plan":
        counts = (-(-n // c) for n, c in zip(case.planes.shape, CHUNKS, strict=True))
        return contender.graph_nbytes * math.prod(counts)
    if case.kind != "convert":
        return 0.0
    n_planes, height, width = case.planes.shape
    slab = min(CHUNKS[0], n_planes) * height * width * 2
    n_slabs = -(-n_planes // CHUNKS[0])
    # `slabs_held` is for two workers, each at a slab.
    at_once = min(n_slabs, settings.n_workers) / 2
    return contender.slabs_held * at_once * slab + contender.volumes_held * case.planes.nbytes


def _run_once(
    case: Case,
    contender: Contender,
    job: Job,
    warm_up: Job,
    repeat: int,
    settings: Settings,
    stored_sum: int | None,
) -> Run:
    run = Run(case.name, contender.name, repeat, "ok")
    interpreter = settings.interpreters.get(contender.interpreter, "")
    if not contender.interpreter:
        interpreter = sys.executable
    elif not interpreter:
        run.status = "absent"
        run.why = f"needs an interpreter of its own: --{contender.interpreter}-python PATH"
        return run
    held, free = _held_nbytes(contender, case, settings), available_nbytes()
    if free and held > 0.5 * free:
        run.status = "left out"
        run.why = f"would hold about {held / 1e9:.1f} GB of the {free / 1e9:.1f} GB available"
        return run
    for path in (job.out, warm_up.out):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    check = settings.check == "all" or (settings.check == "first" and repeat == 0)
    result = _run_child(interpreter, contender, job, warm_up, check, settings)
    run.status = result["status"]
    run.why = result.get("why", "")
    run.versions = result.get("versions", {})
    if run.status == "ok":
        run.wall_s = result["wall_s"]
        run.cpu_s = result["cpu_s"]
        run.peak_nbytes = result["peak_nbytes"]
        run.value = result["value"]
        run.n_files, run.out_nbytes = size_on_disk(Path(job.out))
        if check:
            run.check = result.get("check", "equal")
            if run.check == "equal":
                run.check = check_result(job, contender, run.value, stored_sum=stored_sum)
    else:
        print(result.get("traceback", ""), file=sys.stderr, end="")
    for path in (job.out, warm_up.out):
        shutil.rmtree(Path(path).parent, ignore_errors=True)
    return run


def _run_child(
    interpreter: str,
    contender: Contender,
    job: Job,
    warm_up: Job,
    check: bool,
    settings: Settings,
) -> dict[str, Any]:
    """Start a child, watch the memory of its tree, and give its result."""
    root = Path(__file__).resolve().parent.parent
    target = settings.workdir / "result.json"
    target.unlink(missing_ok=True)
    # Two bytes a voxel for what a run may write, and half as much again for what it holds.
    light = job.kind in ("plan", "index", "read-boxes")
    touched = 0 if light else math.prod(job.shape) * 3
    request = {
        "touch_nbytes": min(touched, available_nbytes() // 3),
        "module": contender.module,
        "options": contender.options,
        "job": job.dump(),
        "warm_up": warm_up.dump(),
        "check": check,
    }
    env = dict(
        os.environ,
        PYTHONPATH=os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")])),
        # The same scheduler and as many workers for whoever uses dask.
        DASK_SCHEDULER="threads",
        DASK_NUM_WORKERS=str(settings.n_workers),
    )
    asked, log = settings.workdir / "request.json", settings.workdir / "child.log"
    asked.write_text(json.dumps(request))
    tree_peak = 0
    with log.open("w") as sink:
        child = subprocess.Popen(
            [interpreter, "-m", "benchmarks.child", str(asked), str(target)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd=root,
            env=env,
            start_new_session=True,
        )
        deadline = time.monotonic() + settings.timeout_s
        try:
            while child.poll() is None and time.monotonic() < deadline:
                time.sleep(SAMPLE_S)
                tree_peak = max(tree_peak, tree_nbytes(child.pid))
        finally:
            timed_out = child.poll() is None
            if timed_out:
                # The whole group: a pool that it started would outlive it.
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    if timed_out:
        return {"status": "failed", "why": f"took more than {settings.timeout_s:.0f} s"}
    try:
        result: dict[str, Any] = json.loads(target.read_text())
    except (OSError, ValueError):
        tail = log.read_text().strip().splitlines()[-1:] or ["no message"]
        return {"status": "failed", "why": f"ended with code {child.returncode}: {tail[0]}"}
    if result["status"] == "ok":
        result["peak_nbytes"] = max(result["peak_nbytes"], tree_peak)
    return result
