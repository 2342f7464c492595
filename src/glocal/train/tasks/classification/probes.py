"""What frozen features tell about classes: linear probe, neighbours, trees, several labels.

What is chosen (regularisation, number of neighbours) is chosen on the validation part; the test
part is read once, at the end. Features are standardised with the training part's moments.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from glocal.errors import BadSourceError

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Inverse strengths C of the ridge penalty that the validation part chooses from."""

NEIGHBOURS = (1, 3, 5, 10, 20, 50)
"""Numbers of neighbours that the validation part chooses from."""

LEAVES = (1, 3)
"""Smallest numbers of samples in a leaf that the validation part chooses from."""

TREES, CHUNK = 100, 1024

TEMPERATURE = 0.07
"""Of the neighbours' votes, exp(cosine / T): Wu et al. 2018 (arXiv:1805.01978)."""

ITERATIONS = 300
"""Limit of the solver; a weakly penalised probe that reaches it has been stopped early."""

TOLERANCE = 3e-4
"""Of the solver, on the largest entry of the gradient."""

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """Classes given to the test part, and what the validation part chose."""

    labels: Labels
    """Shape (n,), predicted classes of the test part."""

    chosen: float
    """The C, k or leaf that did best on the validation part; the smallest of equals."""

    validation: Mapping[float, float]
    """Accuracy on the validation part for every candidate."""


def linear_probe(
    train: ArrayLike,
    labels: ArrayLike,
    test: ArrayLike,
    *,
    validation: tuple[ArrayLike, ArrayLike],
    penalties: Sequence[float] = PENALTIES,
) -> Prediction:
    """Fit a multinomial logistic regression on features and classify the test part.

    ``train`` (N, D) and ``test`` (n, D) are finite features, ``labels`` (N,) classes >= 0 of
    ``train``. ``validation``, features and classes, chooses C and is not used for fitting:
    ``penalties`` are fitted from strong to weak, each from the last solution, until the accuracy
    there falls.

    Raises
    ------
    BadSourceError
        Shapes that do not fit, non-finite features, fewer than two classes, an empty part.
    """
    (x, y), (x_val, y_val), x_test = _parts(train, labels, validation, test)
    model = LogisticRegression(max_iter=ITERATIONS, tol=TOLERANCE, warm_start=True)
    accuracy: dict[float, float] = {}
    given: dict[float, Labels] = {}
    for penalty in sorted(penalties):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=penalty).fit(x, y)
        accuracy[penalty] = float(np.mean(model.predict(x_val) == y_val))
        given[penalty] = model.predict(x_test)
        if accuracy[penalty] < max(accuracy.values()):
            break
    best = _best(accuracy)
    return Prediction(labels=given[best], chosen=best, validation=accuracy)


def knn_probe(
    train: ArrayLike,
    labels: ArrayLike,
    test: ArrayLike,
    *,
    validation: tuple[ArrayLike, ArrayLike],
    neighbours: Sequence[int] = NEIGHBOURS,
) -> Prediction:
    """Classify the test part by the votes of its nearest training features, by cosine.

    Each of the k neighbours votes with exp(cosine / 0.07). Parameters and errors are those of
    `linear_probe`; candidates above the number of training features are left out.
    """
    (x, y), (x_val, y_val), x_test = _parts(train, labels, validation, test)
    known, x, x_val, x_test = y, _directions(x), _directions(x_val), _directions(x_test)
    candidates = sorted(k for k in neighbours if 1 <= k <= len(x))
    if not candidates:
        raise BadSourceError(
            f"one of the numbers of neighbours must lie in 1 to {len(x)}, got {neighbours}"
        )
    votes = _votes(x, known, x_val, candidates)
    accuracy = {float(k): float(np.mean(votes[k] == y_val)) for k in candidates}
    best = _best(accuracy)
    found = _votes(x, known, x_test, [int(best)])[int(best)]
    return Prediction(labels=found, chosen=best, validation=accuracy)


def forest_probe(
    train: ArrayLike,
    labels: ArrayLike,
    test: ArrayLike,
    *,
    validation: tuple[ArrayLike, ArrayLike],
) -> Prediction:
    """Classify the test part by extremely randomised trees: a strong reading of crude features.

    The validation part chooses the smallest leaf. Parameters and errors are those of
    `linear_probe`.
    """
    (x, y), (x_val, y_val), x_test = _parts(train, labels, validation, test)
    accuracy: dict[float, float] = {}
    given: dict[float, Labels] = {}
    for leaf in LEAVES:
        forest = ExtraTreesClassifier(TREES, min_samples_leaf=leaf, random_state=0).fit(x, y)
        accuracy[float(leaf)] = float(np.mean(forest.predict(x_val) == y_val))
        given[float(leaf)] = forest.predict(x_test)
    best = _best(accuracy)
    return Prediction(labels=given[best], chosen=best, validation=accuracy)


def majority(labels: ArrayLike, count: int) -> Labels:
    """Return the commonest class of the training part, ``count`` times: the lowest floor."""
    return np.full(count, np.bincount(np.asarray(labels, dtype=np.int64)).argmax())


def leave_one_out(features: ArrayLike, labels: ArrayLike) -> Floats:
    """Score each image for each of several labels by a probe that never saw the image.

    From finite features (N, D), N >= 3, and labels (N, K) to probabilities (N, K). For very small
    sets: nothing is left to choose C on, so it is fixed. A label that all other images have, or
    none, gets the share of the others that have it as its score. Scores of different images come
    from different probes, and taking a positive away lowers the others' share: features without
    information score *below* chance, never above it.
    """
    x = _checked(features, "features")
    wanted = np.asarray(labels, dtype=bool)
    if wanted.ndim != 2 or len(wanted) != len(x) or len(x) < 3:
        raise BadSourceError(
            f"labels must be of shape (N, K) for N >= 3 features, got {wanted.shape} for {x.shape}"
        )
    scores = np.empty(wanted.shape, dtype=np.float32)
    for out in range(len(x)):
        others = np.arange(len(x)) != out
        seen, unseen = _standardised(x[others], x[others], x[out : out + 1])
        for label, has in enumerate(wanted[others].T):
            scores[out, label] = has.mean()
            if 0 < has.sum() < len(has):
                probe = LogisticRegression(C=0.1, max_iter=ITERATIONS).fit(seen, has)
                scores[out, label] = probe.predict_proba(unseen)[0, 1]
    return scores


def average_precision(labels: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """Return micro and macro average precision of scores (N, K) for labels (N, K).

    Macro is the mean over labels that at least one image has; ``labels`` counts them.
    """
    wanted, given = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    if wanted.shape != given.shape or not wanted.any():
        raise BadSourceError(
            f"labels and scores need one shape and at least one positive, got {wanted.shape} with "
            f"{int(wanted.sum())} positives and {given.shape}"
        )
    some = wanted.any(axis=0)
    return {
        "micro": float(average_precision_score(wanted[:, some], given[:, some], average="micro")),
        "macro": float(average_precision_score(wanted[:, some], given[:, some], average="macro")),
        "labels": float(some.sum()),
    }


def _best(accuracy: Mapping[float, float]) -> float:
    """Return the candidate of the highest accuracy, the smallest of equals."""
    return min(accuracy, key=lambda candidate: (-accuracy[candidate], candidate))


def _checked(features: ArrayLike, what: str) -> Floats:
    x = np.asarray(features, dtype=np.float32)
    if x.ndim != 2 or 0 in x.shape:
        raise BadSourceError(f"{what} must be of shape (N, D) and not empty, got {x.shape}")
    bad = int((~np.isfinite(x)).any(axis=1).sum())
    if bad:
        raise BadSourceError(
            f"{what} must be finite, {bad} of {len(x)} rows are not; leave out images that have "
            "no valid pixel in a band"
        )
    return x


def _labelled(features: ArrayLike, labels: ArrayLike, what: str) -> tuple[Floats, Labels]:
    x, y = _checked(features, what), np.asarray(labels)
    if y.shape != (len(x),) or y.dtype.kind not in "iu" or y.min() < 0:
        raise BadSourceError(
            f"classes of the {what} must be {len(x)} integers >= 0, got {y.dtype} {y.shape}"
        )
    return x, y.astype(np.int64)


def _parts(
    train: ArrayLike, labels: ArrayLike, validation: tuple[ArrayLike, ArrayLike], test: ArrayLike
) -> tuple[tuple[Floats, Labels], tuple[Floats, Labels], Floats]:
    """Check the three parts and standardise them by the first."""
    x, y = _labelled(train, labels, "training features")
    x_val, y_val = _labelled(*validation, "validation features")
    x_test = _checked(test, "test features")
    if len({x.shape[1], x_val.shape[1], x_test.shape[1]}) > 1:
        raise BadSourceError(
            "features of all parts must have one width, got "
            f"{x.shape[1]}, {x_val.shape[1]} and {x_test.shape[1]}"
        )
    if len(np.unique(y)) < 2:
        raise BadSourceError(f"training needs at least two classes, got {np.unique(y).tolist()}")
    x_val, x_test, x = _standardised(x, x_val, x_test, x)
    return (x, y), (x_val, y_val), x_test


def _standardised(reference: Floats, *parts: Floats) -> tuple[Floats, ...]:
    """Scale each part to the mean 0 and spread 1 of the reference; constants become 0."""
    mean = reference.mean(axis=0, dtype=np.float64)
    spread = reference.std(axis=0, dtype=np.float64)
    constant = spread <= 1e-6 * np.abs(mean)
    scale = np.where(constant, 0, 1 / np.where(constant, 1, spread))
    return tuple(((part - mean) * scale).astype(np.float32) for part in parts)


def _directions(x: Floats) -> Floats:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.where(length > 0, length, 1)).astype(np.float32)


def _votes(
    known: Floats, labels: Labels, asked: Floats, neighbours: Sequence[int]
) -> dict[int, Labels]:
    """Return the class that the k nearest elect for each k; (n,) each."""
    most, classes = max(neighbours), int(labels.max()) + 1
    parts: dict[int, list[Labels]] = {k: [] for k in neighbours}
    for at in range(0, len(asked), CHUNK):
        cosine = asked[at : at + CHUNK] @ known.T
        nearest = np.argpartition(-cosine, most - 1, axis=1)[:, :most]
        near = np.take_along_axis(cosine, nearest, axis=1)
        order = np.argsort(-near, axis=1, kind="stable")
        near = np.take_along_axis(near, order, axis=1)
        elected = labels[np.take_along_axis(nearest, order, axis=1)]
        weight = np.exp((near - near[:, :1]) / TEMPERATURE)
        for k in neighbours:
            cells = (np.arange(len(near))[:, None] * classes + elected[:, :k]).ravel()
            total = np.bincount(cells, weight[:, :k].ravel(), minlength=len(near) * classes)
            parts[k].append(total.reshape(-1, classes).argmax(axis=1))
    return {k: np.concatenate(found) for k, found in parts.items()}
