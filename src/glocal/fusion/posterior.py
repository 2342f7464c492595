"""Expectation-maximisation over units, and the class of every cell."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from glocal.core.result import log_normalise
from glocal.errors import GridMismatchError
from glocal.fusion.dependence import Exponents, gammas
from glocal.fusion.messages import Told, counts, listen
from glocal.fusion.problem import Located, Problem
from glocal.fusion.reliability import Confusion, anchor_counts, initial, update

__all__ = ["Fit", "Similarity", "class_prior", "estimate", "pool", "smooth"]

SWEEPS = 8
SMOOTHING_SWEEPS = 5
"""A cell hears cells up to this many steps away, so tiles need that much halo."""

Table = NDArray[np.float64]
Similarity = tuple[NDArray[np.float32], NDArray[np.float32]]
"""How alike neighbours are, 0..1: (H, W - 1) across and (H - 1, W) down."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """Reliabilities and what follows from them, per unit."""

    problem: Problem
    log_prior: Table
    """Shape (K,)."""

    exponents: Exponents
    confusion: dict[str, Confusion]
    told: dict[str, Told]

    def log_q(self, silent: frozenset[str] = frozenset()) -> Table:
        """Return the log-posterior per unit, shape (U, K), without the sources in ``silent``.

        Leaving sources out gives the cavity that corrections rest on: reliabilities
        stay, the sources' own statements and their share of the family budget go.
        """
        if not silent:
            return log_normalise(self.log_prior + _weighted(self.problem, self))
        rest = self.problem.without(set(silent))
        told = hear(rest, self.log_prior, self.exponents, self.confusion)
        part = Fit(
            problem=rest,
            log_prior=self.log_prior,
            exponents=self.exponents,
            confusion=self.confusion,
            told=told,
        )
        return log_normalise(self.log_prior + _weighted(rest, part))


def class_prior(anchors: Located, problem: Problem) -> Table:
    """Return the log prior of the classes, shape (K,).

    With anchors: their weighted shares (the design-based estimate of area), with half
    a pseudo-count per class. Without: what the families say at their word, each with one
    vote, half mixed with "all alike". Never the engine's own posterior, in which rare
    classes vanish.
    """
    classes = len(problem.legend)
    if len(anchors):
        share = (anchors.shares * anchors.weight[:, None]).sum(axis=0) + 0.5
        return np.asarray(np.log(share / share.sum()))
    said: dict[tuple[str, ...], list[Table]] = {}
    for i, term in enumerate(problem.terms):
        used = _frequency(problem, i)
        if used.sum() > 0:
            said.setdefault(term.family, []).append(used / used.sum() @ term.prior)
    votes = [np.mean(members, axis=0) for members in said.values()]
    mean = np.mean(votes, axis=0) if votes else np.full(classes, 1 / classes)
    return np.asarray(np.log(0.5 * mean + 0.5 / classes))


def pool(problem: Problem, exponents: Exponents, told: dict[str, Told], skip: str = "") -> Table:
    """Return the summed, tempered messages, shape (U, K), without ``skip``."""
    power = gammas(problem, exponents)
    total = np.zeros((len(problem.units), len(problem.legend)))
    for name, one in told.items():
        if name != skip:
            total += power[name][:, None] * one.message
    return total


def _weighted(problem: Problem, fit: Fit) -> Table:
    return pool(problem, fit.exponents, fit.told)


def hear(
    problem: Problem,
    log_prior: Table,
    exponents: Exponents,
    confusion: dict[str, Confusion],
) -> dict[str, Told]:
    """Return every source's messages: cells first, then coarse cells, objects and points.

    Each later kind hears what the earlier kinds say, never itself.
    """
    order = {"cells": 0, "mixtures": 1, "objects": 2, "points": 3}
    power = gammas(problem, exponents)
    told: dict[str, Told] = {}
    for rank in range(4):
        heard = np.zeros((len(problem.units), len(problem.legend)))
        for name, one in told.items():
            heard += power[name][:, None] * one.message
        for term in problem.terms:
            if order[term.support] == rank:
                told[term.name] = listen(problem, term, confusion[term.name], log_prior, heard)
    return told


def estimate(
    problem: Problem,
    log_prior: Table,
    exponents: Exponents,
    anchors: Located,
    *,
    start: dict[str, Confusion] | None = None,
    sweeps: int = SWEEPS,
) -> Fit:
    """Estimate reliabilities and posteriors together (tempered EM, Dawid-Skene family)."""
    prior = np.exp(log_prior)
    confusion = start or {
        term.name: initial(term, _frequency(problem, i), prior)
        for i, term in enumerate(problem.terms)
    }
    fixed = {term.name: anchor_counts(term, anchors) for term in problem.terms}
    told = hear(problem, log_prior, exponents, confusion)
    for _ in range(sweeps):
        q = np.exp(log_normalise(log_prior + pool(problem, exponents, told)))
        confusion = {
            term.name: update(
                confusion[term.name],
                counts(problem, term, confusion[term.name], told[term.name], q) + fixed[term.name],
            )
            for term in problem.terms
        }
        told = hear(problem, log_prior, exponents, confusion)
    return Fit(
        problem=problem, log_prior=log_prior, exponents=exponents, confusion=confusion, told=told
    )


def _frequency(problem: Problem, index: int) -> Table:
    """Return how often a source uses each symbol, among the statements that are heard."""
    term = problem.terms[index]
    if term.support == "cells":
        heard = np.flatnonzero(term.of_unit)
        weight = problem.units.count[heard] / problem.units.count.sum()
        symbol = term.symbol[term.of_unit[heard]]
        used = np.bincount(symbol, weight * 1000.0, minlength=len(term.prior))
        return np.asarray(used, np.float64)
    statements = np.unique(term.of_unit if term.cells is None else term.cells.point)
    said = term.symbol[statements[statements > 0]]
    return np.bincount(said, minlength=len(term.prior)).astype(np.float64)


def smooth(
    log_q: NDArray[np.float32], beta: float, similarity: Similarity | None = None
) -> NDArray[np.float32]:
    """Return the mean-field posterior under a Potts prior, shape (H, W, K) of log-probabilities.

    ``log_q`` (H, W, K) is normalised; ``beta`` >= 0 is what one like neighbour (of
    four) is worth in nats; ``similarity`` weakens the tie across edges of an image.
    A cell depends on cells at most ``SMOOTHING_SWEEPS`` steps away.
    """
    if beta == 0:
        return log_q
    height, width, _ = log_q.shape
    shapes = (height, width - 1), (height - 1, width)
    across, down = similarity or (np.ones(shapes[0], np.float32), np.ones(shapes[1], np.float32))
    if (across.shape, down.shape) != shapes:
        raise GridMismatchError(
            f"similarity must have shapes {shapes} (across, down) on a grid of {height} x {width}, "
            f"got {across.shape} and {down.shape}"
        )
    return np.asarray(_mean_field(log_q, np.float32(beta), across, down, SMOOTHING_SWEEPS))


@numba.njit(cache=True, nogil=True)
def _mean_field(  # pragma: no cover
    log_q: NDArray[np.float32],
    beta: np.float32,
    across: NDArray[np.float32],
    down: NDArray[np.float32],
    sweeps: int,
) -> NDArray[np.float32]:
    height, width, classes = log_q.shape
    old = np.exp(log_q)
    new = np.empty_like(old)
    field = np.empty(classes, np.float32)
    for _ in range(sweeps):
        for row in range(height):
            for column in range(width):
                for k in range(classes):
                    field[k] = log_q[row, column, k]
                if row > 0:
                    tie = beta * down[row - 1, column]
                    for k in range(classes):
                        field[k] += tie * old[row - 1, column, k]
                if row < height - 1:
                    tie = beta * down[row, column]
                    for k in range(classes):
                        field[k] += tie * old[row + 1, column, k]
                if column > 0:
                    tie = beta * across[row, column - 1]
                    for k in range(classes):
                        field[k] += tie * old[row, column - 1, k]
                if column < width - 1:
                    tie = beta * across[row, column]
                    for k in range(classes):
                        field[k] += tie * old[row, column + 1, k]
                peak = field.max()
                total = np.float32(0.0)
                for k in range(classes):
                    field[k] = np.exp(field[k] - peak)
                    total += field[k]
                for k in range(classes):
                    new[row, column, k] = field[k] / total
        old, new = new, old
    return np.log(np.maximum(old, np.float32(1e-12)))
