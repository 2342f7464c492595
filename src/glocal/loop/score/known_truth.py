"""A finished run against a known truth, cell by cell and record by record.

Only files are compared: what the run exported, what its sources say when they are read
again, and the truth of a made-up world (`glocal.synthetic`). No number of the run enters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from glocal.core import legends
from glocal.core.typing import Codes, Floats
from glocal.errors import BadSourceError, RunError
from glocal.io.raster import info, read_on
from glocal.io.vector import read_table
from glocal.loop.area.area import Area, read_area
from glocal.loop.area.config import load
from glocal.loop.rounds.files import PROBABILITY_SCALE
from glocal.loop.score.baselines import FEW, baselines
from glocal.loop.score.folds import exam_of
from glocal.loop.score.summary import blocks_of, gain_interval, macro_f1
from glocal.sources.kind import Truth

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
    path, number = out / "probabilities.tif", range(1, 1 + len(area.legend))
    bands = [read_on(path, area.geobox, band=k, resampling="nearest")[0] for k in number]
    p = np.stack(bands, axis=-1) / PROBABILITY_SCALE
    place = {value: i for i, value in enumerate(area.legend.values)}
    why = "needs what this area lacks: a model of images, objects, or 30 points with a class"
    simpler: dict[str, dict[str, Any]] = {name: {"why": why} for name in FEW}
    simpler |= {name: scores_of(q, known.classes) for name, q in baselines(area, FEW)}
    return {
        "estimate": scores_of(p, known.classes, _positions(area, out / "estimate.tif", place)),
        "sources": _sources(area, known, out),
        "baselines": simpler,
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
    rows: dict[str, dict[str, Any]] = {}
    for one in area.readings:
        score = one.kind.against_truth(one, truth, out / "corrections" / one.name, told)
        if isinstance(score, str):
            rows[one.name] = {"why": score}
            continue
        pair = score.after, score.before
        after, before = ((np.nan_to_num(values), np.isfinite(values)) for values in pair)
        low, high = gain_interval(after, before, blocks_of(area, score.cell))
        rows[one.name] = {
            "before": float(np.nanmean(score.before)),
            "after": float(np.nanmean(score.after)),
            "low": low,
            "high": high,
            "n": int(np.isfinite(score.before).sum()),
            "metric": score.metric,
        }
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
    # expected calibration error in bins of equal width (Guo et al. 2017)
    sure, right = p.max(axis=1), said == t
    group = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(group, right - sure, minlength=BINS)
    return {
        "accuracy": float(right.mean()),
        "macro_f1": macro_f1(said, t),
        "log_loss": float(-np.log(np.maximum(of_truth, FLOOR)).mean()),
        "ece": float(np.abs(gap).sum() / len(right)),
    }
