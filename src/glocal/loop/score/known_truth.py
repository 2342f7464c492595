"""A finished run against a known truth, cell by cell and record by record.

Only files are compared: what the run exported, what its sources say when they are read
again, and the truth of a made-up world (`glocal.synthetic`). No number of the run enters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from glocal.core import legends
from glocal.core.typing import Bools, Codes, Floats, Table
from glocal.errors import BadSourceError, RunError
from glocal.io.raster import info, read_on
from glocal.io.vector import read_table
from glocal.loop.area.area import Area, read_area
from glocal.loop.area.config import load
from glocal.loop.rounds.files import PROBABILITY_SCALE
from glocal.loop.score.baselines import FEW, baselines
from glocal.loop.score.folds import exam_of
from glocal.loop.score.summary import blocks_of, gain_interval
from glocal.sources.kind import Score, Truth

__all__ = ["evaluate_run", "scores_of", "source_gains"]

BINS = 15
FLOOR = 1e-6
TRUTH_LEGEND = "worldcover"
"""Legend whose codes the truth of a made-up world is told in."""


def evaluate_run(out: Path, truth: Path) -> dict[str, Any]:
    """Return how good the estimate is, and every source before and after its corrections.

    ``after`` is the source read again with only its exported corrections applied. Maps and
    the estimate are scored at every cell, OpenStreetMap by object, points by record,
    images by the share of usable cells that show the ground. ``low`` and ``high`` bound
    the gain at 95 %, by a bootstrap over spatial blocks. A source that can't be scored has
    ``why`` instead. Cells of one area are not independent areas: the intervals speak of
    this area.

    ``baselines`` are maps made anew in simpler ways from the same sources and reference
    points (`glocal.loop.score.baselines`); one that the area can't have has ``why`` instead.

    Raises
    ------
    RunError
        ``out`` is no finished run.
    BadSourceError
        The truth is of another area, or ``truth`` holds none.
    """
    area, known = _finished(out, truth)
    return {
        "estimate": _estimate(area, known, out),
        "sources": _sources(area, known, out),
        "baselines": _baselines(area, known),
    }


def source_gains(out: Path, truth: Path) -> dict[str, dict[str, Any]]:
    """Return the ``sources`` of `evaluate_run` alone, which takes no baselines."""
    area, known = _finished(out, truth)
    return _sources(area, known, out)


def _finished(out: Path, truth: Path) -> tuple[Area, Truth]:
    if not (out / "metrics.json").exists():
        raise RunError(f"{out} holds no finished run; finish it with 'glocal run' first")
    area = read_area(load(out / "area.yaml"), lambda what, share: None)
    path = truth / "truth.tif"
    if not path.exists():
        raise BadSourceError(f"{path} does not exist; give the folder truth of a synthetic world")
    if info(path).grid != area.geobox:
        raise BadSourceError(f"{path} is of another grid than the run; give the truth of its world")
    told = legends.legend(TRUTH_LEGEND).classes
    here = {concept: i for i, concept in enumerate(area.legend.concepts) if concept}
    concepts = {one.value: here[one.concept] for one in told if one.concept in here}
    known = Truth(
        classes=_positions(area, path, concepts),
        concepts=concepts,
        folder=truth,
        exam=exam_of(area, np.arange(int(np.prod(area.geobox.shape)))),
    )
    return area, known


def _positions(area: Area, path: Path, place: dict[int, int]) -> Codes:
    """Return the class position of every cell of a map of codes, -1 for other values, (H, W)."""
    values, valid = read_on(path, area.geobox, resampling="nearest")
    table = np.full(256, -1, np.int64)
    table[list(place)] = list(place.values())
    return np.where(valid, table[values.astype(np.int64)], -1)


def _sources(area: Area, truth: Truth, out: Path) -> dict[str, dict[str, Any]]:
    told = read_table(out / "corrections.parquet")
    rows = {}
    for one in area.readings:
        score = one.kind.against_truth(one, truth, out / "corrections" / one.name, told)
        rows[one.name] = {"why": score} if isinstance(score, str) else _gain(area, score)
    return rows


def _gain(area: Area, score: Score) -> dict[str, Any]:
    """Return a source's score before and after, with the 95 % interval of the gain."""
    after, before = ((np.nan_to_num(one), np.isfinite(one)) for one in (score.after, score.before))
    low, high = gain_interval(after, before, blocks_of(area, score.cell))
    return {
        "before": float(np.nanmean(score.before)),
        "after": float(np.nanmean(score.after)),
        "low": low,
        "high": high,
        "n": int(np.isfinite(score.before).sum()),
        "metric": score.metric,
    }


def _estimate(area: Area, truth: Truth, out: Path) -> dict[str, float]:
    path = out / "probabilities.tif"
    bands = [
        read_on(path, area.geobox, band=1 + k, resampling="nearest")[0]
        for k in range(len(area.legend))
    ]
    p = np.stack(bands, axis=-1) / PROBABILITY_SCALE
    place = {value: i for i, value in enumerate(area.legend.values)}
    return scores_of(p, truth.classes, _positions(area, out / "estimate.tif", place))


def _baselines(area: Area, truth: Truth) -> dict[str, dict[str, Any]]:
    why = "needs what this area lacks: a model of images, objects, or 30 points with a class"
    rows: dict[str, dict[str, Any]] = {name: {"why": why} for name in FEW}
    for name, p in baselines(area, FEW):
        rows[name] = scores_of(p, truth.classes)
    return rows


def scores_of(probability: Floats, truth: Codes, classes: Codes | None = None) -> dict[str, float]:
    """Return accuracy, macro-F1, log-loss (nats) and ECE of P(class) (..., K) against a truth.

    ``truth`` (...) holds class positions, -1 where not known; ``classes`` (...) what is
    said, by default the likeliest class. Probabilities below 1e-6 count as 1e-6; rows are
    made to sum to one.
    """
    use = truth >= 0
    p = np.asarray(probability, np.float64)[use]
    p = p / p.sum(axis=1, keepdims=True)
    t, said = truth[use], p.argmax(axis=1) if classes is None else classes[use]
    of_truth = np.take_along_axis(p, t[:, None], axis=1)
    return {
        "accuracy": float((said == t).mean()),
        "macro_f1": _macro_f1(said, t),
        "log_loss": float(-np.log(np.maximum(of_truth, FLOOR)).mean()),
        "ece": _ece(p.max(axis=1), said == t),
    }


def _macro_f1(said: Codes, truth: Codes) -> float:
    present = np.unique(truth)
    both = [((said == k) & (truth == k)).sum() for k in present]
    either = [(said == k).sum() + (truth == k).sum() for k in present]
    return float(np.mean(2 * np.array(both) / np.array(either)))


def _ece(confidence: Table, right: Bools) -> float:
    """Return the expected calibration error in `BINS` bins of equal width (Guo et al. 2017)."""
    of = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(of, right - confidence, minlength=BINS)
    return float(np.abs(gap).sum() / len(right))
