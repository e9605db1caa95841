"""A dask array computed a group of blocks at a time, on whatever scheduler is active.

``dask.compute`` on slice after slice would walk the whole graph each time, and
compute what the slices share again and again. Here the graph is optimised
once, each group runs only the tasks that it needs, and what later groups need
too is kept where that takes little memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import dask
import dask.array as da

from scout_dask_io.core.fork import guard_forks
from scout_dask_io.core.grid import Shape
from scout_dask_io.run._dask import DataNode, GraphNode, convert_legacy_graph, get_scheduler

Key: TypeAlias = Any


class BlockGroups:
    """The blocks of an array, to be computed group by group in the given order.

    A result that several groups need is kept from the first of them

    - to the last one, if that is at most ``near`` groups later: a plane that
      the groups of one slab, or of slabs that meet, share;
    - to the last one, if at least half of the groups use it directly: a
      maximum that all is divided by, a flat field.

    Anything else that is shared is computed again for each group that needs
    it, since keeping it could mean keeping the whole array. On a cluster what
    is kept stays on the workers.

    Parameters
    ----------
    array : dask.array.Array
        What to compute.
    groups : sequence of sequence of tuple of int
        Block indices; each block in one group at most.
    near : int
        How many groups a result may be kept for on the chance of a second use.
    """

    def __init__(self, array: da.Array, groups: Sequence[Sequence[Shape]], near: int = 1) -> None:
        guard_forks()
        # Blocks that a cluster holds stay there as long as their array lives.
        self._array = array
        (optimised,) = dask.optimize(array)
        self._name = optimised.name
        self._graph: dict[Key, GraphNode] = convert_legacy_graph(dict(optimised.__dask_graph__()))
        self._groups = groups
        self._get = get_scheduler(collections=[array])
        # A cluster's scheduler is a method of its client, a local one is a function.
        owner = getattr(self._get, "__self__", None)
        self._client: Any = owner if hasattr(owner, "gather") else None
        self._kept: dict[Key, Any] = {}
        self._first: dict[Key, int] = {}
        self._last: dict[Key, int] = {}
        self._plan(near)

    def compute(self, number: int) -> dict[Shape, Any]:
        """Compute one group; call it once for each, in order. Gives the blocks by index."""
        wanted = {(self._name, *index): index for index in self._groups[number]}
        tasks = self._tasks_for(wanted)
        keep = [k for k in tasks if k in self._last and self._first[k] == number]
        results, kept = self._run(tasks, list(wanted), keep)
        self._kept.update(zip(keep, kept, strict=True))
        for key in [k for k in self._kept if self._last[k] <= number]:
            del self._kept[key]
        return dict(zip(wanted.values(), results, strict=True))

    def _tasks_for(self, keys: Iterable[Key]) -> dict[Key, GraphNode]:
        """Give the tasks that lead to some keys, from what is kept on."""
        tasks: dict[Key, GraphNode] = {}
        stack = list(keys)
        while stack:
            key = stack.pop()
            # A key without a task is a block that the cluster holds.
            if key in tasks or key not in self._graph:
                continue
            if key not in self._kept:
                tasks[key] = self._graph[key]
                stack.extend(tasks[key].dependencies)
            elif self._client is None:
                tasks[key] = DataNode(key, self._kept[key])
        return tasks

    def _run(
        self, tasks: dict[Key, GraphNode], wanted: list[Key], keep: list[Key]
    ) -> tuple[list[Any], list[Any]]:
        """Give the wanted blocks, and what is kept: values, or a cluster's futures."""
        keys = [*wanted, *keep]
        if self._client is None:
            results = list(self._get(tasks, keys))
            return results[: len(wanted)], results[len(wanted) :]
        futures = self._get(tasks, keys, sync=False)
        return list(self._client.gather(futures[: len(wanted)])), futures[len(wanted) :]

    def _plan(self, near: int) -> None:
        """Find in which group each task first runs, and until when its result is kept."""
        for number, group in enumerate(self._groups):
            stack: list[Key] = [(self._name, *index) for index in group]
            while stack:
                key = stack.pop()
                if key not in self._first and key in self._graph:
                    self._first[key] = number
                    stack.extend(self._graph[key].dependencies)
        later: dict[Key, set[int]] = {}
        for key, number in self._first.items():
            for needed in self._graph[key].dependencies:
                if self._first.get(needed, number) != number:
                    later.setdefault(needed, set()).add(number)
        half = max(2, len(self._groups) // 2)
        for key, numbers in later.items():
            is_cheap = max(numbers) <= self._first[key] + near or len(numbers) >= half
            if is_cheap and not isinstance(self._graph[key], DataNode):
                self._last[key] = max(numbers)
