"""Forked processes: they begin without the threads, locks and clusters of their parent.

``multiprocessing`` forks on Linux up to Python 3.13. The child has a copy of all memory, but of
the threads only the one that forked: pools whose threads are not there, event loops that nobody
turns, locks that nobody will give back. dask hands its pool on as it is, and the child's first
``compute`` waits for ever.

Nothing is imported here. What a library has set up is let go of only where it was imported.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextvars import ContextVar
from functools import cached_property
from multiprocessing.pool import Pool
from threading import get_ident
from typing import Any, TypeVar
from weakref import WeakValueDictionary

_Reset = TypeVar("_Reset", bound=Callable[[], object])

# Whose locks are made anew: ours, those of the libraries that read and compute, and what these
# use of Python's own without a thought of forks.
_LIBRARIES = frozenset(
    (
        "asyncio",
        "dask",
        "distributed",
        "donfig",
        "fsspec",
        "imagecodecs",
        "numcodecs",
        "s3fs",
        "scout_dask_io",
        "tempfile",
        "tifffile",
        "tqdm",
        "zarr",
    )
)

#: A fork waits no longer than this for the imports of other threads.
IMPORTS_S = 10.0

_resets: list[Callable[[], object]] = []
_guarded = False


def in_forked_child(reset: _Reset) -> _Reset:
    """Have a function called in every forked child, to begin a module's state anew.

    It is called in the only thread of the child, before anything else runs there.
    """
    _resets.append(reset)
    return reset


def guard_forks() -> None:
    """Have the children that this process forks from now on begin anew. Cheap to repeat.

    Called by whatever makes the first array or begins the first write, since importing the
    package changes nothing. Where this process itself is a child of one that had not called
    it, dask's inherited threads are let go of now.
    """
    global _guarded
    if _guarded or not hasattr(os, "register_at_fork"):
        return
    _guarded = True
    # One by one: Python reports the error of one, and goes on with the others.
    os.register_at_fork(before=_await_imports, after_in_child=_renew_locks)
    for reset in (
        _leave_imports,
        _leave_clusters,
        _leave_dask,
        _leave_fsspec,
        _leave_tqdm,
        _leave_ours,
    ):
        os.register_at_fork(after_in_child=reset)
    if any(_is_stranded(pool) for pool in _dask_pools()):
        _leave_dask()


def _await_imports() -> None:
    """Wait, before a fork, until no other thread is amid an import: a child could not finish it.

    dask imports ``distributed`` as it first computes, which takes a second, and this package
    loads its modules as they are used. What the caller wrote is not waited for: importing it
    may be running it.
    """
    deadline = time.monotonic() + IMPORTS_S
    while any(map(_is_installed, _imports_elsewhere())) and time.monotonic() < deadline:
        time.sleep(0.001)


def _imports_elsewhere() -> list[str]:
    """Give the modules that other threads are importing: of each there is a lock, while it does."""
    locks = vars(importlib)["_bootstrap"].__dict__.get("_module_locks", {})
    held = [(name, reference()) for name, reference in list(locks.items())]
    return [n for n, lock in held if lock and getattr(lock, "owner", 0) != get_ident()]


def _is_installed(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    # One that is still being looked for may be any.
    if spec is None or name.partition(".")[0] in _LIBRARIES:
        return True
    return (spec.origin or "").startswith(tuple(sysconfig.get_paths().values()))


def _leave_imports() -> None:
    """Let imports begin anew that other threads had begun all the same."""
    for name in _imports_elsewhere():
        del vars(importlib)["_bootstrap"]._module_locks[name]
        spec = getattr(sys.modules.get(name), "__spec__", None)
        # What the caller wrote is not run a second time: it stays as far as it has come.
        if getattr(spec, "_initializing", False) and _is_installed(name):
            # Its submodules too: only importing them makes them known to a package.
            for begun in [m for m in sys.modules if f"{m}.".startswith(f"{name}.")]:
                del sys.modules[begun]


def _renew_locks() -> None:
    """Open all locks of the libraries, in their places: defaults of arguments refer to some."""
    for lock in _locks():
        # Of its type: some objects answer to any name, or import what it stands for.
        if hasattr(type(lock), "_at_fork_reinit"):
            lock._at_fork_reinit()


def _locks() -> Iterator[Any]:
    """Yield what hangs on modules and on classes, and among it every lock."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in _LIBRARIES:
            continue
        for value in list(getattr(module, "__dict__", {}).values()):
            if not isinstance(value, type):
                yield value
            elif value.__module__ == name:
                for member in list(value.__dict__.values()):
                    if isinstance(member, cached_property):
                        # Up to Python 3.11 one computes for all instances, under a lock.
                        yield getattr(member, "lock", None)
                    elif isinstance(member, WeakValueDictionary):
                        yield from list(member.values())
                    else:
                        yield member


def _loaded(name: str) -> Any:
    """Give a module if the parent had imported it."""
    return sys.modules.get(name)


def _dask_pools() -> list[Any]:
    threaded = _loaded("dask.threaded")
    if threaded is None:
        return []
    pools = [pool for by_size in list(threaded.pools.values()) for pool in by_size.values()]
    return pools if threaded.default_pool is None else [threaded.default_pool, *pools]


def _is_stranded(pool: Any) -> bool:
    """Tell whether the threads of a pool are those of a parent: in their own process they stay."""
    return not all(thread.is_alive() for thread in list(getattr(pool, "_threads", ())))


def _leave_dask() -> None:
    """Let go of the pools of dask's threads; those that the caller set too."""
    for pool in _dask_pools():
        atexit.unregister(pool.shutdown)
    threaded = _loaded("dask.threaded")
    if threaded is not None:
        threaded.default_pool = None
        threaded.pools.clear()
    settings = _dask_settings()
    for name in ("pool", "scheduler"):
        if isinstance(settings.get(name), (Executor, Pool)):
            del settings[name]


def _dask_settings() -> dict[str, Any]:
    config = _loaded("dask.config")
    return {} if config is None else config.config


def _leave_clusters() -> None:
    """Compute here what the child computes: a client's connections are its parent's.

    A client that the child uses all the same says that it is closed.
    """
    client = _loaded("distributed.client")
    if client is None:
        return
    for each in list(client.Client._instances):
        each.status = "closed"
    client._global_clients.clear()
    client._current_client.set(None)
    worker = _loaded("distributed.worker")
    if worker is not None:
        worker._worker_cvar = ContextVar("_worker_cvar")  # as in a process that is no worker
    settings = _dask_settings()
    scheduler = settings.get("scheduler")
    owner = getattr(scheduler, "__self__", scheduler)
    if isinstance(owner, client.Client) or owner in ("dask.distributed", "distributed"):
        del settings["scheduler"]


def _leave_fsspec() -> None:
    """Let go of the event loop; zarr does that by itself with its own."""
    asyn = _loaded("fsspec.asyn")
    if asyn is not None:
        asyn.reset_lock()


def _leave_tqdm() -> None:
    """Let go of the thread that refreshes bars."""
    tqdm = _loaded("tqdm.std")
    if tqdm is not None:
        tqdm.tqdm.monitor = None


def _leave_ours() -> None:
    for reset in _resets:
        reset()
