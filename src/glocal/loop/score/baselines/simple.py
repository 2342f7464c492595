"""The simplest ways of all, read at points: those beside the loop in every report."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from glocal.core.typing import Codes
from glocal.loop.area.area import Area

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
    lessons: dict[str, tuple[Codes, Codes]] = {}
    for teacher in area.teachers:
        said = teacher.class_of_cells().ravel()
        cell = np.flatnonzero(said >= 0)
        rng = np.random.default_rng([area.config.seed, 23])
        pick = rng.choice(len(cell), min(FOREST_CELLS, len(cell)), replace=False)
        lessons[teacher.source] = cell[pick], said[cell[pick]]
    lessons["the points"] = points.cell, points.shares.argmax(axis=1)
    for model in area.learners:
        seen, tail = model.sees, "" if len(area.learners) == 1 else f" ({model.name})"
        for name, (cell, label) in lessons.items():
            use = seen.valid[cell]
            if use.any():
                forest = RandomForestClassifier(TREES, random_state=area.config.seed, n_jobs=1)
                forest.fit(seen.values[cell[use]], label[use])
                # no pixel-based method can read a hidden cell: it says its most frequent class
                usual = int(np.bincount(label[use]).argmax())
                read = np.where(seen.valid[at], forest.predict(seen.values[at]), usual)
                out[f"random forest trained on {name}{tail}"] = read.astype(np.int64)
    return {name: codes.tolist() for name, codes in out.items()}
