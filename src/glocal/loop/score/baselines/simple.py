"""The simplest ways of all, read at points: those beside the loop in every report."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from glocal.core.typing import Codes
from glocal.loop.area.area import Area
from glocal.sources.kind import Features

__all__ = ["simple"]

TREES = 100
FOREST_CELLS = 2000
"""Labelled cells that a forest learns from, where a source teaches it."""


def simple(area: Area, at: Codes) -> dict[str, list[int]]:
    """Return what simpler ways say at some cells, by name, as class positions; -1 for nothing.

    The most frequent class; every source as it is; and random forests that learned what the
    image models see from each source that people train on, and from the points.
    """
    out: dict[str, Codes] = {}
    points = area.points()
    if len(points):
        out["majority class"] = np.full(len(at), int(points.shares.sum(axis=0).argmax()))
    for one in area.readings:
        says = None if one.features is not None else one.statements
        if says is not None and says.support in ("cells", "objects"):
            out[f"{one.name} {one.kind.as_it_is}"] = says.class_of_cells().ravel()[at]
    for model in area.learners:
        seen, tail = model.sees, "" if len(area.learners) == 1 else f" ({model.name})"
        for teacher in area.teachers:
            said = teacher.class_of_cells().ravel()
            cell = np.flatnonzero(said >= 0)
            rng = np.random.default_rng([area.config.seed, 23])
            pick = rng.choice(len(cell), min(FOREST_CELLS, len(cell)), replace=False)
            if seen.valid[cell[pick]].any():
                name = f"random forest trained on {teacher.source}{tail}"
                out[name] = _forest(seen, cell[pick], said[cell[pick]], at, area.config.seed)
        if seen.valid[points.cell].any():
            name = f"random forest trained on the points{tail}"
            label = points.shares.argmax(axis=1)
            out[name] = _forest(seen, points.cell, label, at, area.config.seed)
    return {name: codes.tolist() for name, codes in out.items()}


def _forest(seen: Features, cell: Codes, label: Codes, at: Codes, seed: int) -> Codes:
    use = seen.valid[cell]
    forest = RandomForestClassifier(TREES, random_state=seed, n_jobs=1)
    forest.fit(seen.values[cell[use]], label[use])
    # no pixel-based method can read a hidden cell: it then says its most frequent class
    fallback = int(np.bincount(label[use]).argmax())
    return np.where(seen.valid[at], forest.predict(seen.values[at]), fallback).astype(np.int64)
