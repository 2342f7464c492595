"""Pixels that know where, when, by what, and which of them are valid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox

from glocal.core.interval import Interval
from glocal.core.provenance import Provenance
from glocal.core.result import freeze
from glocal.core.sensor import Band
from glocal.core.typing import Bools, Bytes, Layers
from glocal.errors import UnknownSensorError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chip:
    """A georeferenced crop of one sensor, in physical units."""

    values: Layers
    """Shape (band, y, x), in each band's unit; the content of invalid cells means nothing."""

    valid: Bools
    """Shape (band, y, x); True where data is present (the reverse of a NumPy mask)."""

    bands: tuple[Band, ...]
    """One per first axis of ``values``."""

    geobox: GeoBox
    interval: Interval
    """When the sensor looked."""

    provenance: Provenance
    sensor: str = ""
    """Name of the sensor in the table (`glocal.core.sensor`), empty where it is not known."""

    def __post_init__(self) -> None:
        expected = (len(self.bands), *self.geobox.shape)
        for name in ("values", "valid"):
            array = getattr(self, name)
            if array.shape != expected:
                raise ValueError(
                    f"Chip.{name} must have shape (band, y, x) = {expected}, got {array.shape}"
                )
        if self.valid.dtype != np.bool_:
            raise ValueError(f"Chip.valid must be bool, got {self.valid.dtype}")
        if not np.isfinite(self.values[self.valid]).all():
            raise ValueError("Chip.values must be finite wherever valid is True")
        freeze(self)

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands, in the order of the first axis."""
        return tuple(band.name for band in self.bands)

    def band(self, name: str) -> Layers:
        """Return one band, shape (y, x), NaN where invalid.

        ``name`` is a band name or an ``eo:common_name``.
        """
        for i, one in enumerate(self.bands):
            if name in (one.name, one.common_name):
                return np.where(self.valid[i], self.values[i], np.float32(np.nan))
        raise UnknownSensorError(
            f"the chip has no band {name!r}; it has: {', '.join(self.band_names)}"
        )

    def has(self, *names: str) -> bool:
        """Return True when every band named (or common name) is present."""
        known = {band.name for band in self.bands} | {band.common_name for band in self.bands}
        return set(names) <= known


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """One image on the grid, and which of its cells show the ground."""

    chip: Chip
    clear: Bools
    """Shape (H, W)."""

    mask: Bytes
    """Shape (H, W): 0 clear, 1 cloud, 2 shadow, 3 no data."""

    @property
    def hidden(self) -> Bools:
        """Cells under cloud or shadow, shape (H, W)."""
        return np.isin(self.mask, (1, 2))

    @property
    def layers(self) -> Layers:
        """The bands, shape (B, H, W), NaN where the image does not show the ground."""
        seen = self.clear & self.chip.valid.all(axis=0)
        return np.where(seen, self.chip.values, np.float32(np.nan))
