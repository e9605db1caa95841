"""Work is done ahead in order, as far as asked for, and not beyond the end of interest."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from scout_dask_io.core.threads import work_ahead


@pytest.mark.parametrize(("n_threads", "n_ahead"), [(0, 0), (1, 1), (3, 3), (3, 7), (9, 40)])
def test_results_come_in_order(n_threads: int, n_ahead: int):
    assert list(work_ahead(lambda k: k * k, range(20), n_threads, n_ahead)) == [
        k * k for k in range(20)
    ]


def test_no_more_items_are_taken_than_may_be_under_way():
    taken: list[int] = []

    def items() -> Iterator[int]:
        for k in range(20):
            taken.append(k)
            yield k

    results = work_ahead(lambda k: k, items(), 3, 4)
    assert next(results) == 0
    assert taken == [0, 1, 2, 3]
    assert next(results) == 1
    assert taken == [0, 1, 2, 3, 4]
    results.close()
    assert taken == [0, 1, 2, 3, 4]


def test_items_are_worked_on_at_once():
    pair = threading.Barrier(2)
    waited = work_ahead(lambda k: pair.wait(timeout=30) >= 0, range(4), 2, 2)
    assert list(waited) == [True] * 4


def test_an_error_of_the_items_comes_after_the_results_of_those_before_it():
    def items() -> Iterator[int]:
        yield from range(3)
        raise ValueError("no more")

    found = []
    with pytest.raises(ValueError, match="no more"):
        found.extend(work_ahead(lambda k: k, items(), 2, 5))
    assert found == [0, 1, 2]


@pytest.mark.parametrize(("n_ahead", "is_own"), [(1, True), (2, False)])
def test_with_one_at_a_time_the_thread_that_asks_does_the_work(n_ahead: int, is_own: bool):
    threads = set(work_ahead(lambda _: threading.get_ident(), range(5), 1, n_ahead))
    assert (threads == {threading.get_ident()}) == is_own


def test_an_error_comes_in_its_turn_and_ends_the_work():
    begun: list[int] = []

    def work(k: int) -> int:
        begun.append(k)
        if k == 2:
            raise ValueError("two")
        return k

    results = work_ahead(work, range(50), 2, 3)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
    assert max(begun) <= 5
