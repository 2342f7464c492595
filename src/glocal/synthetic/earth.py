"""A made-up area in memory: layers and frames that ``glocal.fuse`` takes, and the truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
import xarray as xr
from numpy.typing import NDArray

from glocal.core.legends import legend
from glocal.io.labelled import labelled
from glocal.synthetic.scene import Scene
from glocal.synthetic.source_maps import SILENT
from glocal.synthetic.source_osm import painted
from glocal.synthetic.world import CLASSES, FAMILY


@dataclass(frozen=True, kw_only=True, eq=False)
class Earth:
    """A world: what sources say of it, and apart from them how it is."""

    scene: Scene
    """Everything that was drawn, images included."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the positions that arrays hold."""
        return legend("worldcover").subset(CLASSES).names

    @cached_property
    def sources(self) -> dict[str, Any]:
        """Layers (H, W) of class positions, -1 for silence, and frames of points, by name."""
        layers = {**self.scene.maps, "osm": painted(self.scene.osm, self.scene.geobox)}
        points = {name: self._frame(name) for name in self.scene.points if name != "anchors"}
        return {name: self._layer(one, name) for name, one in layers.items()} | points

    @property
    def roots(self) -> dict[str, str]:
        """What sources descend from where several share it: maps made from one satellite."""
        return {name: "satellite" for name in self.scene.maps if name in FAMILY}

    @cached_property
    def anchors(self) -> gpd.GeoDataFrame | None:
        """Reference points; None where the world has none."""
        return self._frame("anchors") if "anchors" in self.scene.points else None

    @cached_property
    def truth(self) -> xr.DataArray:
        """Class position of every cell at the reference date, (H, W)."""
        return self._layer(self.scene.ground.classes(), "truth")

    def _layer(self, values: NDArray[Any], name: str) -> xr.DataArray:
        said = np.where(values == SILENT, -1, values.astype(np.int16))
        return labelled(said.astype(np.int16), self.scene.geobox, name)

    def _frame(self, name: str) -> gpd.GeoDataFrame:
        """Return points with their class position and how well their place is known."""
        points, crs = self.scene.points[name], str(self.scene.geobox.crs)
        sd = getattr(self.scene.world, f"{name}_sd_m", 0.0)
        columns = {"label": points.said.astype(np.int64), "position_sd_m": sd}
        return gpd.GeoDataFrame(columns, geometry=shapely.points(points.xy), crs=crs)
