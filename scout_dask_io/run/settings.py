"""What whoever runs the library chose once for all calls: keys of ``dask.config``.

Why it is short: the keys below ``scout_dask_io`` are asked for in one place. dask reads them
from its files and from the environment (``DASK_SCOUT_DASK_IO__MAX_MEM=8GB``).
"""

from __future__ import annotations

from typing import Any

import dask

NAMESPACE = "scout_dask_io"


def configured(name: str) -> Any:
    """Give what is set for a key, such as ``"max_mem"``; ``None`` where nothing is.

    Examples
    --------
    >>> with dask.config.set({"scout-dask-io.max_mem": "2GB"}):
    ...     configured("max_mem")
    '2GB'
    """
    return dask.config.get(f"{NAMESPACE}.{name}", None)
