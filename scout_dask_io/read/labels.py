"""Whether an array holds labels, whose values are names and never averaged.

Why it is short: readers and writers ask alike.
"""

from __future__ import annotations

from typing import Any

import dask.array as da

from scout_dask_io.core.source import Source
from scout_dask_io.run.lazy import source_of, sources_in


def labels_for(data: Any, given: bool | None) -> tuple[bool, dict[str, Any]]:
    """Tell whether data are labels, as ``given`` or else as stated, and what is stated of them.

    An array that was computed is one of labels where all that it reads are, such as a slice of
    labels; what is stated of them, such as their colours, is that of data as a reader gave them.
    """
    sources: list[Source] = []
    whole: Source | None = None
    if isinstance(data, Source):
        sources, whole = [data], data
    elif isinstance(data, da.Array):
        sources, whole = sources_in(data), source_of(data)
    stated = bool(sources) and all(source.info.labels for source in sources)
    labels = stated if given is None else bool(given)
    return labels, dict(whole.info.image_label) if labels and whole is not None else {}
