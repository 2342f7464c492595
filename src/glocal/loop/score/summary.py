"""What the folds of an evaluation add up to, with intervals over spatial blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.core.observation import Anchors
from glocal.core.promise import sharpness_of, shrunk
from glocal.fusion.propose import threshold_for
from glocal.loop.area.area import Area

__all__ = ["blocks_of", "gain_interval", "held_out", "summarise"]

RESAMPLES = 2000
BINS = np.array([0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])

Codes = NDArray[np.int64]


def held_out(area: Area, folds: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    """Return what was said of each source at every reference point, made without the point.

    Of a map: the corrected class, shape (n,) in the order of ``area.reference``, -1 where
    it says nothing. Of objects: shape (n, 2), the probability of the class proposed for
    the object there, and whether that is the point's class; NaN where none was judged.
    """
    if area.reference is None or not folds:
        return {}
    order = {name: i for i, name in enumerate(area.reference.record.tolist())}
    index = np.array([order[name] for fold in folds for name in fold["record"]], np.int64)
    out: dict[str, NDArray[Any]] = {}
    for source, columns in folds[0]["sources"].items():
        if "stated" in columns:
            out[source] = _stated(area.reference, index, [one["sources"][source] for one in folds])
            continue
        after = np.array([one for fold in folds for one in fold["sources"][source]["after"]])
        if after.ndim == 1:
            out[source] = np.full(len(order), -1)
            out[source][index] = after
    return out


def _sent(area: Area, folds: list[dict[str, Any]], name: str) -> NDArray[np.bool_]:
    """Return at which points an edit is sure enough to go out, as `give_osm` decides.

    A fold's edits were chosen at full sharpness, which never chooses fewer.
    """
    sharpness = sharpness_of(*held_out(area, folds)[name].T)
    out = []
    for fold in folds:
        part = fold["sources"][name]
        sure = shrunk(np.array(part["edits"]), sharpness)
        threshold, _ = threshold_for(sure, area.config.precision)
        out.append(shrunk(np.array(part["stated"]), sharpness) >= threshold)
    return np.concatenate(out)


def _stated(
    reference: Anchors, index: Codes, parts: list[dict[str, list[Any]]]
) -> NDArray[np.float64]:
    stated = np.array([one for part in parts for one in part["stated"]], float)
    proposed = np.array([one for part in parts for one in part["proposed"]], np.int64)
    shares = reference.shares[index]
    judged = (stated > 0) & (shares.sum(axis=1) > 0)
    out = np.full((len(reference), 2), np.nan)
    right = shares.argmax(axis=1) == proposed
    out[index[judged]] = np.column_stack((stated, right))[judged]
    return out


def summarise(area: Area, folds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return scores with 95 % intervals from what `score_fold` read.

    Intervals are bootstrapped over spatial blocks, paired where two things are compared.
    """
    if area.reference is None or not folds:
        return {"reference": None, "estimate": None, "baselines": None, "scored": {}}
    order = {name: i for i, name in enumerate(area.reference.record.tolist())}
    index = np.array([order[name] for fold in folds for name in fold["record"]], np.int64)
    shares = area.reference.shares[index]
    answered = shares.sum(axis=1) > 0
    truth = np.where(answered, shares.argmax(axis=1), -1)
    cell = np.array([one for fold in folds for one in fold["cell"]], np.int64)
    log_q = np.array([row for fold in folds for row in fold["loop"]])
    block = blocks_of(area, cell)
    loop = log_q.argmax(axis=1)

    def column(group: str, name: str, key: str | None = None) -> NDArray[Any]:
        parts = [fold[group][name] if key is None else fold[group][name][key] for fold in folds]
        return np.array([one for part in parts for one in part])

    baselines = {}
    for name in folds[0]["baselines"]:
        codes = column("baselines", name)
        use = answered & (codes >= 0)
        baselines[name] = _against(loop == truth, codes == truth, use, block)
    scored = {}
    for name in folds[0]["sources"]:
        before, after = column("sources", name, "before"), column("sources", name, "after")
        if "stated" in folds[0]["sources"][name]:
            sent = _sent(area, folds, name)
            after = np.where(sent, after, before)
        if before.ndim == 2:
            use = answered & column("sources", name, "speaks")
            scored[name] = _gain(_log_score(before, shares), _log_score(after, shares), use, block)
        else:
            use = answered & (before >= 0) & (after >= 0)
            scored[name] = _gain(before == truth, after == truth, use, block)
            changed = use & (before != after)
            scored[name]["changed"] = int(changed.sum())
            scored[name]["changed_right"] = int((after == truth)[changed].sum())
    return {
        "reference": {
            "n": len(index),
            "answered": int(answered.sum()),
            "nonresponse": int((~answered).sum()),
            "folds": area.config.folds,
            "design": "reference points of the anchors' sample, cross-fitted",
        },
        "estimate": _estimate(log_q, shares, truth, answered, block),
        "baselines": baselines,
        "scored": scored,
        "calibration": _calibration(log_q, truth, answered),
        "visible": _visible(area, cell, answered, block),
    }


def blocks_of(area: Area, cell: Codes) -> Codes:
    """Return the number of the spatial block that each cell (flat index) lies in."""
    _, width = area.geobox.shape
    row, column = np.divmod(cell, width)
    side = area.config.block
    return np.asarray(row // side * (width // side + 1) + column // side)


def _resample(
    values: NDArray[np.floating], use: NDArray[np.bool_], block: Codes
) -> tuple[float, float]:
    """Return the 95 % interval of the mean of ``values[use]``, resampling whole blocks."""
    _, number = np.unique(block[use], return_inverse=True)
    total = np.bincount(number, values[use])
    size = np.bincount(number)
    rng = np.random.default_rng(0)
    draw = rng.integers(0, len(size), (RESAMPLES, len(size)))
    means = total[draw].sum(axis=1) / size[draw].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _against(
    loop: NDArray[np.bool_], other: NDArray[np.bool_], use: NDArray[np.bool_], block: Codes
) -> dict[str, Any] | None:
    if use.sum() < 2:
        return None
    difference = loop.astype(float) - other
    low, high = _resample(difference, use, block)
    return {
        "accuracy": float(other[use].mean()),
        "n": int(use.sum()),
        "loop": float(loop[use].mean()),
        "difference": float(difference[use].mean()),
        "low": low,
        "high": high,
    }


def _log_score(p: NDArray[np.floating], shares: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the mean log-probability of the truth, nats per point; 0 is perfect."""
    return np.asarray((shares * np.log(np.maximum(p, 1e-6))).sum(axis=1))


def _gain(
    before: NDArray[Any], after: NDArray[Any], use: NDArray[np.bool_], block: Codes
) -> dict[str, Any]:
    if use.sum() < 2:
        return {"n": int(use.sum())}
    gain = after.astype(float) - before
    low, high = _resample(gain, use, block)
    return {
        "before": float(before[use].mean()),
        "after": float(after[use].mean()),
        "gain": float(gain[use].mean()),
        "low": low,
        "high": high,
        "n": int(use.sum()),
    }


def _estimate(
    log_q: NDArray[np.floating],
    shares: NDArray[np.floating],
    truth: Codes,
    answered: NDArray[np.bool_],
    block: Codes,
) -> dict[str, Any]:
    right = log_q.argmax(axis=1) == truth
    low, high = _resample(right.astype(float), answered, block)
    loss = -(shares * log_q).sum(axis=1)[answered]
    present = np.unique(truth[answered])
    return {
        "accuracy": float(right[answered].mean()),
        "low": low,
        "high": high,
        "macro_f1": float(
            np.mean([_f1(log_q.argmax(axis=1), truth, k, answered) for k in present])
        ),
        "log_loss": float(loss.mean()),
        "ece": float(
            sum(
                one["n"] * abs(one["confidence"] - one["accuracy"])
                for one in _calibration(log_q, truth, answered)
            )
            / answered.sum()
        ),
        "n": int(answered.sum()),
    }


def _f1(said: Codes, truth: Codes, k: int, use: NDArray[np.bool_]) -> float:
    both = ((said == k) & (truth == k) & use).sum()
    either = ((said == k) & use).sum() + ((truth == k) & use).sum()
    return float(2 * both / either) if either else 0.0


def _calibration(
    log_q: NDArray[np.floating], truth: Codes, answered: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """Return stated confidence against accuracy, in bins of confidence that hold points."""
    confidence = np.exp(log_q.max(axis=1))[answered]
    right = (log_q.argmax(axis=1) == truth)[answered]
    of = np.clip(np.digitize(confidence, BINS) - 1, 0, len(BINS) - 2)
    return [
        {
            "low": float(BINS[i]),
            "high": float(BINS[i + 1]),
            "n": int((of == i).sum()),
            "confidence": float(confidence[of == i].mean()),
            "accuracy": float(right[of == i].mean()),
        }
        for i in np.unique(of)
    ]


def _visible(
    area: Area, cell: Codes, answered: NDArray[np.bool_], block: Codes
) -> dict[str, dict[str, Any]]:
    """Return, per optical image, how many cells offered as usable show the ground.

    Before: every cell with data; after: those outside the exported mask. A reference
    point without an answer could not be seen. The mask uses no reference point.
    """
    out: dict[str, dict[str, Any]] = {}
    for name, image in area.images.items():
        if not image.chip.has("red") or answered.all():
            continue
        seen = image.kind.ravel()[cell] != 3
        kept = seen & image.clear.ravel()[cell]
        if kept.sum() < 2:
            continue
        before, after = answered[seen].mean(), answered[kept].mean()
        low, high = gain_interval((answered & kept, kept), (answered & seen, seen), block)
        out[name] = {
            "before": float(before),
            "after": float(after),
            "gain": float(after - before),
            "low": low,
            "high": high,
            "n": int(seen.sum()),
        }
    return out


def gain_interval(
    after: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    before: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    block: Codes,
) -> tuple[float, float]:
    """Return the 95 % interval of a difference of two shares (hits, all), by whole blocks."""
    _, number = np.unique(block, return_inverse=True)
    n = int(number.max()) + 1
    sums = [np.bincount(number, one.astype(float), n) for one in (*after, *before)]
    draw = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    a, b, c, d = (one[draw].sum(axis=1) for one in sums)
    low, high = np.percentile(a / np.maximum(b, 1) - c / np.maximum(d, 1), [2.5, 97.5])
    return float(low), float(high)
