"""What the folds of an evaluation add up to, with intervals over spatial blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.core.observation import Anchors
from glocal.core.promise import sharpness_of, shrunk, threshold_for
from glocal.core.typing import Bools, Codes, Floats, Table
from glocal.loop.area.area import Area
from glocal.loop.score.metrics import (
    Baseline,
    Bin,
    EstimateScore,
    Measured,
    ReferenceRow,
    SourceRow,
)

RESAMPLES = 2000
BINS = np.array([0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])


def held_out(area: Area, folds: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    """Return what was said of each source at every reference point, made without the point.

    Of a map: the corrected class, shape (n,) in the order of ``area.reference``, -1 where
    it says nothing. Of objects: shape (n, 2), the probability of the class proposed for
    the object there, and whether that is the point's class; NaN where none was judged.
    """
    if area.reference is None or not folds:
        return {}
    index, shares = _index(area.reference, folds), area.reference.shares
    out: dict[str, NDArray[Any]] = {}
    for source, columns in folds[0]["sources"].items():
        if "stated" in columns:
            stated = _column(folds, "sources", source, "stated").astype(float)
            right = shares[index].argmax(axis=1) == _column(folds, "sources", source, "proposed")
            judged = (stated > 0) & (shares[index].sum(axis=1) > 0)
            out[source] = np.full((len(shares), 2), np.nan)
            out[source][index[judged]] = np.column_stack((stated, right))[judged]
        elif (after := _column(folds, "sources", source, "after")).ndim == 1:
            out[source] = np.full(len(shares), -1)
            out[source][index] = after
    return out


def _column(folds: list[dict[str, Any]], *path: str) -> NDArray[Any]:
    """Return a column of all folds, one under the other."""
    return np.array([one for fold in folds for one in reduce(getitem, path, fold)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the folds of an evaluation add up to; empty without reference points."""

    reference: ReferenceRow | None = None
    estimate: EstimateScore | None = None
    baselines: dict[str, Baseline | None] | None = None
    calibration: list[Bin] | None = None
    sources: dict[str, SourceRow] = field(default_factory=dict)
    """Of each source that could be asked, without kind, metric and reason."""

    changed: dict[str, Measured] = field(default_factory=dict)
    """Held-out points where a source's corrections change what it says."""


def summarise(area: Area, folds: list[dict[str, Any]]) -> Summary:
    """Return scores with 95 % intervals from what `score_fold` read.

    Intervals are bootstrapped over spatial blocks, paired where two things are compared.
    """
    if area.reference is None or not folds:
        return Summary()
    index = _index(area.reference, folds)
    shares = area.reference.shares[index]
    answered = shares.sum(axis=1) > 0
    truth = np.where(answered, shares.argmax(axis=1), -1)
    cell, log_q = _column(folds, "cell").astype(np.int64), _column(folds, "loop")
    block, right = blocks_of(area, cell), log_q.argmax(axis=1) == truth
    baselines: dict[str, Baseline | None] = {}
    for name in folds[0]["baselines"]:
        codes = _column(folds, "baselines", name)
        row = _gain(codes == truth, right, answered & (codes >= 0), block)
        baselines[name] = None
        if row.gain is not None:
            means = {"accuracy": row.before, "loop": row.after, "difference": row.gain}
            baselines[name] = Baseline(**means, low=row.low, high=row.high, n=row.n)
    sources, changed = _sources(area, folds, truth, shares, cell)
    estimate, calibration = _estimate(log_q[answered], shares[answered], block[answered])
    return Summary(
        reference=ReferenceRow(
            n=len(index),
            answered=int(answered.sum()),
            nonresponse=int((~answered).sum()),
            folds=area.config.folds,
            design="reference points of the anchors' sample, cross-fitted",
        ),
        estimate=estimate,
        baselines=baselines,
        calibration=calibration,
        sources=sources,
        changed=changed,
    )


def _sources(
    area: Area, folds: list[dict[str, Any]], truth: Codes, shares: Table, cell: Codes
) -> tuple[dict[str, SourceRow], dict[str, Measured]]:
    """Return how sources gain by their corrections, and points in places that these change."""
    answered, block = truth >= 0, blocks_of(area, cell)
    sources, changed = {}, {}
    for name in folds[0]["sources"]:
        before, after, use = _asked(area, folds, name, answered)
        if before.ndim == 1:
            moved = use & (before != after)
            right = int((after == truth)[moved].sum())
            changed[name] = Measured(n=int(moved.sum()), right=right)
            before, after = before == truth, after == truth
        else:  # mean log-probability of the truth, nats per point; 0 is perfect
            pair = (np.log(np.maximum(one, 1e-6)) for one in (before, after))
            before, after = ((shares * one).sum(axis=1) for one in pair)
        sources[name] = _gain(before, after, use, block)
    for one in area.readings:
        shown = one.kind.shown(one, cell)
        if shown is None or answered.all() or shown[1].sum() < 2:
            continue
        # how many cells that a picture offers as usable show the ground: a point without an answer
        # could not be seen; the mask uses no reference point
        seen, kept = shown
        before, after = answered[seen].mean(), answered[kept].mean()
        low, high = gain_interval((answered & kept, kept), (answered & seen, seen), block)
        sources[one.name] = SourceRow(
            before=float(before),
            after=float(after),
            gain=float(after - before),
            low=low,
            high=high,
            n=int(seen.sum()),
        )
    return sources, changed


def _index(reference: Anchors, folds: list[dict[str, Any]]) -> Codes:
    """Return the position in ``reference`` of every point of the folds, in their order."""
    order = {name: i for i, name in enumerate(reference.record.tolist())}
    return np.array([order[name] for fold in folds for name in fold["record"]], np.int64)


def _asked(
    area: Area, folds: list[dict[str, Any]], name: str, answered: Bools
) -> tuple[NDArray[Any], NDArray[Any], Bools]:
    """Return what a source says before and after, and at which points that counts."""
    before, after = (_column(folds, "sources", name, key) for key in ("before", "after"))
    parts = [fold["sources"][name] for fold in folds]
    if "speaks" in parts[0]:
        return before, after, answered & _column(folds, "sources", name, "speaks")
    if "stated" in parts[0]:
        # An edit is made at points where it is sure enough to go out, as its kind decides. A
        # fold's edits were chosen at full sharpness, which never chooses fewer.
        sharpness, sent = sharpness_of(*held_out(area, folds)[name].T), []
        for part in parts:
            sure = shrunk(np.array(part["edits"]), sharpness)
            threshold, _ = threshold_for(sure, area.config.precision)
            sent.append(shrunk(np.array(part["stated"]), sharpness) >= threshold)
        after = np.where(np.concatenate(sent), after, before)
    return before, after, answered & (before >= 0) & (after >= 0)


def blocks_of(area: Area, cell: Codes) -> Codes:
    """Return the number of the spatial block that each cell (flat index) lies in."""
    _, width = area.geobox.shape
    row, column = np.divmod(cell, width)
    side = area.window.block
    return np.asarray(row // side * (width // side + 1) + column // side)


def _resample(values: Floats, block: Codes) -> tuple[float, float]:
    """Return the 95 % interval of the mean of ``values``, resampling whole blocks."""
    _, number = np.unique(block, return_inverse=True)
    total = np.bincount(number, values)
    size = np.bincount(number)
    rng = np.random.default_rng(0)
    draw = rng.integers(0, len(size), (RESAMPLES, len(size)))
    means = total[draw].sum(axis=1) / size[draw].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _gain(before: NDArray[Any], after: NDArray[Any], use: Bools, block: Codes) -> SourceRow:
    if use.sum() < 2:
        return SourceRow(n=int(use.sum()))
    gain = after[use].astype(float) - before[use]
    low, high = _resample(gain, block[use])
    return SourceRow(
        before=float(before[use].mean()),
        after=float(after[use].mean()),
        gain=float(gain.mean()),
        low=low,
        high=high,
        n=int(use.sum()),
    )


def _estimate(log_q: Floats, shares: Table, block: Codes) -> tuple[EstimateScore, list[Bin]]:
    """Return how good the estimate is, and its confidence against accuracy in bins with points."""
    said, truth = log_q.argmax(axis=1), shares.argmax(axis=1)
    confidence, right = np.exp(log_q.max(axis=1)), said == truth
    of = np.clip(np.digitize(confidence, BINS) - 1, 0, len(BINS) - 2)
    bins = [
        Bin(
            low=float(BINS[i]),
            high=float(BINS[i + 1]),
            n=int((of == i).sum()),
            confidence=float(confidence[of == i].mean()),
            accuracy=float(right[of == i].mean()),
        )
        for i in np.unique(of)
    ]
    gap = sum(one.n * abs((one.confidence or 0) - (one.accuracy or 0)) for one in bins)
    low, high = _resample(right.astype(float), block)
    score = EstimateScore(
        accuracy=float(right.mean()),
        low=low,
        high=high,
        macro_f1=macro_f1(said, truth),
        log_loss=float(-(shares * log_q).sum(axis=1).mean()),
        ece=float(gap / len(truth)),
        n=len(truth),
    )
    return score, bins


def macro_f1(said: Codes, truth: Codes) -> float:
    """Return the mean, over classes that are true somewhere, of the F1 of what is said."""
    present = np.unique(truth)
    both = np.array([((said == k) & (truth == k)).sum() for k in present])
    either = np.array([(said == k).sum() + (truth == k).sum() for k in present])
    return float(np.mean(2 * both / either))


def gain_interval(
    after: tuple[NDArray[Any], Bools], before: tuple[NDArray[Any], Bools], block: Codes
) -> tuple[float, float]:
    """Return the 95 % interval of a difference of two means (values, counted), by whole blocks."""
    _, number = np.unique(block, return_inverse=True)
    n = int(number.max()) + 1
    sums = [np.bincount(number, one.astype(float), n) for one in (*after, *before)]
    draw = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    a, b, c, d = (one[draw].sum(axis=1) for one in sums)
    low, high = np.percentile(a / np.maximum(b, 1) - c / np.maximum(d, 1), [2.5, 97.5])
    return float(low), float(high)
