"""Sensors and their bands as data: a new sensor is a row in ``sensors.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from msgfm.errors import SensorError


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One band: what it measures, and what the model takes as usual."""

    name: str
    common_name: str = ""
    """STAC ``eo:common_name``; empty when there is none."""

    wavelength_um: float | None = None
    """Centre in micrometres; None for what no optical detector saw."""

    gsd_m: float
    """Ground sampling distance at the sensor in metres, > 0."""

    unit: str
    """``1`` (reflectance, colour), ``dB`` (radar), ``m`` (height)."""

    scale: float = 1.0
    """value = stored * scale + offset, where files usually store whole numbers."""

    offset: float = 0.0
    valid_min: float
    """Smallest plausible value, in ``unit``."""

    valid_max: float
    """Largest plausible value, in ``unit``."""

    mean: float
    """Typical value over land, in ``unit``: what the model subtracts."""

    std: float
    """Typical spread, in ``unit``, > 0: what the model divides by."""

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"Band {self.name}: std must be > 0, got {self.std}")
        if not self.gsd_m > 0:
            raise ValueError(f"Band {self.name}: gsd_m must be > 0, got {self.gsd_m}")
        if not self.valid_min < self.valid_max:
            raise ValueError(f"Band {self.name}: valid_min must be < valid_max")

    @property
    def is_height(self) -> bool:
        """Read relative to the mean of its chip."""
        return self.unit == "m"

    @property
    def is_radar(self) -> bool:
        """Backscatter in decibels."""
        return self.unit == "dB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """What one patch embedding reads: all bands of an instrument, whatever its levels."""

    name: str
    title: str
    bands: tuple[Band, ...]
    levels_without: tuple[tuple[str, ...], ...] = ()
    """Names of the bands that each further processing level lacks."""

    def __post_init__(self) -> None:
        names = [band.name for band in self.bands]
        if len(set(names)) != len(names) or not names:
            raise ValueError(f"Sensor {self.name}: band names must be unique and not empty")

    @property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """Band names of each processing level, the fullest first."""
        return tuple(
            tuple(band.name for band in self.bands if band.name not in without)
            for without in ((), *self.levels_without)
        )

    def band(self, name: str) -> Band:
        """Return the band called ``name`` (or with that common name).

        Raises
        ------
        SensorError
            Lists the names that exist.
        """
        for one in self.bands:
            if name in (one.name, one.common_name):
                return one
        known = ", ".join(one.name for one in self.bands)
        raise SensorError(f"sensor {self.name} has no band {name!r}; it has: {known}")


def sensor(name: str) -> Sensor:
    """Return a sensor of the table.

    >>> [len(names) for names in sensor("s2").levels]
    [13, 12]

    Raises
    ------
    SensorError
        Lists the names that exist.
    """
    found = _table().get(name)
    if found is None:
        raise SensorError(
            f"no sensor is called {name!r}; known: {', '.join(sorted(_table()))}. "
            "A new sensor is a row in msgfm/sensors.toml"
        )
    return found


def bands_of(name: str) -> tuple[Band, ...]:
    """Return every band of a sensor, in table order: what the model's arrays hold."""
    return sensor(name).bands


@cache
def _table() -> dict[str, Sensor]:
    rows = tomllib.loads(resources.files("msgfm").joinpath("sensors.toml").read_text("utf-8"))
    return {
        name: Sensor(
            name=name,
            title=row["title"],
            bands=tuple(Band(**{**row.get("defaults", {}), **band}) for band in row["bands"]),
            levels_without=tuple(map(tuple, row.get("levels_without", ()))),
        )
        for name, row in rows.items()
    }
