"""Polygons to cells, all at once: every crossing of an outline with a row of centres.

A cell belongs to a polygon when its centre lies inside by the even-odd rule. Each edge
crosses the centre lines of some rows; the crossings of one polygon in one row, sorted,
open and close runs of cells. Runs are written in painting order. The answer is that of
GDAL's rasteriser without ``all_touched``, several times faster, since no polygon goes
through Python objects one by one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.typing import Codes

BATCH = 1 << 18
"""Cells written at once."""


def burn(geometry: NDArray[Any], geobox: GeoBox) -> NDArray[np.int32]:
    """Return for every cell the index + 1 of the polygon that holds its centre, shape (H, W).

    ``geometry`` holds shapely polygons and multipolygons (x, y) in the CRS of ``geobox``
    (north up or not, but not rotated), shape (n,); missing and empty ones are passed
    over. Where they overlap the later one speaks; 0 means none.

    >>> from odc.geo.geobox import GeoBox
    >>> box = GeoBox.from_bbox((0, 0, 3, 2), crs="EPSG:32632", resolution=1)
    >>> burn(np.array([shapely.box(0, 0, 2, 2), shapely.box(1, 1, 3, 2)]), box).tolist()
    [[1, 2, 2], [1, 1, 0]]
    """
    height, width = geobox.shape
    owner, row, column = _crossings(geometry, geobox)
    # Sorted as one number: by polygon, then row, then column.
    key = (owner * height + row) * (width + 1) + column
    key.sort()
    opens, closes = key[0::2], key[1::2]
    length = closes - opens
    line, start = np.divmod(opens, width + 1)
    number, row = np.divmod(line, height)
    out = np.zeros(height * width, np.int32)
    total = np.cumsum(length)
    cuts = np.searchsorted(total, np.arange(0, total[-1:].sum() + BATCH, BATCH), side="right")
    # In batches that fit the processor's cache.
    for first, last in pairwise(np.append(cuts, len(length)).tolist()):
        run = length[first:last]
        begin = (row[first:last] * width + start[first:last]) - (np.cumsum(run) - run)
        cell = np.repeat(begin, run) + np.arange(int(run.sum()))
        # NumPy writes repeated indices in order, so the last polygon stays.
        out[cell] = np.repeat((number[first:last] + 1).astype(np.int32), run)
    return out.reshape(height, width)


def _crossings(geometry: NDArray[Any], geobox: GeoBox) -> tuple[Codes, Codes, Codes]:
    """Return (polygon, row, first column whose centre lies right of it) of all crossings."""
    height, width = geobox.shape
    parts, whole = shapely.get_parts(geometry, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    column, row = ~geobox.transform * (xy[:, 0], xy[:, 1])
    # An edge leads from each vertex to the next one of the same ring; ends have shape (2, m).
    edge = np.flatnonzero(ring[1:] == ring[:-1])
    owner, ends = whole[part[ring[edge]]], np.stack((edge, edge + 1))
    row, column = row[ends], column[ends]
    # A row is crossed when its centre lies in [upper end, lower end): each vertex once.
    first, last = np.clip(np.ceil(row - 0.5), 0, height).astype(np.int32)
    edge = np.flatnonzero(first != last)
    low, high = np.minimum(first[edge], last[edge]), np.maximum(first[edge], last[edge])
    count = high - low
    # The outline's column on a centre line, row + 0.5, is offset + row * slope.
    slope = (column[1, edge] - column[0, edge]) / (row[1, edge] - row[0, edge])
    offset = column[0, edge] - (row[0, edge] - 0.5) * slope
    # One entry per edge and row that it crosses: low, low + 1, ..., high - 1.
    at = np.repeat(np.arange(len(edge)), count)
    crossed = np.arange(len(at)) - (np.cumsum(count) - count - low)[at]
    where = offset[at] + crossed * slope[at]
    return owner[edge][at], crossed, np.clip(np.ceil(where - 0.5), 0, width).astype(np.int64)
