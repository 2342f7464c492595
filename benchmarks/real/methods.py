"""What the loop and its rivals say at cells, given the same area and the same anchors.

A method gives P(class) or only a class. None sees more than the area: sources, images, anchors.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from glocal.core.labels import Labels
from glocal.core.observation import Observations
from glocal.core.typing import Codes
from glocal.loop.area.area import Area
from glocal.loop.rounds.turns import Turn, turns
from glocal.loop.score.baselines import baselines, simple
from glocal.sources.kind import Features
from glocal.sources.kinds import kind_called
from glocal.sources.models.predict import predict_taught_by_all

__all__ = ["Said", "loop", "members", "rivals"]

TREES = 300
STACKS = ("stacked", "stacked_spatial")
"""Boosted trees were nowhere more than .001 better, and take as long as all others together."""
VOTES = ("majority", "dawid_skene", "ebcc")

Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Said:
    """What one method says at n cells."""

    method: str
    classes: Codes
    """Shape (n,), class positions; -1 for nothing."""

    seconds: float
    """CPU time."""

    p: Table | None = None
    """Shape (n, K), None of a method that states no probabilities."""


def loop(area: Area, cell: Codes) -> tuple[Said, Area, Turn]:
    """Return what the loop says, with the aligned area and the round that it kept."""
    start = time.process_time()
    aligned, turn = turns(area, area.config.rounds)
    p = np.exp(turn.estimate.log_p.reshape(-1, len(area.legend))[cell].astype(np.float64))
    return _said("loop", p, start), aligned, turn


def members(turn: Turn, cell: Codes) -> Iterator[Said]:
    """Yield what each model said in the round that was kept, out of fold."""
    for one in turn.models:
        if one.shares is not None:
            p = one.shares.reshape(-1, one.shares.shape[-1])[cell].astype(np.float64)
            p = np.where(np.isfinite(p), p, 1 / p.shape[1])
            yield Said(method=f"loop's {one.source}", classes=p.argmax(axis=1), seconds=0.0, p=p)


def rivals(area: Area, cell: Codes) -> Iterator[Said]:
    """Yield what every rival says that can be asked here."""
    if area.anchors is not None:
        labels = area.points()
        optical = [one for one in area.learners if one.name == "model"]
        seen = {"optical": optical, "all images": list(area.learners)}
        for name, models in seen.items():
            if name == "optical" or len(models) > len(optical):
                features = _joined([one.sees for one in models])
                for title, taught in (("own model", _model), ("forest", _forest)):
                    start = time.process_time()
                    p = taught(features, labels, cell, area.config.seed)
                    yield _said(f"{title}, points only, {name}", p, start)
    names = VOTES if area.anchors is None else (*VOTES, "best_source", *STACKS)
    start = time.process_time()
    for name, p in baselines(_with_fine_map(area), names):
        yield _said(name, p.reshape(-1, p.shape[-1])[cell].astype(np.float64), start)
        start = time.process_time()
    for name, classes in {**simple(area, cell), **_coarse(area, cell)}.items():
        spent = time.process_time() - start
        if not name.startswith("random forest trained on the points"):
            yield Said(method=name, classes=np.asarray(classes), seconds=spent)
        start = time.process_time()


def _coarse(area: Area, cell: Codes) -> dict[str, Codes]:
    """Return what maps of coarse cells say, each as a map of its own."""
    said = [one for one in area.observations if one.support == "mixtures"]
    return {f"{one.source} as it is": one.class_of_cells().ravel()[cell] for one in said}


def _said(method: str, p: Table, start: float) -> Said:
    seconds = time.process_time() - start
    return Said(method=method, classes=p.argmax(axis=1), p=p, seconds=seconds)


def _joined(several: list[Features]) -> Features:
    """Return the features of several learners side by side, valid where all are."""
    return Features(
        values=np.concatenate([one.values for one in several], axis=1),
        valid=np.logical_and.reduce([one.valid for one in several]),
        names=tuple(name for one in several for name in one.names),
    )


def _model(seen: Features, labels: Labels, cell: Codes, seed: int) -> Table:
    """Return P(class) by the engine's model of pixels, taught by all points and nothing else.

    One model learns from every point, as the one that would be released.
    """
    p = predict_taught_by_all(seen, labels, seed=seed)[cell].astype(np.float64)
    return np.where(np.isfinite(p), p, _usual(labels))


def _forest(seen: Features, labels: Labels, cell: Codes, seed: int) -> Table:
    """Return P(class) by a random forest on the likeliest class of every point."""
    use = seen.valid[labels.cell]
    forest = RandomForestClassifier(TREES, random_state=seed, n_jobs=1)
    forest.fit(seen.values[labels.cell[use]], labels.shares[use].argmax(axis=1))
    p = np.zeros((len(cell), labels.shares.shape[1]))
    p[:, forest.classes_] = forest.predict_proba(seen.values[cell])
    return np.where(seen.valid[cell, None], p, _usual(labels))


def _usual(labels: Labels) -> Table:
    """Return the class shares of the points, for cells that no image shows."""
    share = labels.shares.sum(axis=0)
    return np.asarray(share / share.sum(), np.float64)


def _with_fine_map(area: Area) -> Area:
    """Return the area as baselines can take it.

    They teach their image model on objects and fine maps; where there is neither they need one
    that says nothing, and without any point and map they can teach no model at all.
    """
    fine = [one for one in area.teachers if one.support != "mixtures"]
    if fine:
        return area
    if area.anchors is None:
        return replace(area, readings=tuple(one for one in area.readings if not one.features))
    some = next(one for one in area.readings if one.statements is not None)
    blank = Observations(
        source="silent",
        support="cells",
        geobox=area.geobox,
        symbols=np.zeros(area.geobox.shape, np.uint8),
        crosswalk=some.says.crosswalk,
        phenomenon_time=some.says.phenomenon_time,
        provenance=some.provenance,
    )
    silent: Any = replace(some, kind=kind_called("landcover"), statements=blank)
    return replace(area, readings=(*area.readings, silent))
