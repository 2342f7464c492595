"""Names for the arrays that are passed around: what their numbers are.

How many there are, and along which axes, stands beside every field and parameter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
"""True or False for each of many."""

Bytes = NDArray[np.uint8]
"""Whole numbers up to 255: class values, confidences."""

Codes = NDArray[np.int64]
"""Whole numbers that name something: classes, symbols, statements, units, cells."""

Table = NDArray[np.float64]
"""Numbers in double precision: what is learned and summed."""

Layers = NDArray[np.float32]
"""Numbers in single precision: what there is one of in every cell, (H, W) or (H, W, K)."""

Floats = NDArray[np.floating]
"""Numbers of either precision."""

Window = tuple[slice, slice]
"""Rows and columns of a part of a grid."""
