"""Every private name of dask that is used here, each with the reason.

dask promises nothing of these, so a release of it may break this module, and no other:
``tests/test_house.py`` finds them where they are imported elsewhere.

Why it is short: it only gives names on.
"""

from __future__ import annotations

# What a graph is made of since dask 2024.12; no public name makes a task, and a tuple is a task
# of the old kind, each converted before it runs. Without them nothing is read or written.
# - Task: a call; TaskRef: the result of another task as its argument.
# - List: several of them as one argument.
# - DataNode: a value as it is, never searched, which slice fusion can walk past.
# - GraphNode: what they are, for type hints.
from dask._task_spec import DataNode as DataNode
from dask._task_spec import GraphNode as GraphNode
from dask._task_spec import List as List
from dask._task_spec import Task as Task
from dask._task_spec import TaskRef as TaskRef

# Computed arrays of any age of dask as such tasks, so that what each needs can be asked for:
# ``imsave`` of a computed array takes it group by group.
from dask._task_spec import convert_legacy_graph as convert_legacy_graph

# dask fuses slices into calls of this very function. By a function of our own, arrays would
# still read right, but a slice of a block would read all of the block.
from dask.array.core import getter as getter

# Who computes now: the threads here, a cluster's client, or what the caller set. Without it,
# a cluster could not be told from threads, nor be asked for its memory.
from dask.base import get_scheduler as get_scheduler

# The keys of several collections that ``dask.compute`` optimises in one call, out of their
# nested lists.
from dask.core import flatten as flatten
