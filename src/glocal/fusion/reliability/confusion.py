"""How often each source says what where which class is true: its confusion (F1).

Confusions are estimated by expectation-maximisation (Dawid and Skene 1979) with
Dirichlet back-off: the crosswalk is the prior of the global table, the global
table the prior of every context. Statements count once over their own support.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from glocal.core.setting import Setting
from glocal.core.typing import Codes, Table
from glocal.fusion.problem.terms import Located, Problem, Term

LEAST_COUNT = 1e-10
"""Least count of a symbol that was used, where nothing backs tables off."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Confusion:
    """P(symbol | class, context) of one source, as the engine computes with it.

    Logarithms, with all that is needed to learn them again. What people read is the same
    table as probabilities by name: :class:`glocal.core.observation.Reliability`.
    """

    log_p: Table
    """Shape (context, K, M), natural logarithm."""

    counts: Table
    """Shape (context, K, M), effective statements."""

    prior: Table
    """Shape (K, M), the table that the crosswalk implies; (context, K, M) if declared."""

    strength: float
    """Statements per class that ``prior`` is worth."""

    then: Table | None = None
    """Shape (A, K, K), P(class when it was said | class now) per age; None: all is of today."""

    @property
    def now(self) -> Table:
        """Log P(symbol | class now), shape (A, context, K, M)."""
        if self.then is None:
            return self.log_p[None]
        # (F11): the class changed to what it is now, and the statement is of the class before
        p = np.einsum("akj,cjm->ackm", self.then, np.exp(self.log_p))
        # what is said today stays as it is, to the last bit
        today = (self.then == np.eye(self.then.shape[1])).all(axis=(1, 2))
        return np.where(today[:, None, None, None], self.log_p, np.log(np.maximum(p, 1e-300)))


def initial(term: Term, frequency: Table, class_prior: Table, setting: Setting) -> Confusion:
    """Return the confusion that the crosswalk implies, before any data (F2).

    ``frequency`` (M,) is how often each symbol is used: a crosswalk speaks of
    P(class | symbol), and Bayes' rule turns it round. A declared table is taken as it is.
    """
    if term.declared is not None:
        return Confusion(
            log_p=np.log(term.declared),
            counts=np.zeros_like(term.declared),
            prior=term.declared,
            strength=setting.declared_strength,
        )
    # half a statement more for each symbol, so that none is impossible (Krichevsky and Trofimov)
    used = (frequency + 0.5) / (frequency + 0.5).sum()
    joint = term.prior * used[:, None]
    # a class that no symbol stands for is heard as the source's usual mixture
    joint = joint + setting.leak * used[:, None] * class_prior[None, :]
    table = (joint / joint.sum(axis=0)).T
    counts = np.zeros((term.contexts, *table.shape))
    # odds of being right, of the symbols as they are used: at even odds, `crosswalk_strength`
    strength = setting.crosswalk_strength * float(used @ (term.trust / (1 - term.trust)))
    return Confusion(
        log_p=np.log(np.broadcast_to(table, counts.shape)).copy(),
        counts=counts,
        prior=table,
        strength=max(strength, setting.least_strength),
    )


def update(old: Confusion, counts: Table, setting: Setting) -> Confusion:
    """Return the confusion after ``counts`` (A * context, K, M), with both back-offs (F3).

    ``counts`` are by age and by the class of now; the confusion is by the class of then.
    Without ``setting.back_off`` tables are relative counts; a symbol that was used has at
    least a trace in every class.
    """
    if old.then is not None:
        # (F11) backwards: of what was counted at class k now, the share that was of j then
        by_age = counts.reshape(len(old.then), *old.log_p.shape)
        share = by_age * np.exp(-old.now)
        counts = np.einsum("ackm,akj->cjm", share, old.then) * np.exp(old.log_p)
    if not setting.back_off:
        used = counts.sum(axis=(0, 1)) > 0
        rate = np.where(used, np.maximum(counts, LEAST_COUNT), LEAST_COUNT**2)
        log_p = np.log(rate / rate.sum(axis=2, keepdims=True))
        return replace(old, log_p=log_p, counts=counts)
    # the crosswalk is the Dirichlet prior of the global table ...
    table = counts.sum(axis=0) + old.strength * old.prior
    table = table / table.sum(axis=1, keepdims=True)
    if old.prior.ndim == 3:  # each question has a table of its own
        local = counts + old.strength * old.prior
        local = local / local.sum(axis=2, keepdims=True)
    elif len(counts) > 1:
        # ... and that the prior of every context's; one context alone would count its data twice
        local = counts + setting.region_strength * table
        local = local / local.sum(axis=2, keepdims=True)
    else:
        local = table[None]
    return replace(old, log_p=np.log(np.maximum(local, 1e-12)), counts=counts)


def tally(term: Term, statement: Codes, p: Table) -> Table:
    """Sum class weights ``p`` (n, K) into (A * context, K, M) by the statements' symbols (F14)."""
    classes, symbols = p.shape[1], term.prior.shape[0]
    row, rows = term.context[statement], _rows(term)
    if term.age is not None:
        row = row + term.age[statement] * term.contexts
    # one histogram per class over (age, context, symbol) as one number
    key = row * symbols + term.symbol[statement]
    flat = [np.bincount(key, p[:, k], minlength=rows * symbols) for k in range(classes)]
    table = np.stack(flat).reshape(classes, rows, symbols)
    return np.asarray(table.transpose(1, 0, 2), np.float64)


def _rows(term: Term) -> int:
    return term.contexts * (1 if term.ages is None else len(term.ages))


def cell_counts(problem: Problem, term: Term, q: Table) -> Table:
    """Return expected counts (context, K, M) of a ``cells`` source, given posteriors (U, K)."""
    heard = np.flatnonzero(term.of_unit)
    # neighbours repeat each other: N_u cells are worth N_u / 1000 statements (F14)
    weight = problem.units.count[heard, None] / problem.setting.cells_per_statement
    return tally(term, term.of_unit[heard], q[heard] * weight)


def anchor_counts(term: Term, anchors: Located, setting: Setting) -> Table:
    """Return what the anchors say of a source, as counts (A * context, K, M): (F14).

    Tables of answers come with what anchors taught already, so they count nothing here. Nor
    do coarse cells and points: an anchor is one cell, and they do not speak of that one alone.
    """
    classes, symbols = anchors.shares.shape[1], term.prior.shape[0]
    if term.support in ("mixtures", "points", "answers") or not len(anchors):
        return np.zeros((_rows(term), classes, symbols))
    statement = term.of_unit[anchors.unit]
    heard = statement > 0
    p = anchors.shares[heard] * anchors.weight[heard, None] * setting.anchor_strength
    return tally(term, statement[heard], p)
