"""Progress: a bar on a terminal, quiet lines in a log, silence, or a call."""

from __future__ import annotations

import io
import json
import re
import sys
import threading

import pytest

from scout_dask_io.errors import ArgumentError
from scout_dask_io.run.progress import Events, Followed, _Lines, following, reporting, say


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines_of(reports: list[tuple[float, int, int, int]]) -> list[str]:
    """Give what is printed for reports of ``(time, done, total, nbytes)``."""
    out, clock = io.StringIO(), Clock()
    lines = _Lines("write", out, clock)
    for at_s, done, total, nbytes in reports:
        clock.now = 100.0 + at_s
        lines.update(done, total, nbytes)
    return out.getvalue().splitlines()


def test_false_gives_nothing_to_call():
    with reporting(False, "write") as report:
        assert report is None


def test_a_callable_is_called_as_it_is(capfd: pytest.CaptureFixture[str]):
    calls = []

    def count(done: int, total: int, nbytes: int) -> None:
        calls.append((done, total, nbytes))

    with reporting(count, "write") as report:
        assert report is count
        report(1, 2, 300)
    assert calls == [(1, 2, 300)]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_anything_else_is_refused(value: object):
    with (
        pytest.raises(ArgumentError, match=re.escape(f"got {value!r}")),
        reporting(value, "write"),  # type: ignore[arg-type]
    ):
        pass


def test_a_log_gets_ten_lines_at_most_after_how_long_it_takes():
    reports = [(10.0 * n, n, 1000, n * 10**6) for n in range(1001)]
    first, *lines = lines_of(reports)
    assert first == "write: 1,000 units, of which the first 3 took 30 s: about 2 h 46 min left"
    assert [line.split(",")[0] for line in lines] == [f"write {p} %" for p in range(10, 101, 10)]


def test_lines_say_units_bytes_rate_and_the_time_left():
    lines = lines_of([(0, 0, 30, 0), (10, 6, 30, 1_500_000_000), (50, 30, 30, 7_500_000_000)])
    assert lines == [
        "write 20 %, 6 of 30 units, 1.5 GB, 150 MB/s, about 40 s left",
        "write 100 %, 30 of 30 units, 7.5 GB, 150 MB/s, took 50 s",
    ]


def test_a_short_job_gets_one_line():
    lines = lines_of([(0.1 * n, n, 10, n * 10**6) for n in range(11)])
    assert lines == ["write 100 %, 10 of 10 units, 10 MB, 10 MB/s, took 1 s"]


def test_units_of_an_earlier_run_do_not_count_towards_the_rate():
    # 20 of 30 were there; five more took 10 s, so the last five take as long.
    lines = lines_of([(0, 20, 30, 0), (10, 25, 30, 10**9)])
    assert lines == [
        "write: resumed, 20 of 30 units were finished",
        "write 83 %, 25 of 30 units, 1 GB, 100 MB/s, about 10 s left",
    ]


def test_a_job_that_was_already_done_says_so_once():
    assert lines_of([(0.1, 30, 30, 0)]) == ["write 100 %, 30 of 30 units, took 0.1 s"]


def test_nothing_to_do_is_no_division_by_zero():
    assert lines_of([(0.1, 0, 0, 0)]) == []


def test_without_a_terminal_whole_lines_go_to_stderr(capfd: pytest.CaptureFixture[str]):
    with reporting(True, "write") as report:
        assert report is not None
        report(0, 2, 0)
        report(2, 2, 10**6)
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"write 100 %, 2 of 2 units, 1 MB, .+/s, took .+ s\n", err)


def test_reports_may_come_from_many_threads(capfd: pytest.CaptureFixture[str]):
    with reporting(True, "write") as report:
        assert report is not None
        threads = [threading.Thread(target=report, args=(n, 40, n)) for n in range(1, 41)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "write 100 %, 40 of 40 units" in capfd.readouterr().err


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_bar_shows_units_bytes_rate_and_ends_its_line(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with reporting(True, "write") as report:
        assert report is not None
        report(0, 4, 0)
        report(4, 4, 10**6)
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    last = shown.rstrip("\n").split("\r")[-1]
    assert re.search(r"^write 100% \|.*\| 4/4, 1 MB, .+B/s", last)
    assert shown.endswith("\n")


def test_the_bar_of_a_failed_job_ends_its_line_where_it_stood(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", Terminal())

    def job() -> None:
        with reporting(True, "write") as report:
            assert report is not None
            report(0, 4, 0)
            report(1, 4, 10**6)
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        job()
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "write  25% |" in shown.split("\r")[-1]
    assert shown.endswith("\n")


def test_what_is_said_stands_on_its_own_line_beside_a_bar(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with reporting(True, "write") as report:
        assert report is not None
        report(1, 4, 10**6)
        say("warning: mind the gap")
    assert re.search(r"\r *\rwarning: mind the gap\n", sys.stderr.getvalue())  # type: ignore[attr-defined]


def test_what_is_said_goes_to_stderr(capfd: pytest.CaptureFixture[str]):
    say("warning: mind the gap")
    assert capfd.readouterr() == ("", "warning: mind the gap\n")


def test_a_long_job_says_how_long_once_units_were_measured():
    reports = [(0, 0, 400, 0), (2, 2, 400, 10**6), (3, 3, 400, 10**6), (4, 4, 400, 10**6)]
    lines = lines_of([*reports, (40, 40, 400, 10**8)])
    assert lines == [
        "write: 400 units, of which the first 3 took 3 s: about 6 min 37 s left",
        "write 10 %, 40 of 400 units, 100 MB, 2.5 MB/s, about 6 min 00 s left",
    ]
    # Nothing is said of few units, of little time, or of a job that is soon over.
    assert lines_of([(0, 0, 90, 0), (5, 2, 90, 1), (6, 2, 90, 1)]) == []
    assert lines_of([(0, 0, 90, 0), (2.9, 8, 90, 1)]) == []
    assert lines_of([(0, 0, 90, 0), (1, 2, 90, 1), (3, 7, 40, 1)])[1:] == []


def test_events_are_objects_a_line_and_count_what_this_run_did():
    out, clock = io.StringIO(), Clock()
    events = Events(out, clock)
    with reporting(events, "write a.zarr") as report:
        assert report is not None
        for at_s, done, nbytes in ((0, 20, 0), (5, 25, 10**9), (5.05, 26, 2 * 10**9)):
            clock.now = 100.0 + at_s
            report(done, 30, nbytes)
    with following(events, "follow") as tell:
        assert tell is not None
        tell(Followed(7, 4, None, 0.5, 10))
    begin, progress, end, follow = map(json.loads, out.getvalue().splitlines())
    assert begin == {
        "event": "begin", "job": "write a.zarr", "n_units": 30, "n_finished_before": 20,
    }  # fmt: skip
    assert progress == {
        "event": "progress", "job": "write a.zarr", "n_done": 25, "n_units": 30,
        "nbytes": 10**9, "elapsed_s": 5.0, "nbytes_per_s": 200_000_000, "left_s": 5.0,
    }  # fmt: skip
    assert (end["event"], end["n_done"], "left_s" in end) == ("end", 26, False)
    assert (follow["n_arrived"], follow["n_planes"], follow["lag_s"]) == (7, None, 0.5)


def test_events_of_nothing_are_none():
    out = io.StringIO()
    with reporting(Events(out), "write"):
        pass
    assert out.getvalue() == ""
