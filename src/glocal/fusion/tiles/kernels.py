"""The loops over cells that count and look up codes (see :mod:`glocal.fusion.tiles.counting`).

They run without the interpreter's lock and touch each plane once. Inner loops are simple
enough to be done in vector registers: one plane of one row at a time.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from glocal.core.typing import Bytes, Codes

EMPTY = np.uint64(2**64 - 1)
"""No code: marks a free place in a hash table."""

MIX = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio: multiplicative hashing (Knuth, volume 3, 6.4)."""

ONE = np.uint64(1)

HALF_WORD = np.uint64(2**16)
"""Numbers that 16 bits can tell apart."""

Keys = NDArray[np.uint64]
"""Codes of patterns, or a hash table of them, (places, 2): code and count."""

Stack = NDArray[np.unsignedinteger[Any]]


@numba.njit(cache=True, nogil=True)
def code_row(  # pragma: no cover
    stack: Stack, row: int, left: int, start: Any, right: Any, radix: Any, code: Any, part: Any
) -> int:
    """Write the codes of one row; return a plane with a symbol beyond its alphabet, or -1.

    Planes are gathered in ``part``, 16 bits per cell, as long as their codes fit, since a
    vector register holds more numbers the shorter they are.
    """
    wrong = -1
    width = len(code)
    # (F37): the region is the leading digit, the planes follow
    for i in range(width):
        code[i] = start + right[left + i]
    size = ONE
    part[:] = 0
    for k in range(stack.shape[0]):
        base = np.uint64(radix[k])
        # one more digit might not fit into 16 bits: empty the part into the code first
        if size * base > HALF_WORD:
            append(code, part, size)
            size = ONE
        size *= base
        if add_plane(part, stack[k, row, left : left + width], np.uint16(base)) >= base:
            wrong = k
    append(code, part, size)
    return wrong


@numba.njit(cache=True, nogil=True)
def add_plane(part: Any, plane: Any, base: np.uint16) -> Any:  # pragma: no cover
    """Make the plane the last digit of ``part``; return its largest symbol."""
    for i in range(len(part)):
        part[i] = part[i] * base + plane[i]
    # checked afterwards and at once: a branch per cell would cost more than a wrong row
    top = plane[0]
    for i in range(len(part)):
        top = max(top, plane[i])
    return top


@numba.njit(cache=True, nogil=True)
def append(code: Any, part: Any, size: np.uint64) -> None:  # pragma: no cover
    """Make ``part``, below ``size``, the last digits of ``code``, and start it anew."""
    for i in range(len(code)):
        code[i] = code[i] * size + part[i]
    part[:] = 0


@numba.njit(cache=True, nogil=True)
def encode(stack: Stack, down: Any, right: Any, radix: Any, code: Any) -> int:  # pragma: no cover
    """Write the code of every cell, shape (H, W); return as :func:`code_row` does."""
    wrong = -1
    part = np.empty(stack.shape[2], np.uint16)
    for row in range(stack.shape[1]):
        wrong = max(wrong, code_row(stack, row, 0, down[row], right, radix, code[row], part))
    return wrong


@numba.njit(cache=True, nogil=True)
def count_direct(  # pragma: no cover
    stack: Stack,
    down: Any,
    right: Any,
    radix: Any,
    box: tuple[int, int, int, int],
    table: NDArray[np.uint32],
) -> int:
    """Add the cells of a box (top, bottom, left, right) to a table with one entry per code."""
    top, bottom, left, stop = box
    code, part = np.empty(stop - left, np.uint32), np.empty(stop - left, np.uint16)
    for row in range(top, bottom):
        wrong = code_row(stack, row, left, down[row], right, radix, code, part)
        if wrong >= 0:
            return wrong
        tally(code, table)
    return -1


@numba.njit(cache=True, nogil=True)
def tally(code: Any, table: Any) -> None:  # pragma: no cover
    """Add the codes of a row, from four places in turn.

    Neighbours are often alike, and a number can't be raised again before it is written.
    """
    # four places that are far apart, so that the processor can raise four counts at a time
    quarter = len(code) // 4
    for i in range(quarter):
        for j in range(4):
            table[code[i + j * quarter]] += np.uint32(1)
    for i in range(4 * quarter, len(code)):
        table[code[i]] += np.uint32(1)


@numba.njit(cache=True, nogil=True)
def shift_of(table: Keys) -> np.uint64:  # pragma: no cover
    """Return how far a mixed code is shifted down to a place in a table of 2**n places."""
    # the high bits of a product depend on all bits of the code, its low bits on few
    shift, size = np.uint64(64), len(table)
    while size > 1:
        size >>= 1
        shift -= ONE
    return shift


@numba.njit(cache=True, nogil=True)
def find(table: Keys, code: np.uint64, shift: np.uint64) -> np.uint64:  # pragma: no cover
    """Return where a code is in a hash table, or the free place where it belongs."""
    # linear probing: the next place, round the end; short as long as the table is half empty
    mask = np.uint64(len(table)) - ONE
    at = (code * MIX) >> shift
    while table[at, 0] != code and table[at, 0] != EMPTY:
        at = (at + ONE) & mask
    return at


@numba.njit(cache=True, nogil=True)
def add(table: Keys, code: np.uint64, n: np.uint64, shift: np.uint64) -> int:  # pragma: no cover
    """Add to the count of one code; return 1 if it is new."""
    at = find(table, code, shift)
    new = table[at, 0] == EMPTY
    table[at, 0] = code
    table[at, 1] += n
    return 1 if new else 0


@numba.njit(cache=True, nogil=True)
def insert(  # pragma: no cover
    code: Keys, count: Keys, start: int, table: Keys, used: int
) -> tuple[int, int]:
    """Add counts until the table is half full; return the next one and the places used."""
    shift = shift_of(table)
    for i in range(start, len(code)):
        if 2 * used >= len(table):
            return i, used
        used += add(table, code[i], count[i], shift)
    return len(code), used


@numba.njit(cache=True, nogil=True)
def count_hashed(  # pragma: no cover
    stack: Stack,
    down: Keys,
    right: Keys,
    radix: Keys,
    box: tuple[int, int, int, int],
    table: Keys,
    used: int,
) -> tuple[int, int, int]:
    """Add the cells of a box to a hash table, row by row, until the next might not fit.

    Returns the next row, the places used, and what :func:`code_row` returns.
    """
    top, bottom, left, stop = box
    code, seen = np.empty(stop - left, np.uint64), np.empty(stop - left, np.uint64)
    end, part = np.empty(stop - left, np.int64), np.empty(stop - left, np.uint16)
    shift = shift_of(table)
    for row in range(top, bottom):
        # all cells of a row may be new: stop while they still fit, and let the caller grow
        if 2 * (used + len(code)) > len(table):
            return row, used, -1
        wrong = code_row(stack, row, left, down[row], right, radix, code, part)
        if wrong >= 0:
            return row, used, wrong
        # neighbours repeat each other: a run is one visit of the table
        runs = runs_of(code, end)
        touch(table, code, end[:runs], shift, seen)
        start = 0
        for j in range(runs):
            used += add(table, code[end[j]], np.uint64(end[j] + 1 - start), shift)
            start = end[j] + 1
    return bottom, used, -1


@numba.njit(cache=True, nogil=True)
def runs_of(code: Keys, end: Codes) -> int:  # pragma: no cover
    """Write the last position of each run of equal codes; return how many there are."""
    n = 0
    for i in range(len(code) - 1):  # no branch to predict
        end[n] = i
        n += code[i] != code[i + 1]
    end[n] = len(code) - 1
    return n + 1


@numba.njit(cache=True, nogil=True)
def touch(  # pragma: no cover
    table: Keys, code: Keys, end: Codes, shift: np.uint64, seen: Keys
) -> None:
    """Read where the codes belong, all at once: memory answers many requests as fast as one."""
    # written to ``seen``, so that the compiler may not leave it out
    for j in range(len(end)):
        seen[j] = table[(code[end[j]] * MIX) >> shift, 0]


@numba.njit(cache=True, nogil=True)
def look_up(  # pragma: no cover
    code: Keys, table: Keys, unit: NDArray[np.int32]
) -> int:
    """Write the number that a hash table holds for each code, -1 where none; count those."""
    shift = shift_of(table)
    missing = 0
    for row in range(code.shape[0]):
        # most cells are like the one before
        last, found = EMPTY, np.int32(-1)
        for i in range(code.shape[1]):
            if code[row, i] != last:
                last = code[row, i]
                at = find(table, last, shift)
                found = np.int32(-1) if table[at, 0] == EMPTY else np.int32(table[at, 1])
            unit[row, i] = found
            missing += 1 if found < 0 else 0
    return missing


@numba.njit(cache=True, nogil=True)
def decode_direct(  # pragma: no cover
    stack: Stack,
    down: Any,
    right: Any,
    radix: Any,
    spoken: NDArray[np.uint16],
    first: Bytes,
    second: Bytes,
) -> int:
    """Write the low and the high byte of each cell's entry of a table with one per code."""
    width = stack.shape[2]
    code, part = np.empty(width, np.uint32), np.empty(width, np.uint16)
    for row in range(stack.shape[1]):
        wrong = code_row(stack, row, 0, down[row], right, radix, code, part)
        if wrong >= 0:
            return wrong
        # the table's entries are 16 bits: class below, confidence above
        for i in range(width):
            part[i] = spoken[code[i]]
        for i in range(width):
            first[row, i] = part[i] & 255
            second[row, i] = part[i] >> 8
    return -1


@numba.njit(cache=True, nogil=True)
def look_up_direct(  # pragma: no cover
    code: Keys, number: NDArray[np.int32], unit: NDArray[np.int32]
) -> int:
    """As :func:`look_up`, in a table with one entry per code."""
    missing = 0
    for row in range(code.shape[0]):
        for i in range(code.shape[1]):
            unit[row, i] = number[code[row, i]]
            missing += 1 if unit[row, i] < 0 else 0
    return missing
