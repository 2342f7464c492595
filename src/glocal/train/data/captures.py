"""A capture is what one sensor saw at one place and time: described first, read in pieces later."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer

from glocal.core.chip import Chip
from glocal.core.interval import Interval
from glocal.core.provenance import Provenance
from glocal.core.sensor import Sensor, sensor
from glocal.errors import BadSourceError, UnitError
from glocal.io.raster import Pixels, cell_size_on, read_pixels, warp
from glocal.train.data.shards import SENSORS
from msgfm.sensors import sensor as model_sensor

DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?!\d)")
AT_SOME_TIME = Interval.parse("1900/2100")
"""When captures without a date were taken."""

OUTLIERS = 0.01
"""Share of pixels outside the plausible range of a band that is dropped quietly."""

WORDS = {
    **dict.fromkeys(("rgb", "ortho"), "rgb"),
    **dict.fromkeys(("s2", "sentinel2"), "s2"),
    **dict.fromkeys(("s1", "sentinel1", "sar"), "sar"),
    **dict.fromkeys(("dsm", "dem"), "dsm"),
}
"""Words of names that tell a sensor."""

Reader = Callable[[GeoBox], Pixels]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """What a ``pool.toml`` says, or the defaults."""

    folder: Path
    origin: str
    licence: str
    rules: tuple[Mapping[str, Any], ...] = ()

    def rule(self, path: Path) -> Mapping[str, Any]:
        """Return the first rule that fits a file, empty when none does."""
        relative = path.relative_to(self.folder).as_posix()
        return next((one for one in self.rules if fnmatch(relative, one["match"])), {})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BandFile:
    """One band of a capture: where its pixels are and how they become a quantity."""

    name: str
    """In the table of the sensor."""

    path: Path
    read: Reader
    """Returns the stored pixels that a grid needs."""

    grid: GeoBox
    scale: float
    offset: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Capture:
    """What one sensor saw at one place and time."""

    name: str
    sensor: str
    """Short name: rgb, s2, sar, dsm."""

    bands: tuple[BandFile, ...]
    interval: Interval | None
    origin: str
    licence: str
    power: bool = False
    """Radar is stored as linear power instead of decibels."""

    @property
    def grid(self) -> GeoBox:
        """The finest grid of its bands."""
        return min((band.grid for band in self.bands), key=gsd_m)

    @property
    def day(self) -> float:
        """Day of the year of its middle, NaN where unknown or spread over months."""
        return (self.interval or AT_SOME_TIME).day_of_year


def gsd_m(grid: GeoBox) -> float:
    """Return the side of the pixel in the middle of a grid in metres on the ground.

    The square root of its true area, so that degrees and stretched projections are right.
    """
    height, width = grid.shape
    columns = width / 2 + np.array([0, 1, 1, 0])
    rows = height / 2 + np.array([0, 0, 1, 1])
    a, b, c, d, e, f = tuple(grid.transform)[:6]
    lon, lat = _to_degrees(str(grid.crs)).transform(
        a * columns + b * rows + c, d * columns + e * rows + f
    )
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)
    return float(np.sqrt(abs(area)))


@lru_cache
def _to_degrees(crs: str) -> Transformer:
    return Transformer.from_crs(CRS(crs), "EPSG:4326", always_xy=True)


def date_in(text: str) -> Interval | None:
    """Return the first date YYYYMMDD, YYYY-MM-DD or YYYY_MM_DD of a name.

    >>> date_in("S2A_20170216T102101").isoformat()
    '2017-02-16T00:00:00Z/2017-02-17T00:00:00Z'
    """
    found = DATE.search(text)
    try:
        return Interval.of_day(date(*map(int, found.groups()))) if found else None
    except ValueError:
        return None


def table_of(short: str) -> Sensor:
    """Return the row of the table whose bands shards of a sensor hold."""
    if short not in SENSORS:
        raise BadSourceError(f"sensor must be one of {', '.join(SENSORS)}, got {short!r}")
    return sensor(SENSORS[short])


def names_of(where: str, short: str, count: int, given: Sequence[str]) -> tuple[str, ...]:
    """Return the band of the table for each of ``count`` layers of a file, "" to leave one out.

    ``given`` are names or common names; without them the number of layers decides.
    """
    table = table_of(short)
    if given:
        names = tuple(table.band(name).name if name else "" for name in given)
        kept = [name for name in names if name]
        if len(names) != count or len(set(kept)) != len(kept) or not kept:
            raise BadSourceError(
                f"{where}: {count} layers, but bands = {list(given)}; name each layer once, "
                "with an empty text for those to leave out"
            )
        return names
    if short == "rgb" and count == 4:
        return (*(band.name for band in table.bands), "")  # alpha or near infrared
    for level in model_sensor(short).levels:
        if len(level) == count:
            return level
    raise BadSourceError(
        f"{where}: {count} layers fit no level of {short!r}; write bands = [...] in pool.toml"
    )


def scaling(
    where: str, short: str, dtype: str, scale: float | None, offset: float | None
) -> tuple[float, float]:
    """Return scale and offset as they are given, else what is usual for numbers of a type.

    Floating point is taken as the physical unit; whole numbers as the table of the sensor
    says for colour (8 bits) and reflectance, and as metres for heights.
    """
    usual = 1.0, 0.0
    if scale is None and np.dtype(dtype).kind != "f" and short != "dsm":
        if (short == "rgb" and dtype != "uint8") or short == "sar":
            raise BadSourceError(
                f"{where}: the scale of {dtype} numbers of {short!r} is not known; "
                "write scale = ... in pool.toml"
            )
        first = table_of(short).bands[0]
        usual = first.scale, first.offset
    scale = usual[0] if scale is None else scale
    offset = usual[1] if offset is None else offset
    return float(scale), float(offset)


def raster_reader(path: Path, index: int, crs: Any, nodata: Sequence[float]) -> Reader:
    """Return the reader of one layer (1 is the first) of a raster."""
    return lambda grid: read_pixels(path, grid, band=index, crs=crs, nodata=nodata)


def chip_on(capture: Capture, grid: GeoBox) -> Chip:
    """Read what a capture has on a grid, in physical units.

    Pixels on the same lattice are copied, finer ones averaged, coarser ones interpolated
    (radar as power). Cells without data are invalid; outside of the capture all are.

    Raises
    ------
    UnitError
        More than a hundredth of the values of a band are outside of its plausible range.
    """
    table = table_of(capture.sensor)
    shape = (len(capture.bands), *grid.shape)
    values, valid = np.zeros(shape, np.float32), np.zeros(shape, bool)
    bands = tuple(table.band(band.name) for band in capture.bands)
    for i, band in enumerate(bands):
        values[i], valid[i] = _band_on(capture, capture.bands[i], grid)
        inside = (values[i] >= band.valid_min) & (values[i] <= band.valid_max)
        share = 1 - float(inside[valid[i]].mean()) if valid[i].any() else 0.0
        if share > OUTLIERS:
            low, high = np.percentile(values[i][valid[i]], (1, 99))
            raise UnitError(
                f"{capture.name}: {share:.0%} of band {band.name} lies outside {band.valid_min:g}.."
                f"{band.valid_max:g} {band.unit} (1st and 99th percentile {low:.4g}, {high:.4g}); "
                "write scale, offset or nodata in pool.toml"
            )
        valid[i] &= inside
    return Chip(
        values=values,
        valid=valid,
        bands=bands,
        geobox=grid,
        interval=capture.interval or AT_SOME_TIME,
        provenance=Provenance(
            activity=f"read {capture.sensor}",
            agent=capture.origin,
            used=tuple(sorted({band.path.name for band in capture.bands})),
            licences=frozenset({capture.licence}),
            roots=frozenset({capture.name}),
        ),
    )


def _band_on(
    capture: Capture, band: BandFile, grid: GeoBox
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    pixels = band.read(grid)
    values = (pixels.values * np.float64(band.scale) + band.offset).astype(np.float32)
    radar = capture.sensor == "sar"
    if radar and not capture.power:
        values = np.power(10, values / 10, where=pixels.valid, out=np.zeros_like(values))
    known = pixels.valid & np.isfinite(values)
    ready = Pixels(values=values, valid=known, grid=pixels.grid)
    # the same lattice is copied; else several pixels of a cell are averaged, few interpolated
    how = "average" if cell_size_on(band.grid, grid) < 0.7 else "bilinear"
    if band.grid.crs == grid.crs:
        shift = np.array(tuple(~band.grid.transform * grid.transform)[:6])
        if np.allclose(shift[[0, 1, 3, 4]], [1, 0, 0, 1], atol=1e-6) and np.allclose(
            shift[[2, 5]], shift[[2, 5]].round(), atol=1e-3
        ):
            how = "nearest"
    out, there = warp(ready, grid, how)
    if radar:
        there &= out > 0
        out = 10 * np.log10(np.where(there, out, 1))
    return np.where(there, out, 0).astype(np.float32), there
