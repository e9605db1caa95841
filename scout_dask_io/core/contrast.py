"""Which values are shown black and white, where nothing states it: one way, for every picture.

Why it is short: pictures, viewers, sheets and images share it, and nothing else belongs to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def contrast_limits(
    samples: Sequence[np.ndarray],
    percentiles: tuple[float, float] = (1.0, 99.8),
    *,
    specks_above: float | None = None,
    n_sorted: int | None = None,
) -> tuple[float, float]:
    """Give the values that are shown black and white: percentiles of all finite samples.

    Limits that would be equal are drawn apart, so that a constant image is black.

    Parameters
    ----------
    samples : sequence of numpy.ndarray
        Numbers, of any shapes.
    percentiles : (float, float)
        From 0 to 100.
    specks_above : float, optional
        A percentile: what is more than three times as far above black as that is as bright as
        white, so that a bright speck does not leave the rest black.
    n_sorted : int, optional
        About how many of the samples are sorted at most.

    Examples
    --------
    >>> contrast_limits([np.arange(101)], (1, 99)), contrast_limits([np.zeros(3)])
    ((1.0, 99.0), (0.0, 1.0))
    """
    finite = [s.reshape(-1) if s.dtype.kind in "iub" else s[np.isfinite(s)] for s in samples]
    values = finite[0] if len(finite) == 1 else np.concatenate(finite)
    if not values.size:
        return 0.0, 1.0
    if n_sorted is not None:
        values = values[:: max(1, values.size // n_sorted)]
    if values.dtype.kind != "u":
        # Differences of signed integers may overflow in numpy's interpolation.
        values = values.astype(np.float64)
    low, high = (float(v) for v in np.percentile(values, percentiles))
    if specks_above is not None:
        most = float(np.percentile(values, specks_above))
        high = min(high, low + 3 * (most - low)) if most > low else high
    return (low, high) if high > low else (low, low + 1.0)
