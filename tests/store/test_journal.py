"""The journal: lines that are whole count, torn ones never do."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scout_dask_io.store.journal import CHUNK_RECORD, append_unit, read_units


def records(unit: int, count: int = 3) -> np.ndarray:
    found = np.zeros(count, CHUNK_RECORD)
    found["nbytes"] = np.arange(count) + 10 * unit
    found["crc32c"] = 2**32 - 1 - found["nbytes"]
    return found


def test_units_come_back_with_their_records(tmp_path: Path) -> None:
    for unit in (0, 7, 3):
        append_unit(tmp_path, unit, records(unit), durable=unit == 7)
    found = read_units(tmp_path)
    assert set(found) == {0, 3, 7}
    for unit, got in found.items():
        assert got.dtype == CHUNK_RECORD
        np.testing.assert_array_equal(got, records(unit))


def test_a_unit_without_chunks_is_finished_too(tmp_path: Path) -> None:
    append_unit(tmp_path, 2, records(2, 0))
    assert read_units(tmp_path)[2].shape == (0,)


def test_an_empty_journal_has_no_units(tmp_path: Path) -> None:
    assert read_units(tmp_path) == {}
    (tmp_path / "other.txt").write_text("x")
    assert read_units(tmp_path) == {}


def test_a_unit_that_is_written_again_counts_once(tmp_path: Path) -> None:
    append_unit(tmp_path, 1, records(1))
    append_unit(tmp_path, 1, records(5))
    np.testing.assert_array_equal(read_units(tmp_path)[1], records(5))


@given(st.data())
def test_a_line_torn_anywhere_takes_no_other_with_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    journal = tmp_path_factory.mktemp("journal")
    append_unit(journal, 0, records(0))
    (log,) = journal.iterdir()
    kept = log.stat().st_size
    append_unit(journal, 1, records(1))
    whole = log.stat().st_size
    cut = data.draw(st.integers(kept, whole - 2))  # before the newline that ends the line
    with log.open("r+b") as file:
        file.truncate(cut)
    assert set(read_units(journal)) == {0}
    append_unit(journal, 2, records(2))
    found = read_units(journal)
    assert set(found) == {0, 2}
    np.testing.assert_array_equal(found[2], records(2))


@given(st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_never_makes_a_unit(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    journal = tmp_path_factory.mktemp("journal")
    append_unit(journal, 5, records(5))
    (log,) = journal.iterdir()
    raw = bytearray(log.read_bytes())
    raw[at % len(raw)] ^= 1 << bit
    log.write_bytes(raw)
    for unit, got in read_units(journal).items():
        assert unit == 5
        np.testing.assert_array_equal(got, records(5))


def test_every_thread_has_a_file_of_its_own(tmp_path: Path) -> None:
    meet = threading.Barrier(4)

    def work(unit: int) -> None:
        meet.wait(30)
        for k in range(20):
            append_unit(tmp_path, unit * 100 + k, records(unit))
        meet.wait(30)

    threads = [threading.Thread(target=work, args=(u,)) for u in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(list(tmp_path.glob("*.log"))) == 4
    assert set(read_units(tmp_path)) == {u * 100 + k for u in range(4) for k in range(20)}


def test_a_journal_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        append_unit(tmp_path / "gone", 0, records(0))
    assert list(tmp_path.iterdir()) == []
