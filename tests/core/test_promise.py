"""How far probabilities may be believed: laws, and whether the promise is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glocal.core.promise import UNCHECKED, sharpness_of, shrunk, threshold_for

P = st.lists(st.floats(0, 1), min_size=2, max_size=20)


@given(P, st.floats(0.1, 1.0))
def test_shrinking_keeps_order_and_side(values: list[float], sharpness: float) -> None:
    p = np.sort(np.array(values))
    after = shrunk(p, sharpness)
    assert (np.diff(after) >= 0).all()
    assert (np.abs(after - 0.5) <= np.abs(p - 0.5) + 1e-8).all()
    assert (np.sign(after - 0.5) * np.sign(p - 0.5) >= 0).all()


def test_full_sharpness_changes_nothing() -> None:
    p = np.linspace(0.01, 0.99, 50)
    assert shrunk(p, 1.0) == pytest.approx(p)


@pytest.mark.parametrize("sharpness", [0.3, 0.6, 0.9])
def test_finds_how_much_too_sure_a_source_is_and_stays_below(sharpness: float) -> None:
    rng = np.random.default_rng(4)
    stated = rng.uniform(0.5, 0.999, 20_000)
    right = rng.random(20_000) < shrunk(stated, sharpness)
    found = sharpness_of(stated, right)
    assert sharpness - 0.05 <= found <= sharpness + 0.01


def test_few_points_allow_little() -> None:
    right = np.ones(19)
    assert sharpness_of(np.full(19, 0.9), right) == UNCHECKED
    assert sharpness_of(np.full(40, np.nan), np.full(40, np.nan)) == UNCHECKED
    # with the same error rate, more points allow more
    stated = np.full(400, 0.9)
    hits = np.tile([True] * 9 + [False], 40)
    assert sharpness_of(stated[:40], hits[:40]) < sharpness_of(stated, hits)


probabilities = st.lists(st.sampled_from([0.1, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0]), max_size=12)


@given(probabilities, st.sampled_from([0.5, 0.75, 0.8, 0.9, 1.0]))
def test_the_threshold_is_the_lowest_that_keeps_the_precision(
    values: list[float], precision: float
) -> None:
    p = np.array(values, float)
    threshold, expected = threshold_for(p, precision)
    kept = p[p >= threshold]
    if len(kept):
        assert kept.mean() >= precision - 1e-12
        assert expected == pytest.approx(kept.mean())
    else:
        assert np.isnan(expected)
    for lower in p[p < threshold]:
        assert p[p >= lower].mean() < precision + 1e-12


@pytest.mark.parametrize("optimism", [0.35, 0.6, 1.0])
@pytest.mark.parametrize("wanted", [0.8, 0.9, 0.95])
def test_the_promise_is_broken_in_few_areas(optimism: float, wanted: float) -> None:
    """Draw 100 areas with 80 held-out points each and 200 candidates, all too sure alike.

    The bound is one standard deviation, so about one area in six may miss; an area that
    exports nothing has promised nothing.
    """
    rng = np.random.default_rng(7)
    broken = 0
    for _ in range(100):
        points, stated = rng.uniform(0.5, 0.999, 80), rng.uniform(0.5, 0.999, 200)
        sharpness = sharpness_of(points, rng.random(80) < shrunk(points, optimism))
        p = shrunk(stated, sharpness)
        threshold, expected = threshold_for(p, wanted)
        chosen = p >= threshold
        if chosen.any():
            assert expected >= wanted
            broken += shrunk(stated, optimism)[chosen].mean() < wanted
    assert broken <= 24  # 16 expected, two standard deviations of 100 areas
