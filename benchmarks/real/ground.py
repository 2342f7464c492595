"""An area as a user would make it, and apart from it the truth: what all areas are made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from glocal.core.legends import legend
from glocal.io.yaml import yaml_text
from glocal.loop.area.config import load
from glocal.loop.area.schema import AreaConfig

MOST_POINTS = 5000
"""Cells of a raster truth that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """One area on disk, without anchors, and its truth."""

    name: str
    path: Path
    """``area.yaml``."""

    truth: pd.DataFrame
    """Columns ``id``, ``x``, ``y`` (CRS of the area), ``class`` (names of its legend), and where
    an interpreter said them ``confidence`` and ``second``."""

    licence: str
    """Of the truth."""

    @property
    def config(self) -> AreaConfig:
        """What ``area.yaml`` says."""
        return load(self.path)


def ground(
    folder: Path, truth: pd.DataFrame, area: Mapping[str, Any], *, licence: str, classes: str = ""
) -> Ground:
    """Write ``area.yaml`` into ``folder``; ``classes`` are the lines of a legend of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    if classes:
        (folder / "legend.csv").write_text(f"value,name,title,color,concept\n{classes}\n", "utf-8")
        area = {**area, "legend": "legend.csv"}
    path = folder / "area.yaml"
    path.write_text(yaml_text({"name": folder.name, **area}), "utf-8")
    return Ground(name=folder.name, path=path, truth=truth, licence=licence)


def own_classes(names: Mapping[int, str]) -> str:
    """Return lines of a legend: {code: name of a WorldCover class} with that class's concept."""
    known = {one.name: one for one in legend("worldcover").classes}
    rows = ((value, known[name]) for value, name in names.items())
    return "\n".join(f"{v},{c.name},{c.title},{c.color},{c.concept}" for v, c in rows)


def write_raster(
    path: Path,
    layers: NDArray[Any],
    transform: Affine,
    crs: Any,
    *,
    bands: Sequence[str] = (),
    nodata: float | None = None,
) -> None:
    """Write layers (B, H, W) as GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = layers.shape
    about = {"count": count, "height": height, "width": width, "dtype": layers.dtype.name}
    with rasterio.open(
        path, "w", driver="GTiff", crs=crs, transform=transform, nodata=nodata, **about
    ) as file:
        file.write(layers)
        for i, name in enumerate(bands, start=1):
            file.set_band_description(i, name)


def spread(codes: NDArray[Any], names: Mapping[int, str], transform: Affine) -> pd.DataFrame:
    """Return a truth of at most `MOST_POINTS` cells of a raster, evenly over space.

    Cells whose code ``names`` lacks are unknown. Squares of cells are as large as the number
    asks for; of each one known cell is drawn, once and for all.
    """
    row, column = np.nonzero(np.isin(codes, list(names)))
    order = np.random.default_rng(0).permutation(len(row))
    row, column = row[order], column[order]
    side = 1
    while True:
        square = np.stack([row // side, column // side])
        first = np.unique(square, axis=1, return_index=True)[1]
        if len(first) <= MOST_POINTS:
            break
        side += 1
    row, column = row[np.sort(first)], column[np.sort(first)]
    x, y = transform * (column + 0.5, row + 0.5)
    said = [names[int(code)] for code in codes[row, column]]
    return pd.DataFrame({"id": np.arange(len(row)), "x": x, "y": y, "class": said})


class Cube:
    """A netCDF-4 cube (time, y, x) on a north-up grid."""

    def __init__(self, path: Path) -> None:
        self._file = h5py.File(path)
        x, y = self._file["x"][:], self._file["y"][:]
        step = float(x[1] - x[0])
        self.transform = Affine(step, 0, x[0] - step / 2, 0, -step, y[0] + step / 2)

    def layer(self, name: str, at: int | slice = slice(None)) -> NDArray[Any]:
        """Return one variable, all of it or at some times."""
        return np.asarray(self._file[name][at])

    def days(self, name: str = "timestamp") -> list[str]:
        """Return the day of every time, YYYY-MM-DD."""
        units = self._file[name].attrs["units"]
        unit, _, start = (units.decode() if isinstance(units, bytes) else units).split(" ", 2)
        first = datetime.fromisoformat(start)
        times = (timedelta(**{unit: int(one)}) for one in self._file[name][:])
        return [(first + one).date().isoformat() for one in times]


def grid_of(transform: Affine, shape: Sequence[int], crs: str) -> dict[str, Any]:
    """Return ``grid:`` of a raster that lies on whole multiples of its cells."""
    height, width = shape
    left, top = transform * (0, 0)
    right, bottom = transform * (width, height)
    return {"bbox": [left, bottom, right, top], "crs": crs, "resolution": transform.a}
