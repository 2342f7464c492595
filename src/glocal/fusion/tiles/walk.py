"""The way through an area that is read in tiles: region by region, in bands, in threads.

The result must depend neither on the number of threads nor, without merging, on the size of
tiles; so the order in which tiles are counted is fixed here, and results come back in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from typing import TypeVar

from glocal.core.grid import tiles
from glocal.core.typing import Window
from glocal.fusion.tiles.counting import Coding
from glocal.fusion.tiles.kernels import Stack

BAND_TILES = 16
"""Tiles that are counted together, one after the other: what one thread does at a time, at
most. The result must not depend on the number of threads, so neither does this."""

LEAST_BANDS = 8
"""Bands that a small area is split into, if it has as many tiles."""

Read = Callable[[Window], Stack]
"""Returns the planes there, shape (S, H, W), all uint8 or all uint16; 0 is silence. Called
twice for each tile, possibly from several threads at once."""

Part = tuple[int, Window, Window]
"""Region, tile, and tile with its halo."""

T = TypeVar("T")
R = TypeVar("R")


def parts(coding: Coding, tile: int, halo: int) -> Iterator[Part]:
    """Yield tiles region by region; none is in two regions, though its halo may be."""
    # a region's tables are then needed for one stretch of tiles, and its codes rise with it
    for region, (within, _) in enumerate(tiles(coding.shape, coding.region, 0)):
        for inner, outer in tiles(coding.shape, tile, halo, within):
            yield region, inner, outer


def bands(counted: list[Part]) -> Iterator[list[Part]]:
    """Yield tiles of one region that are counted together."""
    size = min(max(len(counted) // LEAST_BANDS, 1), BAND_TILES)
    for _, group in groupby(counted, key=lambda part: part[0]):
        mine = list(group)
        yield from (mine[i : i + size] for i in range(0, len(mine), size))


def in_order(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield the results in order; at most twice as many as there are threads wait."""
    if workers <= 1:
        yield from map(work, items)
        return
    # whoever is slow holds up the others before memory does
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
