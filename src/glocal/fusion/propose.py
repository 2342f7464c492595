"""From an estimate and a source's own words to what may be wrong with the source.

A statement is doubted by what *everybody else* says (the cavity), weighed against how
reliable the source has proved to be; a change is proposed only if the cavity alone
prefers it too, and so do the sources that share no root with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import shapely

from glocal.core.burn import burn
from glocal.core.findings import Doubts
from glocal.core.observation import Observations
from glocal.core.result import log_normalise
from glocal.core.typing import Bools, Table
from glocal.fusion.estimate.posterior import hear
from glocal.fusion.fuse import Fused
from glocal.fusion.problem.terms import regions


def _judge(
    fused: Fused, source: Observations, cavity: Table, unknown: Bools | bool = False
) -> Doubts:
    """Weigh what ``source`` says against ``cavity`` (F26); where ``unknown``, propose nothing."""
    least = fused.fit.problem.setting.meant
    ok = source.crosswalk.meant(least)[source.symbols] | np.asarray(unknown)[..., None]
    p = np.exp(log_normalise(cavity + _said(fused, source)))
    # the likeliest class outside those meant; where all are meant, none is likelier than -1
    other = np.where(ok, -1.0, p)
    proposed = other.argmax(axis=-1)
    best_alone = np.where(ok, cavity, -np.inf).max(axis=-1)
    # what the others say alone, before the source weighs in: a proposal needs that too
    there = np.take_along_axis(cavity, proposed[..., None], axis=-1)[..., 0]
    return Doubts(
        correct=np.clip((p * ok).sum(axis=-1), 0, 1),
        proposed=proposed,
        probability=np.clip(other.max(axis=-1), 0, 1),
        supported=(there > best_alone) & ~ok.all(axis=-1) & ~_is_prior(fused, cavity),
    )


def _is_prior(fused: Fused, cavity: Table) -> Bools:
    """Return where nobody else has spoken: a prior alone corrects nobody."""
    same = np.isclose(cavity, fused.fit.log_prior, rtol=0, atol=1e-6)
    return np.asarray(same.all(axis=-1))


def _with_strangers(
    judge: Callable[[Fused, Observations, frozenset[str]], Doubts],
    fused: Fused,
    source: Observations,
    silent: frozenset[str],
    doubts: Doubts,
) -> Doubts:
    """Keep support only where sources without a common root propose the same by themselves."""
    term = fused.term_of(source.source)
    kin = frozenset(term.family) - silent - {term.name}
    if not kin:
        return doubts
    # relatives repeat each other, so one version of a map can't convict another
    alone = judge(fused, source, silent | kin)
    agreed = alone.supported & (alone.proposed == doubts.proposed)
    return replace(doubts, supported=doubts.supported & agreed)


def object_doubts(
    fused: Fused, source: Observations, silent: frozenset[str] = frozenset()
) -> Doubts:
    """Judge the objects of ``source`` by the others' evidence in their interior.

    The interior is the object less one cell at its edge. One of fewer than
    ``setting.min_interior`` cells is not judged. ``silent`` names further sources whose evidence
    may not be used.
    """
    problem = fused.fit.problem
    log_prior = fused.fit.log_prior
    log_q = fused.units(silent | {source.source})[problem.units.of_cell]
    # cells at an edge are mixed, and the edge may be a cell off
    step = abs(float(problem.geobox.resolution.x))
    owner = burn(shapely.buffer(source.geometry, -step), problem.geobox).ravel()
    n = len(source) + 1
    size = np.bincount(owner, minlength=n)[1:]
    total = np.stack(
        [np.bincount(owner, log_q[:, k], minlength=n)[1:] for k in range(log_q.shape[1])], 1
    )
    # the cavity of (F26): the mean cell, worth as many looks as n correlated ones (F7)
    mean = total / np.maximum(size, 1)[:, None]
    worth = size / (1 + np.maximum(size - 1, 0) * problem.setting.correlation)
    cavity = log_normalise(log_prior + worth[:, None] * (log_normalise(mean) - log_prior))
    cavity[size == 0] = log_prior
    doubts = _judge(fused, source, cavity, size < problem.setting.min_interior)
    return _with_strangers(object_doubts, fused, source, silent, doubts)


def _said(fused: Fused, source: Observations) -> Table:
    """Return the source's own, tempered log-likelihood per statement, (n, K): of (F26)."""
    term = fused.term_of(source.source)
    table = fused.fit.confusion[term.name].now
    age = 0 if term.age is None else term.age[1:]
    stratum = 0 if source.stratum is None else source.stratum.astype(np.int64)
    # contexts are numbered as in the problem: strata within regions
    if source.support == "cells":
        region = regions(source.geobox, fused.fit.problem.setting)
        stratum = stratum * (int(region.max()) + 1) + region.reshape(source.geobox.shape)
    own = table[age, stratum, :, np.maximum(source.symbols.astype(np.int64) - 1, 0)]
    return np.where((source.symbols > 0)[..., None], own * fused.fit.exponents.g[term.name], 0.0)


def point_doubts(
    fused: Fused, source: Observations, silent: frozenset[str] = frozenset()
) -> Doubts:
    """Judge the points of ``source`` by what the others say where they may lie."""
    name = fused.term_of(source.source).name
    problem = fused.fit.problem.without({fused.twins.get(one, one) for one in silent} - {name})
    message = hear(problem, fused.fit.log_prior, fused.fit.exponents, fused.fit.confusion)[name]
    doubts = _judge(fused, source, message.cavity[1:])
    return _with_strangers(point_doubts, fused, source, silent, doubts)


def cell_doubts(fused: Fused, source: Observations, silent: frozenset[str] = frozenset()) -> Doubts:
    """Judge every cell of a map by the others' decoded evidence."""
    silent = silent | {source.source}
    cavity = fused.cells(silent).astype(np.float64)
    # the decoding spreads the prior too, so silence is told before it
    quiet = _is_prior(fused, fused.units(silent))
    unheard = quiet[fused.fit.problem.units.of_cell].reshape(cavity.shape[:2])
    doubts = _judge(fused, source, cavity, unheard)
    return _with_strangers(cell_doubts, fused, source, silent, doubts)


def meanings(fused: Fused, source: Observations) -> Table:
    """Return P(class | symbol) as the other sources find it here, shape (M + 1, K).

    The mean posterior, without the source itself, over the cells that carry the symbol;
    row 0 (silence) and symbols that are not used get the class prior. ``source`` speaks of cells.
    """
    problem = fused.fit.problem
    q = np.exp(fused.units(frozenset({source.source})))
    cells, units = len(source.crosswalk.symbols) + 1, len(q)
    pair = source.symbols.ravel().astype(np.int64) * units + problem.units.of_cell
    number, count = np.unique(pair, return_counts=True)
    symbol, unit = np.divmod(number, units)
    total = np.stack(
        [np.bincount(symbol, q[unit, k] * count, minlength=cells) for k in range(q.shape[1])], 1
    )
    prior = np.exp(fused.fit.log_prior)
    used = total.sum(axis=1) > 0
    used[0] = False
    return np.where(used[:, None], total / np.maximum(total.sum(axis=1), 1)[:, None], prior)
