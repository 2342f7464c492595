"""How far probabilities of corrections may be believed, from points that were held out.

The engine's probabilities are usually a little too sure, for the same reason that a
fitted model looks best on its own data. Reference points that a run did not see tell by
how much: one number per source, taken at the cautious end of what they allow.
"""

from __future__ import annotations

import numpy as np

from glocal.core.typing import Floats, Table

UNCHECKED = 0.3
"""Sharpness where too few held-out points lie in judged objects: the lowest that was
found in synthetic worlds (development seeds)."""

MIN_POINTS = 20
LIKELIER_THAN_NOT = 0.5
"""No edit goes out that is likelier wrong than right, whatever the mean of all."""

BOUND = 0.5
"""Log-likelihood that the lower end may lose: one standard deviation (Wilks)."""

GRID = np.linspace(0.1, 1.0, 91)


def shrunk(probability: Floats, sharpness: float | Floats) -> Table:
    """Return probabilities whose log-odds are multiplied by ``sharpness``; order is kept.

    >>> shrunk(np.array([0.5, 0.9]), 0.5).round(2).tolist()
    [0.5, 0.75]
    """
    p = np.clip(np.asarray(probability, np.float64), 1e-9, 1 - 1e-9)
    return np.asarray(1 / (1 + ((1 - p) / p) ** sharpness))


def sharpness_of(probability: Floats, right: Floats) -> float:
    """Return the factor on log-odds that held-out points allow, 0.1..1.

    ``probability`` (n,) is what was stated of the class proposed for the object in which
    a point lies, made without the point; ``right`` (n,) is whether the point has that
    class (1 or 0). Rows with NaN are left out. The factor is the lower end of the
    interval whose likelihood is within one standard deviation of the best (logistic
    recalibration without a constant; Platt 1999, with a bound), and never above 1:
    modesty is not rewarded. With fewer than 20 points it is `UNCHECKED`.
    """
    use = np.isfinite(probability) & np.isfinite(right)
    if use.sum() < MIN_POINTS:
        return UNCHECKED
    p = shrunk(probability[use], 1.0)
    stated = shrunk(p[None, :], GRID[:, None])
    hit = np.asarray(right[use], bool)
    # The log-likelihood of every factor of the grid; the lowest that is near the best is kept.
    likelihood = np.where(hit, np.log(stated), np.log1p(-stated)).sum(axis=1)
    return float(GRID[likelihood >= likelihood.max() - BOUND][0])


def threshold_for(probability: Floats, precision: float) -> tuple[float, float]:
    """Return the lowest threshold whose selection is expected to be right often enough.

    Returns the threshold and the expected precision (mean probability) of what passes;
    the threshold is infinite and the precision NaN when nothing passes.

    >>> threshold_for(np.array([1.0, 0.75, 0.5, 0.5]), 0.75)
    (0.75, 0.875)
    """
    ranked = np.sort(np.asarray(probability, np.float64).ravel())[::-1]
    if not len(ranked):
        return float("inf"), float("nan")
    mean = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    # equal probabilities pass together or not at all
    last_of_equals = np.append(ranked[1:] < ranked[:-1], True)
    passing = np.flatnonzero((mean >= precision) & last_of_equals)
    if not len(passing):
        return float("inf"), float("nan")
    last = int(passing[-1])
    return float(ranked[last]), float(mean[last])
