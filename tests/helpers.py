"""Factories of test data: volumes, folders of planes, datasets, and the shared real data."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

REPO = Path(__file__).resolve().parent.parent
SHARED_DATA = REPO.parent / "shared" / "data"


def packs_bits() -> bool:
    """Tell whether imagecodecs packs bits; one that does also reads them by libtiff."""
    try:
        imagecodecs.packints_encode(np.zeros(8, np.uint8), 1)
    except NotImplementedError:
        return False
    return True


def make_volume(shape: Sequence[int], dtype: Any = "u2", seed: int = 0) -> np.ndarray:
    """Give a volume whose planes all differ: random values, with the index of the plane inside.

    The first element of plane ``k`` (counting through all leading axes) is
    ``k + 1``, so a plane out of order shows at once and none is all zeros.
    """
    dtype = np.dtype(dtype)
    shape = tuple(shape)
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        values = rng.random(shape) < 0.5
    elif dtype.kind in "iu":
        top = min(np.iinfo(dtype).max, 2**15)
        values = rng.integers(0, top, shape, dtype=np.int64)
    else:
        values = rng.normal(100, 20, shape)
    volume = values.astype(dtype)
    if volume.ndim > 2 and dtype.kind != "b":
        planes = volume.reshape(-1, *shape[-2:])
        planes[:, 0, 0] = (np.arange(len(planes)) + 1).astype(dtype)
    return volume


def write_planes(
    folder: Path,
    volume: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    **imwrite: Any,
) -> list[Path]:
    """Write each plane of a ``(z, y, x)`` volume as one TIFF file, and give the paths.

    ``names`` are as many as there are planes, ``z0000.tif`` and on by default;
    further keywords go to ``tifffile.imwrite``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if names is None:
        names = [f"z{z:04d}.tif" for z in range(len(volume))]
    paths = [folder / name for name in names]
    imwrite = {"photometric": "minisblack", **imwrite}
    for path, plane in zip(paths, volume, strict=True):
        tifffile.imwrite(path, plane, **imwrite)
    return paths


def write_channels(
    folder: Path,
    volume: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    **imwrite: Any,
) -> list[Path]:
    """Write a ``(c, z, y, x)`` volume as one folder of planes a channel, and give the folders.

    The folders are named ``color_0`` and on by default.
    """
    if names is None:
        names = [f"color_{c}" for c in range(len(volume))]
    folders = [folder / name for name in names]
    for channel, planes in zip(folders, volume, strict=True):
        write_planes(channel, planes, **imwrite)
    return folders


def shared_data(*parts: str) -> Path:
    """Give the path of a piece of the shared real data; the test is skipped where it is absent."""
    path = SHARED_DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs the shared data ../shared/data/{'/'.join(parts)}")
    return path


def python(
    *args: str, cwd: Path | None = None, timeout: float = 120, stdin: str | None = None
) -> str:
    """Run this Python in a child process and give what it printed; a failure shows its errors.

    The child imports the same ``scout_dask_io`` as the tests do, whatever the
    working directory.
    """
    import scout_dask_io

    root = str(Path(scout_dask_io.__file__).parent.parent)
    found = os.environ.get("PYTHONPATH")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, found] if found else [root])}
    done = subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def command(*words: str) -> str:
    """Run the command line in this process and give what it printed; a failure shows its errors."""
    from scout_dask_io.cli import main

    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(words)
    code = ended.value.code
    assert not code, f"exit code {code}\n{out.getvalue()}\n{err.getvalue()}"
    return out.getvalue()


def read_ome(path: Path) -> Any:
    """Give the OME-XML of a file as ome-types reads it, held against the schema where lxml is."""
    ome_types = pytest.importorskip("ome_types")
    return ome_types.from_tiff(path, validate=importlib.util.find_spec("lxml") is not None)


def described(path: Path) -> dict[str, Any]:
    """Give all files of an array or image; of manifests what they say of chunks."""
    found: dict[str, Any] = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if not file.is_file():
            continue
        found[name] = file.read_bytes()
        if file.name == ".scout-manifest":
            head, _, body = found[name].partition(b"\n")
            settings = json.loads(head)["settings"]
            for own in ("source", "passes", "units", "appended"):
                settings.pop(own, None)
            found[name] = settings, body
        elif file.name.startswith(".z") or file.name == "zarr.json":
            found[name] = json.loads(found[name])
            _unname(found[name])
    return found


def _unname(document: Any) -> None:
    """Take the name of an image out, which is that of its folder."""
    ome = document.get("attributes", document)
    ome = ome.get("ome", ome)
    for image in ome.get("multiscales", ()):
        image.pop("name")
    for channel in ome.get("omero", {}).get("channels", ()):
        channel.pop("label")


def figure(test: str, **counts: int) -> None:
    """Note numbers for the table that ``python -m tests.reliability`` prints."""
    file = os.environ.get("RELIABILITY_FIGURES")
    print(f"[{test}] " + ", ".join(f"{k} {v}" for k, v in counts.items()))
    if file:
        with open(file, "a") as out:
            out.write(json.dumps({"test": test, **counts}) + "\n")
