"""Arrays that know their place: xarray with coordinates of cell centres and a CRS.

As CF and GDAL write it: the CRS stands in a coordinate ``spatial_ref``, which the accessors
``.odc`` and ``.rio`` find.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.transform import Affine

from glocal.errors import GridMismatchError

CLASS = "class"
"""Name of the dimension of classes."""


def labelled(
    values: NDArray[Any], geobox: GeoBox, name: str, classes: Sequence[str] | None = None
) -> xr.DataArray:
    """Return ``values`` (H, W), or (K, H, W) with ``classes``, on the cells of ``geobox``."""
    height, width = geobox.shape
    if geobox.crs is None:
        raise ValueError("labelled needs a grid with a CRS")
    crs = CRS.from_wkt(geobox.crs.to_wkt())
    rows, columns = ("latitude", "longitude") if crs.is_geographic else ("y", "x")
    move = geobox.transform
    attrs = {"spatial_ref": crs.to_wkt(), "GeoTransform": " ".join(map(str, move.to_gdal()))}
    coords = {
        rows: (np.arange(height) + 0.5) * move.e + move.f,
        columns: (np.arange(width) + 0.5) * move.a + move.c,
        "spatial_ref": xr.DataArray(0, attrs=crs.to_cf() | attrs),
    }
    place = xr.DataArray(np.empty((height, width)), dims=(rows, columns), coords=coords)
    place.encoding["grid_mapping"] = "spatial_ref"
    return on_cells(values, place, name, classes)


def on_cells(
    values: NDArray[Any], place: xr.DataArray, name: str, classes: Sequence[str] | None = None
) -> xr.DataArray:
    """Return ``values`` (H, W), or (K, H, W) with ``classes``, on the cells of ``place``."""
    dims, coords = place.dims, dict(place.coords)
    if classes is not None:
        dims, coords = (CLASS, *dims), {**coords, CLASS: list(classes)}
    out = xr.DataArray(values, dims=dims, coords=coords, name=name)
    if "grid_mapping" in place.encoding:
        out.encoding["grid_mapping"] = place.encoding["grid_mapping"]
    return out


def geobox_of(place: xr.DataArray) -> GeoBox:
    """Return the grid of the last two dimensions of ``place``.

    Without coordinates cells are 1 wide, and x counts columns, y rows from the top; without a CRS
    the grid has none. Coordinates that are not evenly spaced raise ``GridMismatchError``.
    """
    rows, columns = place.dims[-2:]
    step_y, top = _axis(place, rows)
    step_x, left = _axis(place, columns)
    height, width = place.shape[-2:]
    return GeoBox((height, width), Affine(step_x, 0, left, 0, step_y, top), _crs(place))


def described(grid: GeoBox) -> str:
    """Return a grid in words, for messages.

    >>> described(GeoBox((2, 3), Affine(10, 0, 500, 0, -10, 90), "EPSG:32633"))
    '3 x 2 cells of 10 x 10 from (500, 90), EPSG:32633'
    """
    height, width = grid.shape
    across, down = (abs(one) for one in grid.resolution.xy)
    crs = "no CRS" if grid.crs is None else f"EPSG:{grid.crs.to_epsg()}"
    left, top = grid.transform.c, grid.transform.f
    return f"{width} x {height} cells of {across:g} x {down:g} from ({left:g}, {top:g}), {crs}"


def _axis(place: xr.DataArray, dim: Any) -> tuple[float, float]:
    """Return the step of one axis and its edge before the first cell."""
    if dim not in place.coords:
        return 1.0, 0.0
    at = np.asarray(place[dim].values, np.float64)
    steps = np.diff(at)
    step = float(steps.mean()) if len(steps) else 1.0
    if step == 0 or not np.allclose(steps, step, rtol=1e-3):
        raise GridMismatchError(
            f"cells must be evenly spaced along {dim!r}, got steps from {steps.min():g} to "
            f"{steps.max():g}; resample the array onto a regular grid"
        )
    return step, float(at[0]) - step / 2


def _crs(place: xr.DataArray) -> Any:
    named = place.encoding.get("grid_mapping", place.attrs.get("grid_mapping", "spatial_ref"))
    if named in place.coords:
        attrs = place.coords[named].attrs
        return attrs.get("crs_wkt", attrs.get("spatial_ref"))
    return place.attrs.get("crs")
