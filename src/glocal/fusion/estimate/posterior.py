"""Expectation-maximisation over units, in the manner of Dawid and Skene (1979).

The E-step pools what the sources tell (F4), the M-step counts what they said under the pool (F14)
and turns counts into tables (F3). With exponents below 1 this is a fixed-point iteration and no
longer the ascent of a likelihood: it stops after some sweeps, not at a tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from glocal.core.result import log_normalise
from glocal.core.typing import Table
from glocal.fusion.estimate.messages import Message, counts, listen
from glocal.fusion.problem.terms import Located, Problem, Term
from glocal.fusion.reliability.confusion import Confusion, anchor_counts, initial, update
from glocal.fusion.reliability.dependence import Exponents, gammas
from glocal.fusion.reliability.hazard import learned_rate, prior_rate, with_rate

AREA_STATEMENTS = 1000.0
"""Statements that the use of symbols by a map is taken from: half a one more of each (F2) is then
next to nothing, whatever the size of the area."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """Reliabilities and what follows from them, per unit."""

    problem: Problem
    log_prior: Table
    """Shape (K,)."""

    exponents: Exponents
    confusion: dict[str, Confusion]
    messages: dict[str, Message]

    def log_q(self, silent: frozenset[str] = frozenset()) -> Table:
        """Return the log-posterior per unit, shape (U, K), without the sources in ``silent``.

        Leaving sources out gives the cavity that corrections rest on (F5): reliabilities
        stay, the sources' own statements and their share of the family budget go.
        """
        problem, messages = self.problem, self.messages
        if silent:
            # objects and points have told the units what they heard of the silent ones too, so
            # every message is made again
            problem = problem.without(set(silent))
            messages = hear(problem, self.log_prior, self.exponents, self.confusion)
        return log_normalise(self.log_prior + pool(problem, self.exponents, messages))


def class_prior(anchors: Located, problem: Problem) -> Table:
    """Return the log prior of the classes, shape (K,): (F15).

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
    for term in problem.terms:
        used = _frequency(problem, term)
        # places were asked about because they are doubtful: no sample of the area
        if used.sum() > 0 and term.support != "answers":
            said.setdefault(term.family, []).append(used / used.sum() @ term.prior)
    # relatives repeat each other, so that a family has one vote however many it counts
    votes = [np.mean(members, axis=0) for members in said.values()]
    mean = np.mean(votes, axis=0) if votes else np.full(classes, 1 / classes)
    return np.asarray(np.log(0.5 * mean + 0.5 / classes))


def pool(problem: Problem, exponents: Exponents, messages: dict[str, Message]) -> Table:
    """Return the summed, tempered messages of (F4), shape (U, K)."""
    power = gammas(problem, exponents)
    total = np.zeros((len(problem.units), len(problem.legend)))
    for name, one in messages.items():
        total += power[name][:, None] * one.log_p
    return total


def hear(
    problem: Problem,
    log_prior: Table,
    exponents: Exponents,
    confusion: dict[str, Confusion],
) -> dict[str, Message]:
    """Return every source's messages: cells, coarse cells, objects, answers, points.

    Each later kind hears what the earlier kinds say, never itself.
    """
    order = {"cells": 0, "mixtures": 1, "objects": 2, "answers": 3, "points": 4}
    messages: dict[str, Message] = {}
    for rank in sorted({order[term.support] for term in problem.terms}):
        heard = pool(problem, exponents, messages)
        for term in problem.terms:
            if order[term.support] == rank:
                messages[term.name] = listen(problem, term, confusion[term.name], log_prior, heard)
    return messages


def estimate(
    problem: Problem,
    log_prior: Table,
    exponents: Exponents,
    anchors: Located,
    *,
    start: dict[str, Confusion] | None = None,
) -> Fit:
    """Estimate reliabilities and posteriors together (tempered EM, Dawid-Skene family)."""
    setting, terms = problem.setting, problem.terms
    prior = np.exp(log_prior)
    confusion = start
    if confusion is None:
        confusion = {
            term.name: initial(term, _frequency(problem, term), prior, setting) for term in terms
        }
        confusion = with_rate(confusion, problem, prior_rate(problem), prior)
    fit = Fit(
        problem=problem,
        log_prior=log_prior,
        exponents=exponents,
        confusion=confusion,
        messages=hear(problem, log_prior, exponents, confusion),
    )
    # what anchors say is known, and is added to every count
    fixed = {term.name: anchor_counts(term, anchors, setting) for term in terms}
    bound = -np.inf
    for sweep in range(setting.sweeps):
        # E-step (F4); votes instead, where the first tables are not worth starting from
        votes = sweep == 0 and setting.start == "votes"
        q = _votes(problem) if votes else np.exp(fit.log_q())
        after = _maximised(fit, q, fixed, prior)
        if setting.tolerance and sweep:
            before, bound = bound, _bound(after, q)
            if bound - before < setting.tolerance:
                break  # a step that gains too little is not taken
        fit = after
    return fit


def _maximised(fit: Fit, q: Table, fixed: dict[str, Table], prior: Table) -> Fit:
    """Return the tables that fit posteriors ``q`` (U, K) best, and what sources tell by them."""
    problem, old = fit.problem, fit.confusion
    # counts (F14), rates of change (F12), tables (F3)
    seen = {
        term.name: counts(problem, term, old[term.name], fit.messages[term.name], q)
        + fixed[term.name]
        for term in problem.terms
    }
    rate = learned_rate(problem, old, seen)
    new = {name: update(old[name], one, problem.setting) for name, one in seen.items()}
    new = with_rate(new, problem, rate, prior)
    log_prior = fit.log_prior
    if problem.setting.prior == "posterior":
        share = problem.units.count @ q / problem.units.count.sum()
        log_prior = np.log(np.maximum(share, 1e-12))
    told = hear(problem, log_prior, fit.exponents, new)
    return replace(fit, log_prior=log_prior, confusion=new, messages=told)


def _bound(fit: Fit, q: Table) -> float:
    """Return the evidence lower bound per statement, in nats, as crowd-kit has it."""
    # it counts the prior with every statement, not with every unit, so that steps end early
    problem = fit.problem
    voices = np.sum([term.speaks for term in problem.terms], axis=0)
    said = pool(problem, fit.exponents, fit.messages) + voices[:, None] * fit.log_prior
    per_unit = (q * (said - np.log(np.maximum(q, 1e-10)))).sum(axis=1)
    return float(problem.units.count @ per_unit / (problem.units.count @ voices))


def _votes(problem: Problem) -> Table:
    """Return the share of the votes for each class, shape (U, K); even where nobody votes."""
    total = np.zeros((len(problem.units), len(problem.legend)))
    for term in problem.terms:
        # at its word: the likeliest class of each symbol, where one is known
        word = np.eye(len(problem.legend))[term.prior.argmax(axis=1)] * (term.trust > 0)[:, None]
        heard = term.of_unit > 0
        total[heard] += word[term.symbol[term.of_unit[heard]]]
    voices = total.sum(axis=1, keepdims=True)
    return np.where(voices > 0, total / np.maximum(voices, 1e-12), 1 / total.shape[1])


def _frequency(problem: Problem, term: Term) -> Table:
    """Return how often a source uses each symbol, among the statements that are heard: u (F2).

    In statements, shape (M,); those of cells are shares of the area, taken as a thousand.
    """
    if term.support == "cells":
        heard = np.flatnonzero(term.of_unit)
        weight = problem.units.count[heard] / problem.units.count.sum()
        symbol = term.symbol[term.of_unit[heard]]
        used = np.bincount(symbol, weight * AREA_STATEMENTS, minlength=len(term.prior))
        return np.asarray(used, np.float64)
    statements = np.unique(term.of_unit if term.cells is None else term.cells.point)
    said = term.symbol[statements[statements > 0]]
    return np.bincount(said, minlength=len(term.prior)).astype(np.float64)
