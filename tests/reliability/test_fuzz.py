"""Parsers on bytes that anybody may have written: an answer, or an error of ours.

In the slow part atheris looks for inputs that reach lines not reached before, for ``FUZZ_S``
seconds a target; 20 where that is not set. ``pip install atheris`` brings it, from Python 3.11 on.
"""

from __future__ import annotations

import importlib.util
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.targets import TARGETS, quietly
from harness import figure
from mutate import CHUNK_MUTATIONS

HERE = Path(__file__).resolve().parent


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("n", [150, pytest.param(5000, marks=pytest.mark.slow)])
def test_damaged_inputs_are_an_answer_or_an_error_of_ours(name: str, n: int) -> None:
    target, seeds = TARGETS[name]
    one, known, rng = quietly(target), seeds(), random.Random(27)
    for seed in (b"", b"\0", *known):
        one(seed)
    for _ in range(n):
        data = rng.choice(known)
        for _ in range(rng.randint(1, 3)):
            data = rng.choice(CHUNK_MUTATIONS)(data, rng) if data else b"\0"
        one(data)
    figure("damaged inputs of parsers", tried=n, foreign_errors=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TARGETS)
def test_a_fuzzer_that_sees_the_lines_reached_finds_nothing(name: str) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed")
    seconds = os.environ.get("FUZZ_S", "20")
    paths = [str(HERE.parent.parent), str(HERE.parent), str(HERE)]
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", name, seconds],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    tried = re.search(r"number_of_executed_units: *(\d+)", done.stderr)
    assert done.returncode == 0, done.stderr[-4000:]
    assert tried is not None, done.stderr[-4000:]
    figure(f"fuzzed for {seconds} s: {name.replace('_', ' ')}", tried=int(tried[1]), found=0)
