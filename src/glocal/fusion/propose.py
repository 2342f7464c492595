"""From an estimate and a source's own words to what may be wrong with the source.

A statement is doubted by what *everybody else* says (the cavity), weighed against how
reliable the source has proved to be; a change is proposed only if the cavity alone
prefers it too, and so do the sources that share no root with it: relatives repeat each
other, so one version of a map can't convict another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from scipy import ndimage

from glocal.core.grid import cell_area_ha
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.core.result import log_normalise
from glocal.core.typing import Bools, Codes, Floats, Table
from glocal.fusion.estimate.messages import CORRELATION
from glocal.fusion.estimate.posterior import hear
from glocal.fusion.fuse import Fused
from glocal.fusion.problem.support import paint
from glocal.fusion.problem.terms import regions

__all__ = [
    "MIN_INTERIOR",
    "Doubts",
    "Patches",
    "cell_doubts",
    "missing_areas",
    "object_doubts",
    "patches_of",
    "point_doubts",
    "threshold_for",
]

MIN_INTERIOR = 10
"""Cells that an object must have inside its edge before it may be doubted: narrower
things are mostly mixed cells."""

MEANT = 0.15
"""A class is among those that a symbol stands for if its crosswalk share reaches this."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Doubts:
    """How likely each statement of a source is to be wrong, and what would be right."""

    correct: Table
    """Shape (n,) or (H, W): probability that the truth is one of the classes meant."""

    proposed: Codes
    """Same shape: position of the most probable class outside those meant."""

    probability: Table
    """Same shape: probability of ``proposed``."""

    supported: Bools
    """Same shape: True where the others alone prefer ``proposed`` too, and likewise those
    of other families alone."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patches:
    """Connected cells of one proposed class."""

    geometry: NDArray[np.object_]
    label: Codes
    """Position of the class."""

    probability: Table
    """Mean probability over the patch."""

    current: Codes
    """Most frequent value of ``said`` inside (0 where nothing was said)."""

    area_ha: Table


def meant(crosswalk: Crosswalk) -> Bools:
    """Return which classes each symbol stands for, shape (M + 1, K); row 0 and unknowns: all."""
    out = crosswalk.matrix >= np.minimum(MEANT, crosswalk.matrix.max(axis=1, keepdims=True))
    out |= (crosswalk.confidence == 0)[:, None]
    return np.concatenate([np.ones((1, out.shape[1]), bool), out])


def _judge(
    fused: Fused,
    source: Observations,
    cavity: Table,
    *,
    unknown: Bools | bool = False,
) -> Doubts:
    """Weigh what ``source`` says against ``cavity``; where ``unknown``, nothing is proposed."""
    ok = meant(source.crosswalk)[source.symbols] | np.asarray(unknown)[..., None]
    p = np.exp(log_normalise(cavity + _said(fused, source)))
    other = np.where(ok, -1.0, p)
    proposed = other.argmax(axis=-1)
    best_alone = np.where(ok, cavity, -np.inf).max(axis=-1)
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
    name = fused.twins.get(source.source, source.source)
    family = next(one.family for one in fused.fit.problem.terms if one.name == name)
    kin = frozenset(family) - silent - {name}
    if not kin:
        return doubts
    alone = judge(fused, source, silent | kin)
    agreed = alone.supported & (alone.proposed == doubts.proposed)
    return replace(doubts, supported=doubts.supported & agreed)


def object_doubts(
    fused: Fused, source: Observations, silent: frozenset[str] = frozenset()
) -> Doubts:
    """Judge the objects of ``source`` by the others' evidence in their interior.

    The interior is the object less one cell at its edge; n cells count as
    n / (1 + (n - 1) * rho) independent looks. An object with a smaller interior than
    ``MIN_INTERIOR`` cells is not judged. ``silent`` names further sources whose evidence
    may not be used.
    """
    problem = fused.fit.problem
    log_prior = fused.fit.log_prior
    log_q = fused.units(silent | {source.source})[problem.units.of_cell]
    step = abs(float(problem.geobox.resolution.x))
    inner = shapely.buffer(source.geometry, -step)
    owner = paint(inner, problem.geobox).ravel()
    n = len(source) + 1
    size = np.bincount(owner, minlength=n)[1:]
    total = np.stack(
        [np.bincount(owner, log_q[:, k], minlength=n)[1:] for k in range(log_q.shape[1])], 1
    )
    mean = total / np.maximum(size, 1)[:, None]
    worth = size / (1 + np.maximum(size - 1, 0) * CORRELATION)
    cavity = log_normalise(log_prior + worth[:, None] * (log_normalise(mean) - log_prior))
    cavity[size == 0] = log_prior
    doubts = _judge(fused, source, cavity, unknown=size < MIN_INTERIOR)
    return _with_strangers(object_doubts, fused, source, silent, doubts)


def _said(fused: Fused, source: Observations) -> Table:
    """Return the source's own, tempered log-likelihood per statement, shape (n, K)."""
    name = fused.twins.get(source.source, source.source)
    table = fused.fit.confusion[name].now
    term = next(one for one in fused.fit.problem.terms if one.name == name)
    age = 0 if term.age is None else term.age[1:]
    stratum = 0 if source.stratum is None else source.stratum.astype(np.int64)
    if source.support == "cells":
        region = regions(source.geobox, fused.fit.problem.setting.parts)
        stratum = stratum * (int(region.max()) + 1) + region.reshape(source.geobox.shape)
    own = table[age, stratum, :, np.maximum(source.symbols.astype(np.int64) - 1, 0)]
    own = own * fused.fit.exponents.g[name]
    return np.where((source.symbols > 0)[..., None], own, 0.0)


def point_doubts(
    fused: Fused, source: Observations, silent: frozenset[str] = frozenset()
) -> Doubts:
    """Judge the points of ``source`` by what the others say where they may lie."""
    name = fused.twins.get(source.source, source.source)
    quiet = {fused.twins.get(one, one) for one in silent} - {name}
    problem = fused.fit.problem.without(quiet)
    message = hear(problem, fused.fit.log_prior, fused.fit.exponents, fused.fit.confusion)[name]
    if message.cavity is None:
        raise ValueError(f"{source.source}: points must carry a cavity")
    doubts = _judge(fused, source, message.cavity[1:])
    return _with_strangers(point_doubts, fused, source, silent, doubts)


def cell_doubts(fused: Fused, source: Observations, silent: frozenset[str] = frozenset()) -> Doubts:
    """Judge every cell of a map by the others' decoded evidence."""
    silent = silent | {source.source}
    cavity = fused.cells(silent).astype(np.float64)
    # the decoding spreads the prior too, so silence is told before it
    quiet = _is_prior(fused, fused.units(silent))
    unheard = quiet[fused.fit.problem.units.of_cell].reshape(cavity.shape[:2])
    doubts = _judge(fused, source, cavity, unknown=unheard)
    return _with_strangers(cell_doubts, fused, source, silent, doubts)


def threshold_for(probability: Floats, precision: float) -> tuple[float, float]:
    """Return the lowest threshold whose selection is expected to be right often enough.

    Returns the threshold and the expected precision (mean probability) of what passes;
    the threshold is infinite and the precision NaN when nothing passes.

    >>> threshold_for(np.array([1.0, 0.75, 0.5, 0.5]), 0.75)
    (0.75, 0.875)
    """
    ranked = np.sort(np.asarray(probability, np.float64).ravel())[::-1]
    if not len(ranked):
        return float("inf"), float("nan")
    mean = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    # equal probabilities pass together or not at all
    last_of_equals = np.append(ranked[1:] < ranked[:-1], True)
    passing = np.flatnonzero((mean >= precision) & last_of_equals)
    if not len(passing):
        return float("inf"), float("nan")
    last = int(passing[-1])
    return float(ranked[last]), float(mean[last])


def patches_of(
    label: Codes,
    probability: Floats,
    said: NDArray[Any],
    fused: Fused,
    min_cells: int,
) -> Patches:
    """Return connected patches of equal ``label`` (H, W; -1: none) of ``min_cells`` or more."""
    geobox = fused.fit.problem.geobox
    number = np.zeros(label.shape, np.int32)
    found = 0
    for k in np.unique(label[label >= 0]):
        part, count = ndimage.label(label == k)
        number += np.where(part > 0, part + found, 0).astype(np.int32)
        found += count
    size = np.bincount(number.ravel(), minlength=found + 1)
    keep = size >= min_cells
    keep[0] = False
    number = np.where(keep[number], number, 0).astype(np.int32)
    ids = np.flatnonzero(keep)
    outline = {
        int(value): shapely.geometry.shape(polygon)
        for polygon, value in shapes(number, mask=number > 0, transform=geobox.transform)
    }
    at = ndimage.find_objects(number)
    mean = ndimage.mean(probability, number, ids) if len(ids) else np.empty(0)
    current = [
        int(np.bincount(said[at[i - 1]][number[at[i - 1]] == i].astype(np.int64)).argmax())
        for i in ids
    ]
    first = [int(label[at[i - 1]][number[at[i - 1]] == i][0]) for i in ids]
    geometry = np.empty(len(ids), object)
    geometry[:] = [outline[int(i)] for i in ids]
    return Patches(
        geometry=geometry,
        label=np.array(first, np.int64),
        probability=np.clip(np.asarray(mean, np.float64), 0, 1),
        current=np.array(current, np.int64),
        area_ha=np.asarray(size[ids] * cell_area_ha(geobox), np.float64),
    )


def missing_areas(
    fused: Fused,
    source: Observations,
    classes: Codes,
    *,
    min_area_ha: float,
    min_probability: float,
    silent: frozenset[str] = frozenset(),
) -> Patches:
    """Return areas where the others agree on one of ``classes`` and no object is mapped."""
    log_q = fused.cells(silent | {source.source})
    best = log_q.argmax(axis=-1).astype(np.int64)
    p = np.exp(log_q.max(axis=-1))
    mapped = paint(source.geometry, fused.fit.problem.geobox) > 0
    label = np.where(np.isin(best, classes) & (p >= min_probability) & ~mapped, best, -1)
    min_cells = int(np.ceil(min_area_ha / cell_area_ha(fused.fit.problem.geobox)))
    return patches_of(label, p, np.zeros(label.shape, np.uint8), fused, min_cells)
