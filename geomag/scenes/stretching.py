"""Values of any type and range, brought to [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAST, _MOST = 2, 98


def between_percentiles(values: NDArray[Any]) -> tuple[float, float]:
    """The values that become 0 and 1, from a sample of those that are valid.

    Where all are alike there is nothing to stretch: whole numbers then have the range of their
    type, real ones begin at the value.
    """
    if values.size:
        low, high = np.percentile(values, (_LEAST, _MOST)).tolist()
        if high > low:
            return low, high
    if np.issubdtype(values.dtype, np.integer):
        limits = np.iinfo(values.dtype)
        return float(max(limits.min, 0)), float(limits.max)
    start = float(values[0]) if values.size else 0.0
    return start, start + 1.0


def stretched(values: NDArray[Any], stretch: tuple[float, float]) -> NDArray[np.float32]:
    """Values from (low, high) to [0, 1], clipped; what is not finite becomes 0."""
    low, high = stretch
    if values.dtype == np.uint8:
        # Large rasters are of bytes: a table is many times faster.
        table: NDArray[np.float32] = (np.arange(256, dtype=np.float32) - low) / (high - low)
        shown: NDArray[np.float32] = table.clip(0, 1)[values]
        return shown
    # A damaged file may hold any bits as real numbers; numpy would warn of some.
    with np.errstate(all="ignore"):
        # Four bytes of whole number do not fit into four of real number.
        exact: NDArray[Any] = values.astype(
            np.float64 if values.dtype.itemsize >= 4 else np.float32
        )
        scaled = np.nan_to_num((exact - low) / (high - low), nan=0, posinf=0, neginf=0)
    clipped: NDArray[np.float32] = scaled.clip(0, 1).astype(np.float32, copy=False)
    return clipped
