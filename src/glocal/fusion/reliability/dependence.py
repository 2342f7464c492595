"""Shared evidence is counted once: copies are merged, kin share a budget.

The posterior is a log-linear pool: each source's log-likelihood is multiplied by
an exponent gamma in 0..1. Where a source speaks together with n of its kin (its family
and whoever errs like it, itself included), gamma = g * n ** -delta. Both belong to the
source: delta = 1 means that its relatives say the same, so it has an n-th part of one
voice; delta = 0 that it says something of its own. A silent relative costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from glocal.core.observation import Observations
from glocal.core.typing import Table
from glocal.fusion.problem.terms import Located, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponents:
    """How much each source counts, alone and among its family."""

    g: dict[str, float]
    """Per source, 0..1."""

    delta: dict[str, float]
    """Per source that has relatives, 0..1."""

    learned: bool = False
    """True when anchors set them."""


def families_of(observations: Sequence[Observations]) -> dict[str, tuple[str, ...]]:
    """Return for each source the sorted names of all sources tied to it by shared roots."""
    # shared roots are joined through: a and b, b and c make one family of three
    family = {one.source: {one.source} for one in observations}
    # who says nothing ties nobody
    speaking = [one for one in observations if one.symbols.any()]
    for a in speaking:
        for b in speaking:
            if a.provenance.shares_root(b.provenance) and family[a.source] is not family[b.source]:
                joined = family[a.source] | family[b.source]
                for name in joined:
                    family[name] = joined
    return {name: tuple(sorted(members)) for name, members in family.items()}


def merge_copies(
    observations: Sequence[Observations],
) -> tuple[list[Observations], dict[str, str]]:
    """Drop sources that repeat another word for word from the same roots.

    Returns the sources that are kept and, for each dropped one, the name of its twin.
    """
    kept: list[Observations] = []
    twin: dict[str, str] = {}
    for one in observations:
        other = next((other.source for other in kept if _same(one, other)), None)
        if other is None:
            kept.append(one)
        else:
            twin[one.source] = other
    return kept, twin


def _same(a: Observations, b: Observations) -> bool:
    # cheap questions first: arrays are compared only where all else is the same
    return (
        a.support == b.support
        and bool(a.provenance.roots)
        and a.provenance.roots == b.provenance.roots
        and a.crosswalk.symbols == b.crosswalk.symbols
        and all(np.array_equal(one, other) for one, other in zip(_told(a), _told(b), strict=True))
    )


def _told(one: Observations) -> tuple[NDArray[Any], ...]:
    """Return everything that the engine reads of a source."""
    stratum = np.zeros(one.symbols.shape, np.uint8) if one.stratum is None else one.stratum
    meaning = one.crosswalk.matrix, one.crosswalk.confidence
    return one.symbols, stratum, one.geometry, one.position_sd_m, *meaning


def conservative(problem: Problem) -> Exponents:
    """Return the exponents that are safe without anchors: kin share one voice (F6, delta = 1).

    Where the setting takes sources as independent, each counts in full.
    """
    if problem.setting.exponents == "one":
        return Exponents(g={term.name: 1.0 for term in problem.terms}, delta={})
    return Exponents(
        g={term.name: problem.setting.alone for term in problem.terms},
        delta={term.name: 1.0 for term in problem.terms if len(term.kin) > 1},
    )


def _speakers(problem: Problem) -> Table:
    """Return how many of its kin speak with each term, shape (S, U), at least 1."""
    # kin are asked unit by unit: whoever is silent here shares no budget here
    speaks = {term.name: term.speaks for term in problem.terms}
    rows = []
    for term in problem.terms:
        together = [speaks[name] for name in term.kin if name in speaks]
        rows.append(np.maximum(np.sum(together, axis=0), 1.0))
    return np.array(rows, dtype=np.float64)


def gammas(problem: Problem, exponents: Exponents) -> dict[str, Table]:
    """Return the exponent of every source in every unit (F6), shape (U,) each."""
    together = _speakers(problem)
    return {
        term.name: exponents.g[term.name] * together[i] ** -exponents.delta.get(term.name, 0.0)
        for i, term in enumerate(problem.terms)
    }


def learn(
    problem: Problem,
    messages: dict[str, Table],
    log_prior: Table,
    anchors: Located,
) -> Exponents:
    """Return the exponents that make held-out anchors most likely (F16).

    Parameters
    ----------
    messages
        Per source, shape (A, K): what it said at each anchor, computed from
        reliabilities that did not use that anchor.
    log_prior
        Shape (A, K), likewise.

    Notes
    -----
    Minimises the weighted cross-entropy plus a ridge towards the conservative
    exponents, under 0 <= g, delta <= 1 (stacking of experts with lineage as prior).
    """
    start, ridge = conservative(problem), problem.setting.exponent_ridge
    names = [term.name for term in problem.terms]
    kin = sorted(start.delta)
    heard = np.stack([messages[name] for name in names])
    together = _speakers(problem)[:, anchors.unit]
    # a source without kin has no delta; which sources have one, as a matrix (S, kin)
    has_kin = np.array([[name == one for one in kin] for name in names], float)
    has_kin = has_kin.reshape(len(names), len(kin))
    origin = np.array([start.g[name] for name in names] + [start.delta[one] for one in kin])

    def loss(x: Table) -> tuple[float, Table]:
        g, delta = x[: len(names)], x[len(names) :]
        # (F6), then (F4) at every anchor
        damp = together ** -(has_kin @ delta)[:, None]
        log_q = log_prior + np.einsum("sa,sak->ak", g[:, None] * damp, heard)
        log_q = log_q - logsumexp(log_q, axis=1, keepdims=True)
        fit = -(anchors.weight[:, None] * anchors.shares * log_q).sum()
        # the slope of the log of a normalised sum of messages: what is expected less what is
        pull = anchors.weight[:, None] * (np.exp(log_q) - anchors.shares)
        by_g = damp * np.einsum("ak,sak->sa", pull, heard)
        by_delta = -has_kin.T @ (g[:, None] * by_g * np.log(together)).sum(axis=1)
        slope = np.concatenate([by_g.sum(axis=1), by_delta]) + 2 * ridge * (x - origin)
        return float(fit + ridge * ((x - origin) ** 2).sum()), slope

    # strict, so that the order of the sources can't be seen in the result
    best = minimize(
        loss,
        origin,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, 1.0)] * len(origin),
        options={"ftol": 1e-13, "gtol": 1e-8},
    ).x
    return Exponents(
        g=dict(zip(names, best[: len(names)].tolist(), strict=True)),
        delta=dict(zip(kin, best[len(names) :].tolist(), strict=True)),
        learned=True,
    )
