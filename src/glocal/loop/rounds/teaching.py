"""Image models taught anew: by the sources as they are, or by the labels that the loop gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glocal.fusion.reliability.dependence import MIN_ANCHORS
from glocal.loop.area.area import Area, cells_of
from glocal.loop.rounds.turns import FEW_POINTS, lesson, point_labels
from glocal.sources.models.predict import predict

__all__ = ["CELLS", "drawn", "taught", "worth"]

CELLS = 1000
"""Labelled cells that teach a model beside all points."""

WORTHS = (0.03, 0.1, 0.3, 1.0)
"""Weights of a certain label against one reference point that are tried."""

USUAL_WORTH = 0.3
"""What a label is worth where there are points, but too few reference points to try it."""

Codes = NDArray[np.int64]
Table = NDArray[np.float64]


def taught(
    area: Area, model: str, cell: Codes, shares: Table, weight: Table, at: Codes
) -> NDArray[np.float32]:
    """Return P(class) (n, K) at the cells ``at`` by a model that learned some cells and all points.

    ``shares`` (m, K) and ``weight`` (m,) are of the cells ``cell`` (m,). It is predicted out of
    fold; NaN where the model can't see.
    """
    labels = lesson(area, cell, shares, weight)
    return predict(area.seen[model], labels, area.fold, seed=area.config.seed, only=at)[at]


def drawn(
    area: Area, probability: NDArray[np.floating], weight: NDArray[np.floating]
) -> tuple[Codes, Table, Table]:
    """Return cells, shares and weights of a few of the labels (H, W, K) that are offered.

    ``weight`` (H, W) is 0 where nothing is offered.
    """
    cell = np.flatnonzero(weight > 0)
    rng = np.random.default_rng([area.config.seed, 17])
    pick = rng.choice(cell, min(CELLS, len(cell)), replace=False)
    shares = probability.reshape(-1, probability.shape[-1])[pick].astype(np.float64)
    return (
        pick,
        shares / shares.sum(axis=1, keepdims=True),
        weight.ravel()[pick].astype(np.float64),
    )


def worth(
    area: Area, model: str, probability: NDArray[np.floating], weight: NDArray[np.floating]
) -> float:
    """Return what a label is worth beside a reference point, so that the model learns most.

    The model is taught with several weights, and the anchors, none of which taught the model of
    its own fold, choose. Where others know little, their labels drown what points teach.
    """
    points = len(point_labels(area)[0])
    if area.anchors is None or area.anchors.answered.sum() < MIN_ANCHORS:
        return USUAL_WORTH if points >= FEW_POINTS else 1.0
    cells = cells_of(area.anchors, area.geobox)
    use = area.anchors.answered & (cells >= 0)
    cell, shares, certain = drawn(area, probability, weight)
    loss = []
    for one in WORTHS:
        p = taught(area, model, cell, shares, certain * one, cells[use])
        log_p = np.log(np.maximum(np.nan_to_num(p, nan=1.0), 1e-6))
        loss.append(-(area.anchors.weight[use, None] * area.anchors.shares[use] * log_p).sum())
    return WORTHS[int(np.argmin(loss))]
