"""Expectation-maximisation over units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glocal.core.result import log_normalise
from glocal.core.typing import Table
from glocal.fusion.estimate.messages import Message, counts, listen
from glocal.fusion.problem.terms import Located, Problem
from glocal.fusion.reliability.confusion import Confusion, anchor_counts, initial, update
from glocal.fusion.reliability.dependence import Exponents, gammas
from glocal.fusion.reliability.hazard import learned_rate, prior_rate, with_rate

__all__ = ["Fit", "class_prior", "estimate", "pool"]


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

        Leaving sources out gives the cavity that corrections rest on: reliabilities
        stay, the sources' own statements and their share of the family budget go.
        """
        if not silent:
            return log_normalise(self.log_prior + _weighted(self.problem, self))
        rest = self.problem.without(set(silent))
        messages = hear(rest, self.log_prior, self.exponents, self.confusion)
        part = Fit(
            problem=rest,
            log_prior=self.log_prior,
            exponents=self.exponents,
            confusion=self.confusion,
            messages=messages,
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
        # places were asked about because they are doubtful: no sample of the area
        if used.sum() > 0 and term.support != "answers":
            said.setdefault(term.family, []).append(used / used.sum() @ term.prior)
    votes = [np.mean(members, axis=0) for members in said.values()]
    mean = np.mean(votes, axis=0) if votes else np.full(classes, 1 / classes)
    return np.asarray(np.log(0.5 * mean + 0.5 / classes))


def pool(
    problem: Problem, exponents: Exponents, messages: dict[str, Message], skip: str = ""
) -> Table:
    """Return the summed, tempered messages, shape (U, K), without ``skip``."""
    power = gammas(problem, exponents)
    total = np.zeros((len(problem.units), len(problem.legend)))
    for name, one in messages.items():
        if name != skip:
            total += power[name][:, None] * one.log_p
    return total


def _weighted(problem: Problem, fit: Fit) -> Table:
    return pool(problem, fit.exponents, fit.messages)


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
    power = gammas(problem, exponents)
    messages: dict[str, Message] = {}
    for rank in sorted({order[term.support] for term in problem.terms}):
        heard = np.zeros((len(problem.units), len(problem.legend)))
        for name, one in messages.items():
            heard += power[name][:, None] * one.log_p
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
    sweeps: int | None = None,
) -> Fit:
    """Estimate reliabilities and posteriors together (tempered EM, Dawid-Skene family)."""
    setting = problem.setting
    prior = np.exp(log_prior)
    confusion = start or {
        term.name: initial(term, _frequency(problem, i), prior, setting)
        for i, term in enumerate(problem.terms)
    }
    if start is None:
        confusion = with_rate(confusion, problem, prior_rate(problem), prior)
    fixed = {term.name: anchor_counts(term, anchors, setting) for term in problem.terms}
    messages = hear(problem, log_prior, exponents, confusion)
    votes = _votes(problem) if setting.start == "votes" else None
    for _ in range(sweeps or setting.sweeps):
        q = votes
        if q is None:
            q = np.exp(log_normalise(log_prior + pool(problem, exponents, messages)))
        votes = None
        seen = {
            term.name: counts(problem, term, confusion[term.name], messages[term.name], q)
            + fixed[term.name]
            for term in problem.terms
        }
        rate = learned_rate(problem, confusion, seen)
        confusion = {name: update(confusion[name], one, setting) for name, one in seen.items()}
        confusion = with_rate(confusion, problem, rate, prior)
        if setting.prior == "posterior":
            share = problem.units.count @ q / problem.units.count.sum()
            log_prior = np.log(np.maximum(share, 1e-12))
        messages = hear(problem, log_prior, exponents, confusion)
    return Fit(
        problem=problem,
        log_prior=log_prior,
        exponents=exponents,
        confusion=confusion,
        messages=messages,
    )


def _votes(problem: Problem) -> Table:
    """Return the mean of what the sources say at their word, shape (U, K); even where none."""
    total = np.zeros((len(problem.units), len(problem.legend)))
    for term in problem.terms:
        heard = term.of_unit > 0
        total[heard] += term.prior[term.symbol[term.of_unit[heard]]]
    voices = total.sum(axis=1, keepdims=True)
    return np.where(voices > 0, total / np.maximum(voices, 1e-12), 1 / total.shape[1])


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
