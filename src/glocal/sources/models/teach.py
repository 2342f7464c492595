"""A model taught anew: by the sources as they are, or by the labels that the loop gives it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from glocal.core.findings import Findings
from glocal.core.grid import cells_of_points
from glocal.core.labels import Labels
from glocal.core.result import relative_entropy
from glocal.core.typing import Codes, Floats, Layers, Table
from glocal.sources.kind import Exam, Reading, needed
from glocal.sources.models.predict import predict
from glocal.sources.worth import can_judge, losses, usual_worth

CELLS = 1000
"""Labelled cells that teach a model beside all points."""

WORTHS = (0.03, 0.1, 0.3, 1.0)
"""Weights of a certain label against one reference point that are tried."""

GUARD = 2
"""Cells around a reference point that no label speaks of."""


def labels_given(reading: Reading, findings: Findings) -> tuple[Layers, Layers]:
    """Return the soft labels (H, W, K) that a model receives, and their weights (H, W).

    A label weighs as much as it is certain, times what the labels of this area are worth to
    the model beside a reference point; 0 where the model can't see and around reference points.
    """
    probability = np.exp(findings.others)
    certain = 1 - relative_entropy(findings.others)
    images = reading.window.images
    seen = np.logical_and.reduce([images[name].clear for name in reading.config.of])
    if findings.reference is not None:
        near = np.zeros(seen.shape, bool)
        at = cells_of_points(findings.estimate.geobox, findings.reference.x, findings.reference.y)
        near.ravel()[at[at >= 0]] = True
        seen &= ~ndimage.binary_dilation(near, np.ones((2 * GUARD + 1,) * 2, bool))
    weight = np.where(seen, np.clip(certain, 0, 1), 0).astype(np.float32)
    if weight.any():
        weight *= np.float32(_worth(reading, findings, probability, weight))
    return probability.astype(np.float32), weight


def taught_raw(reading: Reading, exam: Exam) -> Codes:
    """Return what the model would say if it had learned from the sources as they are."""
    cell, shares, words = exam.words
    rng = np.random.default_rng([reading.window.seed, 17])
    pick = rng.choice(len(cell), min(CELLS, len(cell)), replace=False)
    labels = exam.points.beside(cell[pick], shares[pick], words[pick])
    return _likeliest(_taught(reading, labels, exam.cells))


def taught_anew(reading: Reading, exam: Exam, probability: Floats, weight: Floats) -> Codes:
    """Return what the model says once it has learned from the labels that it was given.

    ``probability`` (H, W, K) and ``weight`` (H, W) as `labels_given` returns them. As many
    cells teach as in `taught_raw`, and the same points.
    """
    labels = exam.points.beside(*_drawn(reading, probability, weight))
    return _likeliest(_taught(reading, labels, exam.cells))


def _taught(reading: Reading, labels: Labels, at: Codes) -> Layers:
    """Return P(class) (n, K) at the cells ``at``, out of fold; NaN where the model can't see."""
    window = reading.window
    same = [labels] * window.folds
    return predict(reading.sees, same, window.fold, seed=window.seed, only=at)[at]


def _drawn(reading: Reading, probability: Floats, weight: Floats) -> tuple[Codes, Table, Table]:
    """Return cells, shares and weights of a few of the labels (H, W, K) that are offered.

    ``weight`` (H, W) is 0 where nothing is offered.
    """
    cell = np.flatnonzero(weight > 0)
    rng = np.random.default_rng([reading.window.seed, 17])
    pick = rng.choice(cell, min(CELLS, len(cell)), replace=False)
    shares = probability.reshape(-1, probability.shape[-1])[pick].astype(np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    return pick, shares, weight.ravel()[pick].astype(np.float64)


def _worth(reading: Reading, findings: Findings, probability: Floats, weight: Floats) -> float:
    """Return what a label is worth beside a reference point, so that the model learns most."""
    anchors, lack = findings.anchors, "findings about a model carry the labels of points"
    points = needed(findings.points, f"{reading.name}: {lack}")
    if anchors is None or not can_judge(anchors):
        return usual_worth(points)
    cell, shares, certain = _drawn(reading, probability, weight)
    folds = reading.window.folds
    _, lost = losses(
        reading, anchors, WORTHS, lambda one: [points.beside(cell, shares, certain * one)] * folds
    )
    return WORTHS[int(lost.sum(axis=1).argmin())]


def _likeliest(p: Layers) -> Codes:
    """Return the likeliest class (n,), -1 where nothing is known."""
    return np.where(np.isfinite(p[:, 0]), np.nan_to_num(p).argmax(axis=1), -1).astype(np.int64)
