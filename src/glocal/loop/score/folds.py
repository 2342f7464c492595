"""How good everything is, on reference points that the loop did not see.

The points of the probability sample are dealt into folds. For each fold the whole
loop runs without its points; estimate, sources before and after, and baselines are
then read at them. Nothing is scored on a point that helped to make it.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from threadpoolctl import threadpool_limits

from glocal.core.observation import Anchors, Observations
from glocal.fusion.problem.support import paint
from glocal.fusion.propose import object_doubts
from glocal.loop.area.area import Area, cells_of
from glocal.loop.rounds.give_model import labels_given
from glocal.loop.rounds.proposals import corrected_classes, propose, recalibrated, said_class
from glocal.loop.rounds.teaching import CELLS, drawn, taught
from glocal.loop.rounds.turns import Turn, for_osm, point_labels, turns
from glocal.sources.osm.read import apply_corrections

__all__ = [
    "before_and_after",
    "fold_of",
    "score_fold",
    "score_folds",
    "taught_anew",
    "taught_raw",
]

TREES = 100
FOREST_CELLS = 2000

Codes = NDArray[np.int64]


def fold_of(reference: Anchors, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of every reference point, shape (n,), in nearly equal parts."""
    order = np.argsort(reference.record, kind="stable")
    fold = np.empty(len(reference), np.int64)
    fold[order] = np.random.default_rng(seed).permutation(len(reference)) % folds
    return fold


def score_fold(area: Area, fold: int) -> dict[str, Any]:
    """Run the loop without one fold's points, and read everything at them.

    Returns JSON-ready columns of one length: ``record``, ``cell``, ``loop`` (K
    log-probabilities each), ``baselines`` and ``sources`` (class positions, -1 where
    nothing is said).
    """
    if area.reference is None:
        raise ValueError("an area without reference points can't be scored")
    config = area.config
    held = area.reference.take(fold_of(area.reference, config.folds, config.seed) == fold)
    at = cells_of(held, area.geobox)
    held, at = held.take(at >= 0), at[at >= 0]
    small, turn = turns(area.without(held.record), config.rounds)
    safe = for_osm(small, turn)
    log_q = turn.log_q.reshape(-1, len(area.legend))[at]
    return {
        "record": held.record.tolist(),
        "cell": at.tolist(),
        "loop": np.round(log_q.astype(float), 5).tolist(),
        "sources": before_and_after(small, turn, safe, at),
        "baselines": _baselines(small, at),
    }


def score_folds(area: Area, folds: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Score several folds side by side, one process per core; yields them as they end.

    Processes are forked where that is possible, so the area is read and kept once.
    """
    workers = min(len(folds), os.cpu_count() or 1)
    if workers < 2 or "fork" not in multiprocessing.get_all_start_methods():
        for fold in folds:
            yield fold, score_fold(area, fold)
        return
    # forked workers find the area here: it is too large to be sent to each of them
    _SHARED["area"] = area
    try:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            waiting = {pool.submit(_score_shared, fold): fold for fold in folds}
            for one in as_completed(waiting):
                yield waiting[one], one.result()
    finally:
        _SHARED.clear()


_SHARED: dict[str, Area] = {}


def _score_shared(fold: int) -> dict[str, Any]:
    with threadpool_limits(1):
        return score_fold(_SHARED["area"], fold)


def before_and_after(
    area: Area, turn: Turn, safe: tuple[Area, Turn], at: Codes
) -> dict[str, dict[str, list[Any]]]:
    """Return every source's class at the points, before and after its corrections.

    Rules get a table of probabilities back, so theirs are probabilities of all classes.
    """
    out: dict[str, dict[str, list[Any]]] = {}
    for one in area.observations:
        kind = area.config.source(one.source).kind
        if one.support == "objects":
            out[one.source] = _objects(*safe, one.source, at)
        elif kind == "rules":
            symbol = one.symbols.ravel()[at].astype(np.int64)
            out[one.source] = {
                "speaks": (symbol > 0).tolist(),
                "before": np.round(_at_its_word(one)[symbol], 6).tolist(),
                "after": np.round(recalibrated(area, turn, one)[symbol], 6).tolist(),
            }
        elif one.support == "cells":
            after = corrected_classes(area, one, propose(area, turn, one)).ravel()[at]
            out[one.source] = _pair(said_class(one)[one.symbols].ravel()[at], after)
    for name in sorted(area.seen):
        after = taught_anew(area, name, *labels_given(area, turn, name), at)
        out[name] = _pair(taught_raw(area, name, at), after)
    return out


def _at_its_word(source: Observations) -> NDArray[np.float64]:
    """Return P(class | symbol) by the crosswalk alone, shape (M + 1, K)."""
    trust, classes = source.crosswalk.confidence[:, None], len(source.legend)
    table = trust * source.crosswalk.matrix + (1 - trust) / classes
    return np.concatenate([np.full((1, classes), 1 / classes), table])


def _pair(before: NDArray[Any], after: NDArray[Any]) -> dict[str, list[Any]]:
    return {"before": before.tolist(), "after": after.tolist()}


def _objects(area: Area, turn: Turn, name: str, at: Codes) -> dict[str, list[Any]]:
    source = next(one for one in area.observations if one.source == name)
    gift = propose(area, turn, source)
    after, sure = source, np.empty(0)
    if gift.corrections is not None:
        edits = gift.corrections.take(gift.corrections.action == "modify")
        after, sure = apply_corrections(source, edits), edits.probability
    pair = _pair(_object_class(source, area, at), _object_class(after, area, at))
    doubts = object_doubts(turn.fused, source)
    owner = paint(source.geometry, area.geobox).ravel()[at]
    return {
        **pair,
        "stated": np.round(np.append(0, doubts.probability)[owner], 6).tolist(),
        "proposed": np.append(-1, doubts.proposed)[owner].tolist(),
        "edits": np.round(sure, 6).tolist(),
    }


def _object_class(source: Observations, area: Area, at: Codes) -> Codes:
    owner = paint(source.geometry, area.geobox).ravel()[at]
    return np.asarray(said_class(source)[np.concatenate([[0], source.symbols])[owner]])


def _teachers(area: Area) -> list[Observations]:
    """Return the sources that people train a classifier on: OSM and maps of fine cells.

    Coarse maps only where there is nothing finer: one word for 5 km is no pixel label.
    """
    known = [
        one
        for one in area.observations
        if area.config.source(one.source).kind in ("osm", "landcover")
    ]
    return [one for one in known if one.support != "mixtures"] or known


def _at_their_word(area: Area, sources: Sequence[Observations]) -> tuple[Codes, Codes]:
    """Return (cell, class) wherever one of ``sources`` speaks, each taken at its word."""
    cells, classes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for one in sources:
        if one.support == "cells":
            said = said_class(one)[one.symbols].ravel()
        else:
            owner = paint(one.geometry, area.geobox).ravel()
            said = said_class(one)[np.concatenate([[0], one.symbols])[owner]]
        cells.append(np.flatnonzero(said >= 0))
        classes.append(said[said >= 0])
    return np.concatenate(cells), np.concatenate(classes)


def taught_raw(area: Area, model: str, at: Codes) -> Codes:
    """Return what the model would say if it had learned from the sources as they are."""
    word, said = _at_their_word(area, _teachers(area))
    # cells are drawn, not words: nothing may depend on the order of sources or classes
    cell, of_word, words = np.unique(word, return_inverse=True, return_counts=True)
    rng = np.random.default_rng([area.config.seed, 17])
    pick = rng.choice(len(cell), min(CELLS, len(cell)), replace=False)
    heard = np.zeros((len(cell), len(area.legend)))
    np.add.at(heard, (of_word, said), 1.0)
    shares = heard[pick] / words[pick, None]
    return _likeliest(taught(area, model, cell[pick], shares, words[pick].astype(float), at))


def taught_anew(
    area: Area,
    model: str,
    probability: NDArray[np.floating],
    weight: NDArray[np.floating],
    at: Codes,
) -> Codes:
    """Return what the model says once it has learned from the labels that it was given.

    ``probability`` (H, W, K) and ``weight`` (H, W) as `labels_given` returns them. As many
    cells teach as in `taught_raw`, and the same points.
    """
    return _likeliest(taught(area, model, *drawn(area, probability, weight), at))


def _likeliest(p: NDArray[np.float32]) -> Codes:
    """Return the likeliest class (n,), -1 where nothing is known."""
    return np.where(np.isfinite(p[:, 0]), np.nan_to_num(p).argmax(axis=1), -1).astype(np.int64)


def _baselines(area: Area, at: Codes) -> dict[str, list[int]]:
    """Return what simpler ways say at the points, from the same data."""
    out = {}
    points, shares = point_labels(area)
    if len(points):
        out["majority class"] = np.full(len(at), int(shares.sum(axis=0).argmax()))
    for one in area.observations:
        kind = area.config.source(one.source).kind
        if kind == "rules":
            out[f"{one.source} as they are"] = said_class(one)[one.symbols.ravel()[at]]
        elif one.support == "objects":
            out[f"{one.source} where mapped"] = _object_class(one, area, at)
        elif one.support == "cells":
            out[f"{one.source} as it is"] = said_class(one)[one.symbols.ravel()[at]]
    for model, seen in area.seen.items():
        tail = "" if len(area.seen) == 1 else f" ({model})"
        for one in _teachers(area):
            cell, said = _at_their_word(area, [one])
            rng = np.random.default_rng([area.config.seed, 23])
            pick = rng.choice(len(cell), min(FOREST_CELLS, len(cell)), replace=False)
            if seen.valid[cell[pick]].any():
                name = f"random forest trained on {one.source}{tail}"
                out[name] = _forest(seen, cell[pick], said[pick], at, area.config.seed)
        if seen.valid[points].any():
            name = f"random forest trained on the points{tail}"
            out[name] = _forest(seen, points, shares.argmax(axis=1), at, area.config.seed)
    return {name: codes.tolist() for name, codes in out.items()}


def _forest(seen: Any, cell: Codes, label: Codes, at: Codes, seed: int) -> Codes:
    use = seen.valid[cell]
    forest = RandomForestClassifier(TREES, random_state=seed, n_jobs=1)
    forest.fit(seen.values[cell[use]], label[use])
    # no pixel-based method can read a hidden cell: it then says its most frequent class
    fallback = int(np.bincount(label[use]).argmax())
    return np.where(seen.valid[at], forest.predict(seen.values[at]), fallback).astype(np.int64)
