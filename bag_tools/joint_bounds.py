"""The range of each joint, to scale by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Bounds:
    """The range of each joint.

    Attributes:
        low_high: (2, P) float32, each joint's least and greatest value; `high > low` always.
        still: Whether each of them never moves: its bounds are its value minus and plus a half.
    """

    low_high: NDArray[np.float32]
    still: NDArray[np.bool_]

    @classmethod
    def of(cls, low: NDArray[Any], high: NDArray[Any], still_range: float) -> Bounds:
        """The bounds of what was measured, (P,) least and (P,) greatest, none of them of no width.

        A joint that moves by `still_range` or less would have its sensor's noise blown up to the
        whole range, or divide by zero.
        """
        still = (high.astype(np.float64) - low) <= still_range
        middle = (low.astype(np.float64) + high) / 2
        half = np.maximum(0.5, np.abs(middle) * 1e-6)  # wide enough for float32
        bounds = np.stack(
            [np.where(still, middle - half, low), np.where(still, middle + half, high)]
        )
        return cls(bounds.astype(np.float32), still)
