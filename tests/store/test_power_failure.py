"""With ``durable``, whatever a power failure takes, what stands is old or new, and goes on.

A run is replayed: after each sync, what a disk would hold that lost all that was not synced, and
what one would hold that kept every name, but no contents that were not synced.
"""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.errors import PathNotFoundError, ScoutIOError

#: Contents by relative path; ``None`` is a directory.
Tree = dict[str, bytes | None]
SHAPE, CHUNKS = (4, 6, 8), (2, 6, 4)


class Disk:
    """What was synced below a folder; all that lies there at first is."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.files: dict[int, bytes] = {}
        self.folders: dict[int, dict[str, int]] = {}
        self.held: list[int] = []  # inodes are not given twice while they are open
        self.states: list[Tree] = []
        for here, _, names in os.walk(root):
            for path in (here, *(os.path.join(here, name) for name in names)):
                self._take(os.open(path, os.O_RDONLY))
        real = os.fsync

        def fsync(fd: int) -> None:
            real(fd)
            if os.readlink(f"/proc/self/fd/{fd}").startswith(str(root)):
                self._take(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))
                self.states += [self._synced(), self._named()]

        monkeypatch.setattr(os, "fsync", fsync)

    def _take(self, fd: int) -> None:
        self.held.append(fd)
        found = os.fstat(fd)
        if not stat.S_ISDIR(found.st_mode):
            self.files[found.st_ino] = os.pread(fd, found.st_size, 0)
            return
        self.folders[found.st_ino] = {}
        for name in os.listdir(fd):
            self.held.append(os.open(name, os.O_RDONLY, dir_fd=fd))
            child = os.fstat(self.held[-1])
            self.folders[found.st_ino][name] = child.st_ino
            if stat.S_ISDIR(child.st_mode):
                self.folders.setdefault(child.st_ino, {})

    def _synced(self) -> Tree:
        tree: Tree = {}
        queue = [("", self.root.stat().st_ino)]
        while queue:
            above, inode = queue.pop()
            for name, child in self.folders[inode].items():
                path = f"{above}{name}"
                if child in self.folders:
                    tree[path] = None
                    queue.append((f"{path}/", child))
                else:
                    tree[path] = self.files.get(child, b"")
        return tree

    def _named(self) -> Tree:
        return {
            path.relative_to(self.root).as_posix(): None
            if path.is_dir()
            else self.files.get(path.stat().st_ino, b"")
            for path in self.root.rglob("*")
        }

    def close(self) -> None:
        for fd in self.held:
            os.close(fd)


def _laid_out(tree: Tree, root: Path) -> None:
    root.mkdir()
    for name in sorted(tree):
        content = tree[name]
        if content is None:
            (root / name).mkdir(parents=True, exist_ok=True)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)


OLD, NEW = make_volume(SHAPE, seed=1), make_volume(SHAPE, seed=2)
REGION = np.s_[2:4]
CASES: dict[str, dict[str, Any]] = {
    "new": {},
    "over": {"overwrite": True},
    "qc": {"qc": True},
    "image": {"levels": 2, "axes": "zyx"},
    "region": {"region": REGION},
}


def _write(path: Path, case: str, **how: Any) -> None:
    data = da.from_array(NEW, chunks=CHUNKS, name="new") + np.zeros((), "u2")
    given = {"nb_workers": 1, "durable": True, **CASES[case], **how}
    if case == "image":
        io.write_ome_zarr(path, data, CHUNKS, **given)
    elif case == "region":
        io.write_zarr(path, data[REGION], **given)
    else:
        io.write_zarr(path, data, CHUNKS, **given)


def _standing(path: Path) -> np.ndarray | None:
    try:
        return io.read_zarr(path).compute(scheduler="sync")
    except PathNotFoundError:
        return None


@pytest.mark.parametrize("case", CASES)
def test_whatever_was_not_synced_is_lost_what_stands_is_old_or_new_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    replaces = case in ("over", "region")
    if replaces:
        io.write_zarr(root / "a.zarr", OLD, CHUNKS)
    with monkeypatch.context() as patch:
        disk = Disk(root, patch)
        _write(root / "a.zarr", case)
        disk.states.append(disk._synced())
        disk.close()
    states = [s for k, s in enumerate(disk.states) if s not in disk.states[:k]]
    assert len(states) > 10
    for k, tree in enumerate(states):
        path = tmp_path / str(k) / "a.zarr"
        _laid_out(tree, path.parent)
        found = _standing(path)
        if case == "region":
            _check_region(path, found)
            continue
        allowed = [NEW, OLD] if replaces else [NEW, None]
        assert any(np.array_equal(found, each) for each in allowed), f"state {k}"
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a journal that lies would be told of
            _write(path, case, resume=True)
        assert np.array_equal(_standing(path), NEW)
        assert io.verify(path).ok
        assert path.with_name("a.zarr.qc.json").exists() == (case == "qc")
    # When the call has returned, all of it is on the disk.
    assert np.array_equal(_standing(path), NEW if case != "region" else _half())


def _half() -> np.ndarray:
    return np.concatenate([OLD[:2], NEW[2:]])


def _check_region(path: Path, found: np.ndarray | None) -> None:
    """Each chunk is old or new, and the manifest is right about all that it knows."""
    assert found is not None
    for at in (np.s_[:2], np.s_[2:, :, :4], np.s_[2:, :, 4:]):
        assert np.array_equal(found[at], OLD[at]) or np.array_equal(found[at], _half()[at])
    try:
        report = io.verify(path)
    except ScoutIOError as err:  # pragma: no cover
        raise AssertionError("the manifest is damaged") from err
    assert (report.n_corrupt, report.n_missing, report.n_extra) == (0, 0, 0)  # type: ignore[union-attr]
    _write(path, "region")
    assert io.verify(path).ok
    assert np.array_equal(_standing(path), _half())
