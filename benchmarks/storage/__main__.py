"""Measure reading and writing on storage that users have: ``python -m benchmarks.storage``.

    python -m benchmarks.storage [s3] [disk] [share] [--repeat 5] [--case NAME …] [--way NAME …]
                                [--latency MS …] [--bandwidth MB_PER_S]

Ways alternate within a round and the order turns; a run is a process of its own. Medians go to
``benchmarks/results/storage.json`` and ``storage.md``; with ``--case`` or ``--way`` to
``storage-trial``, so that a trial does not replace a record. With ``--record`` what was measured
of a case takes the place of what the record says of it, and the rest stays.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import versions
from benchmarks.machine import describe_machine
from benchmarks.storage import disk, s3, share
from benchmarks.storage.ways import WAYS, names_of

RESULTS = Path(__file__).resolve().parent.parent / "results"
MB_PER_S_A_CONNECTION = 80


@dataclass(frozen=True)
class Case:
    """What is done, where, and by whom.

    ``needs`` is what must lie there before: the planes, and an array too, with ``"array"`` one that
    TensorStore wrote, with ``"ours"`` one of this library. What is
    written goes to a free place, or with ``replaces`` to that of the array of the run before.
    """

    storage: str
    name: str
    case: str
    ways: tuple[str, ...]
    planes: str = "here"
    array: str = "there"
    needs: str = ""
    latencies_ms: tuple[int, ...] = (0,)
    shape: tuple[int, int, int] = (128, 512, 1024)
    more: dict[str, Any] = field(default_factory=dict)
    replaces: bool = False


ALL = ("ours", "tensorstore", "zarr-obstore", "zarr-s3fs")
DIRECT = ("ours", "tensorstore", "zarr-obstore")
INDEX = ("ours", "tifffile-index", "bare")
LARGE, SMALL = (128, 1024, 1024), (2000, 256, 256)
CASES = [
    Case("s3", "write", "write", ALL, latencies_ms=(0, 30)),
    Case("s3", "replace", "write", DIRECT, latencies_ms=(30,), replaces=True),
    Case("s3", "read whole", "whole", (*ALL, "bare"), needs="array", latencies_ms=(0, 30, 100)),
    Case("s3", "60 boxes", "boxes", ALL, needs="array", latencies_ms=(30, 100)),
    Case("s3", "60 boxes of ours", "boxes", DIRECT, needs="ours", latencies_ms=(30,)),
    Case("s3", "60 boxes at once", "batch", DIRECT[:2], needs="array", latencies_ms=(30,)),
    Case("s3", "one z plane", "plane", ALL, needs="array", latencies_ms=(30, 100)),
    Case("s3", "open", "open", DIRECT, needs="array", latencies_ms=(30,)),
    Case("s3", "info", "info", ("ours",), needs="array", latencies_ms=(30,)),
    Case("s3", "verify", "verify", ("ours",), needs="ours", latencies_ms=(30,)),
    Case("s3", "write OME-Zarr", "ome", ("ours",), latencies_ms=(30,)),
    Case(
        "s3",
        "planes there, Zarr here",
        "write",
        ("ours", "fsspec-tifffile", "bare"),
        planes="there",
        array="here",
        latencies_ms=(30,),
        shape=LARGE,
    ),
    Case("disk", "raw planes", "write", (*DIRECT, "bare"), shape=(128, 2048, 2048)),
    Case(
        "disk",
        "LZW planes",
        "write",
        ("ours", "tensorstore", "bare"),
        shape=(64, 2048, 2048),
        more={"compression": "lzw"},
    ),
    Case("disk", "index of 2,000 planes", "index", INDEX, shape=SMALL),
    Case("disk", "index of 2,000 planes by the first", "index-first", INDEX, shape=SMALL),
    Case(
        "share",
        "planes there, Zarr here",
        "write",
        DIRECT,
        planes="there",
        array="here",
        shape=LARGE,
    ),
    Case("share", "planes here, Zarr there", "write", DIRECT, shape=LARGE),
    Case("share", "replace a Zarr there", "write", DIRECT, shape=LARGE, replaces=True),
    Case("share", "read whole", "whole", DIRECT, needs="array", shape=LARGE),
    Case("share", "one z plane", "plane", DIRECT, needs="array", shape=LARGE),
    Case("share", "200 boxes", "boxes", DIRECT, needs="array", shape=LARGE, more={"n_boxes": 200}),
    Case(
        "share",
        "200 boxes of ours",
        "boxes",
        DIRECT,
        needs="ours",
        shape=LARGE,
        more={"n_boxes": 200},
    ),
]


def make_planes(folder: Path, case: Case) -> None:
    """Write planes of camera-like noise over a smooth background; the same for the same shape."""
    import tifffile

    folder.mkdir(parents=True, exist_ok=True)
    _, height, width = case.shape
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:height, :width]
    background = 300 + 200 * np.sin(y / 97) * np.cos(x / 131)
    noise = rng.normal(0, 20, (8, height, width))
    settings = {k: v for k, v in case.more.items() if k == "compression"}
    if settings:
        settings["rowsperstrip"] = 64
    for z, name in enumerate(names_of({"shape": case.shape})):
        plane = background + noise[z % 8] + z
        tifffile.imwrite(
            folder / name, plane.clip(0).astype("u2"), photometric="minisblack", **settings
        )


class Bench:
    """Where things lie while a case runs."""

    def __init__(self, work: Path, on_disk: Path, server: s3.Server, mb_per_s: int = 0) -> None:
        self.work, self.on_disk, self.server, self.mb_per_s = work, on_disk, server, mb_per_s
        self.library: Path | None = None
        self.n_written = 0

    def request(self, case: Case, way: str) -> dict[str, Any]:
        """Give what a child is asked."""
        here, there = self.work / "here", f"{self.work}/share"
        if case.storage == "s3":
            there = "s3://lab"
        elif case.storage == "disk":
            there = str(self.on_disk)
        of = "x".join(map(str, (*case.shape, *case.more.values())))
        array = f"{there if case.array == 'there' else here}/array-{of}"
        planes = f"{there if case.planes == 'there' else here}/planes-{of}"
        if case.storage == "disk":
            planes, array = f"{there}/planes-{of}", f"{here}/array-{of}"
        if case.case in ("write", "ome"):
            array += f"-{way}" if case.replaces else f"-{way}-{self.n_written}"
        return {
            "case": case.case, "way": way, "shape": list(case.shape), "planes": planes,
            "array": array + ".zarr", "n_workers": 2, **case.more,
            "endpoint": self.server.address if case.storage == "s3" else "",
        }  # fmt: skip

    def prepare(self, case: Case) -> None:
        """Make what the case needs, once; not measured."""
        request = self.request(case, "ours")
        planes = Path(request["planes"])
        of = planes.name
        local = planes if not request["planes"].startswith("s3://") else self.work / "here" / of
        if not local.exists() and not case.needs:
            make_planes(local, case)
        if request["planes"].startswith("s3://") and not case.needs:
            from benchmarks.storage.ways import _obstore

            store = _obstore(request, "planes")
            for path in sorted(local.iterdir()):
                store.put(path.name, path.read_bytes())
        if case.needs:
            self.server.control(latency_s=0, nbytes_per_s=0, link_nbytes_per_s=0)
            here = self.work / "here" / of
            if not here.exists():
                make_planes(here, case)
            way = "ours" if case.needs == "ours" else "tensorstore"
            write = {**request, "case": "write", "way": way, "planes": str(here)}
            result = self.child(write, {})
            if "wall_s" not in result:
                raise SystemExit(f"{case.name}: cannot be prepared: {result}")

    def child(self, request: dict[str, Any], env: dict[str, str]) -> dict[str, Any]:
        """Run one way in a process of its own."""
        path = self.work / "request.json"
        path.write_text(json.dumps(request))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.storage.child", str(path)],
            capture_output=True,
            text=True,
            env={**os.environ, **env},
            timeout=1800,
            check=False,
        )
        try:
            result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            result = {"failed": done.stderr[-500:] or f"exit code {done.returncode}"}
        return result

    def measure(self, case: Case, way: str, latency_ms: int) -> dict[str, Any]:
        """Run one way of a case on its storage."""
        self.n_written += 1
        request = self.request(case, way)
        tiny = self.work / "tiny"
        if not tiny.exists():
            make_planes(tiny, Case("", "", "", (), shape=(4, 64, 64)))
        warm = {**request, "shape": [4, 64, 64], "planes": str(tiny), "endpoint": ""}
        warm |= {"array": str(self.work / f"tiny-{way}.zarr"), "case": "write", "n_boxes": 1}
        reads = case.case in ("whole", "boxes", "batch", "plane")
        request["warm_ups"] = [warm, {**warm, "case": "whole"}] if reads else [warm]
        if way == "ours":
            request["warm_ups"] = [{**warm, "case": c} for c in ("write", "whole", "open")]
        elif way in ("bare", "fsspec-tifffile", "zarr-s3fs"):
            request["warm_ups"] = []
        env: dict[str, str] = {}
        counts = self.work / "counts"
        with ExitStack() as stack:
            if case.storage == "s3":
                self.server.control(
                    latency_s=latency_ms / 1000,
                    nbytes_per_s=MB_PER_S_A_CONNECTION * 1e6,
                    link_nbytes_per_s=self.mb_per_s * 1e6,
                    reset=True,
                )
            elif case.storage == "disk":
                disk.forget_files()
                group = stack.enter_context(disk.throttled(self.on_disk, 160_000_000, 120))
                request["group"] = str(group)
            else:
                if self.library is None:
                    self.library = share.compile_into(self.work)
                env = share.environment(self.library, self.work / "share", counts)
            result = self.child(request, env)
        if case.storage == "s3":
            result["storage"] = self.server.control()
        elif case.storage == "share":
            result["storage"] = share.read_counts(counts)
        if case.case == "write" and way != "bare" and "wall_s" in result:
            with suppress(ImportError):  # of TensorStore: then what was written is not compared
                result["value"] = self.written(request)
        if case.case in ("write", "ome") and not case.replaces:
            self.remove(request["array"])
        return result

    def written(self, request: dict[str, Any]) -> int:
        """Give the sum of an array that was written, as TensorStore reads it; not measured."""
        if request["endpoint"]:
            self.server.control(latency_s=0, nbytes_per_s=0, link_nbytes_per_s=0)
        return WAYS["tensorstore"]({**request, "case": "whole"})()

    def remove(self, array: str) -> None:
        """Remove an array."""
        if array.startswith("s3://"):
            self.server.control(remove=array.removeprefix("s3://") + "/")
        else:
            shutil.rmtree(array, ignore_errors=True)


def rounds(ways: tuple[str, ...], repeat: int) -> Iterator[tuple[int, str]]:
    """Yield the ways of each round, the order turned."""
    for n in range(repeat):
        at = n % len(ways)
        for way in (*ways[at:], *ways[:at]):
            yield n, way


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Give medians of the runs that went well."""
    good = [r for r in runs if "wall_s" in r]
    if not good:
        return {"why": next((r.get("absent") or r.get("failed") for r in runs), "not run")}
    found: dict[str, Any] = {
        k: statistics.median(r[k] for r in good) for k in ("wall_s", "cpu_s", "peak_nbytes")
    }
    found["values"] = sorted({r["value"] for r in good})
    found["storage"] = good[len(good) // 2].get("storage", {})
    found["runs"] = len(good)
    return found


def as_markdown(rows: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    """Give the table of all cases."""
    lines = [
        "# Storage",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; medians of "
        "alternating rounds; peak is above what stands after the imports. Load is that of the five "
        "minutes before: over the cores, walls are of use as ratios alone.",
        "",
        "| storage | case | way | wall s | CPU s | peak MB | requests or calls | in flight "
        "| rounds | load |",
        "|---|---|---|--:|--:|--:|---|--:|--:|--:|",
    ]
    for row in rows:
        for way, found in row["ways"].items():
            head = f"| {row['storage']} | {row['name']} | {way} "
            if "wall_s" not in found:
                lines.append(f"{head}| | | | {str(found['why'])[:80]} | | | |")
                continue
            there = found["storage"]
            asked = there.get("requests", there)
            text = ", ".join(f"{n} {k}" for k, n in asked.items() if n)
            flight = (
                f"{there['mean_in_flight']} / {there['most_in_flight']}"
                if "requests" in there
                else ""
            )
            lines.append(
                f"{head}| {found['wall_s']:.2f} | {found['cpu_s']:.2f} | "
                f"{found['peak_nbytes'] / 1e6:.0f} | {text} | {flight} | "
                f"{found['runs']} | {row.get('load', '')} |"
            )
    return "\n".join(lines) + "\n"


def recorded(
    path: Path, rows: list[dict[str, Any]], runs: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Give a record with what was measured now in the place of what it says of these cases."""
    known = json.loads(path.read_text()) if path.exists() else {"rows": [], "runs": []}
    now = {(row["storage"], row["name"]): row for row in rows}
    kept = [r for r in known["rows"] if (r["storage"], r["name"]) not in now]
    cases = {name for _, name in now}
    old = [r for r in known["runs"] if r["case"] not in cases]
    order = {name: n for n, name in enumerate(("s3", "disk", "share"))}
    return sorted([*kept, *rows], key=lambda row: order[row["storage"]]), [*old, *runs]


def main() -> None:
    """Run the cases that are asked for, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage", description=__doc__)
    parser.add_argument("storage", nargs="*", help="s3, disk or share; all by default")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--case", nargs="+", help="names of cases, or parts of them")
    parser.add_argument(
        "--way", nargs="+", help="ours, tensorstore, zarr-obstore, zarr-s3fs, bare …"
    )
    parser.add_argument("--latency", nargs="+", type=int, help="of S3, in ms")
    parser.add_argument(
        "--bandwidth", type=int, default=0, help="MB/s that all answers of S3 share: 125 of 1 Gbit"
    )
    parser.add_argument("--record", action="store_true", help="put what is measured on record")
    parser.add_argument(
        "--disk", type=Path, default=Path("/var/tmp"), help="a folder on a real disk"
    )
    asked = parser.parse_args()
    rows, runs = [], []
    with ExitStack() as stack:
        shm = Path("/dev/shm")
        base = shm if shm.is_dir() else None
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=base)))
        on_disk = Path(tempfile.mkdtemp(dir=asked.disk, prefix="scout-dask-io-"))
        stack.callback(shutil.rmtree, on_disk, ignore_errors=True)
        (work / "here").mkdir()
        (work / "share").mkdir()
        bench = Bench(work, on_disk, stack.enter_context(s3.running()), asked.bandwidth)
        for case in CASES:
            if asked.storage and case.storage not in asked.storage:
                continue
            if asked.case and not any(c in case.name for c in asked.case):
                continue
            why = {"disk": lambda: disk.why_not(on_disk), "share": share.why_not}.get(
                case.storage, lambda: ""
            )()
            if why:
                print(f"{case.storage}, {case.name}: skipped, {why}")
                continue
            bench.prepare(case)
            ways = tuple(w for w in case.ways if not asked.way or w in asked.way)
            for latency in case.latencies_ms:
                if case.storage == "s3" and asked.latency and latency not in asked.latency:
                    continue
                name = f"{case.name}, {latency} ms" if case.storage == "s3" else case.name
                if asked.bandwidth and case.storage == "s3":
                    name += f", {asked.bandwidth} MB/s"
                of_way: dict[str, list[dict[str, Any]]] = {w: [] for w in ways}
                for n, way in rounds(ways, asked.repeat):
                    result = bench.measure(case, way, latency)
                    of_way[way].append(result)
                    runs.append(
                        {**result, "case": name, "storage": case.storage, "way": way, "round": n}
                    )
                    told = f"{result['wall_s']:.2f} s" if "wall_s" in result else str(result)[:300]
                    print(f"{case.storage}, {name}, {way}: {told}", flush=True)
                found = {w: summary(r) for w, r in of_way.items()}
                sums = {v for f in found.values() for v in f.get("values", [])} - {0}
                if len(sums) > 1:
                    raise SystemExit(f"{name}: the ways read different sums: {sums}")
                row = {"storage": case.storage, "name": name, "ways": found}
                rows.append({**row, "load": round(os.getloadavg()[1], 1)})
            for path in (work / "here").glob("array-*"):
                shutil.rmtree(path, ignore_errors=True)
    machine = describe_machine(Path.cwd())
    part = asked.case or asked.way or asked.latency or asked.storage or asked.bandwidth
    stem = "storage-trial" if part and not asked.record else "storage"
    if asked.record:
        rows, runs = recorded(RESULTS / f"{stem}.json", rows, runs)
    document = {"machine": machine, "versions": versions(), "rows": rows, "runs": runs}
    (RESULTS / f"{stem}.json").write_text(json.dumps(document, indent=1))
    (RESULTS / f"{stem}.md").write_text(as_markdown(rows, machine))
    print(as_markdown(rows, machine))


if __name__ == "__main__":
    main()
