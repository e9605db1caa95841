"""A network share, made by a library that delays the calls of a process: see ``share.c``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("share.c")


def why_not() -> str:
    """Say why a share cannot be made here; empty where it can."""
    if os.name != "posix" or not shutil.which("cc"):
        return "needs a C compiler"
    return ""


def compile_into(folder: Path) -> Path:
    """Compile the library and give its path."""
    library = folder / "share.so"
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    subprocess.run([*command, "-ldl", "-lpthread"], check=True)
    return library


def environment(
    library: Path, root: Path, counts: Path, meta_us: int = 2000, data_us: int = 1000
) -> dict[str, str]:
    """Give the environment of a process for which files below ``root`` lie on a share."""
    return {
        "LD_PRELOAD": str(library),
        "SHARE_ROOT": str(root),
        "SHARE_COUNTS": str(counts),
        "SHARE_META_US": str(meta_us),
        "SHARE_DATA_US": str(data_us),
    }


def read_counts(path: Path) -> dict[str, int]:
    """Give the calls by kind that the processes made, summed; the file is removed."""
    found: dict[str, int] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            words = line.split()
            for kind, n in zip(words[::2], words[1::2], strict=True):
                found[kind] = found.get(kind, 0) + int(n)
        path.unlink()
    return found
