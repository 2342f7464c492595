"""Multinomial regression on the anchors, cross-fitted: the tool of (F20) and (F22).

Of its own, since no library pulls the weights towards an origin, takes soft labels with
weights, and gives the maps of the folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from glocal.core.result import log_normalise
from glocal.core.typing import Bools, Codes, Floats, Layers, Table

CONSTANT_PULL = 0.1
"""The constants of the classes are pulled by this share of what pulls the weights."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear:
    """A linear map from F numbers to the log-posterior of K classes."""

    weight: Table
    """Shape (F, K)."""

    constant: Table
    """Shape (K,)."""

    def total(self, x: Floats) -> Layers:
        """Return the sums (..., K) before they are normalised, of numbers (..., F).

        They are added up one by one: a product of matrices may round otherwise in tiles.
        """
        constant = self.constant.astype(np.float32)
        total = np.broadcast_to(constant, (*x.shape[:-1], len(constant))).copy()
        for i, row in enumerate(self.weight.astype(np.float32)):
            total += x[..., i, None] * row
        return total


def cross_fitted(
    x: Table,
    shares: Table,
    weight: Table,
    fold: Codes,
    origin: Table,
    pulls: tuple[float, ...],
) -> tuple[Linear, list[Linear]]:
    """Return the map that makes anchors likeliest, and for each fold one that did not see it.

    Parameters
    ----------
    x
        Shape (A, F), what is said at each anchor.
    shares, weight
        Shapes (A, K) and (A,): the anchors.
    fold
        Shape (A,), numbered from 0.
    origin
        Shape (F, K), the weights towards which a ridge pulls.
    pulls
        Strengths of the ridge that are tried, in nats per squared weight.

    Notes
    -----
    The strength is the one that held-out folds like best; for a fold's own map, the one
    that the *other* folds like.
    """
    folds = range(int(fold.max()) + 1)
    tried = [[_fit(x, shares, weight, fold != f, origin, pull) for f in folds] for pull in pulls]
    # (pulls, folds): what each fold loses under the map that did not see it
    loss = np.zeros((len(pulls), len(folds)))
    for i, maps in enumerate(tried):
        for f, linear in enumerate(maps):
            use = fold == f
            log_p = log_normalise(x[use] @ linear.weight + linear.constant)
            loss[i, f] = -(weight[use, None] * shares[use] * log_p).sum()
    choice = [int(np.delete(loss, f, axis=1).sum(axis=1).argmin()) for f in folds]
    best = pulls[int(loss.sum(axis=1).argmin())]
    every = np.ones(len(x), bool)
    return (
        _fit(x, shares, weight, every, origin, best),
        [tried[choice[f]][f] for f in folds],
    )


def _fit(x: Table, shares: Table, weight: Table, use: Bools, origin: Table, pull: float) -> Linear:
    x, y, w = x[use].astype(np.float64), shares[use], weight[use, None]
    classes = y.shape[1]

    def loss(flat: Table) -> tuple[float, Table]:
        weights, constant = flat[:-classes].reshape(origin.shape), flat[-classes:]
        log_p = log_normalise(x @ weights + constant)
        # slope of the cross-entropy of soft labels: probability less share, as of hard ones
        wrong = w * (np.exp(log_p) - y)
        away = weights - origin
        by_weight = x.T @ wrong + 2 * pull * away
        by_constant = wrong.sum(axis=0) + 2 * CONSTANT_PULL * pull * constant
        penalty = (away**2).sum() + CONSTANT_PULL * (constant**2).sum()
        cost = pull * penalty - (w * y * log_p).sum()
        return float(cost), np.concatenate([by_weight.ravel(), by_constant])

    # convex, so that a start at the origin only saves steps
    start = np.concatenate([origin.ravel(), np.zeros(classes)])
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-11, "gtol": 1e-6})
    return Linear(weight=best.x[:-classes].reshape(origin.shape), constant=best.x[-classes:].copy())
