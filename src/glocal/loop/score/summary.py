"""What the folds of an evaluation add up to, with intervals over spatial blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
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

__all__ = ["Summary", "blocks_of", "gain_interval", "held_out", "summarise"]

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
    index = _index(area.reference, folds)
    out: dict[str, NDArray[Any]] = {}
    for source, columns in folds[0]["sources"].items():
        if "stated" in columns:
            out[source] = _stated(area.reference, index, [one["sources"][source] for one in folds])
            continue
        after = np.array([one for fold in folds for one in fold["sources"][source]["after"]])
        if after.ndim == 1:
            out[source] = np.full(len(area.reference), -1)
            out[source][index] = after
    return out


def _sent(area: Area, folds: list[dict[str, Any]], name: str) -> Bools:
    """Return at which points an edit is sure enough to go out, as its kind decides.

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


def _stated(reference: Anchors, index: Codes, parts: list[dict[str, list[Any]]]) -> Table:
    stated = np.array([one for part in parts for one in part["stated"]], float)
    proposed = np.array([one for part in parts for one in part["proposed"]], np.int64)
    shares = reference.shares[index]
    judged = (stated > 0) & (shares.sum(axis=1) > 0)
    out = np.full((len(reference), 2), np.nan)
    right = shares.argmax(axis=1) == proposed
    out[index[judged]] = np.column_stack((stated, right))[judged]
    return out


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
    cell = np.array([one for fold in folds for one in fold["cell"]], np.int64)
    log_q = np.array([row for fold in folds for row in fold["loop"]])
    block, right = blocks_of(area, cell), log_q.argmax(axis=1) == truth
    baselines = {}
    for name in folds[0]["baselines"]:
        codes = np.array([one for fold in folds for one in fold["baselines"][name]])
        use = answered & (codes >= 0)
        baselines[name] = _against(right, codes == truth, use, block)
    sources, changed = {}, {}
    for name in folds[0]["sources"]:
        before, after, use = _asked(area, folds, name, shares)
        if before.ndim == 1:
            moved = use & (before != after)
            number = int((after == truth)[moved].sum())
            changed[name] = Measured(n=int(moved.sum()), right=number)
            before, after = before == truth, after == truth
        else:
            before, after = (_log_score(one, shares) for one in (before, after))
        sources[name] = _gain(before, after, use, block)
    for one in area.readings:
        shown = one.kind.shown(one, cell)
        if shown is not None and not answered.all() and shown[1].sum() > 1:
            sources[one.name] = _share_gain(answered, *shown, block)
    return Summary(
        reference=ReferenceRow(
            n=len(index),
            answered=int(answered.sum()),
            nonresponse=int((~answered).sum()),
            folds=area.config.folds,
            design="reference points of the anchors' sample, cross-fitted",
        ),
        estimate=_estimate(log_q, shares, truth, answered, block),
        baselines=baselines,
        calibration=_calibration(log_q, truth, answered),
        sources=sources,
        changed=changed,
    )


def _index(reference: Anchors, folds: list[dict[str, Any]]) -> Codes:
    """Return the position in ``reference`` of every point of the folds, in their order."""
    order = {name: i for i, name in enumerate(reference.record.tolist())}
    return np.array([order[name] for fold in folds for name in fold["record"]], np.int64)


def _asked(
    area: Area, folds: list[dict[str, Any]], name: str, shares: Table
) -> tuple[NDArray[Any], NDArray[Any], Bools]:
    """Return what a source says before and after, and at which points that counts."""
    parts = [fold["sources"][name] for fold in folds]
    before, after = (
        np.array([one for part in parts for one in part[key]]) for key in ("before", "after")
    )
    answered = shares.sum(axis=1) > 0
    if "speaks" in parts[0]:
        return before, after, answered & np.array([one for part in parts for one in part["speaks"]])
    if "stated" in parts[0]:
        after = np.where(_sent(area, folds, name), after, before)
    return before, after, answered & (before >= 0) & (after >= 0)


def blocks_of(area: Area, cell: Codes) -> Codes:
    """Return the number of the spatial block that each cell (flat index) lies in."""
    _, width = area.geobox.shape
    row, column = np.divmod(cell, width)
    side = area.config.block
    return np.asarray(row // side * (width // side + 1) + column // side)


def _resample(values: Floats, use: Bools, block: Codes) -> tuple[float, float]:
    """Return the 95 % interval of the mean of ``values[use]``, resampling whole blocks."""
    _, number = np.unique(block[use], return_inverse=True)
    total = np.bincount(number, values[use])
    size = np.bincount(number)
    rng = np.random.default_rng(0)
    draw = rng.integers(0, len(size), (RESAMPLES, len(size)))
    means = total[draw].sum(axis=1) / size[draw].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _against(right: Bools, other: Bools, use: Bools, block: Codes) -> Baseline | None:
    if use.sum() < 2:
        return None
    difference = right.astype(float) - other
    low, high = _resample(difference, use, block)
    return Baseline(
        accuracy=float(other[use].mean()),
        n=int(use.sum()),
        loop=float(right[use].mean()),
        difference=float(difference[use].mean()),
        low=low,
        high=high,
    )


def _log_score(p: Floats, shares: Floats) -> Floats:
    """Return the mean log-probability of the truth, nats per point; 0 is perfect."""
    return np.asarray((shares * np.log(np.maximum(p, 1e-6))).sum(axis=1))


def _gain(before: NDArray[Any], after: NDArray[Any], use: Bools, block: Codes) -> SourceRow:
    if use.sum() < 2:
        return SourceRow(n=int(use.sum()))
    gain = after.astype(float) - before
    low, high = _resample(gain, use, block)
    return SourceRow(
        before=float(before[use].mean()),
        after=float(after[use].mean()),
        gain=float(gain[use].mean()),
        low=low,
        high=high,
        n=int(use.sum()),
    )


def _share_gain(answered: Bools, seen: Bools, kept: Bools, block: Codes) -> SourceRow:
    """Return how many cells that a picture offers as usable show the ground.

    A reference point without an answer could not be seen. The mask uses no reference point.
    """
    before, after = answered[seen].mean(), answered[kept].mean()
    low, high = gain_interval((answered & kept, kept), (answered & seen, seen), block)
    return SourceRow(
        before=float(before),
        after=float(after),
        gain=float(after - before),
        low=low,
        high=high,
        n=int(seen.sum()),
    )


def _estimate(
    log_q: Floats,
    shares: Floats,
    truth: Codes,
    answered: Bools,
    block: Codes,
) -> EstimateScore:
    right = log_q.argmax(axis=1) == truth
    low, high = _resample(right.astype(float), answered, block)
    loss = -(shares * log_q).sum(axis=1)[answered]
    present = np.unique(truth[answered])
    bins = _calibration(log_q, truth, answered)
    gap = sum(one.n * abs((one.confidence or 0) - (one.accuracy or 0)) for one in bins)
    said = log_q.argmax(axis=1)
    return EstimateScore(
        accuracy=float(right[answered].mean()),
        low=low,
        high=high,
        macro_f1=float(np.mean([_f1(said, truth, k, answered) for k in present])),
        log_loss=float(loss.mean()),
        ece=float(gap / answered.sum()),
        n=int(answered.sum()),
    )


def _f1(said: Codes, truth: Codes, k: int, use: Bools) -> float:
    both = ((said == k) & (truth == k) & use).sum()
    either = ((said == k) & use).sum() + ((truth == k) & use).sum()
    return float(2 * both / either) if either else 0.0


def _calibration(log_q: Floats, truth: Codes, answered: Bools) -> list[Bin]:
    """Return stated confidence against accuracy, in bins of confidence that hold points."""
    confidence = np.exp(log_q.max(axis=1))[answered]
    right = (log_q.argmax(axis=1) == truth)[answered]
    of = np.clip(np.digitize(confidence, BINS) - 1, 0, len(BINS) - 2)
    return [
        Bin(
            low=float(BINS[i]),
            high=float(BINS[i + 1]),
            n=int((of == i).sum()),
            confidence=float(confidence[of == i].mean()),
            accuracy=float(right[of == i].mean()),
        )
        for i in np.unique(of)
    ]


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
