"""From observations to an estimate: the one door of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from glocal.core.grid import cells_of_points
from glocal.core.observation import Anchors, Observations, Reliability
from glocal.core.result import log_normalise
from glocal.fusion.dependence import (
    MIN_ANCHORS,
    Exponents,
    conservative,
    families_of,
    gammas,
    learn,
    merge_copies,
)
from glocal.fusion.posterior import (
    SMOOTHING_SWEEPS,
    Fit,
    Similarity,
    class_prior,
    estimate,
    smooth,
)
from glocal.fusion.problem import Located, Problem, locate, prepare

__all__ = ["Fused", "fuse"]

FOLDS = 5
BETAS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
"""Spatial weights that are tried; the anchors choose."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fused:
    """The result of one fusion: ask it for posteriors, cavities and reliabilities."""

    fit: Fit
    beta: float
    """Spatial weight."""

    anchor_log_loss: float | None
    """Cross-fitted log-loss of the anchors, nats per anchor; None without enough anchors."""

    anchors: int
    """Answered anchors that were used."""

    twins: dict[str, str] = field(default_factory=dict)
    """Sources that repeat another word for word, and which."""

    similarity: Similarity | None = None

    def cells(self, silent: frozenset[str] = frozenset()) -> NDArray[np.float32]:
        """Return the decoded log-posterior of every cell, shape (H, W, K).

        ``silent`` sources, and their exact copies, are left out (the cavity).
        """
        log_q = self.units(silent).astype(np.float32)
        problem = self.fit.problem
        grid = log_q[problem.units.of_cell].reshape(*problem.geobox.shape, len(problem.legend))
        return smooth(grid, self.beta, self.similarity)

    def units(self, silent: frozenset[str] = frozenset()) -> NDArray[np.float64]:
        """Return the log-posterior of every unit, shape (U, K), before the spatial term."""
        return self.fit.log_q(frozenset(self.twins.get(name, name) for name in silent))

    def disagreement(self) -> NDArray[np.float32]:
        """Return how far families contradict each other, shape (H, W), 0..1.

        The Jensen-Shannon divergence between what the families say where they speak,
        over its largest possible value; 0 where fewer than two speak.
        """
        problem, prior = self.fit.problem, self.fit.log_prior
        power = gammas(problem, self.fit.exponents)
        families = sorted({term.family for term in problem.terms})
        opinions, speaks = [], []
        for family in families:
            members = [term for term in problem.terms if term.family == family]
            said = sum(
                power[one.name][:, None] * self.fit.told[one.name].message for one in members
            )
            opinions.append(np.exp(log_normalise(prior + said)))
            speaks.append(np.logical_or.reduce([one.speaks for one in members]))
        weight = np.array(speaks, float)[..., None]
        voices = np.maximum(weight.sum(axis=0), 1)
        p = np.maximum(np.array(opinions), 1e-12)
        mean = (weight * p).sum(axis=0) / voices
        mean = np.maximum(mean, 1e-12)
        spread = (weight * p * (np.log(p) - np.log(mean))).sum(axis=(0, 2)) / voices[:, 0]
        scaled = np.clip(spread / np.log(max(len(families), 2)), 0, 1).astype(np.float32)
        return np.asarray(scaled[problem.units.of_cell].reshape(problem.geobox.shape))

    def reliabilities(self) -> tuple[Reliability, ...]:
        """Return the reliability of every source, copies included."""
        terms = {term.name: term for term in self.fit.problem.terms}
        names = [*terms, *self.twins]
        return tuple(self._reliability(name, self.twins.get(name, name)) for name in sorted(names))

    def _reliability(self, name: str, spoken_by: str) -> Reliability:
        problem = self.fit.problem
        term = next(one for one in problem.terms if one.name == spoken_by)
        confusion = self.fit.confusion[spoken_by]
        table = np.exp(confusion.log_p)
        return Reliability(
            source=name,
            legend=problem.legend,
            symbols=tuple(str(i) for i in range(1, table.shape[2] + 1)),
            confusion=table / table.sum(axis=2, keepdims=True),
            counts=confusion.counts,
            exponent=self.fit.exponents.g[spoken_by],
            family=term.family,
        )


def fuse(
    observations: Sequence[Observations],
    anchors: Anchors | None = None,
    *,
    similarity: Similarity | None = None,
    seed: int = 0,
) -> Fused:
    """Fuse all sources; none is master.

    Parameters
    ----------
    observations
        One per source, all on one grid and legend. Order and names do not matter.
    anchors
        A probability sample of reference points, which sets the class prior, the
        exponents and the spatial weight (cross-fitted). With fewer than 30 answered
        anchors exponents stay conservative and there is no spatial term.
    similarity
        How alike neighbouring cells look, from an image (see ``posterior.smooth``).
    seed
        Deals the anchors into folds.
    """
    kept, twins = merge_copies(observations)
    problem = prepare(kept, families_of(kept))
    flat = (
        cells_of_points(problem.geobox, anchors.x, anchors.y)
        if anchors is not None
        else np.empty(0, np.int64)
    )
    located = locate(anchors, flat, problem)
    exponents = conservative(problem)
    prior = class_prior(located, len(problem.legend))
    first = estimate(problem, prior, exponents, located)
    if len(located) < MIN_ANCHORS:
        return Fused(
            fit=first,
            beta=0.0,
            anchor_log_loss=None,
            anchors=len(located),
            twins=twins,
            similarity=similarity,
        )
    fold = np.random.default_rng(seed).permutation(len(located)) % FOLDS
    exponents = _learn_exponents(problem, first, located, fold)
    held_out = [_refit(problem, first, located.take(fold != f), exponents) for f in range(FOLDS)]
    beta, loss = _learn_beta(held_out, located, fold, similarity)
    fit = estimate(problem, prior, exponents, located, start=first.confusion)
    return Fused(
        fit=fit,
        beta=beta,
        anchor_log_loss=loss,
        anchors=len(located),
        twins=twins,
        similarity=similarity,
    )


def _refit(problem: Problem, first: Fit, anchors: Located, exponents: Exponents) -> Fit:
    """Estimate again without some anchors, from the same cold start."""
    prior = class_prior(anchors, len(problem.legend))
    return estimate(problem, prior, exponents, anchors)


def _learn_exponents(
    problem: Problem, first: Fit, anchors: Located, fold: NDArray[np.int64]
) -> Exponents:
    shape = (len(anchors), len(problem.legend))
    messages = {term.name: np.zeros(shape) for term in problem.terms}
    log_prior = np.zeros(shape)
    for f in range(FOLDS):
        out = fold == f
        fit = _refit(problem, first, anchors.take(~out), first.exponents)
        log_prior[out] = fit.log_prior
        for name, told in fit.told.items():
            messages[name][out] = told.message[anchors.unit[out]]
    return learn(problem, messages, log_prior, anchors)


def _learn_beta(
    fits: list[Fit], anchors: Located, fold: NDArray[np.int64], similarity: Similarity | None
) -> tuple[float, float]:
    """Return the spatial weight with the smallest cross-fitted anchor log-loss, and that loss."""
    total = np.zeros(len(BETAS))
    for f, fit in enumerate(fits):
        log_q = fit.log_q().astype(np.float32)
        for i in np.flatnonzero(fold == f):
            window, tie, at = _window(fit.problem, log_q, int(anchors.cell[i]), similarity)
            for j, beta in enumerate(BETAS):
                there = smooth(window, beta, tie)[at]
                total[j] -= anchors.weight[i] * float(anchors.shares[i] @ there)
    loss = total / anchors.weight.sum()
    # a tie goes to the weaker prior
    best = int(np.flatnonzero(loss <= loss.min() + 1e-3)[0])
    return BETAS[best], float(loss[best])


def _window(
    problem: Problem, log_q: NDArray[np.float32], cell: int, similarity: Similarity | None
) -> tuple[NDArray[np.float32], Similarity | None, tuple[int, int]]:
    """Return the cells that the decoding of one cell depends on, and where it is in them."""
    height, width = problem.geobox.shape
    row, column = divmod(cell, width)
    top, left = max(row - SMOOTHING_SWEEPS, 0), max(column - SMOOTHING_SWEEPS, 0)
    bottom, right = (
        min(row + SMOOTHING_SWEEPS + 1, height),
        min(column + SMOOTHING_SWEEPS + 1, width),
    )
    of_cell = problem.units.of_cell.reshape(height, width)[top:bottom, left:right]
    tie = None
    if similarity is not None:
        across, down = similarity
        tie = (
            np.ascontiguousarray(across[top:bottom, left : right - 1]),
            np.ascontiguousarray(down[top : bottom - 1, left:right]),
        )
    return log_normalise(log_q[of_cell]).astype(np.float32), tie, (row - top, column - left)
