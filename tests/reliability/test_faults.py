"""Fault sweep: the n-th file operation fails, for every n until a run has no fault.

Whatever fails, and however: an error of the library that names a path, or success;
at the final name nothing, the old and whole, or the new and whole; everything else
in the folder byte for byte as it was; and the same call goes through afterwards.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
from faults import ERRNOS, Faults, injected
from harness import figure, litter, tree
from helpers import make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.store import staging as publishing

OLD = make_volume((2, 5, 7), seed=1)
NEW = make_volume((2, 17, 20), seed=2)
CHUNKS = (2, 16, 16)


@dataclass(frozen=True)
class Case:
    """One job: what stands before, the call, its name under the folder, what it may leave."""

    name: str
    target: str
    before: Callable[[Path], None]
    call: Callable[[Path, bool], Any]
    state: Callable[[Path], str]
    #: Where the job may change things, also when it fails.
    own: tuple[str, ...]


def _zarr_state(path: Path) -> str:
    if not path.exists():
        return "absent"
    try:
        return which(io.read_zarr(path).compute())
    except io.ScoutIOError:
        return "wrong"


def _tiff_state(path: Path) -> str:
    return which(tifffile.imread(path)) if path.exists() else "absent"


def which(found: np.ndarray) -> str:
    for name, expected in (("old", OLD), ("new", NEW)):
        if found.shape == expected.shape and (found == expected).all():
            return name
    return "wrong"


def _planes_state(path: Path) -> str:
    files = sorted(p for p in path.glob("*.tif")) if path.exists() else []
    for k, file in enumerate(files):
        if not (tifffile.imread(file) == NEW[int(file.stem[1:])]).all():
            return "wrong"
        assert k < 2
    return "new" if len(files) == 2 else "part" if files else "absent"


def _write(path: Path, data: Any, **settings: Any) -> None:
    io.write_zarr(path, data, CHUNKS, nb_workers=1, max_mem="1GB", **settings)


def _nothing(root: Path) -> None:
    pass


def _scratch(path: Path, again: bool) -> None:
    lazy = da.from_array(NEW, chunks=(1, 17, 20)) + 0
    io.write_zarr(path, lazy, CHUNKS, nb_workers=1, max_mem=20_000, resume=again)


def _two_renames(path: Path, again: bool) -> None:
    # As where the system cannot let two directories change places.
    with patch.object(publishing, "exchange", lambda a, b: False):
        _write(path, NEW, overwrite=True, resume=again)


def _planes(root: Path) -> None:
    write_planes(root / "src", NEW)


def _stored(root: Path) -> None:
    _write(root / "src.zarr", NEW)


def _convert(path: Path, again: bool) -> None:
    from scout_dask_io.jobs.convert import convert

    convert(path.parent / "src", path, chunks=CHUNKS, resume=again, nb_workers=1, max_mem="1GB")


def _convert_qc(path: Path, again: bool) -> None:
    from scout_dask_io.jobs.convert import convert

    convert(path.parent / "src", path, chunks=CHUNKS, resume=again, nb_workers=1, max_mem="1GB",
            qc=True)  # fmt: skip


def _qc_state(path: Path) -> str:
    """What stands, with its sheet: files beside nothing are wrong, and half of them a part."""
    state = _zarr_state(path)
    sheet = [Path(f"{path}.qc.{kind}") for kind in ("json", "html")]
    n = sum(p.exists() for p in sheet)
    if state == "absent":
        return "wrong" if n else state
    if n == 2:
        json.loads(sheet[0].read_text())
        whole = sheet[1].read_text().endswith("</html>\n")
        return state if whole else "wrong"
    return "part"


def _export(path: Path, again: bool) -> None:
    io.export(path.parent / "src.zarr", path, overwrite=again, nb_workers=1)


CASES = [
    Case(
        "write_zarr",
        "a.zarr",
        _nothing,
        lambda path, again: _write(path, NEW, resume=again),
        _zarr_state,
        ("a.zarr", ".a.zarr.scout-partial"),
    ),
    Case(
        "write_zarr_durable",
        "a.zarr",
        _nothing,
        lambda path, again: _write(path, NEW, resume=again, durable=True),
        _zarr_state,
        ("a.zarr", ".a.zarr.scout-partial"),
    ),
    Case(
        "write_zarr_overwrite",
        "a.zarr",
        lambda root: _write(root / "a.zarr", OLD),
        lambda path, again: _write(path, NEW, overwrite=True, resume=again),
        _zarr_state,
        ("a.zarr", ".a.zarr.scout-partial"),
    ),
    Case(
        "write_zarr_two_renames",
        "a.zarr",
        lambda root: _write(root / "a.zarr", OLD),
        _two_renames,
        _zarr_state,
        ("a.zarr", ".a.zarr.scout-partial"),
    ),
    Case(
        "write_zarr_scratch",
        "a.zarr",
        _nothing,
        _scratch,
        _zarr_state,
        ("a.zarr", ".a.zarr.scout-partial"),
    ),
    Case(
        "imsave",
        "a.tif",
        lambda root: tifffile.imwrite(root / "a.tif", OLD),
        lambda path, again: io.imsave(path, da.from_array(NEW, chunks=(1, 17, 20))),
        _tiff_state,
        ("a.tif",),
    ),
    Case("export_file", "a.tif", _stored, _export, _tiff_state, ("a.tif",)),
    Case("export_planes", "planes", _stored, _export, _planes_state, ("planes",)),
    Case(
        "convert",
        "a.zarr",
        _planes,
        _convert,
        _zarr_state,
        ("a.zarr", ".a.zarr.scout-partial"),
    ),
    Case(
        "convert_qc",
        "a.zarr",
        _planes,
        _convert_qc,
        _qc_state,
        ("a.zarr", ".a.zarr.scout-partial", "a.zarr.qc.json", "a.zarr.qc.html"),
    ),
]
EVERYDAY = {
    "write_zarr": ("ENOSPC", "EMFILE"),
    "write_zarr_durable": ("EIO",),
    "write_zarr_overwrite": ("EACCES",),
    "write_zarr_two_renames": (),
    "write_zarr_scratch": (),
    "imsave": ("ENOSPC",),
    "export_file": ("ENOSPC",),
    "export_planes": ("ENOSPC",),
    "convert": ("EIO",),
    "convert_qc": ("ENOSPC",),
}
#: Of which each seventh operation fails in the everyday run.
LONGEST = "convert_qc"


def sweep(case: Case, number: int, root: Path, step: int = 1) -> tuple[int, int, list[str]]:
    """Fail the first operation of a job, then one ``step`` later, and so on to the last.

    Gives runs, errors and what was wrong.
    """
    errors = 0
    wrong: list[str] = []
    for n_runs, nth in enumerate(range(1, 1000, step)):
        folder = root / f"run-{nth}"
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("mine")
        (folder / "other.zarr").mkdir()
        (folder / "other.zarr" / ".zarray").write_text("{}")
        case.before(folder)
        path = folder / case.target
        bystanders = tree(folder, leave_out=case.own)
        before = case.state(path)
        faults = Faults(folder, nth, number)
        error: BaseException | None = None
        with injected(faults), dask.config.set(scheduler="sync"):
            try:
                case.call(path, False)
            except Exception as err:
                error = err
        if faults.hit is None:
            assert error is None
            assert case.state(path) == "new"
            return n_runs, errors, wrong
        errors += error is not None
        found = problems(case, folder, before, error)
        if tree(folder, leave_out=case.own) != bystanders:
            found.append("bystanders changed")
        wrong += [f"{case.name}: operation {nth} {faults.hit}: {p}" for p in found]
        shutil.rmtree(folder)
    raise AssertionError("the sweep does not end")


def problems(case: Case, folder: Path, before: str, error: BaseException | None) -> list[str]:
    """Give what is wrong after a fault, and after the call was repeated without one."""
    path, found = folder / case.target, []
    state = case.state(path)
    if error is None:
        # What only tidies up may fail unnoticed.
        if state != "new":
            return [f"no error, and {state} at the final name"]
    else:
        if not isinstance(error, io.ScoutIOError):
            found.append(f"not one of the library's errors: {error!r}")
        if str(folder) not in str(error):
            found.append(f"names no path: {error!r}")
        if state not in (before, "new", "part"):
            found.append(f"{state} at the final name")
        try:
            case.call(path, True)
        except Exception as err:
            if not (isinstance(err, io.TargetExistsError) and state == "new"):
                found.append(f"repeated after {error!r}: {err!r}")
        if case.state(path) != "new":
            found.append(f"{case.state(path)} after the call was repeated")
    left = [n for n in litter(folder, case.target) if not n.endswith(".scout-partial")]
    left += litter(folder, case.target) if error is not None else []
    if left:
        found.append(f"left behind: {left}, after {error!r}")
    return found


def _params() -> list[Any]:
    every = [
        pytest.param(
            case,
            name,
            1,
            id=f"{case.name}-{name}",
            marks=() if name in EVERYDAY[case.name] and case.name != LONGEST else pytest.mark.slow,
        )
        for case in CASES
        for name in ERRNOS
    ]
    longest = next(case for case in CASES if case.name == LONGEST)
    return [
        *every,
        *(
            pytest.param(longest, name, 7, id=f"{LONGEST}-{name}-every-7")
            for name in EVERYDAY[LONGEST]
        ),
    ]


@pytest.mark.parametrize(("case", "name", "step"), _params())
def test_rows_01_05_06_whatever_operation_fails_nothing_is_lost(
    case: Case, name: str, step: int, tmp_path: Path
):
    points, errors, wrong = sweep(case, ERRNOS[name], tmp_path, step)
    figure("faults", points=points, errors=errors, wrong=len(wrong))
    assert points > 10
    assert errors > 5
    assert not wrong, "\n".join(wrong)


def test_the_sweep_finds_a_writer_that_writes_in_place(tmp_path: Path):
    def in_place(path: Path, again: bool) -> None:
        import zarr

        z = zarr.open_array(path, mode="w", shape=NEW.shape, chunks=CHUNKS, dtype=NEW.dtype,
                            zarr_format=2)  # fmt: skip
        z[:] = NEW

    naive = Case(
        "naive", "a.zarr", lambda root: _write(root / "a.zarr", OLD), in_place, _zarr_state,
        ("a.zarr",),
    )  # fmt: skip
    points, _, wrong = sweep(naive, ERRNOS["ENOSPC"], tmp_path)
    assert points > 10
    assert any("wrong at the final name" in w for w in wrong)
