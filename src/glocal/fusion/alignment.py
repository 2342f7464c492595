"""Where a layer lies relative to the others: one shift, by correlation over all shifts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from glocal.core.result import Displacement

__all__ = ["MAX_SHIFT", "relative_shift"]

MAX_SHIFT = 6
"""Largest shift that is searched, in cells."""

CELLS_PER_STATEMENT = 100.0
"""Neighbouring cells repeat each other, so the score counts this many as one."""


def relative_shift(
    said: NDArray[np.float32], others: NDArray[np.float32], resolution: float
) -> Displacement | None:
    """Return the shift that brings a layer onto what the other sources say.

    Parameters
    ----------
    said
        Shape (H, W, K): the layer's log-likelihood per class; zero where silent.
    others
        Shape (H, W, K): probabilities from the other sources.
    resolution
        Side of a cell in metres.

    Returns
    -------
    Displacement or None
        None when the score has no peak inside the search window (nothing to align).

    Notes
    -----
    The score of a shift is the expected log-likelihood of the shifted layer under the
    others' posterior, computed for all shifts at once by FFT; the peak is refined with
    a paraboloid, whose curvature gives the covariance. Wrong labels lower the peak
    but do not move it. Only a *relative* shift can be seen in this way.
    """
    score = _scores(said, others) / CELLS_PER_STATEMENT
    row, column = np.unravel_index(int(score.argmax()), score.shape)
    last = 2 * MAX_SHIFT
    if not (0 < row < last and 0 < column < last):
        return None
    patch = score[row - 1 : row + 2, column - 1 : column + 2]
    offset, information = _peak(patch)
    if offset is None:
        return None
    down, right = row - MAX_SHIFT + offset[0], column - MAX_SHIFT + offset[1]
    # rows run south, northing runs north
    flip = np.diag([-1.0, 1.0])
    covariance = flip @ np.linalg.inv(information) @ flip * resolution**2
    return Displacement(
        dy=float(-down * resolution),
        dx=float(right * resolution),
        covariance=(
            (float(covariance[0, 0]), float(covariance[0, 1])),
            (float(covariance[0, 1]), float(covariance[1, 1])),
        ),
    )


def _scores(said: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the score of every shift, shape (2 MAX + 1, 2 MAX + 1), rows then columns."""
    height, width, classes = said.shape
    shape = [fft.next_fast_len(n + MAX_SHIFT, real=True) for n in (height, width)]
    total = np.zeros((shape[0], shape[1] // 2 + 1), np.complex64)
    for k in range(classes):
        centred = others[..., k] - others[..., k].mean(dtype=np.float64).astype(np.float32)
        total += fft.rfft2(centred, shape) * np.conj(fft.rfft2(said[..., k], shape))
    score = fft.irfft2(total, shape)
    reach = np.arange(-MAX_SHIFT, MAX_SHIFT + 1)
    return np.asarray(score[np.ix_(reach, reach)], np.float64)


def _peak(
    patch: NDArray[np.float64],
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    """Return the sub-cell offset of the peak in a 3 x 3 patch, and the information there."""
    slope = np.array([(patch[2, 1] - patch[0, 1]) / 2, (patch[1, 2] - patch[1, 0]) / 2])
    cross = (patch[2, 2] - patch[2, 0] - patch[0, 2] + patch[0, 0]) / 4
    information = -np.array(
        [
            [patch[2, 1] - 2 * patch[1, 1] + patch[0, 1], cross],
            [cross, patch[1, 2] - 2 * patch[1, 1] + patch[1, 0]],
        ]
    )
    if np.linalg.eigvalsh(information).min() <= 1e-9:
        return None, information
    return np.clip(np.linalg.solve(information, slope), -0.5, 0.5), information
