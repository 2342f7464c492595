"""Neighbouring cells tend to be of one class: a Potts prior, by mean field."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from glocal.errors import GridMismatchError

__all__ = ["SMOOTHING_SWEEPS", "Similarity", "smooth"]

SMOOTHING_SWEEPS = 5
"""A cell hears cells up to this many steps away, so tiles need that much halo."""

Similarity = tuple[NDArray[np.float32], NDArray[np.float32]]
"""How alike neighbours are, 0..1: (H, W - 1) across and (H - 1, W) down."""


def smooth(
    log_q: NDArray[np.float32], beta: float, similarity: Similarity | None = None
) -> NDArray[np.float32]:
    """Return the mean-field posterior under a Potts prior, shape (H, W, K) of log-probabilities.

    ``log_q`` (H, W, K) is normalised; ``beta`` >= 0 is what one like neighbour (of
    four) is worth in nats; ``similarity`` weakens the tie across edges of an image.
    A cell depends on cells at most ``SMOOTHING_SWEEPS`` steps away.
    """
    if beta == 0:
        return log_q
    height, width, _ = log_q.shape
    shapes = (height, width - 1), (height - 1, width)
    across, down = similarity or (np.ones(shapes[0], np.float32), np.ones(shapes[1], np.float32))
    if (across.shape, down.shape) != shapes:
        raise GridMismatchError(
            f"similarity must have shapes {shapes} (across, down) on a grid of {height} x {width}, "
            f"got {across.shape} and {down.shape}"
        )
    return np.asarray(_mean_field(log_q, np.float32(beta), across, down, SMOOTHING_SWEEPS))


@numba.njit(cache=True, nogil=True)
def _mean_field(  # pragma: no cover
    log_q: NDArray[np.float32],
    beta: np.float32,
    across: NDArray[np.float32],
    down: NDArray[np.float32],
    sweeps: int,
) -> NDArray[np.float32]:
    height, width, classes = log_q.shape
    old = np.exp(log_q)
    new = np.empty_like(old)
    field = np.empty(classes, np.float32)
    for _ in range(sweeps):
        for row in range(height):
            for column in range(width):
                for k in range(classes):
                    field[k] = log_q[row, column, k]
                if row > 0:
                    tie = beta * down[row - 1, column]
                    for k in range(classes):
                        field[k] += tie * old[row - 1, column, k]
                if row < height - 1:
                    tie = beta * down[row, column]
                    for k in range(classes):
                        field[k] += tie * old[row + 1, column, k]
                if column > 0:
                    tie = beta * across[row, column - 1]
                    for k in range(classes):
                        field[k] += tie * old[row, column - 1, k]
                if column < width - 1:
                    tie = beta * across[row, column]
                    for k in range(classes):
                        field[k] += tie * old[row, column + 1, k]
                peak = field.max()
                total = np.float32(0.0)
                for k in range(classes):
                    field[k] = np.exp(field[k] - peak)
                    total += field[k]
                for k in range(classes):
                    new[row, column, k] = field[k] / total
        old, new = new, old
    return np.log(np.maximum(old, np.float32(1e-12)))
