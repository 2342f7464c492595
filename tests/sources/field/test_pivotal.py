"""The local pivotal method: probabilities as asked, samples of fixed size, spread out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.sources.field.pivotal import local_pivotal
from glocal.sources.field.sampling import expected_information


def test_units_are_drawn_as_often_as_asked() -> None:
    rng = np.random.default_rng(1)
    xy = rng.random((40, 2))
    p = rng.random(40) ** 2
    p *= 8 / p.sum()
    p = np.minimum(p, 1)
    p[:3] += (8 - p.sum()) / 3
    draws, seen = 1500, np.zeros(40)
    for _ in range(draws):
        drawn = local_pivotal(p, xy, rng)
        assert len(drawn) == 8
        seen[drawn] += 1
    z = (seen / draws - p) / np.sqrt(p * (1 - p) / draws + 1e-9)
    assert np.abs(z).max() < 4.5
    assert (z**2).mean() < 1.6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(2, 30), st.integers(1, 5))
def test_size_is_the_sum_of_the_probabilities(seed: int, units: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    size = min(size, units)
    drawn = local_pivotal(np.full(units, size / units), rng.random((units, 2)), rng)
    assert len(np.unique(drawn)) == size


def test_samples_are_spread_more_evenly_than_by_chance() -> None:
    rng = np.random.default_rng(2)
    xy = np.stack(np.indices((20, 20)), -1).reshape(-1, 2).astype(float)

    def unevenness(drawn: np.ndarray) -> float:
        quarter = (xy[drawn] // 5).astype(int)
        return float(np.bincount(quarter[:, 0] * 4 + quarter[:, 1], minlength=16).var())

    local = [unevenness(local_pivotal(np.full(400, 0.08), xy, rng)) for _ in range(25)]
    chance = [unevenness(rng.choice(400, 32, replace=False)) for _ in range(25)]
    assert np.mean(local) < 0.4 * np.mean(chance)


def test_probabilities_beyond_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        local_pivotal(np.array([0.5, 1.5]), np.zeros((2, 2)), np.random.default_rng(0))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 5), st.integers(2, 6))
def test_information_lies_between_nothing_and_the_doubt(seed: int, k: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    p, answers = rng.dirichlet(np.ones(k), (2, 3)), rng.dirichlet(np.ones(m), k)
    found = expected_information(p, answers)
    doubt = -(p * np.log2(p)).sum(-1)
    assert (found >= 0).all()
    assert (found <= doubt + 1e-9).all()
    np.testing.assert_allclose(expected_information(p, np.eye(k)), doubt, atol=1e-9)
    np.testing.assert_allclose(expected_information(p, np.ones((k, m)) / m), 0, atol=1e-9)
