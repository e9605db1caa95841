"""A child process that makes calls, and counts what each opens and scans below a folder.

    python watched.py FOLDER < calls.json

where the calls are an object of statements by their names; each is made in a fork of its own, which
nothing was opened in before.

Events of the interpreter are counted (``sys.addaudithook``), so it does not matter which function
opens a file, or of which module. Prints a JSON object of objects: ``opened``, how often each file
was opened for reading, or would have been if it were there; ``scanned``, how often each directory
was listed; ``tiffs``, how often tifffile was given a file.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import dask
import tifffile

# What calls import is there before they are made, once for all of them.
importlib.import_module("distributed")

import scout_dask_io as io  # noqa: E402


def main(folder: str) -> None:
    for name in io.__all__:
        getattr(io, name)  # what importing opens is not counted
    found = {}
    for name, code in json.load(sys.stdin).items():
        read, write = os.pipe()
        if os.fork() == 0:
            os.close(read)
            with os.fdopen(write, "w") as file:
                json.dump(count(folder, code), file)
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as file:
            found[name] = json.loads(file.read() or "null")
        os.wait()
    print(json.dumps(found))


def count(folder: str, code: str) -> dict[str, Counter[str]]:
    opened, scanned, tiffs = Counter[str](), Counter[str](), Counter[str]()
    root = os.path.join(os.path.realpath(folder), "")

    def place(path: Any) -> str | None:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        text = os.path.join(os.getcwd(), os.fsdecode(path if path is not None else "."))
        return text.removeprefix(root) if f"{text}/".startswith(root) else None

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            # A directory is opened to be synced or locked.
            if not isinstance(path, int) and not flags & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY):
                found = place(path)
                if found is not None:
                    opened[found] += 1
        elif event in ("os.scandir", "os.listdir"):
            found = place(arguments[0])
            if found is not None:
                scanned[found] += 1

    real = tifffile.TiffFile.__init__

    def counting(self: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        tiffs[type(self).__name__] += 1
        real(self, file, *args, **kwargs)

    tifffile.TiffFile.__init__ = counting
    with dask.config.set(scheduler="synchronous"):
        sys.addaudithook(hook)
        exec(code, {"io": io, "here": Path(folder), "ROOM": {"nb_workers": 1, "max_mem": "100MB"}})
    return {"opened": opened, "scanned": scanned, "tiffs": tiffs}


if __name__ == "__main__":
    main(sys.argv[1])
