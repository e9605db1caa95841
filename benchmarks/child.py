"""One run of one contender, in a process of its own.

``python -m benchmarks.child REQUEST RESULT``, both paths of JSON files.

Imports, and a first run on a tiny job, come before the clocks start, so that
neither late imports nor the filling of caches inside a library are counted.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import json
import platform
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.contenders import function_name
from benchmarks.job import Job
from benchmarks.meter import cpu_s, own_peak_nbytes, touch_memory

_LIBRARIES = (
    "numpy",
    "dask",
    "zarr",
    "numcodecs",
    "tifffile",
    "imagecodecs",
    "tensorstore",
    "zarrs",
    "dask-image",
    "stack-to-chunk",
    "scout-dask-io",
)


def versions() -> dict[str, str]:
    """Give the versions of Python and of the libraries that this process could import."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def prepare(module: str, options: dict[str, Any], job: Job) -> tuple[Callable[[], Any], Any]:
    """Import a contender and make it ready: the work to time, and its reader if it reads."""
    make = getattr(
        importlib.import_module(f"benchmarks.contenders.{module}"), function_name(job.kind)
    )
    made = make(job, **options)
    if job.kind == "read-whole":
        return made.total, made
    if job.kind == "read-boxes":
        boxes = job.boxes

        def read_boxes() -> int:
            return sum(made.get(box).size for box in boxes)

        return read_boxes, made
    return made, None


def check_reader(reader: Any, job: Job) -> str:
    """Compare what a reader gives with the planes, slab by slab and box by box."""
    import numpy as np

    from benchmarks.contenders.common import read_slab

    paths = job.paths
    whole = [
        (slice(start, stop), slice(0, job.shape[1]), slice(0, job.shape[2]))
        for start, stop in job.slabs
    ]
    for region in [*whole, *job.boxes[:20]]:
        try:
            found = reader.get(region)
        except NotImplementedError as err:
            return f"not compared: {err}"
        expected = read_slab(paths[region[0]])[:, region[1], region[2]]
        if found.dtype != expected.dtype or not np.array_equal(found, expected):
            return f"WRONG: region {region} differs from the planes"
    return "equal"


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Run a request and give its figures; what cannot be imported is ``absent``."""
    job = Job.load(request["job"])
    warm_up = Job.load(request["warm_up"])
    try:
        work, _ = prepare(request["module"], request["options"], warm_up)
    except ImportError as err:
        return {"status": "absent", "why": str(err), "versions": versions()}
    work()
    shutil.rmtree(warm_up.out, ignore_errors=True)
    work, reader = prepare(request["module"], request["options"], job)
    gc.collect()
    touch_memory(Path(job.out).parent, request["touch_nbytes"])
    cpu_before, wall_before = cpu_s(), time.perf_counter()
    value = work()
    wall = time.perf_counter() - wall_before
    cpu = cpu_s() - cpu_before
    result = {
        "status": "ok",
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_nbytes": own_peak_nbytes(),
        "value": value,
        "versions": versions(),
    }
    if request["check"] and reader is not None:
        result["check"] = check_reader(reader, job)
    return result


def main() -> None:
    """Read the request, run it, write the result; a failure is a result too."""
    asked, target = (Path(p) for p in sys.argv[1:3])
    request = json.loads(asked.read_text())
    try:
        result = measure(request)
    except Exception as err:
        result = {
            "status": "failed",
            "why": f"{type(err).__name__}: {err}",
            "traceback": traceback.format_exc(),
            "versions": versions(),
        }
    target.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
