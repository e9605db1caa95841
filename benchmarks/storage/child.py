"""One run of one way, in a process of its own: ``python -m benchmarks.storage.child REQUEST``.

Imports, and the same work on a tiny array in memory, come before the clocks start. Prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.meter import cpu_s, own_peak_nbytes
from benchmarks.storage.ways import WAYS


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Warm up, run, and give the figures."""
    make = WAYS[request["way"]]
    for warm_up in request.get("warm_ups", ()):
        make(warm_up)()
    work = make(request)
    if request.get("group"):
        Path(request["group"]).write_text(str(os.getpid()))
    before = own_peak_nbytes()
    cpu, wall = cpu_s(), time.perf_counter()
    value = work()
    wall = time.perf_counter() - wall
    return {
        "wall_s": wall,
        "cpu_s": cpu_s() - cpu,
        "peak_nbytes": own_peak_nbytes() - before,
        "value": value,
    }


def main() -> None:
    """Run what the file says; a failure is a result too."""
    request = json.loads(Path(sys.argv[1]).read_text())
    try:
        with tempfile.TemporaryDirectory():
            result = run(request)
    except ImportError as err:
        result = {"absent": str(err)}
    except Exception as err:
        result = {"failed": f"{type(err).__name__}: {err}", "trace": traceback.format_exc()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
