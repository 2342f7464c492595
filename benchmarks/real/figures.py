"""How good what was said is, and the tables of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.draws import Draw
from benchmarks.real.methods import Said
from benchmarks.stored import Column, Table
from glocal.core.typing import Codes
from glocal.loop.score.summary import macro_f1

__all__ = [
    "calibration_error", "classes_table", "log_loss", "methods_table", "overview", "score",
    "score_classes", "sources_table",
]  # fmt: skip

FLOOR = 1e-3
BINS = 10
SOURCE = (" as it is", " as they are", " where mapped")
"""Ends of the names under which sources stand for themselves."""

Row = dict[str, Any]
Shares = NDArray[np.float64]


def floored(p: Shares) -> Shares:
    """Return probabilities (n, K) with a floor, rows sum to 1."""
    p = np.maximum(p, FLOOR)
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def log_loss(p: Shares, truth: Codes) -> float:
    """Return the mean surprise by the truth (n,), nats."""
    return float(-np.log(p[np.arange(len(truth)), truth]).mean())


def calibration_error(p: Shares, truth: Codes) -> float:
    """Return the expected calibration error of the class that is shown, 10 bins of equal width."""
    stated, right = p.max(axis=1), p.argmax(axis=1) == truth
    of = np.minimum((stated * BINS).astype(int), BINS - 1)
    gap = np.bincount(of, stated - right, minlength=BINS)
    return float(np.abs(gap).sum() / len(truth))


def score(said: Said, truth: Codes) -> dict[str, float]:
    """Return the figures of one method; silence counts as wrong."""
    out = {
        "accuracy": float((said.classes == truth).mean()),
        "macro_f1": macro_f1(said.classes, truth),
        "speaks": float((said.classes >= 0).mean()),
        "seconds": said.seconds,
    }
    if said.p is not None:
        p = floored(said.p)
        out |= {
            "log_loss": log_loss(p, truth),
            "ece": calibration_error(p, truth),
            "stated": float(p.max(axis=1).mean()),
        }
    return out


def score_classes(draw: Draw, estimate: Codes) -> dict[str, dict[str, float]]:
    """Return what became of every class in the loop's map (cells,), by name.

    ``recall`` is at the unseen points; ``claimed`` is the share of the cells that some map,
    rule or object says to be of the class, ``kept`` the share of those that the loop shows as it.
    """
    said = [one.class_of_cells().ravel() for one in draw.area.observations
            if one.support != "points"]  # fmt: skip
    anchors = draw.area.anchors
    out = {}
    for k, name in enumerate(draw.area.legend.names):
        here, claimed = draw.truth == k, np.logical_or.reduce([one == k for one in said])
        out[name] = {
            "points": int(here.sum()),
            "anchors": 0 if anchors is None else int((anchors.shares.argmax(axis=1) == k).sum()),
            "claimed": round(float(claimed.mean()), 4),
        }
        if here.any():
            out[name]["recall"] = round(float((estimate[draw.cell[here]] == k).mean()), 4)
        if claimed.any():
            out[name]["kept"] = round(float((estimate[claimed] == k).mean()), 4)
    return out


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean over draws, and its standard error where there are several."""
    error = stdev(values) / sqrt(len(values)) if len(values) > 1 else None
    return fmean(values), error


def _paired(rows: Sequence[Row], method: str, figure: str) -> tuple[float | None, float | None]:
    """Return how much more the loop has of a figure than a method, on the same draws."""
    pairs = [(row["methods"]["loop"], row["methods"].get(method, {})) for row in rows]
    told = [loop[figure] - one[figure] for loop, one in pairs if figure in one]
    return mean_and_error(told) if told and method != "loop" else (None, None)


def _mean(rows: Sequence[Row], method: str, figure: str) -> float | None:
    told = [row["methods"].get(method, {}).get(figure) for row in rows]
    known = [one for one in told if one is not None]
    return fmean(known) if known else None


def methods_table(rows: Sequence[Row]) -> Table:
    """Return the loop and its rivals on the draws of one area and number of anchors."""
    names = list(dict.fromkeys(name for row in rows for name in row["methods"]))
    figures = ("accuracy", "macro_f1", "log_loss", "ece", "stated", "speaks", "seconds")
    lines = []
    for name in names:
        ahead = (*_paired(rows, name, "accuracy"), *_paired(rows, name, "log_loss"))
        lines.append((name, *(_mean(rows, name, one) for one in figures), *ahead))
    columns = (
        Column(name="method"),
        Column(name="accuracy", digits=3, best="max"),
        Column(name="macro-F1", digits=3, best="max"),
        Column(name="log-loss", digits=3, best="min"),
        Column(name="ECE", digits=3, best="min"),
        Column(name="stated", digits=3),
        Column(name="speaks", digits=2),
        Column(name="CPU s", digits=1),
        Column(name="loop more accurate by", digits=3, signed=True),
        Column(name="its error", digits=3),
        Column(name="loop's log-loss higher by", digits=3, signed=True),
        Column(name="error of that", digits=3),
    )
    return Table(columns=columns, rows=tuple(lines))


def sources_table(rows: Sequence[Row]) -> Table:
    """Return every source before and after what it is told, at the unseen points."""
    told: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        for name, one in row["sources"].items():
            told.setdefault(name, []).append(one)
    lines = []
    for name, several in told.items():
        gain, error = mean_and_error([one["after"] - one["before"] for one in several])
        before, after, n = (fmean(one[key] for one in several) for key in ("before", "after", "n"))
        lines.append((name, several[0]["metric"], before, after, gain, error, n))
    columns = (
        Column(name="source"),
        Column(name="measure"),
        Column(name="before", digits=3),
        Column(name="after", digits=3),
        Column(name="gain", digits=3, signed=True),
        Column(name="its error", digits=3),
        Column(name="points", digits=0),
    )
    return Table(columns=columns, rows=tuple(lines))


def classes_table(rows: Sequence[Row]) -> Table:
    """Return what became of every class in the loop's map."""
    columns = (
        Column(name="class"),
        Column(name="anchors", digits=1),
        Column(name="unseen points", digits=0),
        Column(name="recall", digits=3),
        Column(name="claimed share of the area", digits=3),
        Column(name="kept of that", digits=3),
    )
    lines = []
    for name in rows[0]["classes"]:
        several = [row["classes"][name] for row in rows]
        told = ([one[key] for one in several if key in one]
                for key in ("anchors", "points", "recall", "claimed", "kept"))  # fmt: skip
        lines.append((name, *(fmean(one) if one else None for one in told)))
    return Table(columns=columns, rows=tuple(lines))


def overview(rows: Sequence[Row]) -> Table:
    """Return one line for each area and number of anchors: the loop and the best of the others.

    The best is chosen afterwards, by its mean on the same draws: a rival that nobody could name
    before.
    """
    lines = []
    for (area, drawn), several in grouped(rows):
        names = {name for row in several for name in row["methods"]}
        names = {name for name in names if not name.startswith("loop")}
        right = {name: _mean(several, name, "accuracy") or 0.0 for name in names}
        loss = {name: _mean(several, name, "log_loss") for name in names}
        known = {name: one for name, one in loss.items() if one is not None}
        alone = {name: one for name, one in right.items() if name.endswith(SOURCE)}
        best, calm = max(right, key=right.__getitem__), min(known, key=known.__getitem__)
        lines.append((
            area, str(drawn), best, calm,
            *(_mean(several, "loop", one) for one in ("accuracy", "log_loss", "ece")),
            right[best], *_paired(several, best, "accuracy"),
            known[calm], *_paired(several, calm, "log_loss"),
            max(alone.values(), default=None), len(several),
        ))  # fmt: skip
    columns = (
        Column(name="area"),
        Column(name="anchors"),
        Column(name="most accurate rival"),
        Column(name="rival of least log-loss"),
        Column(name="loop: accuracy", digits=3),
        Column(name="log-loss", digits=3),
        Column(name="ECE", digits=3),
        Column(name="rival's accuracy", digits=3),
        Column(name="loop more accurate by", digits=3, signed=True),
        Column(name="its error", digits=3),
        Column(name="rival's log-loss", digits=3),
        Column(name="loop's log-loss higher by", digits=3, signed=True),
        Column(name="error of that", digits=3),
        Column(name="best source as it is", digits=3),
        Column(name="draws", digits=0),
    )
    return Table(columns=columns, rows=tuple(lines))


def grouped(rows: Iterable[Row]) -> list[tuple[tuple[str, int], list[Row]]]:
    """Return the draws of each area and number of anchors."""
    out: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        out.setdefault((row["area"], row["anchors"]), []).append(row)
    return list(out.items())
