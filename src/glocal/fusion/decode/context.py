"""What anchors teach about the pool as a whole: how far to trust it, and its surroundings.

The pool weighs sources by one number each and sees a cell alone. Two things stay: classes
that all sources confuse alike, and that a cell is rarely another class than all around it.
Both are read from a few numbers per cell, the pooled log-posterior and what it says on
average in wider and wider squares, by one linear map that the anchors teach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glocal.core.result import log_normalise
from glocal.core.setting import Setting
from glocal.core.typing import Codes, Layers, Table
from glocal.fusion.decode.regression import Linear, cross_fitted

LEAST_LOG_ODDS = -8.0
"""Log-odds against the likeliest class beyond which nothing is told apart."""

PROBABILITY_LEVELS = 65535
"""Probabilities are averaged as whole numbers, so that a tile's means are the whole's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Readout:
    """A linear map from a cell's numbers, of shape (K (1 + sides),), to its class."""

    linear: Linear
    squares: tuple[int, ...]
    """Sides of the squares, in cells."""

    def __call__(self, log_q: Layers) -> Layers:
        """Return the log-posterior (H, W, K) that ``log_q`` (H, W, K) is read as."""
        return self.read(surroundings(log_q, self.squares))

    def read(self, said: Layers) -> Layers:
        """Return the log-posterior (H, W, K) that `surroundings` (H, W, F) are read as."""
        return log_normalise(self.linear.total(said))


def usual_readout(log_q: Layers, setting: Setting) -> Readout | None:
    """Return how surroundings are read where nothing teaches it: alike for all classes (F21).

    None where squares of middling size say no more of the cell in their middle than the
    whole area does: then its neighbours are strangers.
    """
    classes, p = log_q.shape[-1], np.exp(log_q)
    side = setting.squares[len(setting.squares) // 2]
    near = _mean(_sums(p), side) - p / side**2  # without the cell itself
    usual = p.mean(axis=(0, 1))
    # how much likelier the cell's class is by its surroundings than by the area, in nats
    told = (p * (np.log(np.maximum(near, 1e-4)) - np.log(np.maximum(usual, 1e-4)))).sum(axis=-1)
    if told.mean() < setting.telling:
        return None
    weight = np.concatenate([one * np.eye(classes) for one in setting.usual_reading])
    return Readout(
        linear=Linear(weight=weight, constant=np.zeros(classes)), squares=setting.squares
    )


def surroundings(log_q: Layers, squares: tuple[int, ...]) -> Layers:
    """Return what is said at each cell and, on average, around it: x of (F19).

    ``log_q`` (H, W, K) is a normalised log-posterior; the result has shape
    (H, W, K (1 + squares)). Means are over the cells that exist, so a cell needs half a square
    around it, or the edge of the grid.
    """
    sums = _sums(np.exp(log_q))
    near = [np.log(np.maximum(_mean(sums, side), 1e-4)) for side in squares]
    # logarithms of ratios to the likeliest class: what a linear map of logits can use. Bounded,
    # so that no cell is so sure that its surroundings can't be heard
    relative = [one - one.max(axis=-1, keepdims=True) for one in (log_q, *near)]
    parts = [np.maximum(one, LEAST_LOG_ODDS).astype(np.float32) for one in relative]
    return np.concatenate(parts, axis=-1)


def _sums(p: Layers) -> Codes:
    """Return the sums above and left of each corner, (H + 1, W + 1, K), in whole levels."""
    # a table of sums (Crow 1984), in whole numbers: floats would round otherwise in each tile
    sums = np.zeros((p.shape[0] + 1, p.shape[1] + 1, p.shape[2]), np.int64)
    np.cumsum(np.rint(p * PROBABILITY_LEVELS), axis=0, dtype=np.int64, out=sums[1:, 1:])
    return np.cumsum(sums, axis=1, out=sums)


def _mean(sums: Codes, side: int) -> Layers:
    """Return the mean in the square around each cell, as far as it exists, (H, W, K)."""
    half = side // 2
    # four corners give the sum of a square, whatever its size (Crow 1984); corners beyond the
    # grid are those of its edge
    wide = np.pad(sums, ((half, half), (half, half), (0, 0)), mode="edge")
    lower, upper = wide[side:], wide[:-side]
    total = lower[:, side:] - lower[:, :-side] - upper[:, side:] + upper[:, :-side]
    # how many cells of the square exist, along each axis
    at = [np.arange(length - 1) for length in sums.shape[:2]]
    rows, columns = (np.minimum(one + half + 1, len(one)) - np.maximum(one - half, 0) for one in at)
    return np.asarray(total / (np.outer(rows, columns)[..., None] * PROBABILITY_LEVELS), np.float32)


def learn_readout(
    said: Table, shares: Table, weight: Table, fold: Codes, setting: Setting
) -> tuple[Readout, list[Readout]]:
    """Return W and c (F20) that make anchors likeliest, and for each fold some that did not see it.

    Parameters
    ----------
    said
        Shape (A, K (1 + sides)): `surroundings` at each anchor, of a pool that did not use
        the anchor's fold.
    shares, weight
        Shapes (A, K) and (A,): the anchors.
    fold
        Shape (A,), numbered from 0.

    Notes
    -----
    Multinomial regression with a ridge towards the pool as it is (`cross_fitted`).
    """
    # W_0 = (I, 0, 0, 0): with few anchors, or sources that need no mending, nothing is changed
    classes = shares.shape[1]
    origin = np.zeros((said.shape[1], classes))
    origin[:classes] = np.eye(classes)
    final, others = cross_fitted(said, shares, weight, fold, origin, setting.context_ridges)
    read = [Readout(linear=one, squares=setting.squares) for one in (final, *others)]
    return read[0], read[1:]
