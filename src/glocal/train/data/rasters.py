"""Raster files of one place as what the model reads, on the grid of the first of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.chip import Chip
from glocal.core.interval import Interval
from glocal.errors import ConfigError
from glocal.io.raster import native_grid
from glocal.sources.chips.read import read_image
from glocal.sources.chips.sentinel2 import open_product
from glocal.train.data.captures import AT_SOME_TIME, gsd_m
from msgfm.batch import Batch, batch_of

KINDS: dict[str, str] = {"s2": "sentinel2", "rgb": "rgb", "sar": "sentinel1", "dsm": "dsm"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rasters:
    """Files of one place. The first given of ``s2``, ``rgb``, ``sar``, ``dsm`` sets the grid."""

    s2: Path | None = None
    rgb: Path | None = None
    sar: Path | None = None
    dsm: Path | None = None
    interval: Interval | None = None
    """When the sensors looked, where neither metadata nor a file name says so; may be unknown."""

    bands: tuple[str, ...] | None = None
    """Names of the bands of ``s2``, where the file has none."""

    unit: str | None = None
    """How the numbers of ``s2`` are stored (``DN`` or ``1``), where that can't be told."""

    offset: float | None = None
    """Added to the numbers of ``s2``, where no metadata says it (-1000 since baseline 04.00)."""

    sar_bands: tuple[str, ...] | None = None
    """VV and VH in the order of ``sar``, where the file names none."""

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

    def chips(self, grid: GeoBox) -> dict[str, Chip]:
        """Return sensor -> image on ``grid``; errors are those of `read_image`."""
        own: dict[str, dict[str, Any]] = {
            "s2": {"unit": self.unit, "bands": self.bands, "offset": self.offset},
            "sar": {"bands": self.sar_bands},
        }
        return {
            name: read_image(
                path,
                KINDS[name],
                grid,
                interval=self.interval or AT_SOME_TIME,
                source=name,
                **own.get(name, {}),
            )
            for name, path in self.given.items()
        }

    def batch(self, grid: GeoBox) -> Batch:
        """Return the place as a batch of one, with pixel size and dates."""
        chips = self.chips(grid)
        return batch_of(
            {name: holes(chip)[None] for name, chip in chips.items()},
            bands={name: chip.band_names for name, chip in chips.items()},
            gsd_m=dict.fromkeys(chips, gsd_m(grid)),
            day={name: chip.interval.day_of_year for name, chip in chips.items()},
        )


def holes(chip: Chip) -> NDArray[np.float32]:
    """Return the values of an image (C, H, W), NaN where invalid."""
    return np.where(chip.valid, chip.values, np.float32(np.nan))
