"""The loops over cells that let neighbours agree (see :mod:`glocal.fusion.decode.spatial`).

Rows flow through the sweeps: as soon as a row and the row below it have had sweep s - 1,
it gets sweep s. What is under way is a few rows, which stay in the processor's cache, so
the memory of a tile is that of what goes in and comes out. Within a row, classes are
the outer loop, so that neighbouring cells are done together in vector registers.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from glocal.core.typing import Bytes, Layers

SMOOTHING_SWEEPS = 5
"""A cell hears cells up to this many steps away, so tiles need that much halo."""

LOG2_E = np.float32(1.4426950408889634)
"""Within the sweeps, logarithms are to the base 2."""


@numba.njit(cache=True, nogil=True)
def flow(  # pragma: no cover
    table: Layers,
    unit: NDArray[np.int32],
    across: Layers,
    down: Layers,
    beta: np.float32,
    differ: bool,
    q: Layers,
    first: Bytes,
    second: Bytes,
) -> None:
    """Send the rows through all sweeps; write probabilities, or class and confidence.

    Rows have one cell more on each side, and rows outside the grid are there, all of
    probability zero: nobody is heard from there.
    """
    height, width = unit.shape
    classes = table.shape[1]
    sweeps = SMOOTHING_SWEEPS
    # what is under way: the pool of the last rows, and of each sweep the three rows that the
    # next sweep needs, both as rings (row modulo length)
    said = np.zeros((sweeps + 1, classes, width + 2), np.float32)
    now = np.zeros((sweeps + 1, 3, classes, width + 2), np.float32)
    total = np.empty(width, np.float32)
    ties = np.full((4, width), beta, np.float32)
    # at each step one row comes in, and sweep s reaches the row s above it: its neighbours
    # above, beside and below have had sweep s - 1 by then, as if all cells were done at once
    for step in range(height + sweeps):
        if step < height:
            read_row(table, unit[step], said[step % (sweeps + 1)], now[0, step % 3])
        else:
            now[0, step % 3] = 0.0
        for sweep in range(1, sweeps + 1):
            row = step - sweep
            if row < 0:
                continue
            new = now[sweep, row % 3]
            if row >= height:
                new[:] = 0.0
                continue
            if differ:
                tie_row(across, down, row, beta, ties)
            old = now[sweep - 1]
            above, here, below = old[(row + 2) % 3], old[row % 3], old[(row + 1) % 3]
            sweep_row(said[row % (sweeps + 1)], above, here, below, ties, differ, total, new)
        row = step - sweeps
        if row >= 0:
            if len(q):
                for k in range(classes):
                    q[row, :, k] = now[sweeps, row % 3, k, 1:-1]
            else:
                decide_row(now[sweeps, row % 3], first[row], second[row], total)


@numba.njit(cache=True, nogil=True)
def read_row(
    table: Layers, unit: NDArray[np.int32], said: Layers, q: Layers
) -> None:  # pragma: no cover
    """Write what is said in a row, in bits, and its probabilities: sweep 0."""
    classes = table.shape[1]
    # one visit of the table per cell; then class by class, in vector registers
    for i in range(len(unit)):
        u = unit[i]
        for k in range(classes):
            said[k, i + 1] = table[u, k]
    for k in range(classes):
        mine, out = said[k, 1:-1], q[k, 1:-1]
        for i in range(len(out)):
            mine[i] *= LOG2_E
            out[i] = power(mine[i])


@numba.njit(cache=True, nogil=True)
def tie_row(
    across: Layers, down: Layers, row: int, beta: np.float32, ties: Layers
) -> None:  # pragma: no cover
    """Write what the neighbours above, below, left and right are worth, 0 outside."""
    ties[:] = 0.0
    for i in range(down.shape[1]):
        if row > 0:
            ties[0, i] = beta * down[row - 1, i]
        if row < len(down):
            ties[1, i] = beta * down[row, i]
    for i in range(across.shape[1]):
        ties[2, i + 1] = beta * across[row, i]
        ties[3, i] = beta * across[row, i]


@numba.njit(cache=True, nogil=True)
def sweep_row(  # pragma: no cover
    said: Layers,
    above: Layers,
    here: Layers,
    below: Layers,
    ties: Layers,
    differ: bool,
    total: Any,
    new: Layers,
) -> None:
    """Write (F24) for one row, from itself and the rows above and below one sweep before."""
    # each loop has few arrays: with many, the compiler gives up proving that they are apart
    classes = len(said)
    total[:] = 0.0
    for k in range(classes):
        field, mine, a, b = new[k, 1:-1], said[k, 1:-1], above[k, 1:-1], below[k, 1:-1]
        if differ:
            _pull(mine, a, b, ties[0], ties[1], field)
            _pull(field, here[k, :-2], here[k, 2:], ties[2], ties[3], field)
        else:
            _pull_alike(mine, a, b, here[k, :-2], here[k, 2:], ties[0, 0], field)
        _power_row(field, total)
    # Z of (F24), which has summed up over the classes: one division per cell, not one per class
    for i in range(len(total)):
        total[i] = np.float32(1.0) / total[i]
    for k in range(classes):
        _times(new[k, 1:-1], total)


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _pull(said: Any, a: Any, b: Any, tie_a: Any, tie_b: Any, out: Any) -> None:  # pragma: no cover
    for i in range(len(out)):
        out[i] = said[i] + tie_a[i] * a[i] + tie_b[i] * b[i]


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _pull_alike(  # pragma: no cover
    said: Any, a: Any, b: Any, c: Any, d: Any, tie: np.float32, out: Any
) -> None:
    for i in range(len(out)):
        out[i] = said[i] + tie * ((a[i] + b[i]) + (c[i] + d[i]))


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _power_row(row: Any, total: Any) -> None:  # pragma: no cover
    for i in range(len(row)):
        p = power(row[i])
        row[i] = p
        total[i] += p


@numba.njit(cache=True, nogil=True)
def _times(row: Any, factor: Any) -> None:  # pragma: no cover
    for i in range(len(row)):
        row[i] *= factor[i]


@numba.njit(cache=True, nogil=True)
def decide_row(q: Layers, first: Any, second: Any, best: Any) -> None:  # pragma: no cover
    """Write the likeliest class of every cell of a row, and its probability in 255ths."""
    width = len(first)
    first[:] = 0
    best[:] = q[0, 1:-1]
    for k in range(1, len(q)):
        mine = q[k, 1:-1]
        # two loops without a branch, which the compiler can do many cells at a time
        for i in range(width):
            first[i] = k if mine[i] > best[i] else first[i]
        for i in range(width):
            best[i] = max(best[i], mine[i])
    for i in range(width):
        second[i] = np.uint8(best[i] * np.float32(255.0) + np.float32(0.5))


@numba.njit(cache=True, nogil=True, fastmath={"contract"}, inline="always")
def power(x: np.float32) -> np.float32:  # pragma: no cover
    """Return 2**x for x < 127, with a relative error below 3e-7; 2**-120 for all x below.

    A whole number n, found by adding a number so large that its last bit is worth one, and
    a rest in -0.5..0.5. 2**rest is the polynomial of degree 5 with the least relative
    error (7e-8); n is added to the exponent of the result.
    """
    x = max(x, np.float32(-120.0))
    # 1.5 * 2**23: from there on, single precision holds whole numbers only
    shifted = x + np.float32(12582912.0)
    f = x - (shifted - np.float32(12582912.0))
    # Horner's scheme
    p = np.float32(0.0013291396899148822)
    p = p * f + np.float32(0.009675704874098301)
    p = p * f + np.float32(0.05550655350089073)
    p = p * f + np.float32(0.24022117257118225)
    p = p * f + np.float32(0.6931470036506653)
    p = p * f + np.float32(1.0000001192092896)
    # the last bits of the shifted number are n; moved to where an exponent begins
    n = np.int32(np.float32(shifted).view(np.int32) << np.int32(23))
    return np.int32(np.float32(p).view(np.int32) + n).view(np.float32)
