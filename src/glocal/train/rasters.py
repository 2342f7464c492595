"""Raster files of one place as what the model reads, on the grid of the first of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.interval import Interval
from glocal.errors import ConfigError
from glocal.io.raster import native_grid
from glocal.model.batch import Batch, batch_of
from glocal.sources.imagery import Kind, read_image
from glocal.sources.sentinel2 import open_product

__all__ = ["Images"]

KINDS: dict[str, Kind] = {"s2": "sentinel2", "rgb": "rgb", "sar": "sentinel1", "dsm": "dsm"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Files of one place. The first given of ``s2``, ``rgb``, ``sar``, ``dsm`` sets the grid."""

    s2: Path | None = None
    rgb: Path | None = None
    sar: Path | None = None
    dsm: Path | None = None
    interval: Interval | None = None
    """When the sensors looked; needed where neither metadata nor a file name says so."""

    bands: tuple[str, ...] | None = None
    """Names of the bands of ``s2``, where the file has none."""

    unit: str | None = None
    """How the numbers of ``s2`` are stored (``DN`` or ``1``), where that can't be told."""

    @property
    def given(self) -> dict[str, Path]:
        """Sensor -> file."""
        found = {name: getattr(self, name) for name in KINDS}
        return {name: Path(path) for name, path in found.items() if path is not None}

    def grid(self) -> GeoBox:
        """Return the finest grid among the bands of the first file.

        Raises
        ------
        ConfigError
            No file is given.
        """
        if not self.given:
            raise ConfigError(f"no image is given; name at least one of {', '.join(KINDS)}")
        name, path = next(iter(self.given.items()))
        files = {path}
        if name == "s2":
            files = {file for file, _ in open_product(path, self.bands).bands.values()}
        grids = [native_grid(file) for file in sorted(files)]
        return min(grids, key=lambda grid: abs(grid.resolution.x))

    def arrays(self, grid: GeoBox) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
        """Return sensor -> (1, C, H, W) with NaN where invalid, and sensor -> names of bands."""
        values, names = {}, {}
        for name, path in self.given.items():
            chip = read_image(
                path,
                KINDS[name],
                grid,
                interval=self.interval,
                unit=self.unit if name == "s2" else None,
                bands=self.bands if name == "s2" else None,
                source=name,
            )
            values[name] = np.where(chip.valid, chip.values, np.float32(np.nan))[None]
            names[name] = chip.band_names
        return values, names

    def batch(self, grid: GeoBox) -> Batch:
        """Return the place as a batch of one.

        Raises
        ------
        GlocalError
            As `read_image` and `batch_of` say: missing files, wrong units, no overlap.
        """
        values, names = self.arrays(grid)
        return batch_of(values, bands=names)
