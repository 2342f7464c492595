"""The fusion problem in the form that the engine computes on.

One term per source and one row per unit (see :mod:`glocal.fusion.problem.units`). Sources of
cells, objects, coarse cells, answers and points differ only in what a statement is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.columns import chosen
from glocal.core.grid import cells_of_points
from glocal.core.legend import Legend
from glocal.core.observation import Anchors, Observations, Support
from glocal.core.setting import ENGINE, Setting
from glocal.core.typing import Bools, Codes, Table
from glocal.fusion.problem.support import PointCells, point_cells
from glocal.fusion.problem.units import Units, compress

MOST_TRUST = 0.99
"""A crosswalk that is sure of itself would be worth any number of statements (F2)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Term:
    """The statements of one source.

    A *statement* is what counts once: a (context, symbol) pair for cells, an object,
    a coarse cell or a point otherwise. Statement 0 is silence.
    """

    name: str
    support: Support
    symbol: Codes
    """Shape (n + 1,), symbol of each statement, 0-based; entry 0 is not used."""

    context: Codes
    """Shape (n + 1,), context of each statement."""

    contexts: int
    prior: Table
    """Shape (M, K), P(class | symbol) before any data, mixed with ignorance."""

    trust: Table
    """Shape (M,), 0..0.99, how far each row of the crosswalk is believed."""

    of_unit: Codes
    """Shape (U,), the statement heard in each unit; 0 for silence. Points: unused."""

    cells: PointCells | None = None
    """Points only: possible cells, with ``cell`` replaced by the unit's number."""

    family: tuple[str, ...] = ()
    """Names of the sources that share a root with it, itself included."""

    age: Codes | None = None
    """Shape (n + 1,), position in ``ages`` of each statement's age; None: all are of today."""

    ages: Table | None = None
    """Shape (A,), ages in years, ascending from 0."""

    kin: tuple[str, ...] = ()
    """Names of the sources that share its budget: its family, and whose errors are like its."""

    declared: Table | None = None
    """Answers only: P(symbol | class) before any data, shape (contexts, K, M)."""

    shares: NDArray[np.float32] | None = None
    """Cells only: P(class) as the source states it, shape (H, W, K), NaN where it is silent."""

    @property
    def speaks(self) -> Bools:
        """Shape (U,), True where the source says something."""
        if self.cells is None:
            return self.of_unit > 0
        heard = np.zeros(len(self.of_unit), bool)
        heard[self.cells.cell] = True
        return heard


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """All terms over one table of units."""

    geobox: GeoBox
    legend: Legend
    units: Units
    terms: tuple[Term, ...]
    setting: Setting = ENGINE

    def without(self, names: set[str]) -> Problem:
        """Return the problem as if these sources had never spoken."""
        kept = tuple(term for term in self.terms if term.name not in names)
        return replace(self, terms=kept)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Located:
    """Anchors with the unit that each of them lies in."""

    unit: Codes
    """Shape (A,)."""

    cell: Codes
    """Shape (A,), row * W + column."""

    shares: Table
    """Shape (A, K), of the classes: 0 and 1, or soft."""

    weight: Table
    """Shape (A,), with a mean of 1: only their ratios count."""

    def __len__(self) -> int:
        return len(self.unit)

    def take(self, keep: Bools) -> Located:
        """Return the anchors selected by ``keep``."""
        return chosen(self, keep, ("unit", "cell", "shares", "weight"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sampled:
    """A small grid that stands for a large one (see :mod:`glocal.fusion.tiles.stream`)."""

    weight: Table
    """Shape (H * W,), how many cells of the large grid each cell stands for."""

    region: Codes
    """Shape (H * W,), as `regions` would number the large grid."""

    anchor: Codes
    """Shape (A,), the cell of each anchor, -1 where it lies outside."""


def prepare(
    observations: Sequence[Observations],
    families: dict[str, tuple[str, ...]],
    setting: Setting = ENGINE,
    sampled: Sampled | None = None,
) -> Problem:
    """Return the problem that ``observations`` (all on one grid and legend) pose."""
    geobox, legend = observations[0].geobox, observations[0].legend
    cells = int(np.prod(geobox.shape))
    spread = {
        one.source: point_cells(one.geometry, one.position_sd_m, geobox)
        for one in observations
        if one.support == "points"
    }
    layers = [_layer(one) for one in observations if one.support != "points"]
    region = regions(geobox, setting) if sampled is None else sampled.region
    # what a point tells a cell depends on the other cells where it may lie (F10), so that each
    # of them is a unit of its own
    touched = np.zeros(cells, np.int64)
    hit = np.unique(np.concatenate([touched[:0], *(one.cell for one in spread.values())]))
    touched[hit] = np.arange(1, len(hit) + 1)
    units = compress([*layers, region, touched], cells)
    if sampled is not None:
        # a cell of the small grid stands for many of the large one, or for none
        count = np.bincount(units.of_cell, sampled.weight, minlength=len(units))
        units = replace(units, count=count.astype(np.float64))
    column = iter(units.columns.T)
    region_of_unit = units.columns[:, len(layers)]
    terms = []
    for one in observations:
        family = families.get(one.source, (one.source,))
        if one.support == "points":
            term = _point_term(one, spread[one.source], units)
        elif one.support == "cells":
            term = _cell_term(one, next(column), region_of_unit)
        else:
            term = _object_term(one, next(column))
        terms.append(replace(term, family=family, kin=family))
    return Problem(geobox=geobox, legend=legend, units=units, terms=tuple(terms), setting=setting)


def locate(anchors: Anchors | None, cell: Codes | None, problem: Problem) -> Located:
    """Return the answered anchors that lie on the grid.

    ``cell`` is their flat index or -1; None: where their coordinates lie.
    """
    if anchors is None:
        none = np.empty(0, np.int64)
        return Located(
            unit=none, cell=none, shares=np.empty((0, len(problem.legend))), weight=np.empty(0)
        )
    if cell is None:
        cell = cells_of_points(problem.geobox, anchors.x, anchors.y)
    use = anchors.answered & (cell >= 0)
    weight = anchors.weight[use]
    return Located(
        unit=problem.units.of_cell[cell[use]].astype(np.int64),
        cell=cell[use],
        shares=anchors.shares[use],
        weight=weight / weight.mean() if len(weight) else weight,
    )


def _layer(one: Observations) -> Codes:
    """Return one integer per cell that says which statement of ``one`` is heard there."""
    if one.support != "cells":
        return one.owner_of_cells().ravel().astype(np.int64)
    symbols = one.symbols.ravel().astype(np.int64)
    if one.stratum is None:
        return symbols
    # (stratum, symbol) as two digits of one number; silence is 0 in every stratum
    width = len(one.crosswalk.symbols) + 1
    return np.where(symbols > 0, one.stratum.ravel().astype(np.int64) * width + symbols, 0)


def adapted(setting: Setting, anchors: Anchors | None) -> Setting:
    """Return the setting with no more regions than the anchors can tell apart."""
    # below that, held-out loss rose (decision 6): a region's table repeats what is believed already
    known = 0 if anchors is None else int(anchors.answered.sum())
    enough = known >= setting.region_anchors * setting.parts**2
    return setting if enough else replace(setting, parts=min(setting.parts, 1))


def region_side(shape: tuple[int, int], setting: Setting) -> int:
    """Return the side in cells of the regions of an area.

    >>> [region_side((n, n), ENGINE) for n in (20, 256, 1500, 20_000)]
    [32, 86, 500, 2048]
    >>> region_side((20_000, 100), replace(ENGINE, parts=0))
    20000
    """
    if setting.parts == 0:
        return max(shape)
    side = max(-(-max(shape) // setting.parts), setting.least_region)
    return min(side, setting.largest_region)


def regions(geobox: GeoBox, setting: Setting) -> Codes:
    """Return the region of every cell, shape (H * W,), numbered from 0 along rows."""
    height, width = geobox.shape
    side = region_side((height, width), setting)
    row, column = np.arange(height) // side, np.arange(width) // side
    across = int(column[-1]) + 1
    return (row[:, None] * across + column[None, :]).ravel().astype(np.int64)


def _mixed_prior(one: Observations) -> Table:
    """Return P(class | symbol), each row weakened by how little it is believed: A of (F2)."""
    trust = one.crosswalk.confidence[:, None]
    return np.asarray(trust * one.crosswalk.matrix + (1 - trust) / len(one.legend))


def _cell_term(one: Observations, heard: Codes, region: Codes) -> Term:
    # the digits of the layer again; a context is one stratum in one region
    width = len(one.crosswalk.symbols) + 1
    stratum, symbol = heard // width, heard % width
    context = stratum * (int(region.max()) + 1) + region
    # cells repeat each other, so that a statement is a (context, symbol) pair, whatever its area
    pair, of_unit = np.unique(context * width + symbol, return_inverse=True)
    talking = pair % width > 0
    number = np.where(talking, np.cumsum(talking), 0)
    return Term(
        name=one.source,
        support="cells",
        symbol=np.concatenate([[0], pair[talking] % width - 1]),
        context=np.concatenate([[0], pair[talking] // width]),
        contexts=int(context.max()) + 1,
        prior=_mixed_prior(one),
        trust=np.minimum(one.crosswalk.confidence, MOST_TRUST),
        of_unit=number[of_unit.ravel()],
        shares=one.shares,
    )


def _object_term(one: Observations, heard: Codes) -> Term:
    # each record is a statement of its own; those without a symbol say nothing
    silent = np.concatenate([[True], one.symbols == 0])
    stratum = np.zeros(len(one), np.int64) if one.stratum is None else one.stratum.astype(np.int64)
    return Term(
        name=one.source,
        support=one.support,
        symbol=np.concatenate([[0], np.maximum(one.symbols.astype(np.int64) - 1, 0)]),
        context=np.concatenate([[0], stratum]),
        # a declared table may have rows for questions that nobody asked here
        contexts=int(stratum.max(initial=0)) + 1 if one.declared is None else len(one.declared),
        declared=one.declared,
        prior=_mixed_prior(one),
        trust=np.minimum(one.crosswalk.confidence, MOST_TRUST),
        of_unit=np.where(silent[heard], 0, heard),
    )


def _point_term(one: Observations, spread: PointCells, units: Units) -> Term:
    said = one.symbols[spread.point] > 0
    located = PointCells(
        point=spread.point[said] + 1,  # statement 0 is silence
        cell=units.of_cell[spread.cell[said]].astype(np.int64),
        weight=spread.weight[said],
    )
    return replace(_object_term(one, np.zeros(len(units), np.int64)), cells=located)
