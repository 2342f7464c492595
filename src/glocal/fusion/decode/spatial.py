"""Neighbouring cells tend to be of one class: a Potts prior, by mean field (F24).

All cells are done at once, some sweeps over: a cell depends on cells at most that many steps
away, so that tiles with a halo give what the whole gives. The loops are in
:mod:`glocal.fusion.decode.sweeps`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glocal.core.typing import Bytes, Layers
from glocal.errors import GridMismatchError
from glocal.fusion.decode.sweeps import LOG2_E, flow

LARGEST_BETA = 16.0
"""Largest spatial weight: four neighbours must not overflow the exponential."""

LEAST_P = np.float32(1e-12)
"""Probabilities are never less."""

Similarity = tuple[Layers, Layers]
"""How alike neighbours are, 0..1: (H, W - 1) across and (H - 1, W) down."""


def smooth(log_q: Layers, beta: float, similarity: Similarity | None = None) -> Layers:
    """Return the mean-field posterior under a Potts prior (F24), (H, W, K) log-probabilities.

    ``log_q`` (H, W, K) is normalised; ``beta`` in 0..16 is what one like neighbour (of
    four) is worth in nats; ``similarity`` weakens the tie across edges of an image.
    A cell depends on cells at most ``SMOOTHING_SWEEPS`` steps away.

    Against exact arithmetic, probabilities differ by less than 1e-5.

    Raises
    ------
    GridMismatchError
        A similarity of another grid.
    ValueError
        ``beta`` out of range.
    """
    if beta == 0:
        return log_q
    # every cell a unit of its own: what the sources say may differ from cell to cell
    height, width, classes = log_q.shape
    unit = np.arange(height * width, dtype=np.int32).reshape(height, width)
    q = np.empty_like(log_q)
    none = np.empty((0, 0), np.uint8)
    flow(_table(log_q.reshape(-1, classes)), unit, *_ties(unit, beta, similarity), q, none, none)
    return np.asarray(np.log(np.maximum(q, LEAST_P)))


def decide(
    log_q: Layers,
    unit: NDArray[np.int32],
    beta: float,
    similarity: Similarity | None = None,
) -> tuple[Bytes, Bytes]:
    """Return the most probable class of every cell and its probability in 255ths, both (H, W).

    ``log_q`` (U, K) belongs to units, ``unit`` (H, W) says which one each cell is of. The
    same numbers as ``smooth(log_q[unit], beta, similarity)``, without that array. The
    first of equally probable classes is taken.
    """
    first, second = np.empty(unit.shape, np.uint8), np.empty(unit.shape, np.uint8)
    none = np.empty((0, 0, log_q.shape[1]), np.float32)
    flow(_table(log_q), unit, *_ties(unit, beta, similarity), none, first, second)
    return first, second


def _table(log_q: Layers) -> Layers:
    return np.ascontiguousarray(log_q, np.float32)


def _ties(
    unit: NDArray[np.int32], beta: float, similarity: Similarity | None
) -> tuple[Layers, Layers, np.float32, bool]:
    """Return the ties across and down, the weight, and whether the ties differ."""
    if not 0 <= beta <= LARGEST_BETA:
        raise ValueError(f"beta must lie in 0..{LARGEST_BETA:g}, got {beta}")
    height, width = unit.shape
    shapes = (height, width - 1), (height - 1, width)
    if similarity is None:
        none = np.empty((0, 0), np.float32)
        return none, none, np.float32(beta * LOG2_E), False
    across, down = similarity
    if (across.shape, down.shape) != shapes:
        raise GridMismatchError(
            f"similarity must have shapes {shapes} (across, down) on a grid of {height} x {width}, "
            f"got {across.shape} and {down.shape}"
        )
    across, down = (np.ascontiguousarray(one, np.float32) for one in similarity)
    return across, down, np.float32(beta * LOG2_E), True
