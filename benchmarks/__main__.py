"""``python -m benchmarks``: make the data, run us and every peer in turn, write the results."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders import CONTENDERS
from benchmarks.layouts import SIZES, Case, all_cases
from benchmarks.machine import describe_machine
from benchmarks.report import one_line, write_report
from benchmarks.runner import Run, Settings, contenders_of, run_case


def _parser() -> argparse.ArgumentParser:
    memory_disk = Path("/dev/shm")
    cases = [case.name for case in all_cases(SIZES["full"])]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="rounds (default 5)")
    parser.add_argument("--case", nargs="+", choices=cases, default=[], metavar="NAME")
    parser.add_argument(
        "--contender",
        nargs="+",
        choices=[c.name for c in CONTENDERS],
        default=[],
        metavar="NAME",
    )
    parser.add_argument("--list", action="store_true", help="list cases and contenders, and end")
    parser.add_argument("-n", "--workers", type=int, default=2, help="threads or processes")
    parser.add_argument(
        "--dir",
        type=Path,
        default=memory_disk if memory_disk.is_dir() else None,
        help="where data and outputs lie while it runs (default /dev/shm)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the data for the next run")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--check", choices=("first", "all", "none"), default="first")
    parser.add_argument("--timeout", type=float, default=900.0, metavar="SECONDS")
    parser.add_argument("--zarr2-python", default="", metavar="PATH", help="Python with zarr 2.18")
    parser.add_argument(
        "--stack-to-chunk-python",
        default="",
        metavar="PATH",
        help="Python with stack-to-chunk, whose exact pins want an environment of their own",
    )
    return parser


def _list(size: str) -> None:
    for case in all_cases(SIZES[size]):
        print(f"{case.name:22} {case.planes.shape}: {case.isolates}")
        print(f"{'':22} {', '.join(c.name for c in contenders_of(case))}")
    print()
    for contender in CONTENDERS:
        print(f"{contender.name:22} {contender.what}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 if a run failed or gave wrong data."""
    parser = _parser()
    given = parser.parse_args(argv)
    if given.repeat < 1 or given.workers < 1:
        parser.error("--repeat and --workers must be at least 1")
    if given.list:
        _list(given.size)
        return 0
    if given.dir is None:
        parser.error("there is no /dev/shm here: name a folder with --dir")
    # One folder a user, so that --keep finds the data again.
    workdir = given.dir / f"scout-dask-io-benchmarks-{os.getuid()}"
    workdir.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        workdir,
        given.repeat,
        given.workers,
        given.check,
        given.timeout,
        {"zarr2": given.zarr2_python, "stack-to-chunk": given.stack_to_chunk_python},
    )
    machine = describe_machine(workdir)
    runs: list[Run] = []
    cases = [c for c in all_cases(SIZES[given.size]) if not given.case or c.name in given.case]
    try:
        for case in cases:
            contenders = contenders_of(case, given.contender)
            for run in run_case(case, contenders, settings, lambda line: print(line, flush=True)):
                runs.append(run)
                print(one_line(run), flush=True)
            if not given.keep:
                _drop_unused(workdir / "data", cases[cases.index(case) + 1 :])
    finally:
        if runs:
            # A choice of contenders is a trial: it must not replace a whole record.
            stem = f"{given.size}-trial" if given.contender else given.size
            for path in write_report(given.results, stem, cases, runs, machine, settings):
                print(f"wrote {path}")
        if not given.keep:
            shutil.rmtree(workdir, ignore_errors=True)
    return 1 if any(run.is_wrong for run in runs) else 0


def _drop_unused(data: Path, coming: Sequence[Case]) -> None:
    """Remove the data that no later case needs: a memory-backed disk is not large."""
    keys = {case.planes.key for case in coming}
    for entry in list(data.glob("*")):
        if not any(entry.name.startswith(key) for key in keys):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()


if __name__ == "__main__":
    sys.exit(main())
