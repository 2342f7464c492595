"""Where the statements lie that somebody hands over: cells of a grid, or rows of a table.

The engine works on a grid of its own, in metres as far as they are known; what comes out of it is
laid out again as the input was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine

from glocal.core.typing import Codes, Layers, Table
from glocal.errors import BadSourceError, GridMismatchError
from glocal.io.labelled import described, geobox_of, on_cells

DEGREE_M = 111_320.0
"""Length of a degree of latitude in metres."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """The cells of arrays of shape (H, W)."""

    place: xr.DataArray
    """Shape (H, W): its coordinates and CRS are those of all that comes out."""

    @cached_property
    def given(self) -> GeoBox:
        """The grid in the coordinates of whoever handed it over."""
        return geobox_of(self.place)

    @cached_property
    def geobox(self) -> GeoBox:
        """The engine's grid: the same cells, as squares, in metres."""
        width, height = (abs(float(one)) for one in self.given.resolution.xy)
        side = float(np.sqrt(width * height))
        if self.given.crs is not None and self.given.crs.geographic:
            middle = self.given.extent.centroid.coords[0][1]
            side *= DEGREE_M * float(np.sqrt(np.cos(np.deg2rad(middle))))
        return GeoBox(self.given.shape, Affine.scale(side, -side), None)

    def layer(self, values: NDArray[Any], name: str) -> xr.DataArray:
        """Return ``values`` (H, W) with coordinates."""
        return on_cells(values, self.place, name)

    def layers(self, values: Layers, name: str, classes: Sequence[str]) -> xr.DataArray:
        """Return ``values`` (H, W, K) with coordinates, classes first."""
        return on_cells(np.moveaxis(values, -1, 0), self.place, name, classes)

    def located(self, frame: pd.DataFrame, source: str) -> NDArray[np.object_]:
        """Return the geometries of ``frame`` (n,) on the engine's grid.

        They stand in a column of geometries, in ``x`` and ``y`` (in the CRS of the grid), or in
        ``row`` and ``column``, counted from 0 at the top left.
        """
        columns = set(frame.columns)
        if isinstance(frame, gpd.GeoDataFrame):
            known = frame.crs is not None and self.given.crs is not None
            here = frame.geometry.to_crs(str(self.given.crs)) if known else frame.geometry
            geometry = np.asarray(here.array)
        elif {"x", "y"} <= columns:
            geometry = shapely.points(np.asarray(frame[["x", "y"]], np.float64))
        elif {"row", "column"} <= columns:
            cell = np.asarray(frame[["column", "row"]], np.float64) + 0.5
            geometry = shapely.points(_moved(cell, self.given.transform))
        else:
            raise BadSourceError(
                f"{source}: where a row of the frame lies stands in a column of geometries, in x "
                f"and y, or in row and column; got the columns {sorted(map(str, columns))}"
            )
        there = ~(shapely.is_missing(geometry) | shapely.is_empty(geometry))
        if not (there & np.isfinite(shapely.bounds(geometry)).all(axis=1)).all():
            raise BadSourceError(f"{source}: a row has no place; leave it out: frame.dropna()")
        onto = self.geobox.transform * ~self.given.transform
        moved: NDArray[np.object_] = shapely.transform(geometry, lambda xy: _moved(xy, onto))
        if len(moved) and not shapely.intersects(moved, self._outline).any():
            raise GridMismatchError(
                f"{source}: none of its {len(moved)} places lies on the grid, "
                f"{described(self.given)}; "
                "give it the CRS of the grid, for example with frame.to_crs(...)"
            )
        return moved

    @cached_property
    def _outline(self) -> Any:
        height, width = self.geobox.shape
        side = float(self.geobox.resolution.x)
        return shapely.box(0, -height * side, width * side, 0)

    def rows(self, at: Codes) -> pd.DataFrame:
        """Return a frame with one row per cell ``at`` (flat index): where it lies."""
        rows, columns = np.divmod(at, self.place.shape[1])
        named = zip(self.place.dims, (rows, columns), strict=True)
        frame = pd.DataFrame(
            {
                str(dim): self.place[dim].values[i] if dim in self.place.coords else i
                for dim, i in named
            }
        )
        if self.given.crs is None:
            return frame
        centre = _moved(np.column_stack([columns, rows]) + 0.5, self.given.transform)
        return gpd.GeoDataFrame(frame, geometry=shapely.points(centre), crs=str(self.given.crs))


@dataclass(frozen=True, kw_only=True, eq=False)
class Items:
    """The rows of a table: things without a place, each a cell of its own for the engine."""

    index: pd.Index

    @cached_property
    def geobox(self) -> GeoBox:
        """One row of cells."""
        return GeoBox((1, len(self.index)), Affine.scale(1, -1), None)

    def layer(self, values: NDArray[Any], name: str) -> pd.Series:
        """Return ``values`` (1, n) as a column."""
        return pd.Series(values[0], index=self.index, name=name)

    def layers(self, values: Layers, name: str, classes: Sequence[str]) -> pd.DataFrame:
        """Return ``values`` (1, n, K) as a frame with a column per class."""
        return pd.DataFrame(values[0], index=self.index, columns=pd.Index(classes, name=name))

    def rows(self, at: Codes) -> pd.DataFrame:
        """Return a frame with one row per item ``at`` (position)."""
        return pd.DataFrame(index=self.index[at])


Layout = Cells | Items


def _moved(xy: Table, transform: Affine) -> Table:
    return np.column_stack(transform * (xy[:, 0], xy[:, 1]))
