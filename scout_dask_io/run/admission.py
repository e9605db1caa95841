"""Which workers of a cluster may do a job: those that see its files and have its versions.

All are asked before a job begins, and each that joins later by its first task.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.errors import ClusterError
from scout_dask_io.run.cluster import PACKAGES, Answers, ask_workers, worker_question

__all__ = ["Asked", "Needs", "admit", "check_workers", "fault_of_late_workers"]

ADVICE = (
    "Workers need the same paths and the same versions as here; dask.annotate(workers=...) leaves "
    "workers out."
)
LATE = "a worker that joined after the job began cannot do its part: "


@dataclass(frozen=True, slots=True)
class Needs:
    """What every worker of a job must have. Tasks carry it, for workers that join later.

    Attributes
    ----------
    files : tuple of (str, int)
        Paths and sizes in bytes that it must see.
    versions : tuple of (str, str)
        Libraries and the versions that the client has.
    """

    files: tuple[tuple[str, int], ...]
    versions: tuple[tuple[str, str], ...]

    def missing(self, answer: dict[str, Any]) -> list[str]:
        """Give in words what a worker that answered lacks."""
        found = [
            f"{name} is {answer['versions'][name]}, here {version}"
            for name, version in self.versions
            if answer["versions"][name] != version
        ]
        return found + list(answer["faults"])


@dataclass(frozen=True, slots=True)
class Asked:
    """Which workers were asked before a job, and for what."""

    needs: Needs
    workers: frozenset[str]


def check_workers(client: Any, files: Sequence[tuple[str, int]], folder: str) -> Asked:
    """Refuse a cluster in which a worker could not do its part. Changes nothing.

    Raises
    ------
    ClusterError
        If a worker does not see the files, cannot write in the folder, or has
        other versions of the libraries, naming all that do not.
    """
    here = ((name, str(sys.modules[name].__version__)) for name in PACKAGES if name in sys.modules)
    needs = Needs(tuple(files), tuple(here))
    answers = ask_workers(client, files, folder)
    lines = _faulty(needs, answers)
    if lines:
        raise ClusterError(f"{lines} {ADVICE} Nothing was created.")
    return Asked(needs, frozenset(answers))


def _faulty(needs: Needs, answers: Answers) -> str:
    lines = []
    for worker, answer in answers.items():
        if found := needs.missing(answer):
            limit = format_nbytes(answer["limit"]) if answer["limit"] else "no limit"
            lines.append(f"worker {worker} on {answer['host']} ({limit}): {'; '.join(found)}")
    more = f"; and {len(lines) - 5} more workers" if len(lines) > 5 else ""
    return f"{'. '.join(lines[:5])}{more}." if lines else ""


def admit(needs: Needs) -> None:
    """Refuse to work in a worker that lacks something; a process is looked at once for a job.

    For tasks of a cluster: those who are asked before a job are there already,
    this is for workers that join while it runs.

    Raises
    ------
    ClusterError
        If it lacks something, naming the worker.
    """
    if needs in _admitted:
        return
    from distributed import get_worker

    worker = get_worker()
    answer = worker_question()(PACKAGES, list(needs.files), "", worker)
    lines = _faulty(needs, {worker.address: answer})
    if lines:
        raise ClusterError(f"{LATE}{lines} {ADVICE}")
    _admitted.add(needs)


_admitted: set[Needs] = set()


def fault_of_late_workers(client: Any, asked: Asked) -> ClusterError | None:
    """After a failure, give what is amiss with workers that joined since the others were asked."""
    with suppress(ClusterError):
        if set(client.nthreads()) - asked.workers:
            answers = ask_workers(client, asked.needs.files)
            late = {w: a for w, a in answers.items() if w not in asked.workers}
            lines = _faulty(asked.needs, late)
            return ClusterError(f"{LATE}{lines} {ADVICE}") if lines else None
    return None
