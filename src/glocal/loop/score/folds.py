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
from threadpoolctl import threadpool_limits

from glocal.core.grid import cells_of_points
from glocal.core.observation import Anchors
from glocal.core.provenance import Terms
from glocal.core.typing import Codes
from glocal.loop.area.area import Area
from glocal.loop.rounds.findings import findings_of, told
from glocal.loop.rounds.turns import Turn, turns, under
from glocal.loop.score.baselines import simple
from glocal.sources.kind import Exam


def fold_of(reference: Anchors, folds: int, seed: int) -> Codes:
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
    at = cells_of_points(area.geobox, held.x, held.y)
    held, at = held.take(at >= 0), at[at >= 0]
    small, turn = turns(area.without(held.record), config.rounds)
    log_q = turn.estimate.log_p.reshape(-1, len(area.legend))[at]
    return {
        "record": held.record.tolist(),
        "cell": at.tolist(),
        "loop": np.round(log_q.astype(float), 5).tolist(),
        "sources": before_and_after(small, turn, at),
        "baselines": simple(small, at),
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


def exam_of(area: Area, at: Codes) -> Exam:
    """Return what a source may learn from that is asked at the cells ``at``."""
    return Exam(cells=at, points=area.points(), words=area.words())


def before_and_after(area: Area, turn: Turn, at: Codes) -> dict[str, dict[str, list[Any]]]:
    """Return what every source says at the points, before and after its corrections.

    Probabilities are taken as they are stated: how far they may be believed is what the points
    will tell (`promise.sharpness_of`).
    """
    exam = exam_of(area, at)
    seen: dict[Terms | None, tuple[Area, Turn]] = {None: (area, turn)}
    out: dict[str, dict[str, list[Any]]] = {}
    for one in (row for row in area.readings if row.kind.scored):
        terms = one.kind.terms
        if terms not in seen:
            seen[terms] = under(area, turn, terms)
        view, round_ = seen[terms]
        reading = next(row for row in view.readings if row.name == one.name)
        findings = findings_of(view, round_, reading, sharpness=1.0)
        columns = one.kind.at_points(reading, findings, told(reading, findings), exam)
        if columns is not None:
            out[one.name] = columns
    return out
