"""The examples in the docstrings run and give what they say.

They run on the package that the tests import, the installed one on a fresh
machine; pytest's own ``--doctest-modules`` would collect the checkout's.
"""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import numpy as np
import pytest

import scout_dask_io

MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(scout_dask_io.__path__, "scout_dask_io.")
    if not m.name.endswith("__main__")
)


# What numpy's documentation takes for granted in an example.
GLOBALS = {"np": np}


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_docstrings_run(name: str, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(
        import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE, extraglobs=GLOBALS
    )
    assert found.failed == 0, f"{found.failed} of {found.attempted} examples fail in {name}"


def test_examples_are_found():
    assert doctest.testmod(import_module("scout_dask_io.core.grid")).attempted > 0
