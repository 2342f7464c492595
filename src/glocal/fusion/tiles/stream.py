"""Fusion of areas that do not fit into memory: two passes over tiles.

The engine knows a cell only through what the sources say there, so an area is, to it,
a table of patterns with their number of cells, and the surroundings of the anchors. The
first pass over the tiles counts patterns and keeps those surroundings; both are laid out
as a small grid that :func:`glocal.fusion.fuse.fuse` takes for the area. The second pass
reads the same tiles again and looks each pattern's answer up. Nothing of the size of the
area is ever held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.grid import cells_of_points, inside
from glocal.core.observation import Anchors
from glocal.core.setting import ENGINE, Setting
from glocal.core.typing import Bytes, Codes, Layers, Table, Window
from glocal.fusion.decode.spatial import decide
from glocal.fusion.decode.sweeps import SMOOTHING_SWEEPS
from glocal.fusion.estimate.posterior import hear
from glocal.fusion.fuse import Fused, fuse
from glocal.fusion.problem.terms import adapted, prepare, region_side
from glocal.fusion.tiles.counting import MOST_PATTERNS, Coding, Counter, Lookup, Patterns, thin
from glocal.fusion.tiles.kernels import Keys, Stack, decode_direct
from glocal.fusion.tiles.mosaic import Around, TiledSource, look_around, mosaic, nothing
from glocal.fusion.tiles.walk import Part, Read, bands, in_order, parts

TILE_SIDE = 1024
"""Side of a tile in cells, unless told otherwise."""

KEPT_TABLES = 8
"""Regions whose answers are kept at hand while decoding."""


Said = tuple[Bytes, Bytes]
"""Class values and confidences."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Streamed:
    """The result of a fusion in tiles."""

    fused: Fused
    """Reliabilities, exponents and spatial weight. Its cells are patterns, not places."""

    patterns: Patterns
    log_q: Layers
    """Log-posterior of every pattern, shape (U, K), before the spatial term."""

    coding: Coding
    sources: tuple[TiledSource, ...]
    geobox: GeoBox
    tile: int

    def log_posterior(self, code: Keys) -> Table:
        """Return the log-posterior of patterns, shape (n, K), before the spatial term.

        Also of patterns that no cell had when the engine learned, or that were merged.
        """
        thinned = self.patterns.thinned > 0
        observed, sampled, _ = mosaic(
            self.coding, self.sources, self.geobox, code, nothing(), thinned
        )
        # the same problem on other units, and the same tables: only messages are new. Copies
        # that were merged are no terms, and speak through their twins
        fitted = self.fused.fit
        terms = {term.name: term for term in fitted.problem.terms}
        kept = sorted((one for one in observed if one.source in terms), key=lambda o: o.source)
        family = {name: term.family for name, term in terms.items()}
        posed = prepare(kept, family, fitted.problem.setting, sampled)
        kin = tuple(replace(term, kin=terms[term.name].kin) for term in posed.terms)
        problem = replace(posed, terms=kin)
        messages = hear(problem, fitted.log_prior, fitted.exponents, fitted.confusion)
        fit = replace(fitted, problem=problem, messages=messages)
        return np.asarray(fit.log_q()[problem.units.of_cell[: len(code)]])

    def tiles(self, read: Read, *, workers: int = 1) -> Iterator[tuple[Window, Bytes, Bytes]]:
        """Yield window, class value and confidence of every tile, both uint8 of shape (H, W).

        Confidence is the probability of that class in 255ths, rounded. ``read`` must give
        the symbols that were counted; ``workers`` threads read and decode ahead, in order.
        """
        decode = _Decoder(self, read)
        halo = SMOOTHING_SWEEPS if self.fused.beta > 0 else 0
        yield from in_order(decode, parts(self.coding, self.tile, halo), workers)


class _Decoder:
    """The tables of the second pass."""

    def __init__(self, result: Streamed, read: Read) -> None:
        self.result, self.read = result, read
        coding, patterns = result.coding, result.patterns
        self.lookup = Lookup(coding, patterns)
        self.log_q = result.log_q
        self.values = np.array(result.fused.fit.problem.legend.values, np.uint8)
        self.said = self._said(self.log_q)
        # one table per region, if every pattern is known
        self.local = replace(coding, region=max(coding.shape))
        self.direct = self.local.direct and not patterns.thinned and result.fused.beta == 0
        self.spoken: dict[int, NDArray[np.uint16]] = {}

    def __call__(self, part: Part) -> tuple[Window, Bytes, Bytes]:
        region, inner, outer = part
        stack, here = self.read(outer), inside(inner, outer)
        found = self._direct(region, stack, outer) if self.direct else self._units(stack, outer)
        return inner, found[0][here], found[1][here]

    def _direct(self, region: int, stack: Stack, window: Window) -> Said:
        stack = self.local.check(stack, window)
        first, second = (np.empty(stack.shape[1:], np.uint8) for _ in range(2))
        down, right = (one.astype(np.uint32) for one in self.local.place(window))
        radix = self.local.radices.astype(np.uint32)
        table = self._table(region)
        self.local.refuse(decode_direct(stack, down, right, radix, table, first, second))
        return first, second

    def _table(self, region: int) -> NDArray[np.uint16]:
        """Return class and, in the high byte, confidence of every code of a region."""
        table = self.spoken.get(region)
        if table is None:
            # patterns rise by code, and the region leads: a region's are one slice
            code, size = self.result.patterns.code, self.local.size
            ends = np.array([region * size, (region + 1) * size], np.uint64)
            start, stop = np.searchsorted(code, ends)
            first, second = self._said(self.log_q[start:stop])
            table = np.zeros(size, np.uint16)
            table[code[start:stop] - ends[0]] = first + 256 * second.astype(np.uint16)
            # tiles come region by region, so the newest tables are the ones in use
            self.spoken = {**dict(list(self.spoken.items())[-KEPT_TABLES:]), region: table}
        return table

    def _units(self, stack: Stack, window: Window) -> Said:
        code = self.result.coding.encode(stack, window)
        unit, missing = self.lookup.units(code)
        # patterns that were merged away, or that nobody counted: their posterior is computed now
        more = self.log_q[:0]
        if missing:
            new, number = np.unique(code[unit < 0], return_inverse=True)
            unit[unit < 0] = len(self.log_q) + number.ravel()
            more = self.result.log_posterior(new).astype(np.float32)
        if self.result.fused.beta > 0:
            # neighbours differ from cell to cell, so that units are only a way to look up (F24)
            log_q = np.concatenate([self.log_q, more]) if missing else self.log_q
            first, second = decide(log_q, unit, self.result.fused.beta)
            return self.values[first], second
        first, second = (
            np.concatenate(both) for both in zip(self.said, self._said(more), strict=True)
        )
        return first[unit], second[unit]

    def _said(self, log_q: Layers) -> Said:
        confidence = np.rint(255 * np.exp(log_q.max(axis=1))).astype(np.uint8)
        return self.values[log_q.argmax(axis=1)], confidence


def fuse_stream(
    read: Read,
    sources: Sequence[TiledSource],
    geobox: GeoBox,
    anchors: Anchors | None = None,
    *,
    tile: int = TILE_SIDE,
    workers: int = 1,
    limit: int = MOST_PATTERNS,
    seed: int = 0,
    setting: Setting = ENGINE,
) -> Streamed:
    """Fuse ``cells`` sources of any area in memory that depends on their patterns only.

    The same estimate as :func:`~glocal.fusion.fuse.fuse` of the whole area up to rounding,
    except that surroundings wider than the next cells are not read (``setting.context``);
    ask the result for its tiles. It does not depend on ``workers``; on ``tile`` only if
    patterns had to be merged. Objects, points and coarse cells need the whole-array door.

    Parameters
    ----------
    read
        Reads a window of all planes, in the order of ``sources`` (see :data:`Read`).
    sources
        Names, meanings and roots.
    geobox
        Grid of the whole area.
    anchors
        As in ``fuse``.
    tile
        Side of a tile in cells.
    workers
        Threads; each holds a few tiles and a table of patterns.
    limit
        Patterns to learn from. Rarer ones are merged without bias (``counting.thin``); in
        the second pass they still get an answer of their own.

    Raises
    ------
    ValueError
        Symbols beyond the alphabets, or alphabets whose patterns 63 bits cannot number.
    GridMismatchError, LegendMismatchError
        Tiles of another shape, or sources with different legends.
    """
    radix = tuple(size for one in sources for size in one.radix)
    height, width = geobox.shape
    setting = adapted(setting, anchors)
    side = region_side((height, width), setting)
    coding = Coding(radix=radix, region=side, shape=(height, width))
    cell = (
        cells_of_points(geobox, anchors.x, anchors.y)
        if anchors is not None
        else np.empty(0, np.int64)
    )
    patterns, around = count_tiles(read, coding, geobox, cell, tile, workers, limit)
    thinned = patterns.thinned > 0
    observed, sampled, ties = mosaic(
        coding, sources, geobox, patterns.code, around, thinned, patterns.count, len(cell)
    )
    fused = fuse(observed, anchors, similarity=ties, seed=seed, setting=setting, sampled=sampled)
    unit = fused.fit.problem.units.of_cell[: len(patterns)]  # patterns come first
    return Streamed(
        fused=fused,
        patterns=patterns,
        log_q=fused.units()[unit].astype(np.float32),
        coding=coding,
        sources=tuple(sources),
        geobox=geobox,
        tile=tile,
    )


def count_tiles(
    read: Read,
    coding: Coding,
    geobox: GeoBox,
    anchor: Codes,
    tile: int = TILE_SIDE,
    workers: int = 1,
    limit: int = MOST_PATTERNS,
) -> tuple[Patterns, Around]:
    """Return the patterns of the area and the surroundings of anchors, flat cells (A,).

    The first pass of :func:`fuse_stream`; with a scheduler of your own, count the tiles
    with :class:`~glocal.fusion.tiles.counting.Counter` and ``merge`` what they give.
    """
    row, column = np.divmod(anchor, geobox.shape[1])
    row = np.where(anchor < 0, -1, row)
    tiles = list(parts(coding, tile, SMOOTHING_SWEEPS if len(anchor) else 0))
    # within a region its number says nothing, so that a table per code may be small enough
    local = replace(coding, region=max(coding.shape))

    def count(band: list[Part]) -> tuple[Patterns, list[Around]]:
        counter, around = Counter(local, limit), []
        for _, inner, outer in band:
            stack = read(outer)
            counter.add(stack, outer, inner)
            # an anchor belongs to one tile; its surroundings may reach into the halo
            here = np.flatnonzero(
                (row >= inner[0].start)
                & (row < inner[0].stop)
                & (column >= inner[1].start)
                & (column < inner[1].stop)
            )
            if len(here):
                around.append(look_around(coding.encode(stack, outer), outer, here, row, column))
        # back to codes of the whole area: the region is the leading digit
        found = counter.patterns()
        first = np.uint64(band[0][0] * local.size)
        return replace(found, code=found.code + first), around

    total = Counter(coding, limit) if coding.direct else _Gathered(limit)
    seen = [nothing()]
    for patterns, around in in_order(count, bands(tiles), workers):
        total.merge(patterns)
        seen += around
    return total.patterns(), Around(
        anchor=np.concatenate([one.anchor for one in seen]),
        code=np.concatenate([one.code for one in seen]),
        inside=np.concatenate([one.inside for one in seen]),
    )


class _Gathered:
    """Sum of sorted counts, nearly in order by regions: cheaper than a table that grows."""

    def __init__(self, limit: int) -> None:
        self.limit, self.turn = limit, 0
        self.waiting: list[Patterns] = []

    def merge(self, other: Patterns) -> None:
        self.waiting.append(other)
        if sum(map(len, self.waiting)) > 2 * self.limit:
            self.waiting = [self.patterns()]

    def patterns(self) -> Patterns:
        """Return the patterns so far, at most ``limit``."""
        # a stable sort of nearly sorted codes is nearly a copy; then sums over runs of equal ones
        code = np.concatenate([one.code for one in self.waiting])
        order = np.argsort(code, kind="stable")
        code = code[order]
        first = np.flatnonzero(np.concatenate([[True], code[1:] != code[:-1]]))
        count = np.concatenate([one.count for one in self.waiting])[order]
        code, count, t = thin(code[first], np.add.reduceat(count, first), self.limit, self.turn)
        self.turn += 1
        thinned = max(t, *(one.thinned for one in self.waiting))
        return Patterns(code=code, count=count, thinned=thinned)
