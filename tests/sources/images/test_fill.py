"""Gaps are filled better than by simple means, with intervals that hold, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from glocal.core.grid import area_geobox, block_folds
from glocal.sources.images.fill import Filling, fill_gaps

SIDE = 128
GRID = area_geobox((400_000, 5_798_720, 401_280, 5_800_000), "EPSG:32633", 10)
FOLD = block_folds(GRID, 16, 5, seed=1)


def _scene(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return truth (2, H, W), classes (H, W, 3), another image (1, H, W) and clouds (H, W)."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 5)
    label = np.digitize(field, np.quantile(field, [0.33, 0.66]))
    tone = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 8) * 20
    first = np.array([0.1, 0.3, 0.6])[label] + 0.05 * tone
    truth = np.stack([first, 0.5 - 0.4 * first]) + rng.normal(0, 0.02, (2, SIDE, SIDE))
    other = (first * 3 + rng.normal(0, 0.02, (SIDE, SIDE)))[None].astype(np.float32)
    cover = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 6)
    classes = np.eye(3, dtype=np.float32)[label]
    return truth.astype(np.float32), classes, other, cover > np.quantile(cover, 0.8)


def _filled(seed: int, with_other: bool) -> tuple[Filling, np.ndarray, np.ndarray]:
    truth, classes, other, hidden = _scene(seed)
    seen = np.where(hidden, np.float32(9), truth)
    others = [(other, True)] if with_other else []
    found = fill_gaps(seen, ~hidden, hidden, others, classes, FOLD, seed=1)
    assert isinstance(found, Filling)
    return found, truth, hidden


def test_filled_cells_are_near_the_truth_and_intervals_hold() -> None:
    found, truth, hidden = _filled(1, with_other=True)
    error = np.abs(found.values - truth)[:, hidden]
    for band, score in enumerate(found.scores):
        assert error[band].mean() < 0.7 * score.mae_of_nearest
        assert error[band].mean() < 0.5 * score.mae_of_mean
        assert error[band].mean() == pytest.approx(score.mae, rel=0.5)
        assert 0.8 < score.coverage <= 1
        assert 0.8 < (error[band] <= found.half_width[band][hidden]).mean() <= 1
    assert (found.values[:, ~hidden] == truth[:, ~hidden]).all()
    assert np.isnan(found.half_width[:, ~hidden]).all()
    assert (found.basis[hidden] == 1).all()
    assert (found.basis[~hidden] == 0).all()


def test_another_date_helps() -> None:
    with_it, truth, hidden = _filled(2, with_other=True)
    without, *_ = _filled(2, with_other=False)
    error = [np.abs(one.values - truth)[:, hidden].mean() for one in (with_it, without)]
    assert error[0] < error[1]
    assert (without.basis[hidden] == 3).all()


def test_noise_is_not_filled() -> None:
    _, _, _, hidden = _scene(3)
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(1, SIDE, SIDE)).astype(np.float32)
    classes = np.full((SIDE, SIDE, 2), 0.5, np.float32)
    found = fill_gaps(noise, ~hidden, hidden, [], classes, FOLD, seed=1)
    assert isinstance(found, Filling)
    told = np.isfinite(found.values[0][hidden]).mean()
    assert told < 0.5
    assert (found.basis[hidden & np.isnan(found.values[0])] == 4).all()


def test_nothing_to_fill_is_said() -> None:
    truth, classes, _, hidden = _scene(5)
    nothing = np.zeros_like(hidden)
    assert fill_gaps(truth, ~nothing, nothing, [], classes, FOLD, seed=1) == "nothing is hidden"
    nearly = np.ones_like(hidden)
    nearly[:8, :8] = False
    said = fill_gaps(truth, ~nearly, nearly, [], classes, FOLD, seed=1)
    assert isinstance(said, str)
    assert "fewer than" in said
