"""How the pool and its surroundings are read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.core.result import log_normalise
from glocal.core.setting import ENGINE
from glocal.fusion.decode.context import (
    Readout,
    learn_readout,
    surroundings,
    usual_readout,
)
from glocal.fusion.decode.regression import Linear


def drawn(seed: int, shape: tuple[int, int] = (30, 26), classes: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return log_normalise(rng.normal(0, 2, (*shape, classes))).astype(np.float32)


def test_means_are_those_of_the_cells_that_exist() -> None:
    log_q = drawn(0)
    said = surroundings(log_q, ENGINE.squares).reshape(
        *log_q.shape[:2], 1 + len(ENGINE.squares), -1
    )
    for row, column in [(0, 0), (3, 25), (15, 13), (29, 0)]:
        for i, side in enumerate(ENGINE.squares):
            half = side // 2
            rows = slice(max(row - half, 0), row + half + 1)
            columns = slice(max(column - half, 0), column + half + 1)
            mean = np.log(np.exp(log_q[rows, columns].astype(float)).mean(axis=(0, 1)))
            assert said[row, column, 1 + i] == pytest.approx(mean - mean.max(), abs=1e-3)


@given(seed=st.integers(0, 100), row=st.integers(0, 20), column=st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_a_tile_with_its_halo_reads_as_the_whole(seed: int, row: int, column: int) -> None:
    log_q = drawn(seed, (40, 40))
    rng = np.random.default_rng(seed)
    readout = Readout(
        linear=Linear(
            weight=rng.normal(size=(3 * (1 + len(ENGINE.squares)), 3)), constant=np.zeros(3)
        ),
        squares=ENGINE.squares,
    )
    reach = max(ENGINE.squares) // 2
    top, left = max(row - reach, 0), max(column - reach, 0)
    tile = readout(log_q[top : row + 8 + reach, left : column + 8 + reach])
    inside = tile[row - top :, column - left :][:8, :8]
    assert np.array_equal(inside, readout(log_q)[row : row + 8, column : column + 8])


def test_what_all_cells_say_stays_likeliest() -> None:
    log_q = np.broadcast_to(np.log([0.2, 0.7, 0.1]), (12, 12, 3)).astype(np.float32)
    linear = Linear(weight=np.tile(np.eye(3) / 4, (4, 1)), constant=np.zeros(3))
    read = Readout(linear=linear, squares=ENGINE.squares)(log_q)
    assert (read.argmax(axis=-1) == 1).all()
    assert np.exp(read).sum(axis=-1) == pytest.approx(1)


def test_a_lone_cell_is_heard_less_than_its_surroundings() -> None:
    log_q = np.full((25, 25, 2), np.log([0.9, 0.1]), np.float32)
    log_q[12, 12] = np.log([0.4, 0.6])
    log_q[:, 13:] = log_q[:, 13:, ::-1]
    readout = usual_readout(log_q, ENGINE)
    assert readout is not None
    assert log_q[5, 12].argmax() == 0
    log_q[5, 6] = np.log([0.4, 0.6])
    assert readout(log_q)[5, 6].argmax() == 0


def test_strangers_are_not_read() -> None:
    """Where each cell is drawn by itself, its neighbours tell nothing of it."""
    assert usual_readout(drawn(3, (60, 60)), ENGINE) is None


def anchors(seed: int, n: int = 300) -> tuple[np.ndarray, ...]:
    """Return anchors of a pool that takes class 2 for class 1 every time."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    seen = np.where(truth == 2, 1, truth)
    log_q = np.log(np.full((n, 3), 0.1) + 0.7 * np.eye(3)[seen])
    context = np.log(np.full((n, 3), 0.2) + 0.4 * np.eye(3)[truth])
    said = np.concatenate([log_q, *[context] * len(ENGINE.squares)], axis=1)
    return said, np.eye(3)[truth], np.ones(n), rng.permutation(n) % 5


def test_anchors_teach_what_the_pool_confuses() -> None:
    said, shares, weight, fold = anchors(0)
    _, others = learn_readout(said, shares, weight, fold, ENGINE)
    read = np.array([others[f].read(one[None, None])[0, 0] for f, one in zip(fold, said)])  # noqa: B905
    pool = (said[:, :3].argmax(axis=1) == shares.argmax(axis=1)).mean()
    assert (read.argmax(axis=1) == shares.argmax(axis=1)).mean() > pool + 0.2


def test_a_fold_has_no_say_in_its_own_map() -> None:
    said, shares, weight, fold = anchors(1)
    _, before = learn_readout(said, shares, weight, fold, ENGINE)
    wrong = np.where(fold[:, None] == 2, np.roll(shares, 1, axis=1), shares)
    _, after = learn_readout(said, wrong, weight, fold, ENGINE)
    assert np.array_equal(before[2].linear.weight, after[2].linear.weight)
    assert not np.allclose(before[0].linear.weight, after[0].linear.weight)


def test_one_anchor_a_fold_hardly_moves_the_pool() -> None:
    said, shares, weight, fold = anchors(2, 5)
    readout, _ = learn_readout(said, shares, weight, fold, ENGINE)
    assert np.abs(readout.linear.weight[:3] - np.eye(3)).max() < 0.75
