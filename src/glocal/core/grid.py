"""A few verbs on odc-geo's ``GeoBox``, the grid on which sources meet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.geom import BoundingBox, Geometry
from odc.geo.types import Shape2d
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from glocal.core.typing import Bytes, Codes, Window
from glocal.errors import GridMismatchError


def area_geobox(bbox: tuple[float, float, float, float], crs: Any, resolution: float) -> GeoBox:
    """Return the north-up grid that covers ``bbox`` (left, bottom, right, top in ``crs``).

    Edges snap to multiples of ``resolution``, so that areas side by side share cells.
    The CRS must be projected and in metres: areas and distances are computed on it.
    """
    box = GeoBox.from_bbox(BoundingBox(*bbox, crs=crs), resolution=resolution, tight=False)
    if box.crs is None or not box.crs.projected:
        raise GridMismatchError(
            f"the area needs a projected CRS in metres, got {crs!r}; use the UTM zone of the area"
        )
    return box


def cell_area_ha(geobox: GeoBox) -> float:
    """Return the area of one cell in hectares."""
    return abs(float(geobox.resolution.x) * float(geobox.resolution.y)) / 1e4


def cells_of_points(geobox: GeoBox, x: NDArray[Any], y: NDArray[Any]) -> Codes:
    """Return the flat cell index of each point (x, y in the grid's CRS); -1 outside."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    # a projection answers infinity where it does not hold
    finite = np.isfinite(x) & np.isfinite(y)
    column, row = ~geobox.transform * (np.where(finite, x, 0), np.where(finite, y, 0))
    height, width = geobox.shape
    row, column = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    inside = finite & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return np.where(inside, row * width + column, -1)


def points_at(geobox: GeoBox, row: Any, column: Any) -> tuple[Any, Any]:
    """Return x, y in the grid's CRS at rows and columns; (0, 0) is the first cell's outer corner.

    >>> one = area_geobox((0, 0, 40, 20), "EPSG:32633", 10)
    >>> points_at(one, np.array([0, 0.5]), np.array([0, 3.5]))
    (array([ 0., 35.]), array([20., 15.]))
    """
    a, b, c, d, e, f = tuple(geobox.transform)[:6]
    return a * column + b * row + c, d * column + e * row + f


def block_side(shape: tuple[int, int] | Shape2d, most: int, folds: int, cells: Codes) -> int:
    """Return the side in cells of the blocks that are dealt into ``folds``.

    Two of the places ``cells`` (flat) share a block, on average: then what is left out is about as
    far from what teaches as the ground of the map is from all places (in the spirit of the
    nearest-neighbour distance matching of Linnenbrink et al. 2024). At most ``most``, at least 4,
    and so small that there are four blocks a fold.
    """
    height, width = shape
    blocks = max(len(np.unique(cells)) // 2, 4 * folds)
    return int(np.clip(np.sqrt(height * width / blocks), 4, most))


def block_folds(
    geobox: GeoBox, block: int, folds: int, *, seed: int = 0, cells: Codes | None = None
) -> Bytes:
    """Return the fold 0..folds-1 of every cell, shape (H, W), constant in square blocks.

    ``block`` is the side of a block in cells, which are numbered from the grid's origin. They are
    dealt out in a seeded order, those with most of the places ``cells`` (flat) first, each into the
    fold that has fewest of them yet, and of equal ones the fewest blocks.
    """
    height, width = geobox.shape
    rows, columns = -(-height // block), -(-width // block)
    row, column = np.divmod(np.empty(0, np.int64) if cells is None else cells, width)
    held = np.bincount(row // block * columns + column // block, minlength=rows * columns)
    order = np.random.default_rng(seed).permutation(rows * columns)
    of_block = np.zeros(rows * columns, np.uint8)
    places, blocks = np.zeros(folds, np.int64), np.zeros(folds, np.int64)
    for one in order[np.argsort(-held[order], kind="stable")].tolist():
        fold = int(np.lexsort((blocks, places))[0]) if held[one] else int(blocks.argmin())
        of_block[one] = fold
        places[fold] += held[one]
        blocks[fold] += 1
    wide = np.repeat(np.repeat(of_block.reshape(rows, columns), block, axis=0), block, axis=1)
    return wide[:height, :width]


def tiles(
    shape: tuple[int, int] | Shape2d, size: int, halo: int, within: Window | None = None
) -> Iterator[tuple[Window, Window]]:
    """Yield (inner, outer) of square tiles of a grid, or of its part ``within``.

    Outer holds the halo, which ends at the edge of the grid.
    """
    down, across = within or (slice(0, shape[0]), slice(0, shape[1]))
    for top in range(down.start, down.stop, size):
        for left in range(across.start, across.stop, size):
            bottom, right = min(top + size, down.stop), min(left + size, across.stop)
            rows = slice(max(top - halo, 0), min(bottom + halo, shape[0]))
            columns = slice(max(left - halo, 0), min(right + halo, shape[1]))
            yield (slice(top, bottom), slice(left, right)), (rows, columns)


def inside(part: Window, whole: Window) -> Window:
    """Return where ``part`` of a grid lies in ``whole``, which holds it."""
    (rows, columns), (y, x) = part, (one.start for one in whole)
    return slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x)


def require_overlap(name: str, extent: Geometry, geobox: GeoBox) -> None:
    """Refuse a source whose ``extent`` does not touch the area.

    Raises
    ------
    GridMismatchError
        Names both boxes in longitude and latitude.
    """
    area = geobox.extent
    # Compared in the CRS of the source: a global extent has no outline in a UTM zone.
    if not extent.geom.intersects(_in_crs(area, extent.crs)):
        ours, theirs = (
            tuple(round(float(v), 4) for v in _in_crs(one, "EPSG:4326").bounds)
            for one in (area, extent)
        )
        raise GridMismatchError(
            f"{name} does not overlap the area: it spans lon/lat {theirs}, the area {ours}; "
            "check the CRS of the file and the order of its coordinates"
        )


def _in_crs(geometry: Geometry, crs: Any) -> BaseGeometry:
    project = Transformer.from_crs(str(geometry.crs), str(crs), always_xy=True).transform
    return shapely.transform(geometry.geom, project, interleaved=False)
