"""Change of support: from polygons and points to cells, once and visibly.

Rasterising is a pure function of geometry and grid, so it lives here and not with
the readers: sources keep their native support until they are fused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.special import ndtr

from glocal.core.burn import burn
from glocal.core.typing import Codes, Table

__all__ = ["PointCells", "paint", "point_cells"]

POSITION_REACH = 2.5
"""A point's position is followed this many standard uncertainties away."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PointCells:
    """Where points may really lie: a sparse matrix in three columns."""

    point: Codes
    """Shape (m,), index of the point; sorted."""

    cell: Codes
    """Shape (m,), flat index of the cell, row * W + column."""

    weight: Table
    """Shape (m,), probability that the point lies in the cell; sums to 1 per point."""


def paint(geometry: NDArray[Any], geobox: GeoBox) -> NDArray[np.int32]:
    """Return for every cell the index + 1 of the object that holds its centre, shape (H, W).

    Where objects overlap the later one speaks; 0 means none. Geometries are shapely
    polygons and multipolygons (x, y) in the CRS of ``geobox``, which is not rotated;
    empty and missing ones, points and lines are passed over.
    """
    return burn(geometry, geobox)


def point_cells(geometry: NDArray[Any], sd_m: Table, geobox: GeoBox) -> PointCells:
    """Return the cells in which each point may lie, with their probabilities.

    The position is taken as normal around the point with standard uncertainty
    ``sd_m`` (metres, shape (n,)) in x and y, cut at 2.5 of them and at the grid's
    edge. A point that lies outside the grid has no cells.
    """
    height, width = geobox.shape
    columns, rows = ~geobox.transform * (shapely.get_x(geometry), shapely.get_y(geometry))
    sd = np.maximum(sd_m / abs(float(geobox.resolution.x)), 1e-6)  # in cells, and not 0
    found: list[tuple[Codes, Codes, Table]] = []
    for i in range(len(geometry)):
        if not (0 <= rows[i] < height and 0 <= columns[i] < width):
            continue
        r, row_share = _spread(float(rows[i]), float(sd[i]), height)
        c, column_share = _spread(float(columns[i]), float(sd[i]), width)
        # errors in x and y are independent, so that the cell's share is a product
        weight = np.outer(row_share, column_share).ravel()
        cell = (r[:, None] * width + c[None, :]).ravel()
        keep = weight > 1e-3 * weight.max()  # far corners would be units for nothing
        found.append((np.full(int(keep.sum()), i), cell[keep], weight[keep] / weight[keep].sum()))
    if not found:
        nothing = np.empty(0, np.int64)
        return PointCells(point=nothing, cell=nothing, weight=np.empty(0))
    point, cell, share = (np.concatenate(part) for part in zip(*found, strict=True))
    return PointCells(point=point, cell=cell, weight=share)


def _spread(centre: float, sd: float, length: int) -> tuple[Codes, Table]:
    """Return the cells along one axis and the share of a normal distribution in each."""
    first = max(int(np.floor(centre - POSITION_REACH * sd)), 0)
    last = min(int(np.floor(centre + POSITION_REACH * sd)), length - 1)
    # the integral over each cell, not the density in its middle: sd may be far below a cell
    edges = np.arange(first, last + 2)
    share = np.diff(ndtr((edges - centre) / sd))
    return edges[:-1].astype(np.int64), share
