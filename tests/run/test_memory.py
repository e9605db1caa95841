"""Sizes in bytes from what people write, and the default share of the free memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from scout_dask_io.errors import ArgumentError
from scout_dask_io.run import memory
from scout_dask_io.run.memory import default_max_mem, parse_nbytes, resolve_max_mem


@pytest.mark.parametrize(
    ("value", "nbytes"),
    [
        (1, 1),
        (2_000_000_000, 2_000_000_000),
        (np.int64(500), 500),
        ("2GB", 2 * 10**9),
        ("512MiB", 512 * 2**20),
        ("1.5 kB", 1500),
        ("750", 750),
        (2.5e9, 2_500_000_000),
    ],
)
def test_parse_nbytes_takes_numbers_and_texts(value: Any, nbytes: int) -> None:
    found = parse_nbytes(value)
    assert found == nbytes
    assert type(found) is int


@pytest.mark.parametrize(
    "value",
    [0, -1, "-2GB", "0", "lots", "", "MB", None, True, False, [1], 0.5, float("nan"), float("inf")],
)
def test_parse_nbytes_refuses_what_is_no_size(value: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_nbytes(value)
    assert repr(value) in str(caught.value)


def test_default_max_mem_is_a_quarter_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4000))
    monkeypatch.setattr(Path, "read_text", lambda self: "max\n")
    assert default_max_mem() == 1000
    assert resolve_max_mem(None) == 1000


def test_default_max_mem_keeps_within_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4000))
    monkeypatch.setattr(Path, "read_text", lambda self: "800\n")
    assert default_max_mem() == 800 // memory.FREE_SHARE


@pytest.mark.parametrize(
    ("folder", "names", "cached"),
    [
        ("", ("memory.max", "memory.current", "memory.stat"), "inactive_file"),
        (
            "memory/",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),
            "total_inactive_file",
        ),
    ],
)
def test_default_max_mem_leaves_out_what_a_container_uses_but_for_files_in_the_cache(
    monkeypatch: pytest.MonkeyPatch, folder: str, names: tuple[str, str, str], cached: str
) -> None:
    texts = ("8000\n", "7000\n", f"anon 6000\n{cached} 1000\nfile 1000\n")
    there = {
        f"/sys/fs/cgroup/{folder}{name}": text for name, text in zip(names, texts, strict=True)
    }

    def read_text(self: Path) -> str:
        if str(self) not in there:
            raise FileNotFoundError(self)
        return there[str(self)]

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=40_000))
    monkeypatch.setattr(Path, "read_text", read_text)
    assert default_max_mem() == (8000 - 6000) // memory.FREE_SHARE
    # What is used alone is not known: the limit counts.
    for name in list(there)[1:]:
        del there[name]
    assert default_max_mem() == 8000 // memory.FREE_SHARE


def test_default_max_mem_does_without_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Path) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4000))
    monkeypatch.setattr(Path, "read_text", missing)
    assert default_max_mem() == 1000


def test_resolve_max_mem_takes_the_callers_word() -> None:
    assert resolve_max_mem("3MB") == 3_000_000
    assert resolve_max_mem(17) == 17
