"""Fill what clouds hid in an image, with how far off that may be.

A regression tells every band of a hidden cell from what is known there: the same place in
other images (another date of the same sensor, radar, heights), the class by everybody but
the image, the nearest clear cell, the nearest one of the same class, and the local mean. It
learns on cells that are hidden on purpose: the scene's own clouds, moved onto clear ground,
so that distances to clear ground are those of real gaps. Blocks are kept apart: some teach,
some set the width of the intervals (split conformal, Lei et al. 2018,
doi:10.1080/01621459.2017.1307116), some are only measured. Where the calibration blocks show
no gain over the spread of the scene, the cell stays empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingRegressor

from glocal.core.typing import Bools, Bytes, Codes, Layers, Table

BASES = ("seen", "another date", "other sensors", "neighbours and class", "not filled")
"""What a cell's value rests on: codes 0 to 4."""

COVERAGE = 0.9
TRIES = 4
"""Times that the clouds are moved."""

SAMPLES = 6000
"""Cells that teach, at most."""

LEAST = 200
"""Cells that each of the three parts needs."""

NEAR = 6.0
"""Width in cells of the local mean."""

BINS = 4
"""Groups of equal size by distance to clear ground; each has intervals of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandScore:
    """How well a band is filled, at cells hidden on purpose that nothing was fitted to."""

    n: int
    mae: float = np.nan
    """This and all that follows is NaN where there is no such cell."""

    bias: float = np.nan
    skill: float = np.nan
    """1 - mean square error / variance: 1 is perfect, 0 no better than the mean."""

    coverage: float = np.nan
    """Share of these cells inside their 90 % interval."""

    mae_of_nearest: float = np.nan
    """Of the nearest clear cell's value, to compare with."""

    mae_of_mean: float = np.nan
    """Of the scene's mean."""

    @classmethod
    def of(cls, said: Table, truth: Layers, half: Table, nearest: Layers, part: Bytes) -> BandScore:
        """Return the score at the cells of part 0 that are filled."""
        use = (part == 0) & np.isfinite(half)
        if not use.any():
            return cls(n=0)
        mean = float(truth[part == 2].mean())
        error, true = (said - truth)[use], truth[use].astype(np.float64)
        return cls(
            n=int(use.sum()),
            mae=float(np.abs(error).mean()),
            bias=float(error.mean()),
            skill=float(1 - (error**2).mean() / max(((true - true.mean()) ** 2).mean(), 1e-30)),
            coverage=float((np.abs(error) <= half[use]).mean()),
            mae_of_nearest=float(np.abs(nearest[use] - true).mean()),
            mae_of_mean=float(np.abs(mean - true).mean()),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Filling:
    """An image without gaps where that was possible."""

    values: Layers
    """Shape (B, H, W); NaN where nothing is known."""

    half_width: Layers
    """Shape (B, H, W): half of the 90 % interval; NaN where the ground was seen."""

    basis: Bytes
    """Shape (H, W), see `BASES`."""

    scores: tuple[BandScore, ...]
    """One per band."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Known:
    """What is known of every cell without looking at it."""

    values: Layers
    stack: Layers
    """Shape (P, H, W): other images and classes; NaN where unknown."""

    label: Codes
    """Shape (H, W), most probable class."""

    def describe(self, clear: Bools, at: Codes) -> tuple[Layers, Layers, Layers]:
        """Return features (n, P + 1), neighbours (B, 3, n) and distances (n,) of flat cells."""
        far, there = _nearest(clear, at)
        alike = np.full(len(at), -1)
        for k in np.unique(self.label.ravel()[at]):
            same = clear & (self.label == k)
            if same.any():
                mine = self.label.ravel()[at] == k
                alike[mine] = _nearest(same, at[mine])[1]
        # A local mean of what is clear: both filtered, then divided.
        weight = np.maximum(ndimage.gaussian_filter(clear.astype(np.float32), NEAR), 1e-6)
        around = np.empty((len(self.values), 3, len(at)), np.float32)
        for b, band in enumerate(self.values):
            smooth = ndimage.gaussian_filter(np.where(clear, band, np.float32(0)), NEAR) / weight
            around[b] = band.ravel()[there], smooth.ravel()[at], band.ravel()[alike]
        around[:, 2, alike < 0] = np.nan
        stack = self.stack.reshape(len(self.stack), -1)[:, at]
        return np.concatenate([stack, far[None]]).T, around, far


def _nearest(clear: Bools, at: Codes) -> tuple[Layers, Codes]:
    """Return distance and flat index of the clear cell nearest to each of ``at``."""
    distance, index = ndimage.distance_transform_edt(~clear, return_indices=True)
    there = np.ravel_multi_index(tuple(one.ravel()[at] for one in index), clear.shape)
    return distance.ravel()[at].astype(np.float32), np.asarray(there, np.int64)


def fill_gaps(
    values: Layers,
    clear: Bools,
    hidden: Bools,
    others: Sequence[tuple[Layers, bool]],
    classes: Layers,
    fold: Bytes,
    *,
    seed: int,
) -> Filling | str:
    """Return the filled image, or why there is none.

    Parameters
    ----------
    values
        Shape (B, H, W), any unit; what stands in cells that are not ``clear`` is not read.
    clear, hidden
        Shape (H, W): cells that show the ground, and those to fill. Others stay empty.
    others
        Other images on the grid: bands (P, H, W), NaN where they show nothing, and whether
        they are of the same sensor on another date.
    classes
        Shape (H, W, K), probabilities of the classes without this image.
    fold
        Shape (H, W), blocks: the first teaches nothing and is measured, the second
        calibrates, the rest teaches.
    """
    if not hidden.any():
        return "nothing is hidden"
    stack = np.concatenate([*(one for one, _ in others), np.moveaxis(classes, -1, 0)])
    known = _Known(values=values, stack=stack.astype(np.float32), label=classes.argmax(axis=-1))
    taught = _hidden_on_purpose(known, clear, hidden, np.random.default_rng(seed))
    # Blocks of part 0 are only measured, those of part 1 set the widths, those of part 2 teach.
    part = np.minimum(fold.ravel()[taught[0]], 2) if taught else np.empty(0, np.uint8)
    if taught is None or np.bincount(part, minlength=3).min() < LEAST:
        return f"fewer than {LEAST} clear cells under the moved clouds in a part of the scene"
    at, x, around, far = taught
    goal = np.flatnonzero(hidden)
    goal_x, goal_around, goal_far = known.describe(clear, goal)
    # The farther from clear ground, the wider: groups of equal size have widths of their own.
    edges = np.quantile(far[part == 1], np.arange(1, BINS) / BINS)
    basis = np.where(hidden, 3, np.where(clear, 0, 4)).astype(np.uint8)
    for layers, same in sorted(others, key=lambda one: one[1]):
        basis[hidden & np.isfinite(layers).all(axis=0)] = 1 if same else 2
    teach = np.flatnonzero(part == 2)
    teach = teach[np.random.default_rng(seed).permutation(len(teach))[:SAMPLES]]
    model = HistGradientBoostingRegressor(
        max_iter=80, max_leaf_nodes=15, min_samples_leaf=40, early_stopping=False, random_state=seed
    )
    filled = np.where(clear, values, np.float32(np.nan))
    width = np.full_like(filled, np.nan)
    scores = []
    for b in range(len(values)):
        truth = values[b].ravel()[at]
        features = np.column_stack([x, around[b].T])
        model.fit(features[teach], truth[teach])
        said = model.predict(features)
        half = _half_widths(said, truth, far, part, edges)
        scores.append(BandScore.of(said, truth, half[np.digitize(far, edges)], around[b][0], part))
        there = half[np.digitize(goal_far, edges)]
        new = model.predict(np.column_stack([goal_x, goal_around[b].T]))
        filled[b].ravel()[goal] = np.where(np.isfinite(there), new, np.nan)
        width[b].ravel()[goal] = there
    basis[hidden & np.isnan(filled).all(axis=0)] = 4
    return Filling(values=filled, half_width=width, basis=basis, scores=tuple(scores))


def _hidden_on_purpose(
    known: _Known, clear: Bools, hidden: Bools, rng: np.random.Generator
) -> tuple[Codes, Layers, Layers, Layers] | None:
    """Return clear cells under moved clouds: flat index, features, neighbours, distance."""
    parts = []
    free = clear.copy()
    for _ in range(TRIES):
        # Moved as on a torus, and mirrored: the same shapes, over ground that can be checked.
        moved = np.roll(hidden, rng.integers(0, clear.shape), axis=(0, 1))
        moved = moved[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))] & free
        free &= ~moved
        at = np.flatnonzero(moved)
        if not len(at) or not (clear & ~moved).any():
            continue
        at = np.sort(rng.choice(at, min(len(at), SAMPLES // 2), replace=False))
        parts.append((at, *known.describe(clear & ~moved, at)))
    if not parts:
        return None
    cells, x, around, far = zip(*parts, strict=True)
    return np.concatenate(cells), np.concatenate(x), np.concatenate(around, -1), np.concatenate(far)


def _half_widths(said: Table, truth: Layers, far: Layers, part: Bytes, edges: Table) -> Table:
    """Return the half-width of each group of distances; NaN where filling gains nothing."""
    out = np.full(BINS, np.nan)
    group, spread = np.digitize(far, edges), float(truth[part > 0].var())
    for i in range(BINS):
        error = (said - truth)[(part == 1) & (group == i)]
        n = len(error)
        if n and (error**2).mean() < spread:
            # Of n errors, this bounds a further one with probability COVERAGE (Lei et al., 2018).
            out[i] = np.quantile(np.abs(error), min(1.0, np.ceil((n + 1) * COVERAGE) / n))
    return out
