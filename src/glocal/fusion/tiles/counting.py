"""Counting what the sources say together, in memory that does not grow with the area.

A tile is one array of planes, (S, H, W) of uint8 or uint16. The symbols of a cell and
its region are digits of one number, its *code* (F37). Codes of a small alphabet
index a table of counts. Codes of a large one go into a hash table with linear probing
(Knuth, volume 3, 6.4), runs first: neighbouring cells often repeat each other.

Nothing here holds the interpreter's lock for long, so tiles can be counted in threads.
Counts of parts add up to the counts of the whole, in any grouping, as long as nothing has
been thinned.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.core.grid import inside
from glocal.core.typing import Codes, Window
from glocal.errors import GridMismatchError
from glocal.fusion.tiles.kernels import (
    EMPTY,
    MIX,
    Keys,
    Stack,
    count_direct,
    count_hashed,
    encode,
    insert,
    look_up,
    look_up_direct,
)

DIRECT_CODES = 2**22
"""Codes up to here are counted in a table with one entry each (16 MiB)."""

MOST_PATTERNS = 2**20
"""Patterns that are kept, unless told otherwise; each costs 16 bytes, in a table half full."""

FIRST_PLACES = 2**14
"""First size of a hash table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """How the symbols of a cell make one number."""

    radix: tuple[int, ...]
    """Size of each plane's alphabet, silence included."""

    region: int
    """Side of a region in cells."""

    shape: tuple[int, int]
    """Rows and columns of the whole grid."""

    def __post_init__(self) -> None:
        if not self.radix or min(self.radix) < 1:
            raise ValueError(f"every plane needs an alphabet of at least 1, got {self.radix}")
        if self.size >= 2**63:
            raise ValueError(
                f"alphabets {self.radix} in {self.regions} regions make {float(self.size):.1e} "
                "patterns, at most 2**63 can be told apart; join rare symbols of a source"
            )

    @property
    def across(self) -> int:
        """Number of regions in a row of regions."""
        return -(-self.shape[1] // self.region)

    @property
    def regions(self) -> int:
        """Number of regions."""
        return self.across * -(-self.shape[0] // self.region)

    @property
    def size(self) -> int:
        """Number of codes."""
        return self.regions * prod(self.radix)

    @property
    def direct(self) -> bool:
        """True where a table with one entry per code is small enough."""
        return self.size <= DIRECT_CODES

    def place(self, window: Window) -> tuple[Keys, Keys]:
        """Return what rows and columns of a window add to the number of the region."""
        # region = (row // side) * across + column // side: a sum of what each axis adds
        rows, columns = window
        down = np.arange(rows.start, rows.stop) // self.region * self.across
        return down.astype(np.uint64), (
            np.arange(columns.start, columns.stop) // self.region
        ).astype(np.uint64)

    def encode(self, stack: Stack, window: Window) -> Keys:
        """Return the code of every cell of a tile at ``window``, shape (H, W).

        Raises
        ------
        GridMismatchError, ValueError
            A stack of another shape, or a symbol beyond its alphabet.
        """
        stack = self.check(stack, window)
        code = np.empty(stack.shape[1:], np.uint64)
        self.refuse(encode(stack, *self.place(window), self.radices, code))
        return code

    @property
    def radices(self) -> Keys:
        """The sizes of the alphabets, as the kernels want them."""
        return np.array(self.radix, np.uint64)

    def check(self, stack: Stack, window: Window) -> Stack:
        """Return the stack, contiguous, or say what is wrong with it."""
        shape = (len(self.radix), *(part.stop - part.start for part in window))
        if stack.shape != shape:
            raise GridMismatchError(
                f"a tile must have shape {shape} (planes, rows, columns), got {stack.shape}"
            )
        if stack.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"planes must be uint8 or uint16, got {stack.dtype}")
        return np.ascontiguousarray(stack)

    def refuse(self, wrong: int) -> None:
        """Raise if a kernel found a symbol beyond the alphabet of plane ``wrong``."""
        if wrong >= 0:
            raise ValueError(
                f"plane {wrong} has a symbol beyond its alphabet of {self.radix[wrong]} "
                "(0 for silence included); give the alphabet that its files use"
            )

    def columns(self, code: Keys) -> Codes:
        """Return the digits of codes, shape (n, 1 + S): the region, then the symbols."""
        # the last plane is the last digit
        digits = np.empty((len(code), 1 + len(self.radix)), np.int64)
        for plane in range(len(self.radix), 0, -1):
            code, rest = np.divmod(code, np.uint64(self.radix[plane - 1]))
            digits[:, plane] = rest
        digits[:, 0] = code
        return digits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patterns:
    """Distinct codes and how many cells have each."""

    code: Keys
    """Shape (U,), rising."""

    count: Codes
    """Shape (U,)."""

    thinned: int = 0
    """Largest count that had to be merged away, 0 if all counts are exact (see ``thin``)."""

    def __len__(self) -> int:
        return len(self.code)


def thin(code: Keys, count: Codes, limit: int, turn: int) -> tuple[Keys, Codes, int]:
    """Merge rare patterns so that about ``limit`` are left, without bias (F38).

    Patterns with fewer than t cells are merged: going through them in turn, every t-th
    *cell* is taken, and the pattern that it has stands for t cells (systematic sampling
    proportional to size; as in Ting 2018, "Data sketches for disaggregated subset sum").
    Patterns with t cells and more are kept exactly. t is the least whole number that
    leaves at most ``limit``. Returns codes, counts and t (0 where nothing was merged).

    Every sum over patterns keeps its expectation, and the total is kept to within t. The
    standard error of the count of a set of rare patterns with n cells is at most about
    sqrt(t * n): with a million patterns kept, one part in a thousand of the area is known
    to 3 %. ``turn`` numbers the mergings; it picks the first cell.
    """
    if len(code) <= limit:
        return code, count, 0
    # bisection for t: patterns with t cells and more, plus one for every t of the rest
    rising = np.sort(count)
    below = np.concatenate([[0], np.cumsum(rising)])
    low, high = 1, int(below[-1]) // max(limit - 1, 1) + 2
    while low < high:  # what is left falls with t
        t = (low + high) // 2
        rare = int(np.searchsorted(rising, t))
        low, high = (
            (low, t) if len(code) - rare + -(-int(below[rare]) // t) <= limit else (t + 1, high)
        )
    t, small = low, count < low
    # a start in 0..t-1: the fraction of turn times the golden ratio, even over the turns
    first = (turn * int(MIX) % 2**64 * t) >> 64
    # cells laid end to end, pattern by pattern: a pattern is taken where a multiple of t falls
    passed = (np.cumsum(count[small]) + first) // t
    hit = np.diff(passed, prepend=first // t) > 0
    kept = ~small
    kept[small] = hit
    return code[kept], np.where(small, t, count)[kept], t


class Counter:
    """Counts of patterns, tile by tile.

    Parameters
    ----------
    coding
        How symbols make codes.
    limit
        Patterns that are kept; beyond it, rare ones are merged (see :func:`thin`).
    """

    def __init__(self, coding: Coding, limit: int = MOST_PATTERNS) -> None:
        if limit < 16:
            raise ValueError(f"at least 16 patterns must be kept, got a limit of {limit}")
        self.coding, self.limit = coding, limit
        self._turn = self._thinned = self._used = 0
        self._table: NDArray[Any] = (
            np.zeros(coding.size, np.uint32)
            if coding.direct
            else _empty(min(FIRST_PLACES, 4 * limit))
        )

    def add(self, stack: Stack, window: Window, inner: Window | None = None) -> None:
        """Count a tile at ``window``, or only the part of it at ``inner`` (a halo is left out).

        Raises
        ------
        GridMismatchError, ValueError
            As in :meth:`Coding.encode`.
        """
        stack = self.coding.check(stack, window)
        rows, columns = inside(inner or window, window)
        box = rows.start, rows.stop, columns.start, columns.stop
        down, right = self.coding.place(window)
        radix = self.coding.radices
        # in 32 bits, codes of a small alphabet go through registers twice as fast
        if self.coding.direct:
            small = down.astype(np.uint32), right.astype(np.uint32), radix.astype(np.uint32)
            self.coding.refuse(count_direct(stack, *small, box, self._table))
            return
        # the kernel leaves growing to us: it stops at a row that might not fit
        while box[0] < box[1]:
            self._make_room(box[3] - box[2])
            row, self._used, wrong = count_hashed(
                stack, down, right, radix, box, self._table, self._used
            )
            self.coding.refuse(wrong)
            box = (row, *box[1:])

    def merge(self, other: Patterns) -> None:
        """Add counts of another part of the area."""
        self._thinned = max(self._thinned, other.thinned)
        # 32 bits hold what one thread counts, not what an area may sum up to
        if self.coding.direct:
            self._table = self._table.astype(np.int64, copy=False)
            self._table[other.code] += other.count
            return
        start = 0
        while start < len(other):
            self._make_room(1)
            start, self._used = insert(
                other.code, other.count.view(np.uint64), start, self._table, self._used
            )

    def patterns(self) -> Patterns:
        """Return the patterns so far, at most ``limit``."""
        code, count, t = thin(*self._seen(), self.limit, self._turn)
        order = np.argsort(code)
        return Patterns(code=code[order], count=count[order], thinned=max(t, self._thinned))

    def _seen(self) -> tuple[Keys, Codes]:
        if self.coding.direct:
            code = np.flatnonzero(self._table)
            return code.astype(np.uint64), self._table[code].astype(np.int64)
        there = self._table[:, 0] != EMPTY
        return self._table[there, 0], self._table[there, 1].view(np.int64)

    def _make_room(self, need: int) -> None:
        """See to it that ``need`` more patterns fit into a table that is half full at most."""
        room = len(self._table) // 2
        if self._used + need <= room:
            return
        code, count = self._seen()
        # up to four times the limit the table grows; then rare patterns are merged instead
        if room >= 2 * self.limit and room >= 2 * need:
            code, count, t = thin(code, count, self.limit, self._turn)
            self._turn, self._thinned = self._turn + 1, max(self._thinned, t)
            self._table = _empty(len(self._table))
        else:
            self._table = _empty(2 * len(self._table))
        _, self._used = insert(code, count.view(np.uint64), 0, self._table, 0)


class Lookup:
    """From the code of a cell to the number of its pattern, 0 for the first in the table."""

    def __init__(self, coding: Coding, patterns: Patterns) -> None:
        self.coding = coding
        number = np.arange(len(patterns))
        if coding.direct:
            self._number = np.full(coding.size, -1, np.int32)
            self._number[patterns.code] = number
        else:
            self._table = _empty(2 * len(patterns))
            insert(patterns.code, number.astype(np.uint64), 0, self._table, 0)

    def units(self, code: Keys) -> tuple[NDArray[np.int32], int]:
        """Return the pattern of every cell, shape (H, W), -1 where unknown; and how many are."""
        unit = np.empty(code.shape, np.int32)
        if self.coding.direct:
            return unit, look_up_direct(code, self._number, unit)
        return unit, look_up(code, self._table, unit)


def _empty(size: int) -> Keys:
    """Return an empty hash table, shape (size rounded up to a power of two, 2): code, count."""
    table = np.zeros((1 << max(int(size) - 1, 15).bit_length(), 2), np.uint64)
    table[:, 0] = EMPTY
    return table
