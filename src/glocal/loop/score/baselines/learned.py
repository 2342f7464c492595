"""Stacking: a classifier learns from the reference points what all sources mean together.

Features, penalties, the weight of field points and the spatial term are chosen by
cross-validation on the anchors, by log-loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from glocal.fusion.decode.spatial import smooth
from glocal.fusion.decode.sweeps import SMOOTHING_SWEEPS
from glocal.loop.score.baselines.ballots import Ballots

FOLDS = 5
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Inverse strengths of the L2 penalty that are tried."""

FIELD_WEIGHTS = (0.0, 0.3, 1.0)
"""Weights of a field point against an anchor that are tried."""

BETAS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5)
NEIGHBOURHOOD = 5
TREES = 40
LEAVES = 6
FLOOR = 1e-6

Table = NDArray[np.float64]
Layers = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """One setting of a learner."""

    features: str = "all"
    penalty: float = 1.0
    field: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """Probabilities of all cells (N, K), and the same from each fold's model."""

    probability: Table
    held_out: tuple[Callable[[NDArray[np.int64]], Table], ...]
    """For cells (n,), P(class) (n, K) by the model that did not see a fold's anchors."""

    fold: NDArray[np.int64]


def fold_of(ballots: Ballots) -> NDArray[np.int64]:
    """Return the fold of each labelled point, -1 for those that never judge, shape (A,)."""
    rng = np.random.default_rng([ballots.seed, 31])
    fold = np.full(len(ballots.cell), -1)
    judges = np.flatnonzero(ballots.judge)
    fold[judges] = rng.permutation(len(judges)) % FOLDS
    return fold


def stacked(ballots: Ballots) -> Learned:
    """Learn multinomial logistic regression on what all sources say (Wolpert 1992)."""
    parts, sets = _parts(ballots), {}
    for names in (("words", "read"), ("words", "read", "near"), ("words", "read", "near", "bands")):
        kept = [parts[name] for name in names if name in parts]
        sets["+".join(names)] = np.concatenate(kept, axis=1)
    grid = [_Choice(features=name, penalty=c) for name in sets for c in PENALTIES]
    best = _best(ballots, sets, grid, _logistic)
    grid = [replace(best, field=weight) for weight in FIELD_WEIGHTS]
    return _learned(ballots, sets, _best(ballots, sets, grid, _logistic), _logistic)


def boosted(ballots: Ballots) -> Learned:
    """Learn gradient-boosted trees on the same, with image features and neighbourhoods."""
    parts = _parts(ballots)
    # a tree splits codes by itself: one column per source
    parts["words"] = ballots.symbols[: -len(ballots.models) or None].T.astype(np.float32)
    sets = {"all": np.concatenate(list(parts.values()), axis=1)}
    grid = [_Choice(field=weight) for weight in FIELD_WEIGHTS[::2]]
    return _learned(ballots, sets, _best(ballots, sets, grid, _trees), _trees)


def smoothed(ballots: Ballots, learned: Learned) -> Table:
    """Return probabilities (N, K) under a Potts prior whose weight the held-out anchors choose."""
    loss = np.zeros(len(BETAS))
    for f, held_out in enumerate(learned.held_out):
        test = np.flatnonzero(learned.fold == f)
        near = np.zeros(ballots.shape, bool)
        near.ravel()[ballots.cell[test]] = True
        # what lies further away never reaches these points by smoothing
        heard = np.flatnonzero(ndimage.binary_dilation(near, iterations=SMOOTHING_SWEEPS))
        p = np.full(learned.probability.shape, 1 / ballots.classes)
        p[heard] = held_out(heard)
        field = _field(ballots, p)
        for i, beta in enumerate(BETAS):
            log_p = smooth(field, beta, ballots.similarity).reshape(-1, ballots.classes)
            loss[i] += _loss(ballots, test, np.exp(log_p[ballots.cell[test]].astype(float)))
    best = BETAS[int(loss.argmin())]
    log_q = smooth(_field(ballots, learned.probability), best, ballots.similarity)
    return np.exp(log_q.reshape(-1, ballots.classes).astype(np.float64))


def _field(ballots: Ballots, probability: Table) -> Layers:
    log_p = np.log(np.maximum(probability, FLOOR))
    return np.asarray(log_p.reshape(*ballots.shape, -1), np.float32)


def _parts(ballots: Ballots) -> dict[str, Layers]:
    """Return feature layers (N, F): words, models' log-odds, neighbourhood, image bands."""
    words = []
    for i in range(len(ballots.names)):
        if ballots.names[i] not in ballots.models:
            codes = ballots.symbols[i]
            used = np.unique(codes[codes > 0])
            words.append((codes[:, None] == used).astype(np.float32))
    read = [np.log(np.maximum(p, 1e-3)) for p in ballots.probability.values()]
    votes = sum(ballots.opinion_of(i) for i in range(len(ballots.names)))
    near = ndimage.uniform_filter(
        np.asarray(votes).reshape(*ballots.shape, -1), (NEIGHBOURHOOD, NEIGHBOURHOOD, 0)
    )
    parts = {
        "words": np.concatenate(words, axis=1),
        "near": near.reshape(len(words[0]), -1).astype(np.float32),
    }
    if read:
        bands = np.concatenate([one.values for one in ballots.features.values()], axis=1)
        parts |= {"read": np.concatenate(read, axis=1), "bands": bands * np.float32(0.3)}
    return parts


Fit = Callable[[Layers, NDArray[np.int64], Table, _Choice, int], Callable[[Layers], Table]]


def _logistic(
    x: Layers, y: NDArray[np.int64], weight: Table, choice: _Choice, classes: int
) -> Callable[[Layers], Table]:
    model = LogisticRegression(C=choice.penalty, max_iter=200, tol=1e-3)
    return _fitted(model, x, y, weight, classes)


def _trees(
    x: Layers, y: NDArray[np.int64], weight: Table, choice: _Choice, classes: int
) -> Callable[[Layers], Table]:
    model = HistGradientBoostingClassifier(
        max_iter=TREES,
        learning_rate=0.12,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=5,
        l2_regularization=5.0,
        max_features=0.3,
        max_bins=32,
        early_stopping=False,
        random_state=0,
    )
    return _fitted(model, x, y, weight, classes)


def _fitted(
    model: Any, x: Layers, y: NDArray[np.int64], weight: Table, classes: int
) -> Callable[[Layers], Table]:
    """Fit; return what predicts (n, K), with a class that no label has at a small floor."""
    present = np.unique(y)
    if len(present) == 1:
        return lambda rows: np.tile(
            np.eye(classes)[present[0]] * 0.99 + 0.01 / classes, (len(rows), 1)
        )
    model.fit(x, y, sample_weight=weight)

    def predict(rows: Layers) -> Table:
        p = np.full((len(rows), classes), 0.5 / (len(y) + 1))
        p[:, present] = np.maximum(model.predict_proba(rows), 1e-4)
        return np.asarray(p / p.sum(axis=1, keepdims=True))

    return predict


def _splits(fold: NDArray[np.int64]) -> Iterator[tuple[Any, Any]]:
    for f in range(FOLDS):
        yield np.flatnonzero(fold != f), np.flatnonzero(fold == f)


def _fit(
    ballots: Ballots, x: Layers, rows: NDArray[np.int64], fit: Fit, choice: _Choice
) -> Callable[[Layers], Table]:
    weight = ballots.weight[rows] * np.where(ballots.judge[rows], 1.0, choice.field)
    rows, weight = rows[weight > 0], weight[weight > 0]
    cells = ballots.cell[rows]
    return fit(x[cells], ballots.truth[rows], weight, choice, ballots.classes)


def _loss(ballots: Ballots, rows: NDArray[np.int64], p: Table) -> float:
    truth = ballots.shares[rows]
    return float(-(ballots.weight[rows, None] * truth * np.log(np.maximum(p, FLOOR))).sum())


def _best(ballots: Ballots, sets: dict[str, Layers], grid: list[_Choice], fit: Fit) -> _Choice:
    """Return the choice of least cross-validated log-loss on the anchors."""
    splits, loss = list(_splits(fold_of(ballots))), np.zeros(len(grid))
    for i, one in enumerate(grid):
        x = sets[one.features]
        for train, test in splits:
            p = _fit(ballots, x, train, fit, one)(x[ballots.cell[test]])
            loss[i] += _loss(ballots, test, p)
    return grid[int(loss.argmin())]


def _learned(ballots: Ballots, sets: dict[str, Layers], choice: _Choice, fit: Fit) -> Learned:
    fold, x = fold_of(ballots), sets[choice.features]

    def held_out(rows: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], Table]:
        return lambda cells: _fit(ballots, x, rows, fit, choice)(x[cells])

    every = np.arange(len(fold))
    return Learned(
        probability=_fit(ballots, x, every, fit, choice)(x),
        held_out=tuple(held_out(train) for train, _ in _splits(fold)),
        fold=fold,
    )
