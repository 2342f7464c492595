"""Samples that are spread over the ground: the local pivotal method.

Grafström, Lundström and Schelin 2012 (doi:10.1111/j.1541-0420.2011.01699.x), second variant.
Two neighbours play for their inclusion: one of them is settled, and the probabilities of
both keep their expectation, so every unit is drawn exactly as often as was asked, and
neighbours seldom together.
"""

from __future__ import annotations

import numpy as np

from glocal.core.typing import Codes, Table

SETTLED = 1e-9


def local_pivotal(p: Table, xy: Table, rng: np.random.Generator) -> Codes:
    """Return the units drawn, sorted.

    Parameters
    ----------
    p
        Shape (n,), inclusion probabilities 0..1. If they sum to a whole number, so many
        units are drawn; else the next smaller or larger number.
    xy
        Shape (n, 2), positions in metres. Time grows with the square of n.
    """
    p = np.asarray(p, np.float64).copy()
    if not ((p >= 0) & (p <= 1 + SETTLED)).all():
        raise ValueError("inclusion probabilities must lie in 0..1")
    open_ = np.flatnonzero((p > SETTLED) & (p < 1 - SETTLED))
    while len(open_) > 1:
        one = open_[rng.integers(len(open_))]
        rest = open_[open_ != one]
        distance = ((xy[rest] - xy[one]) ** 2).sum(axis=1)
        near = rest[distance == distance.min()]
        other = near[rng.integers(len(near))]
        # Below 1 together, one is out and the other takes both; above, one is in for sure.
        total, chance = p[one] + p[other], rng.random()
        if total < 1:
            p[one], p[other] = (0.0, total) if chance < p[other] / total else (total, 0.0)
        else:
            wins = chance < (1 - p[other]) / (2 - total)
            p[one], p[other] = (1.0, total - 1) if wins else (total - 1, 1.0)
        open_ = open_[(p[open_] > SETTLED) & (p[open_] < 1 - SETTLED)]
    p[open_] = rng.random(len(open_)) < p[open_]
    return np.flatnonzero(p > 0.5)
