"""What every source says in every cell: the common input of all baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from glocal.core.grid import cells_of_points
from glocal.core.observation import Observations
from glocal.core.setting import ENGINE
from glocal.fusion.decode.spatial import Similarity
from glocal.loop.area.area import Area
from glocal.loop.rounds.turns import taught_provenance
from glocal.loop.score.baselines.crowd import Votes
from glocal.sources.kind import Features, Reading

TEACHING_CELLS = 4000
"""Cells drawn as labels for an image model."""

Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ballots:
    """All sources on the cells of one grid, N = H * W."""

    names: tuple[str, ...]
    """Sources, then image models."""

    models: tuple[str, ...]
    shape: tuple[int, int]
    symbols: NDArray[np.int64]
    """Shape (S, N), the source's own words, 0 for silence."""

    opinions: tuple[Table, ...]
    """Per source, shape (M + 1, K): what its words mean at face value; rows of zeros for
    silence and for words without a meaning."""

    probability: dict[str, NDArray[np.float32]]
    """Per image model, shape (N, K), out of fold; all alike where it can't see."""

    features: dict[str, Features]
    similarity: Similarity | None
    cell: NDArray[np.int64]
    """Shape (A,), cells of the labelled points."""

    shares: Table
    """Shape (A, K)."""

    weight: Table
    """Shape (A,), mean 1 over the points that may judge."""

    judge: NDArray[np.bool_]
    """Shape (A,), False for field points where there are enough anchors: they may teach
    but not judge."""

    region: NDArray[np.int64]
    """Shape (N,), the quarter 0..3 of the area."""

    seed: int

    @property
    def classes(self) -> int:
        """K."""
        return int(self.shares.shape[1])

    @property
    def truth(self) -> NDArray[np.int64]:
        """Shape (A,), the likeliest class of each labelled point."""
        return np.asarray(self.shares.argmax(axis=1))

    def opinion_of(self, source: int) -> Table:
        """Return P(class) at face value, shape (N, K), zeros where a source is silent."""
        return np.asarray(self.opinions[source][self.symbols[source]])

    def votes(self) -> tuple[Votes, NDArray[np.int64]]:
        """Return all statements as votes on distinct patterns, and the pattern of each cell.

        Cells of anchors are patterns of their own, whose class is known.
        """
        own = np.zeros(self.symbols.shape[1], np.int64)
        anchors = np.flatnonzero(self.judge)
        own[self.cell[anchors]] = anchors + 1
        columns, first, of_cell, count = np.unique(
            np.vstack([self.symbols, own]),
            axis=1,
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        known = np.zeros((len(first), self.classes))
        marked = columns[-1] > 0
        known[marked] = self.shares[columns[-1, marked] - 1]
        worker, item = np.nonzero(columns[:-1])
        words = max(len(one) for one in self.opinions) - 1
        opinion = np.zeros((len(self.names), words, self.classes))
        for i, one in enumerate(self.opinions):
            opinion[i, : len(one) - 1] = one[1:]
        votes = Votes(
            item=item,
            worker=worker,
            label=columns[worker, item] - 1,
            opinion=opinion,
            count=count.astype(np.float64),
            known=known,
        )
        return votes, of_cell.ravel()


def ballots_of(area: Area) -> Ballots:
    """Return what all sources of an area say, with the images read by a model.

    The image model is trained on the maps, objects and points as they are, out of fold.
    """
    observations = list(area.observations)
    # what people train a classifier on: objects, and maps of fine cells
    teachers = [one.says for one in area.readings if one.kind.teaches]
    teachers = [one for one in teachers if one.support != "mixtures"]
    probability = {}
    for one in area.learners:
        p = model_trained_on(area, one, teachers, with_points=True)
        probability[one.name] = p
        observations += one.learner.state(one, p, provenance=taught_provenance(area, one))
    classes, (height, width) = len(area.legend), area.geobox.shape
    south, east = np.arange(height) * 2 // height, np.arange(width) * 2 // width
    return Ballots(
        names=tuple(one.source for one in observations),
        models=tuple(probability),
        shape=(height, width),
        symbols=np.stack([_words(area, one) for one in observations]),
        opinions=tuple(_opinion(one) for one in observations),
        probability={
            name: np.where(np.isfinite(p), p, np.float32(1 / classes))
            for name, p in probability.items()
        },
        features={one.name: one.sees for one in area.learners},
        similarity=area.similarity,
        region=(south[:, None] * 2 + east).ravel(),
        seed=area.config.seed,
        **_labelled(area),
    )


def _words(area: Area, one: Observations) -> NDArray[np.int64]:
    symbols = one.symbols.astype(np.int64)
    if one.support == "cells":
        return np.asarray(symbols.ravel())
    if one.support != "points":
        return np.asarray(np.append(0, symbols)[one.owner_of_cells()].ravel())
    out = np.zeros(int(np.prod(area.geobox.shape)), np.int64)
    at = cells_of_points(area.geobox, shapely.get_x(one.geometry), shapely.get_y(one.geometry))
    out[at[at >= 0]] = symbols[at >= 0]
    return out


def _opinion(one: Observations) -> Table:
    told = one.crosswalk.confidence[:, None] > 0
    silent = np.zeros((1, len(one.legend)))
    return np.concatenate([silent, one.crosswalk.matrix * told])


def _labelled(area: Area) -> dict[str, Any]:
    """Return anchors and field points; without enough anchors field points judge too."""
    points = area.points()
    cell, shares, weight = points.cell, points.shares, points.weight.copy()
    anchors = 0
    if area.anchors is not None:
        inside = cells_of_points(area.geobox, area.anchors.x, area.anchors.y) >= 0
        use = area.anchors.answered & inside
        anchors = int(use.sum())
        if anchors:
            weight[:anchors] = area.anchors.weight[use] / area.anchors.weight[use].mean()
    # too few anchors can't judge: then every point does
    judge = (np.arange(len(cell)) < anchors) | (anchors < ENGINE.min_sample)
    return {"cell": cell, "shares": shares, "weight": weight, "judge": judge}


def model_trained_on(
    area: Area,
    model: Reading,
    sources: list[Observations],
    *,
    with_points: bool = False,
    keep: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Return class probabilities (N, K) of an image model, out of fold, NaN where unseen.

    Labels are cells drawn from all statements of ``sources`` at their word, where ``keep``
    (N,), and the points if ``with_points``.
    """
    cell, said = [], []
    for one in sources:
        opinion = _opinion(one)[_words(area, one)]
        told = opinion.sum(axis=1) > 0
        at = np.flatnonzero(told if keep is None else told & keep)
        cell.append(at)
        said.append(opinion[at])
    cells, shares = np.concatenate(cell), np.concatenate(said)
    rng = np.random.default_rng([area.config.seed, 29])
    pick = np.sort(rng.choice(len(cells), min(TEACHING_CELLS, len(cells)), replace=False))
    points = area.points()
    known = points if with_points else points.none()
    labels = known.beside(cells[pick], shares[pick], np.ones(len(pick)))
    return model.learner.learn(model, [labels] * area.window.folds)
