"""The spatial term against a slow twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.core.result import log_normalise
from glocal.errors import GridMismatchError
from glocal.fusion.decode.spatial import decide, smooth
from glocal.fusion.decode.sweeps import SMOOTHING_SWEEPS

sizes = st.integers(1, 7)


def scene(height, width, classes, seed):
    rng = np.random.default_rng(seed)
    log_q = log_normalise(rng.normal(0, 2, (height, width, classes))).astype(np.float32)
    ties = rng.random((height, width - 1), np.float32), rng.random((height - 1, width), np.float32)
    return log_q, ties


def slow(log_q, beta, ties):
    height, width, _ = log_q.shape
    q = np.exp(log_q.astype(float))
    for _ in range(SMOOTHING_SWEEPS):
        field = log_q.astype(float).copy()
        for row in range(height):
            for column in range(width):
                if column + 1 < width:
                    tie = beta * ties[0][row, column]
                    field[row, column] += tie * q[row, column + 1]
                    field[row, column + 1] += tie * q[row, column]
                if row + 1 < height:
                    tie = beta * ties[1][row, column]
                    field[row, column] += tie * q[row + 1, column]
                    field[row + 1, column] += tie * q[row, column]
        q = np.exp(log_normalise(field))
    return q


@given(sizes, sizes, st.integers(2, 4), st.integers(0, 2**16), st.floats(0, 2))
@settings(max_examples=25)
def test_smoothing_equals_a_plain_loop(height, width, classes, seed, beta):
    log_q, ties = scene(height, width, classes, seed)
    np.testing.assert_allclose(
        np.exp(smooth(log_q, beta, ties)), slow(log_q, beta, ties), atol=2e-5
    )
    ones = np.ones_like(ties[0]), np.ones_like(ties[1])
    np.testing.assert_allclose(
        np.exp(smooth(log_q, beta)), np.exp(smooth(log_q, beta, ones)), atol=2e-6
    )


def test_a_cell_hears_no_further_than_the_halo():
    log_q, ties = scene(1, 12, 3, 0)
    other = log_q.copy()
    other[0, 0] = log_normalise(np.array([5.0, 0, 0]))
    a, b = smooth(log_q, 0.7, ties), smooth(other, 0.7, ties)
    np.testing.assert_array_equal(a[0, SMOOTHING_SWEEPS + 1 :], b[0, SMOOTHING_SWEEPS + 1 :])
    assert not np.array_equal(a[0, SMOOTHING_SWEEPS], b[0, SMOOTHING_SWEEPS])


@given(st.integers(6, 40), st.integers(6, 40), st.integers(2, 9), st.integers(0, 2**16))
@settings(max_examples=15)
def test_a_part_with_its_halo_is_decided_like_the_whole(height, width, classes, seed):
    rng = np.random.default_rng(seed)
    table = log_normalise(rng.normal(0, 2, (50, classes))).astype(np.float32)
    unit = rng.integers(0, 50, (height, width)).astype(np.int32)
    whole, q = decide(table, unit, 0.6), np.exp(smooth(table[unit], 0.6))
    left = width // 2
    start = max(left - SMOOTHING_SWEEPS, 0)
    part = decide(table, np.ascontiguousarray(unit[:, start:]), 0.6)
    for mine, all_of_it in zip(part, whole, strict=True):
        np.testing.assert_array_equal(mine[:, left - start :], all_of_it[:, left:])
    np.testing.assert_array_equal(whole[0], q.argmax(axis=2))
    np.testing.assert_allclose(whole[1] / 255, q.max(axis=2), atol=0.5 / 255 + 1e-6)
    at_word = decide(table, unit, 0.0)
    np.testing.assert_array_equal(at_word[0], table.argmax(axis=1)[unit])


def test_impossible_classes_stay_impossible():
    log_q = np.full((3, 4, 2), -np.inf, np.float32)
    log_q[..., 1] = 0.0
    np.testing.assert_allclose(np.exp(smooth(log_q, 1.0))[..., 1], 1.0)


@pytest.mark.parametrize("beta", [-0.1, 17.0, np.nan])
def test_weights_that_no_one_can_mean_are_refused(beta):
    with pytest.raises(ValueError, match="beta"):
        smooth(scene(2, 2, 2, 0)[0], beta)


@pytest.mark.parametrize("wrong", [((2, 2), (1, 3)), ((2, 3), (2, 3)), ((3, 2), (1, 2))])
def test_ties_of_another_grid_are_refused(wrong):
    log_q, _ = scene(2, 3, 2, 0)
    ties = tuple(np.ones(shape, np.float32) for shape in wrong)
    if wrong == ((2, 2), (1, 3)):
        smooth(log_q, 0.5, ties)
        return
    with pytest.raises(GridMismatchError, match="similarity"):
        smooth(log_q, 0.5, ties)
