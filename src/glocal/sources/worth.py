"""What a soft label is worth to a learner, by reference points that did not teach it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from glocal.core.grid import cells_of_points
from glocal.core.labels import Labels
from glocal.core.observation import Anchors
from glocal.core.setting import ENGINE
from glocal.core.typing import Codes, Table
from glocal.sources.kind import Reading

USUAL = 0.3
"""What a label is worth where there are points, but too few reference points to try it."""


def usual_worth(points: Labels) -> float:
    """Return what a label is worth where that can't be tried; without points it is all there is."""
    return USUAL if len(points) >= ENGINE.min_sample else 1.0


def can_judge(anchors: Anchors | None) -> bool:
    """Return whether there are enough answered anchors to choose anything by."""
    return anchors is not None and bool(anchors.answered.sum() >= ENGINE.min_sample)


def losses(
    reading: Reading,
    anchors: Anchors,
    worths: Sequence[float],
    lesson: Callable[[float], Sequence[Labels]],
) -> tuple[Codes, Table]:
    """Return the anchors' cells (A,) and what each loses, shape (worths, A), in nats by its weight.

    ``lesson`` says what teaches who speaks of each fold when a label is worth so much; an anchor
    is judged by who did not learn from its fold. Where sources know little, labels of a high worth
    drown what points teach.
    """
    cells = cells_of_points(reading.window.geobox, anchors.x, anchors.y)
    use = anchors.answered & (cells >= 0)
    cells, shares, weight = cells[use], anchors.shares[use], anchors.weight[use]
    lost = []
    for worth in worths:
        p = reading.learner.learn(reading, lesson(worth), only=cells)[cells]
        log_p = np.log(np.maximum(np.nan_to_num(p, nan=1.0), 1e-6))
        lost.append(-weight * (shares * log_p).sum(axis=1))
    return cells, np.array(lost)
