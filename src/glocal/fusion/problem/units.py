"""Compression: cells that hear the same statements are one unit.

A cell is known to the engine only through what the sources say there. Cells with
the same statements get the same evidence, so everything is computed once per
*unit* (a distinct combination) and looked up per cell. The cost of estimation
follows the number of units, not the area. Their number is bounded by the cells that are in
memory; for larger areas see :mod:`glocal.fusion.tiles.counting`, which merges rare ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glocal.core.typing import Codes, Table


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Units:
    """The table of distinct combinations, and which one each cell belongs to."""

    of_cell: NDArray[np.int32]
    """Shape (H * W,), unit of each cell."""

    columns: Codes
    """Shape (U, columns), the combination itself, one column per input layer."""

    count: Table
    """Shape (U,), number of cells."""

    def __len__(self) -> int:
        return len(self.count)


def compress(layers: Sequence[NDArray[np.integer]], cells: int) -> Units:
    """Return the distinct combinations of ``layers`` (each of shape (cells,), values >= 0).

    >>> units = compress([np.array([1, 1, 2, 1])], 4)
    >>> units.columns[:, 0].tolist(), units.count.tolist(), units.of_cell.tolist()
    ([1, 2], [3.0, 1.0], [0, 0, 1, 0])
    """
    # the layers as digits of one number, so that one sort finds all combinations
    code = np.zeros(cells, np.int64)
    top = 1
    for layer in layers:
        radix = int(layer.max()) + 1 if cells else 1
        if top * radix > 2**62:  # too large for 64 bits: number what there is so far anew
            code = np.unique(code, return_inverse=True)[1].astype(np.int64)
            top = int(code.max()) + 1
        code = code * radix + layer.astype(np.int64)
        top *= radix
    _, first, inverse, count = np.unique(
        code, return_index=True, return_inverse=True, return_counts=True
    )
    columns = (
        np.stack([layer[first].astype(np.int64) for layer in layers], axis=1)
        if layers
        else np.zeros((len(first), 0), np.int64)
    )
    return Units(
        of_cell=inverse.astype(np.int32).ravel(), columns=columns, count=count.astype(np.float64)
    )
