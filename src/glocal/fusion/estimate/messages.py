"""What each source tells each unit, by the support of its statements.

A message is m of (F4): a log-likelihood over classes, shape (U, K), up to a constant per unit,
and zero where the source is silent. It never contains the unit's own evidence, as in belief
propagation: otherwise a unit would hear itself through its object.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from glocal.core.result import log_normalise
from glocal.core.typing import Bools, Codes, Table
from glocal.fusion.problem.terms import Problem, Term
from glocal.fusion.reliability.confusion import Confusion, cell_counts, tally


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Message:
    """What one source tells every unit, and what its statements then mean."""

    log_p: Table
    """Shape (U, K): log-likelihood of each class, up to a constant per unit; 0 where silent."""

    statements: Table = field(default_factory=lambda: np.empty((0, 0)))
    """Posterior of each statement's own class, shape (n + 1, K); empty for cells, whose class is
    the unit's."""

    cavity: Table = field(default_factory=lambda: np.empty((0, 0)))
    """The same without what the source says, as log-probabilities."""


def listen(
    problem: Problem, term: Term, confusion: Confusion, log_prior: Table, evidence: Table
) -> Message:
    """Return what ``term`` tells every unit.

    ``evidence`` (U, K) is the log-likelihood from the *other* sources.
    """
    if term.support == "cells":
        # a cell hears what is said of it, and nothing else: the only kind that needs no others
        return Message(log_p=_of_statement(term, confusion)[term.of_unit])
    if term.support == "mixtures":
        return _mixtures(problem, term, confusion, log_prior, evidence)
    if term.support == "objects":
        return _objects(problem, term, confusion, log_prior, evidence)
    if term.support == "answers":
        return _answers(problem, term, confusion, log_prior, evidence)
    return _points(term, confusion, log_prior, evidence)


def counts(problem: Problem, term: Term, confusion: Confusion, message: Message, q: Table) -> Table:
    """Return the expected counts (A * context, K, M) of a source's statements (F14)."""
    if term.support == "cells":
        return cell_counts(problem, term, q)
    # each statement once, at its own posterior; those that lie nowhere on the grid not at all
    said = np.flatnonzero(message.statements.sum(axis=1) > 0)
    return tally(term, said, message.statements[said])


def _of_statement(term: Term, confusion: Confusion) -> Table:
    """Return log P(what was said | class now) per statement, shape (n + 1, K); row 0 is zero."""
    table = np.zeros((len(term.symbol), confusion.log_p.shape[1]))
    age = 0 if term.age is None else term.age[1:]
    table[1:] = confusion.now[age, term.context[1:], :, term.symbol[1:]]
    return table


def _of_own_class(cavity: Table, said: Table, lies_here: Bools) -> Table:
    """Return the posterior of statements' own classes; zeros for those that lie nowhere here."""
    return np.where(lies_here[:, None], np.exp(log_normalise(cavity + said)), 0.0)


def _sum_by(statement: Codes, values: Table, n: int) -> Table:
    return np.stack(
        [np.bincount(statement, values[:, k], minlength=n) for k in range(values.shape[1])], axis=1
    )


def _objects(
    problem: Problem, term: Term, confusion: Confusion, log_prior: Table, evidence: Table
) -> Message:
    """Pool what others say of an object's cells; the tag then speaks once for all (F7, F8)."""
    n, setting = len(term.symbol), problem.setting
    inside = np.flatnonzero(term.of_unit)
    owner, count = term.of_unit[inside], problem.units.count[inside]
    # e_p of (F7), and its sum over the object; a unit stands for `count` cells that are alike
    own = log_normalise(evidence[inside] + log_prior) - log_prior
    size = np.bincount(owner, count, minlength=n)
    pooled = _sum_by(owner, own * count[:, None], n)
    # d_n of (F7): cells of one object are correlated witnesses
    damp = 1.0 / (1.0 + np.maximum(size - 1, 0) * setting.correlation)
    cavity = log_normalise(log_prior + pooled * damp[:, None])
    said = _of_statement(term, confusion)
    statements = _of_own_class(cavity, said, size > 0)
    # r_-p of (F8): the message to a cell leaves that cell's own evidence out
    others = log_prior + (pooled[owner] - own) * damp[owner, None]
    of_object = np.exp(log_normalise(others + said[owner]))
    message = np.zeros_like(evidence)
    # m of (F8): with chance `purity` the cell is of the object's class, else of any
    message[inside] = np.log(setting.purity * of_object / np.exp(log_prior) + (1 - setting.purity))
    return Message(log_p=message, statements=statements, cavity=cavity)


def _answers(
    problem: Problem, term: Term, confusion: Confusion, log_prior: Table, evidence: Table
) -> Message:
    """Tell every cell of a place what was answered about the place, and nothing more (F8)."""
    said = _of_statement(term, confusion)
    likely = np.exp(said)
    # how often this is answered at all: what a cell of another class than the place hears
    usual = (likely @ np.exp(log_prior))[:, None]
    purity = problem.setting.purity
    message = np.log(purity * likely + (1 - purity) * usual)
    message[0] = 0.0
    # a place pools the evidence of its cells like an object, but is no witness for them
    pooled = _objects(problem, term, confusion, log_prior, evidence)
    return replace(pooled, log_p=message[term.of_unit])


def _mixtures(
    problem: Problem, term: Term, confusion: Confusion, log_prior: Table, evidence: Table
) -> Message:
    """Take a coarse cell as one observation of the class shares inside it (F9)."""
    n = len(term.symbol)
    said = _of_statement(term, confusion)
    # Dirichlet: prior shares worth `coarse_strength` observations, plus the one that was made
    expected = np.exp(log_normalise(log_prior + said))
    worth = problem.setting.coarse_strength
    shares = (worth * np.exp(log_prior) + expected) / (worth + 1)
    tilt = np.log(shares) - log_prior
    tilt[0] = 0.0
    # its own class is drawn from the shares that the others find inside
    inside = np.flatnonzero(term.of_unit)
    owner, count = term.of_unit[inside], problem.units.count[inside]
    q = np.exp(log_normalise(evidence[inside] + log_prior))
    size = np.bincount(owner, count, minlength=n)[:, None]
    found = _sum_by(owner, q * count[:, None], n) / np.maximum(size, 1)
    cavity = np.log(np.maximum(np.where(size > 0, found, np.exp(log_prior)), 1e-12))
    statements = _of_own_class(cavity, said, size[:, 0] > 0)
    return Message(log_p=tilt[term.of_unit], statements=statements, cavity=log_normalise(cavity))


def _points(term: Term, confusion: Confusion, log_prior: Table, evidence: Table) -> Message:
    """Let a point speak of one cell, though we do not know quite which (F10)."""
    if term.cells is None:
        raise ValueError(f"{term.name}: a points term needs its cells")
    n = len(term.symbol)
    point, unit, weight = term.cells.point, term.cells.cell, term.cells.weight
    said = np.exp(_of_statement(term, confusion))
    q = np.exp(log_normalise(evidence[unit] + log_prior))
    # chance of the word if the point lies here, and if it lies in any other of its cells
    here = weight * (q * said[point]).sum(axis=1)
    elsewhere = np.bincount(point, here, minlength=n)[point] - here
    message = np.zeros_like(evidence)
    # m of (F10); several points may lie in one cell, and a difference of sums may fall below 0
    np.add.at(
        message, unit, np.log(np.maximum(elsewhere, 0)[:, None] + weight[:, None] * said[point])
    )
    # the point's own class: what others say where it may lie, then its word
    cavity = _sum_by(point, q * weight[:, None], n)
    heard = cavity.sum(axis=1) > 0
    cavity = np.log(np.maximum(np.where(heard[:, None], cavity, np.exp(log_prior)), 1e-12))
    statements = _of_own_class(cavity, np.log(said), heard)
    return Message(log_p=message, statements=statements, cavity=log_normalise(cavity))
