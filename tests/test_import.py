"""Importing the package is quick, complete and without side effects."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
from helpers import make_volume, python, write_planes

import scout_dask_io

PUBLIC = sorted(n for n in scout_dask_io.__all__ if n != "__version__")

# What a program that only imports the package should not have to wait for.
HEAVY = (
    "dask",
    "distributed",
    "imagecodecs",
    "matplotlib",
    "numcodecs",
    "numpy",
    "tensorstore",
    "tifffile",
    "zarr",
)
# What only the command line, a cluster or an extra needs.
NOT_FOR_THE_LIBRARY = (
    "click",
    "distributed",
    "IPython",
    "matplotlib",
    "pytest",
    "tensorstore",
    "tqdm",
    "zarrs",
)


def test_import_loads_none_of_the_libraries():
    code = f"import sys, scout_dask_io; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert python("-c", code).strip() == "[]"


def test_using_every_name_loads_nothing_that_only_faces_or_extras_need():
    code = (
        "import sys, scout_dask_io as io\n"
        "for name in io.__all__: getattr(io, name)\n"
        f"print([m for m in {NOT_FOR_THE_LIBRARY!r} if m in sys.modules])"
    )
    assert python("-c", code).strip() == "[]"


def test_loading_every_name_changes_no_global_setting():
    # The libraries come first, so that what they set themselves is not ours.
    code = """
import copy, logging, os, signal, sys, threading, warnings
import dask, dask.array, imagecodecs, numcodecs.blosc, numpy, tifffile, zarr, zarr.storage
import scout_dask_io as io

def snapshot():
    return {
        "blosc threads": numcodecs.blosc.use_threads,
        "blosc count": numcodecs.blosc.get_nthreads(),
        "codecs": sorted(numcodecs.registry.codec_registry),
        "dask": copy.deepcopy(dask.config.config),
        "zarr": copy.deepcopy(zarr.config.config),
        "handlers": {n: list(getattr(l, "handlers", ())) + [l.level]
                     for n, l in logging.root.manager.loggerDict.items()
                     if isinstance(l, logging.Logger) and not n.startswith("scout_dask_io")},
        "root handlers": (list(logging.root.handlers), logging.root.level),
        "filters": list(warnings.filters),
        "environment": dict(os.environ),
        "path": list(sys.path),
        "threads": threading.active_count(),
        "interrupt": signal.getsignal(signal.SIGINT),
        "hook": sys.excepthook,
    }

before = snapshot()
for name in io.__all__:
    getattr(io, name)
after = snapshot()
print([k for k in before if before[k] != after[k]])
print(logging.getLogger("scout_dask_io").handlers)
"""
    assert python("-c", code).splitlines() == ["[]", "[]"]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_documented(name: str):
    value = getattr(scout_dask_io, name)
    assert value.__name__ == name
    assert value.__doc__
    assert name in dir(scout_dask_io)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'imred'"):
        _ = scout_dask_io.imred
    assert not hasattr(scout_dask_io, "imred")


def test_type_checkers_see_the_names_that_are_loaded():
    tree = ast.parse(Path(scout_dask_io.__file__).read_text())
    (block,) = [n for n in tree.body if isinstance(n, ast.If)]
    seen = {a.asname: n.module for n in block.body for a in n.names}
    assert seen == {n: f"scout_dask_io.{home}" for n, home in scout_dask_io._HOME_OF.items()}


def test_every_error_is_public():
    errors = importlib.import_module("scout_dask_io.errors")
    names = {n for n, v in vars(errors).items() if getattr(v, "__module__", "") == errors.__name__}
    assert len(names) > 10
    assert names <= set(PUBLIC)


def test_the_types_are_shipped():
    assert Path(scout_dask_io.__file__).with_name("py.typed").is_file()


def test_the_version_is_a_release_number():
    assert [part.isdigit() for part in scout_dask_io.__version__.split(".")] == [True] * 3


def test_a_conversion_on_threads_imports_no_distributed(tmp_path: Path):
    write_planes(tmp_path / "planes", make_volume((3, 9, 10)))
    code = (
        "import sys, scout_dask_io as io\n"
        "io.write_zarr('a.zarr', io.imread_folder('planes'), 4)\n"
        "io.convert('planes', 'b.zarr')\n"
        "print('distributed' in sys.modules)"
    )
    assert python("-c", code, cwd=tmp_path).strip() == "False"
