"""A small grid that stands for a large area: its patterns, and what lies around its anchors.

To the engine a cell is what the sources say there, so that an area is a table of patterns with
their number of cells (F37), and nothing of it but the surroundings of the anchors, where neighbours
are heard (F24), has a shape. Both are laid out here as cells that `fuse` takes for the area.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox

from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.typing import Bools, Codes, Window
from glocal.fusion.decode.spatial import Similarity
from glocal.fusion.decode.sweeps import SMOOTHING_SWEEPS
from glocal.fusion.problem.terms import Sampled
from glocal.fusion.tiles.counting import Coding
from glocal.fusion.tiles.kernels import Keys

AROUND_SIDE = 2 * SMOOTHING_SWEEPS + 1
"""Side of the surroundings of an anchor: all cells that its posterior depends on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiledSource:
    """A ``cells`` source without its cells; they come tile by tile.

    It has one plane of symbols, numbered as in :class:`~glocal.core.observation.Observations`,
    and, if it has more than one stratum, a plane of strata right after that.
    """

    source: str
    crosswalk: Crosswalk
    phenomenon_time: Interval
    provenance: Provenance
    strata: int = 1
    """Number of groups with reliabilities of their own."""

    @property
    def radix(self) -> tuple[int, ...]:
        """Size of the alphabet of each of its planes."""
        symbols = len(self.crosswalk.symbols) + 1
        return (symbols,) if self.strata == 1 else (symbols, self.strata)

    def observe(self, geobox: GeoBox, planes: Codes) -> Observations:
        """Return the source on a grid that is small enough; planes are (1 or 2, H, W)."""
        return Observations(
            source=self.source,
            support="cells",
            geobox=geobox,
            symbols=planes[0].astype(np.uint16),
            stratum=planes[1].astype(np.uint16) if len(planes) > 1 else None,
            crosswalk=self.crosswalk,
            phenomenon_time=self.phenomenon_time,
            provenance=self.provenance,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Around:
    """The surroundings of some anchors, cut off at the edge of the area."""

    anchor: Codes
    """Shape (n,), number of the anchor."""

    code: Keys
    """Shape (n, AROUND_SIDE, AROUND_SIDE)."""

    inside: Bools
    """Shape (n, AROUND_SIDE, AROUND_SIDE), False beyond the edge, where ``code`` means nothing."""


def nothing() -> Around:
    """Return the surroundings of no anchor."""
    shape = (0, AROUND_SIDE, AROUND_SIDE)
    return Around(
        anchor=np.empty(0, np.int64), code=np.empty(shape, np.uint64), inside=np.empty(shape, bool)
    )


def look_around(code: Keys, window: Window, which: Codes, row: Codes, column: Codes) -> Around:
    """Return the surroundings of the anchors ``which``, given the codes of a tile with halo."""
    step = np.arange(-SMOOTHING_SWEEPS, SMOOTHING_SWEEPS + 1)
    i = (row[which, None] + step - window[0].start)[:, :, None]
    j = (column[which, None] + step - window[1].start)[:, None, :]
    # the halo ends at the edge of the area, and nowhere else
    inside = (i >= 0) & (i < code.shape[0]) & (j >= 0) & (j < code.shape[1])
    return Around(
        anchor=which,
        code=code[i.clip(0, code.shape[0] - 1), j.clip(0, code.shape[1] - 1)],
        inside=inside,
    )


def mosaic(
    coding: Coding,
    sources: Sequence[TiledSource],
    geobox: GeoBox,
    code: Keys,
    around: Around,
    thinned: bool,
    count: Codes | None = None,
    anchors: int = 0,
) -> tuple[list[Observations], Sampled, Similarity | None]:
    """Lay patterns and surroundings out as one grid, ``AROUND_SIDE`` cells wide.

    Patterns come first, then a few cells that weigh nothing, then one square per anchor.
    One cell after the patterns names the last region, so that regions are numbered alike
    whatever the patterns are.
    """
    # rows of patterns, filled up; then AROUND_SIDE rows for each anchor
    head = -(-(len(code) + 1) // AROUND_SIDE) * AROUND_SIDE
    height = max(head // AROUND_SIDE + AROUND_SIDE * len(around.anchor), 2)
    digits = np.zeros((height * AROUND_SIDE, 1 + len(coding.radix)), np.int64)
    digits[: len(code)] = coding.columns(code)
    squares = coding.columns(around.code.ravel())
    squares[~around.inside.ravel()] = 0  # silence beyond the edge
    digits[head : head + len(squares)] = squares
    digits[len(code), 0] = coding.regions - 1
    # N_u of (F14): only patterns weigh; the squares are cells of the area that they count already
    weight = np.zeros(len(digits))
    weight[: len(code)] = 0 if count is None else count
    cell = np.full(anchors, -1, np.int64)
    square = AROUND_SIDE * AROUND_SIDE
    cell[around.anchor] = head + square * np.arange(len(around.anchor)) + square // 2
    grid = GeoBox((height, AROUND_SIDE), geobox.affine, geobox.crs)
    observed, plane = [], 1
    for one in sources:
        mine = digits[:, plane : plane + len(one.radix)]
        plane += len(one.radix)
        if thinned and len(one.radix) > 1 and mine[: len(code), 0].any():
            # merging may have lost the last stratum, which tells how many contexts there are
            mine[len(code)] = 1, one.strata - 1
        observed.append(one.observe(grid, mine.T.reshape(-1, height, AROUND_SIDE)))
    sampled = Sampled(weight=weight, region=digits[:, 0], anchor=cell)
    return observed, sampled, _edges(around.inside, head // AROUND_SIDE, height)


def _edges(inside: Bools, head: int, height: int) -> Similarity | None:
    """Return ties that cut off what lies beyond the edge of the area; None if nothing does."""
    if inside.all():
        return None
    there = np.ones((height, AROUND_SIDE), bool)
    there[head : head + inside.shape[0] * AROUND_SIDE] = inside.reshape(-1, AROUND_SIDE)
    across, down = there[:, 1:] & there[:, :-1], there[1:] & there[:-1]
    return across.astype(np.float32), down.astype(np.float32)
