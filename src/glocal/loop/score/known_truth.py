"""A finished run against a known truth, cell by cell and record by record.

Only files are compared: what the run exported, what its sources say when they are read
again, and the truth of a synthetic world (`glocal.synthetic`). No number of the run enters.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from glocal.core.grid import cells_of_points
from glocal.core.observation import Observations
from glocal.errors import BadSourceError, RunError
from glocal.fusion.problem.support import paint
from glocal.io.raster import info, read_on
from glocal.io.vector import read_table
from glocal.loop.area.area import Area, read_area
from glocal.loop.area.config import load
from glocal.loop.rounds.files import PROBABILITY_SCALE
from glocal.loop.rounds.proposals import said_class
from glocal.loop.score.baselines import FEW, baselines
from glocal.loop.score.folds import taught_anew, taught_raw
from glocal.loop.score.summary import blocks_of, gain_interval
from glocal.sources.osm.tags import classify, crosswalk_of

__all__ = ["evaluate_run", "scores_of", "source_gains"]

BINS = 15
FLOOR = 1e-6

Codes = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Truth:
    """What is really there, and where each record truly stands."""

    classes: Codes
    """Shape (H, W), class position, -1 where not known."""

    folder: Path

    def table(self, name: str) -> Any:
        """Return a table of true errors."""
        return read_table(self.folder / f"{name}.parquet")


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


def _finished(out: Path, truth: Path) -> tuple[Area, _Truth]:
    if not (out / "metrics.json").exists():
        raise RunError(f"{out} holds no finished run; finish it with 'glocal run' first")
    area = read_area(load(out / "area.yaml"), _quiet)
    return area, _read_truth(area, truth)


def _sources(area: Area, truth: _Truth, out: Path) -> dict[str, dict[str, Any]]:
    rows = {one.name: {"why": "no truth of this kind of source"} for one in area.config.sources}
    for one in area.observations:
        rows[one.source] = _source(area, truth, one, out)
    for name in area.images:
        rows[name] = _image(area, truth, name, out)
    for name in area.seen:
        rows[name] = _model(area, truth, name, out)
    return rows


def _quiet(what: str, share: float) -> None:
    """Take progress and say nothing."""


def _read_truth(area: Area, folder: Path) -> _Truth:
    path = folder / "truth.tif"
    if not path.exists():
        raise BadSourceError(f"{path} does not exist; give the folder truth of a synthetic world")
    if info(path).grid != area.geobox:
        raise BadSourceError(f"{path} is of another grid than the run; give the truth of its world")
    return _Truth(classes=_classes(area, path), folder=folder)


def _classes(area: Area, path: Path) -> Codes:
    """Return the class positions of a map in the run's legend, -1 for other values."""
    values, valid = read_on(path, area.geobox, resampling="nearest")
    table = np.full(256, -1, np.int64)
    table[list(area.legend.values)] = np.arange(len(area.legend))
    return np.where(valid, table[values.astype(np.int64)], -1)


def _estimate(area: Area, truth: _Truth, out: Path) -> dict[str, float]:
    path = out / "probabilities.tif"
    bands = [
        read_on(path, area.geobox, band=1 + k, resampling="nearest")[0]
        for k in range(len(area.legend))
    ]
    p = np.stack(bands, axis=-1) / PROBABILITY_SCALE
    return scores_of(p, truth.classes, _classes(area, out / "estimate.tif"))


def _baselines(area: Area, truth: _Truth) -> dict[str, dict[str, Any]]:
    why = "needs what this area lacks: a model of images, objects, or 30 points with a class"
    rows: dict[str, dict[str, Any]] = {name: {"why": why} for name in FEW}
    for name, p in baselines(area, FEW):
        rows[name] = scores_of(p, truth.classes)
    return rows


def scores_of(
    probability: NDArray[np.floating], truth: Codes, classes: Codes | None = None
) -> dict[str, float]:
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


def _ece(confidence: NDArray[np.float64], right: Bools) -> float:
    """Return the expected calibration error in `BINS` bins of equal width (Guo et al. 2017)."""
    of = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(of, right - confidence, minlength=BINS)
    return float(np.abs(gap).sum() / len(right))


def _source(area: Area, truth: _Truth, source: Observations, out: Path) -> dict[str, Any]:
    room = out / "corrections" / source.source
    kind = area.config.source(source.source).kind
    if kind == "osm":
        return _objects(area, truth, source, room)
    if source.support == "points":
        return _points(area, truth, source, out)
    if kind != "landcover":
        return {"why": "no corrected version of it is exported"}
    before = _said_on_cells(area, source)
    after = _classes(area, room / "corrected_map.tif")
    use = (truth.classes >= 0) & (before >= 0)
    rows, columns = np.nonzero(use)
    t = truth.classes[use]
    return _gain(area, before[use] == t, after[use] == t, rows, columns, "cells right")


def _said_on_cells(area: Area, source: Observations) -> Codes:
    """Return the class of every cell (H, W) that a map states at its word, -1 for none."""
    symbol = source.symbols.astype(np.int64)
    if source.support != "cells":
        symbol = np.append(0, symbol)[paint(source.geometry, area.geobox)]
    return np.asarray(said_class(source)[symbol])


def _positions(area: Area, values: Iterable[int]) -> Codes:
    table = {value: i for i, value in enumerate(area.legend.values)}
    return np.array([table.get(int(one), -1) for one in values], np.int64)


def _objects(area: Area, truth: _Truth, source: Observations, room: Path) -> dict[str, Any]:
    """Score the tags of objects, each once, with the exported change applied."""
    table = truth.table("objects").set_index("record")
    known = np.isin(source.record, table.index)
    real = np.full(len(source), -1, np.int64)
    real[known] = _positions(area, table.loc[source.record[known], "truth"])
    before = said_class(source)[source.symbols]
    edits = _edited(area, room / "proposal.osc")
    element = [record.partition("@")[0] for record in source.record.tolist()]
    after = np.array(
        [edits.get(name, old) for name, old in zip(element, before.tolist(), strict=True)], np.int64
    )
    use = (real >= 0) & (before >= 0)
    middle = shapely.centroid(source.geometry[use])
    place = _rows_columns(area, shapely.get_x(middle), shapely.get_y(middle))
    return _gain(area, (before == real)[use], (after == real)[use], *place, "objects right")


def _edited(area: Area, path: Path) -> dict[str, int]:
    """Return the class position of every element ``way/1`` of an OsmChange; {} without one."""
    if not path.exists():
        return {}
    out = {}
    for element in ET.parse(path).getroot().iter():
        if element.tag in ("way", "relation"):
            row = classify({one.get("k", ""): one.get("v", "") for one in element.iter("tag")})
            if row is not None:
                meaning = crosswalk_of((row.symbol,), area.legend).matrix[0]
                out[f"{element.tag}/{element.get('id')}"] = int(meaning.argmax())
    return out


def _points(area: Area, truth: _Truth, source: Observations, out: Path) -> dict[str, Any]:
    """Score the classes of points against the ground where the observer really stood."""
    table = truth.table("points").set_index("id")
    real = _positions(area, table.loc[source.record, "truth"])
    before = said_class(source)[source.symbols]
    told = gpd.read_parquet(out / "corrections.parquet")
    told = told[(told.source == source.source) & (told.action == "modify")]
    new = {
        record: area.legend.index(name)
        for record, name in zip(told.record, told.proposed, strict=True)
    }
    after = np.array(
        [new.get(one, old) for one, old in zip(source.record, before.tolist(), strict=True)]
    )
    x, y = shapely.get_x(source.geometry), shapely.get_y(source.geometry)
    place = _rows_columns(area, x, y)
    return _gain(area, before == real, after == real, *place, "points right")


def _rows_columns(area: Area, x: NDArray[Any], y: NDArray[Any]) -> tuple[Codes, Codes]:
    cell = np.maximum(cells_of_points(area.geobox, x, y), 0)
    row, column = np.divmod(cell, area.geobox.shape[1])
    return row, column


def _model(area: Area, truth: _Truth, name: str, out: Path) -> dict[str, Any]:
    """Score a model that learns from the sources as they are, then from its exported labels."""
    room = out / "corrections" / name
    stored = [
        read_on(room / "soft_labels.tif", area.geobox, band=1 + k, resampling="nearest")[0]
        for k in range(len(area.legend))
    ]
    weight, _ = read_on(room / "label_weight.tif", area.geobox, resampling="nearest")
    every = np.arange(truth.classes.size)
    before = taught_raw(area, name, every).reshape(truth.classes.shape)
    after = taught_anew(area, name, np.stack(stored, axis=-1), weight, every)
    after = after.reshape(truth.classes.shape)
    use = (truth.classes >= 0) & (before >= 0) & (after >= 0)
    rows, columns = np.nonzero(use)
    t = truth.classes[use]
    return _gain(area, before[use] == t, after[use] == t, rows, columns, "cells right")


def _image(area: Area, truth: _Truth, name: str, out: Path) -> dict[str, Any]:
    """Score how many of the cells that an image offers as usable show the ground."""
    path = truth.folder / f"hidden_{name}.tif"
    if not path.exists():
        return {"why": "nothing hides the ground from this sensor, and its place has no control"}
    hidden, _ = read_on(path, area.geobox, resampling="nearest")
    mask, seen = read_on(
        out / "corrections" / name / "quality_mask.tif", area.geobox, resampling="nearest"
    )
    shown = hidden == 0
    kept = seen & (mask == 0)
    rows, columns = np.indices(shown.shape)
    low, high = _interval(area, rows, columns, (shown & kept, kept), (shown & seen, seen))
    return {
        "before": float(shown[seen].mean()),
        "after": float(shown[kept].mean()),
        "low": low,
        "high": high,
        "n": int(seen.sum()),
        "metric": "usable cells that show the ground",
    }


def _gain(
    area: Area, before: Bools, after: Bools, rows: Codes, columns: Codes, metric: str
) -> dict[str, Any]:
    if len(before) < 2:
        return {"why": f"{len(before)} statements that the truth knows"}
    every = np.ones(len(before), bool)
    low, high = _interval(area, rows, columns, (after, every), (before, every))
    return {
        "before": float(before.mean()),
        "after": float(after.mean()),
        "low": low,
        "high": high,
        "n": len(before),
        "metric": metric,
    }


def _interval(
    area: Area, rows: Codes, columns: Codes, after: tuple[Bools, Bools], before: tuple[Bools, Bools]
) -> tuple[float, float]:
    """Return the 95 % interval of a difference of two shares (hits, all), by whole blocks."""
    block = blocks_of(area, (rows * area.geobox.shape[1] + columns).ravel())
    flat = [(hits.ravel(), every.ravel()) for hits, every in (after, before)]
    return gain_interval(flat[0], flat[1], block)
