"""Change of support: from points to the cells in which they may lie.

A pure function of geometry and grid, like `glocal.core.burn` for polygons: sources keep their
native support until they are fused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.special import ndtr

from glocal.core.typing import Codes, Table

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


def point_cells(geometry: NDArray[Any], sd_m: Table, geobox: GeoBox) -> PointCells:
    """Return the cells in which each point may lie, with their probabilities.

    The position is taken as normal around the point with standard uncertainty
    ``sd_m`` (metres, shape (n,)) in x and y, cut at 2.5 of them and at the grid's
    edge. A point that lies outside the grid has no cells.
    """
    height, width = geobox.shape
    columns, rows = ~geobox.transform * (shapely.get_x(geometry), shapely.get_y(geometry))
    sd = np.maximum(sd_m / abs(float(geobox.resolution.x)), 1e-6)  # in cells, and not 0
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    on_grid = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    for i in np.flatnonzero(on_grid).tolist():
        r, row_share = _spread(float(rows[i]), float(sd[i]), height)
        c, column_share = _spread(float(columns[i]), float(sd[i]), width)
        # errors in x and y are independent, so that the cell's share is a product
        weight = np.outer(row_share, column_share).ravel()
        cell = (r[:, None] * width + c[None, :]).ravel()
        keep = weight > 1e-3 * weight.max()  # far corners would be units for nothing
        found.append((np.full(int(keep.sum()), i), cell[keep], weight[keep] / weight[keep].sum()))
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
