"""One source is master, or a fixed rule joins two: how maps are mostly made today."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glocal.loop.area.area import Area
from glocal.loop.score.baselines.ballots import Ballots, model_trained_on

REGION_STRENGTH = 20.0
"""Anchors that a source's rate in the whole area is worth in one region."""

Table = NDArray[np.float64]


def best_source(ballots: Ballots) -> Table:
    """Return P(class) by the single source that is right at most anchors, (N, K).

    Where it says nothing, and for the chance of its errors, the anchors' class shares speak.
    """
    rate, heard = _rates(ballots)
    score = (rate * heard).sum(axis=1) / np.maximum(heard.sum(axis=1), 1)
    covers = (ballots.symbols > 0).mean(axis=1) > 0.5
    best = int(np.where(covers, score, score - 1).argmax())
    told = ballots.opinion_of(best)
    mix = score[best] * told + (1 - score[best]) * _usual(ballots)
    return np.asarray(np.where(told.sum(axis=1, keepdims=True) > 0, mix, _usual(ballots)))


def region_weighted(ballots: Ballots) -> Table:
    """Return a vote in which sources count by their log-odds of being right per quarter.

    The odds come from the anchors of the quarter, with the whole area as back-off; the
    votes are summed as log-odds, as independent voters' should be.
    """
    rate, heard = _rates(ballots)
    judges = np.flatnonzero(ballots.judge)
    quarter = ballots.region[ballots.cell[judges]]
    right, total = rate * heard, heard
    whole = (right.sum(axis=1) + 1) / (total.sum(axis=1) + 2)
    log_odds = np.zeros((4, len(ballots.names)))
    for q in range(4):
        here = quarter == q
        p = right[:, here].sum(axis=1) + REGION_STRENGTH * whole
        p = p / (total[:, here].sum(axis=1) + REGION_STRENGTH)
        p = np.clip(p, 0.02, 0.98)
        log_odds[q] = np.log(p * (ballots.classes - 1) / (1 - p))
    score = sum(
        ballots.opinion_of(i) * log_odds[ballots.region, i][:, None]
        for i in range(len(ballots.names))
    )
    p = np.exp(score - np.max(score, axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def _rates(ballots: Ballots) -> tuple[Table, Table]:
    """Return chance of being right and whether it speaks, per source and anchor, (S, A)."""
    judges = np.flatnonzero(ballots.judge)
    cell = ballots.cell[judges]
    told = np.stack([ballots.opinion_of(i)[cell] for i in range(len(ballots.names))])
    right = np.einsum("sak,ak->sa", told, ballots.shares[judges])
    return right, (told.sum(axis=2) > 0).astype(float)


def _usual(ballots: Ballots) -> Table:
    judges = ballots.judge
    share = (ballots.shares * ballots.weight[:, None])[judges].sum(axis=0) + 0.5
    return np.asarray(share / share.sum())


def master_slave(area: Area, ballots: Ballots, *, prune: bool = False) -> Table | None:
    """Return P(class) by image models that learned from mapped objects only, (N, K).

    The objects are the master and the image their pupil. With ``prune``, labels that
    confident learning suspects are left out, and the model learns again. Where the image
    shows nothing, the objects speak, else the class shares of its objects. None where
    there is no object source or no image model.
    """
    objects = [one for one in area.observations if one.support == "objects"]
    if not objects or not area.learners:
        return None
    mapped = np.asarray(sum(_of(ballots, one.source) for one in objects))
    total = []
    for one in area.learners:
        p = model_trained_on(area, one, objects)
        if prune:
            keep = np.ones(len(mapped), bool)
            known = np.flatnonzero((mapped.sum(axis=1) > 0) & np.isfinite(p[:, 0]))
            keep[known] = ~is_suspect(p[known].astype(np.float64), mapped[known].argmax(axis=1))
            p = model_trained_on(area, one, objects, keep=keep)
        total.append(p)
    mean = np.mean(total, axis=0)
    usual = mapped.sum(axis=0) / mapped.sum()
    blind = np.where(mapped.sum(axis=1, keepdims=True) > 0, 0.8 * mapped + 0.2 * usual, usual)
    return np.asarray(np.where(np.isfinite(mean), mean, blind), np.float64)


def _of(ballots: Ballots, name: str) -> Table:
    return ballots.opinion_of(ballots.names.index(name))


def is_suspect(probability: Table, label: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which labels (n,) confident learning takes for wrong, from held-out (n, K).

    Off-diagonal cells of the confident joint (Northcutt, Jiang and Chuang 2021): an example
    is counted in the likeliest class among those whose probability reaches the mean
    probability that the class has where it is the label.
    """
    classes = probability.shape[1]
    limit = np.array(
        [
            probability[label == k, k].mean() if (label == k).any() else np.inf
            for k in range(classes)
        ]
    )
    reaches = probability >= limit - 1e-6
    likeliest = np.where(reaches, probability, -1).argmax(axis=1)
    return np.asarray(reaches.any(axis=1) & (likeliest != label))


def fixed_modes(area: Area, ballots: Ballots) -> dict[str, Table]:
    """Return P(class) by fixed rules of fusion between image model, objects and one map.

    The seven modes that HeiGIT's lulc-utility offers by name (``FusionMode``): only the
    model, only the objects, one favoured where it speaks, their mean, only CORINE, and
    CORINE harmonised. Here the first map stands for CORINE; "harmonised" is our reading: its
    classes turned into what they mean at the anchors. Written from the names, not the code.
    """
    model = master_slave(area, ballots)
    named = {one.support: one.source for one in reversed(area.observations)}  # the first of each
    if model is None or "cells" not in named:
        return {}
    source, usual = ballots.names.index(named["cells"]), _usual(ballots)
    drawn, first = _of(ballots, named["objects"]), ballots.opinion_of(source)
    mapped = drawn.sum(axis=1, keepdims=True) > 0
    sure = model.max(axis=1, keepdims=True) >= 0.5
    symbol, judge = ballots.symbols[source], ballots.judge
    meaning = 3.0 * ballots.opinions[source] + 0.5 * usual
    np.add.at(meaning, symbol[ballots.cell[judge]], ballots.shares[judge])
    return {
        "only_model": model,
        "only_objects": np.where(mapped, drawn, usual),
        "favour_objects": np.where(mapped, drawn, model),
        "favour_model": np.where(sure | ~mapped, model, drawn),
        "mean_mixin": np.where(mapped, (drawn + model) / 2, model),
        "only_corine": np.where(first.sum(axis=1, keepdims=True) > 0, first, usual),
        "harmonized_corine": (meaning / meaning.sum(axis=1, keepdims=True))[symbol],
    }
