"""Where a scene lies relative to what everybody else says: a shift, and how it varies.

The scene's bands say a class by a linear discriminant that learns from the others' classes
in place; the scores are then moved against the others' probabilities. A discriminant that
learned from slightly displaced labels is blunter, but its best shift is not biased.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from glocal.core.placement import ControlPoint, Registration
from glocal.core.result import Displacement, log_normalise
from glocal.core.setting import ENGINE, Setting
from glocal.core.typing import Bools, Floats, Layers
from glocal.fusion.place.alignment import relative_shift

LEAST_SCORE = -4.0
"""Least log-score of a class in a cell, so that single odd cells do not decide."""

MOST_SAMPLES = 20_000
"""Cells that the discriminant learns from, at most: its few means need no more."""


def register(
    bands: Layers,
    clear: Bools,
    others: Floats,
    resolution: float,
    *,
    seed: int,
    setting: Setting = ENGINE,
) -> Registration | None:
    """Return how far the scene is from the other sources; None where that can't be seen.

    Parameters
    ----------
    bands, clear
        Shape (B, H, W) and (H, W); cells that are not clear say nothing.
    others
        Shape (H, W, K), probabilities of the classes from sources without a root in
        common with the scene.
    resolution
        Side of a cell in metres.
    """
    said = _scores(bands, clear, others, seed)
    others = others.astype(np.float32)
    if said is None:
        return None
    shift = relative_shift(said, others, resolution, setting)
    if shift is None:
        return None
    points = tuple(_parts(said, others, clear, resolution, setting))
    return Registration(shift=shift, points=points, affine=_affine(points, shift, clear.shape))


def _scores(bands: Layers, clear: Bools, others: Floats, seed: int) -> Layers | None:
    """Return log-scores of the classes (F35), (H, W, K); 0 where the scene says nothing."""
    # some hundred cells per class, or the common covariance is mostly noise
    at = np.flatnonzero(clear)
    classes = others.shape[-1]
    if len(at) < 100 * classes:
        return None
    x = bands.reshape(len(bands), -1).T.astype(np.float64)
    some = np.random.default_rng(seed).choice(at, min(len(at), MOST_SAMPLES), replace=False)
    q = others.reshape(-1, classes)[some]
    # means weighed by how likely a cell is of the class; one covariance around them, just regular
    mass = np.maximum(q.sum(axis=0), 1e-9)
    mean = (q.T @ x[some]) / mass[:, None]
    spread = np.cov(x[some].T - mean[q.argmax(axis=1)].T) + 1e-6 * np.diag(x[some].var(axis=0))
    pull = np.linalg.solve(np.atleast_2d(spread), mean.T)
    score = log_normalise(x[at] @ pull - 0.5 * np.einsum("kb,bk->k", mean, pull))
    score = np.maximum(score, LEAST_SCORE)
    # centred, as a layer's log-likelihood is (F28); clouds say nothing
    out = np.zeros((clear.size, classes), np.float32)
    out[at] = score - score.mean(axis=1, keepdims=True)
    return out.reshape(others.shape)


def _parts(
    said: Layers,
    others: Layers,
    clear: Bools,
    resolution: float,
    setting: Setting,
) -> list[ControlPoint]:
    reach = setting.max_shift
    parts = [min(max(n // setting.shift_tile, 1), setting.scene_parts) for n in clear.shape]
    edges = [
        np.linspace(0, n, one + 1).astype(int) for n, one in zip(clear.shape, parts, strict=True)
    ]
    found = []
    for top, bottom in pairwise(edges[0].tolist()):
        for left, right in pairwise(edges[1].tolist()):
            # half cloud, or narrower than the search: no shift of its own
            part = np.s_[top:bottom, left:right]
            if clear[part].mean() < 0.5 or min(clear[part].shape) <= 2 * reach:
                continue
            shift = relative_shift(said[part], others[part], resolution, setting)
            # nor where the shift is no better known than "within the search window"
            if shift is not None and np.trace(shift.covariance) < (reach * resolution) ** 2:
                row, column = (top + bottom) / 2, (left + right) / 2
                found.append(ControlPoint(row=row, column=column, shift=shift))
    return found


def _affine(
    points: tuple[ControlPoint, ...], shift: Displacement, shape: tuple[int, ...]
) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    """Return the affine field of the parts, if it beats one shift by Akaike's criterion (F36)."""
    if len(points) < 5:
        return None
    design = np.array([[1, p.column - shape[1] / 2, p.row - shape[0] / 2] for p in points])
    # weighted least squares, axis by axis; the gain is in chi squared over the parts' one mean
    rows, gain = [], 0.0
    for axis in ("dx", "dy"):
        value = np.array([getattr(p.shift, axis) for p in points])
        i = 0 if axis == "dy" else 1
        weight = 1 / np.sqrt([p.shift.covariance[i][i] for p in points])
        beta = np.linalg.lstsq(design * weight[:, None], value * weight, rcond=None)[0]
        mean = np.average(value, weights=weight**2)
        one = float((((value - mean) * weight) ** 2).sum())
        gain += one - float((((value - design @ beta) * weight) ** 2).sum())
        rows.append((float(beta[0]), float(beta[1]), float(beta[2])))
    # four more parameters than two shifts; a part's own uncertainty may be too small by half
    return (rows[0], rows[1]) if gain > 4 * 2 * 4 else None
