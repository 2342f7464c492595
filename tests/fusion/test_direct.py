"""Statements read directly, and the regression under it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.setting import ENGINE
from glocal.fusion.decode.decoding import Decoder
from glocal.fusion.decode.direct import learn_direct
from glocal.fusion.decode.regression import CONSTANT_PULL, cross_fitted
from glocal.fusion.problem.terms import Located, prepare
from glocal.testing import legend_of

SHAPE = (12, 12)
GRID = area_geobox((500_000, 5_000_000, 500_120, 5_000_120), "EPSG:32632", 10)
LEGEND = legend_of(3)
WHOLE = (slice(0, 12), slice(0, 12))


def source(name: str, symbols: np.ndarray, shares: np.ndarray | None = None) -> Observations:
    crosswalk = Crosswalk(
        symbols=("a", "b", "c"), target=LEGEND, matrix=np.eye(3), confidence=np.full(3, 0.8)
    )
    return Observations(
        source=name,
        support="cells",
        geobox=GRID,
        symbols=symbols.astype(np.uint8),
        crosswalk=crosswalk,
        phenomenon_time=Interval.of_year(2020),
        provenance=Provenance(activity="read", agent=name, roots=frozenset({name})),
        shares=shares,
    )


def drawn(seed: int) -> tuple[np.ndarray, Observations, Observations]:
    """Return the truth, a map with gaps, and a model that states shares."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, SHAPE)
    said = np.where(rng.random(SHAPE) < 0.8, truth + 1, rng.integers(0, 4, SHAPE))
    shares = rng.dirichlet(np.ones(3), SHAPE)
    shares[np.arange(12)[:, None], np.arange(12), truth] += 0.4
    shares /= shares.sum(axis=-1, keepdims=True)
    shares[rng.random(SHAPE) < 0.1] = np.nan
    symbols = np.where(np.isnan(shares[..., 0]), 0, np.nan_to_num(shares).argmax(axis=-1) + 1)
    return truth, source("map", said), source("model", symbols, shares.astype(np.float16))


def anchors_of(truth: np.ndarray, of_cell: np.ndarray, cell: np.ndarray) -> Located:
    return Located(
        unit=of_cell[cell].astype(np.int64),
        cell=cell,
        shares=np.eye(3)[truth.ravel()[cell]],
        weight=np.ones(len(cell)),
    )


def test_regression_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 4)), rng.integers(0, 3, 80)
    weight = rng.uniform(0.5, 2, 80)
    fold = np.arange(80) % 2
    mine, _ = cross_fitted(x, np.eye(3)[y], weight, fold, np.zeros((4, 3)), (0.7,))
    wide = np.column_stack([x, np.full(80, 1 / np.sqrt(CONSTANT_PULL))])
    theirs = LogisticRegression(C=1 / (2 * 0.7), fit_intercept=False, tol=1e-10, max_iter=5000)
    theirs.fit(wide, y, sample_weight=weight)
    log_p = mine.total(x)
    assert np.allclose(
        log_p - log_p.mean(axis=1, keepdims=True),
        theirs.decision_function(wide) - theirs.decision_function(wide).mean(1, keepdims=True),
        atol=1e-3,
    )


@given(seed=st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_a_cell_without_statements_is_read_as_the_classes_are_usual(seed: int) -> None:
    truth, said, model = drawn(seed)
    problem = prepare([said, model], {})
    cell = np.arange(0, 144, 3)
    located = anchors_of(truth, problem.units.of_cell, cell)
    learned, _ = learn_direct(problem, located, np.arange(len(cell)) % 5)
    read = learned.read(problem, learned.units(problem), WHOLE)
    usual = np.exp(learned.constant) / np.exp(learned.constant).sum()
    silent = (said.symbols == 0) & (model.symbols == 0)
    assert np.allclose(np.exp(read[silent]), usual, atol=1e-5)
    # leaving sources out is the same as their silence
    names = frozenset({"map", "model"})
    read = learned.read(problem, learned.units(problem, names), WHOLE, names)
    assert np.allclose(np.exp(read), usual, atol=1e-5)
    assert np.allclose(np.exp(read).sum(axis=-1), 1, atol=1e-5)


def test_a_fold_does_not_hear_its_own_anchors() -> None:
    # the strength of the ridge is one number that other folds choose; it is held here
    truth, said, model = drawn(1)
    problem = prepare([said, model], {}, replace(ENGINE, direct_ridges=(1.0,)))
    cell = np.arange(0, 144, 2)
    fold = np.arange(len(cell)) % 5
    other = truth.copy()
    other.ravel()[cell[fold == 2]] = 0
    both = [
        learn_direct(problem, anchors_of(one, problem.units.of_cell, cell), fold)[1]
        for one in (truth, other)
    ]
    first, second = (
        [one.read(problem, one.units(problem), WHOLE) for one in folds] for folds in both
    )
    assert np.array_equal(first[2], second[2])
    assert not np.allclose(first[0], second[0])


def test_stated_shares_say_more_than_symbols() -> None:
    loss = np.zeros(2)
    cell = np.arange(0, 144, 2)
    for seed in range(4):
        truth, said, model = drawn(seed)
        loss += [
            loss_without(truth, said, one, cell) for one in (model, source("model", model.symbols))
        ]
    assert loss[0] < loss[1]


def loss_without(
    truth: np.ndarray, said: Observations, model: Observations, cell: np.ndarray
) -> float:
    """Return the loss at the cells that taught nothing."""
    problem = prepare([said, model], {})
    located = anchors_of(truth, problem.units.of_cell, cell)
    learned, _ = learn_direct(problem, located, np.arange(len(cell)) % 5)
    read = learned.read(problem, learned.units(problem), WHOLE).reshape(-1, 3)
    of_truth = read[np.arange(144), truth.ravel()]
    return -float(np.delete(of_truth, cell).mean())


def test_a_blend_with_itself_is_itself() -> None:
    rng = np.random.default_rng(0)
    log_p = np.log(rng.dirichlet(np.ones(4), (5, 6))).astype(np.float32)
    read = Decoder(share=(0.3, 0.2, 0.5)).pooled([log_p] * 3)
    assert np.allclose(read, log_p, atol=1e-5)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        (np.full((12, 12, 2), 0.5), "have shape"),
        (np.full((12, 12, 3), 0.5), "sum to 1"),
        (np.full((12, 12, 3), np.nan), "sum to 1"),
    ],
)
def test_shares_are_checked(shares: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        source("model", np.ones(SHAPE), shares.astype(np.float16))


def test_silent_cells_have_no_shares() -> None:
    with pytest.raises(ValueError, match="NaN where symbols are 0"):
        source("model", np.zeros(SHAPE), np.full((12, 12, 3), 1 / 3, np.float16))
