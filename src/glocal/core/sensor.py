"""Sensors and their bands as data: a new sensor is a row in ``sensors.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from glocal.errors import UnknownSensorError


@dataclass(frozen=True, slots=True, kw_only=True)
class Optical:
    """Response of an optical band."""

    center_um: float
    """Central wavelength in micrometres."""

    fwhm_um: float
    """Full width at half maximum in micrometres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Radar:
    """Response of a radar channel."""

    frequency_ghz: float
    polarization: str
    """Transmitted and received, as ``VV`` or ``VH``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A quantity that no detector saw directly (a height, a slope)."""

    quantity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One band: what it measures, and how stored numbers become that quantity."""

    name: str
    common_name: str = ""
    """STAC ``eo:common_name``; empty when there is none."""

    response: Optical | Radar | Derived
    gsd_m: float
    """Ground sampling distance at the sensor in metres, > 0."""

    unit: str
    """Unit after scaling: ``1`` (reflectance, linear power), ``dB``, ``m``."""

    scale: float = 1.0
    """value = stored * scale + offset."""

    offset: float = 0.0
    nodata: float | None = None
    """Stored number that means no data."""

    valid_min: float = float("-inf")
    """Smallest plausible value, in ``unit``."""

    valid_max: float = float("inf")
    """Largest plausible value, in ``unit``."""

    def __post_init__(self) -> None:
        if not self.gsd_m > 0:
            raise ValueError(f"Band {self.name}: gsd_m must be > 0, got {self.gsd_m}")
        if not self.valid_min < self.valid_max:
            raise ValueError(f"Band {self.name}: valid_min must be < valid_max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """An instrument at one processing level."""

    name: str
    title: str
    bands: tuple[Band, ...]
    short: str = ""
    """Name that the levels of one instrument share (``s2``), as the encoder calls it."""

    def __post_init__(self) -> None:
        names = [band.name for band in self.bands]
        if len(set(names)) != len(names) or not names:
            raise ValueError(f"Sensor {self.name}: band names must be unique and not empty")

    @classmethod
    def of_row(cls, name: str, row: dict[str, Any]) -> Sensor:
        """Return the sensor of a row of the table."""
        defaults = dict(row.get("defaults", {}))
        bands = []
        for raw in row["bands"]:
            fields = {**defaults, **raw}
            if "center_um" in fields:
                response: Optical | Radar | Derived = Optical(
                    center_um=fields.pop("center_um"), fwhm_um=fields.pop("fwhm_um")
                )
            elif "polarization" in fields:
                frequency, named = fields.pop("frequency_ghz"), fields.pop("polarization")
                response = Radar(frequency_ghz=frequency, polarization=named)
            else:
                response = Derived(quantity=fields.pop("quantity"))
            bands.append(Band(response=response, **fields))
        return cls(
            name=name, title=str(row["title"]), bands=tuple(bands), short=str(row.get("short", ""))
        )

    def has(self, *names: str) -> bool:
        """Return True when every band named (or common name) is there."""
        known = {one.name for one in self.bands} | {one.common_name for one in self.bands}
        return set(names) <= known

    def band(self, name: str) -> Band:
        """Return the band called ``name`` (or with that common name).

        Raises
        ------
        UnknownSensorError
            Lists the names that exist.
        """
        for one in self.bands:
            if name in (one.name, one.common_name):
                return one
        known = ", ".join(one.name for one in self.bands)
        raise UnknownSensorError(f"sensor {self.name} has no band {name!r}; it has: {known}")


@cache
def _table() -> dict[str, Sensor]:
    text = resources.files("glocal.core").joinpath("sensors.toml").read_text("utf-8")
    return {name: Sensor.of_row(name, row) for name, row in tomllib.loads(text).items()}


def sensor_names() -> tuple[str, ...]:
    """Return the names of all known sensors."""
    return tuple(_table())


def sensor(name: str) -> Sensor:
    """Return a known sensor.

    >>> sensor("sentinel2-l1c").band("nir").name
    'B08'

    Raises
    ------
    UnknownSensorError
        Lists the names that exist.
    """
    try:
        return _table()[name]
    except KeyError:
        raise UnknownSensorError(
            f"no sensor {name!r} in the table; known: {', '.join(_table())}"
        ) from None
