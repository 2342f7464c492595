"""Which cells of an image show the ground.

With a Sentinel-2 scene classification (SCL) its classes decide. Without one, spectral
tests: the potential-cloud, snow, water and cirrus tests of Fmask (Zhu & Woodcock 2012,
doi:10.1016/j.rse.2011.10.028; Zhu, Wang & Woodcock 2015, doi:10.1016/j.rse.2014.12.014),
and instead of its thermal probability the distance from the scene's clear line of blue
against red (haze-optimised transform, Zhang, Guindon & Cihlar 2002,
doi:10.1016/S0034-4257(02)00034-2). Snow, ice and water are no cloud.
Shadows: as in Fmask the cloud mask is moved away from the sun until it meets dark cells,
here all clouds together, over all directions of a morning overpass; dark means well below
the brightness of the ground around it. Thin clouds under a low sun throw no shadow that
this finds.
Limits: haze that hides little passes, and so may cloud over snow.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyproj
from scipy import ndimage

from glocal.core.chip import Chip
from glocal.core.typing import Bools, Bytes, Layers
from glocal.errors import BadSourceError
from glocal.sources.chips.indices import normalised_difference, shows_water

CLEAR, CLOUD, SHADOW, NO_DATA = 0, 1, 2, 3

SCL_CLOUD, SCL_SHADOW, SCL_NO_DATA = (8, 9, 10), (3,), (0, 1)

SIGMAS = 4.0
"""Distance from the clear line, in robust standard deviations, that means cloud."""

HAZE_FLOOR = 0.01
"""Smallest such distance in reflectance, so that noise of a very uniform scene passes."""

BRIGHT = 0.3
"""Blue reflectance above which a white cell is cloud even if all of the scene is."""

EDGE_M = 30.0
"""Clouds are widened by this, as Fmask widens them by 3 of its cells at most."""

DARK = 0.7
"""A cell is dark below this share of the brightness of the clear land within about 1 km."""

SIMILARITY = 0.3
"""Fmask: a shadow is accepted when this share of the moved cloud falls on dark cells."""

CONTRAST = 2.0
"""And when that share is so many times what chance would give."""

REACH_M = (100.0, 5000.0)
"""Distances between cloud and shadow that are searched."""

SEARCH_CELLS = 80_000
"""The search runs on a thinned grid of at most so many cells."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Bands:
    """Reflectances of shape (H, W), by common name; those with a default may be missing."""

    blue: Layers
    green: Layers
    red: Layers
    nir: Layers
    swir16: Layers | None = None
    swir22: Layers | None = None
    cirrus: Layers | None = None

    @classmethod
    def of(cls, chip: Chip, seen: Bools) -> _Bands:
        """Return the bands of a chip, with an even grey where nothing was ``seen``."""
        names = [one.name for one in fields(cls) if chip.has(one.name)]
        return cls(**{one: np.where(seen, chip.band(one), np.float32(0.05)) for one in names})

    def water(self) -> Bools:
        """Return cells that pass Fmask's water test."""
        return shows_water(self.red, self.nir)

    def snow(self) -> Bools:
        """Return cells that pass Fmask's snow test, its thermal part left out."""
        if self.swir16 is None:
            return np.zeros(self.nir.shape, bool)
        ndsi = normalised_difference(self.green, self.swir16)
        return np.asarray((ndsi > 0.15) & (self.nir > 0.11) & (self.green > 0.1))

    def potential(self) -> Bools:
        """Return Fmask's potential cloud cells: white, hazy, neither green nor rock."""
        mean = (self.blue + self.green + self.red) / 3
        spread = sum(np.abs(one - mean) for one in (self.blue, self.green, self.red))
        ndvi = normalised_difference(self.nir, self.red)
        found = (spread / np.maximum(mean, 1e-4) < 0.7) & (ndvi < 0.8)
        if self.swir22 is not None:
            found &= self.swir22 > 0.03
        if self.swir16 is not None:
            ndsi = normalised_difference(self.green, self.swir16)
            found &= (ndsi < 0.8) & (self.nir / self.swir16 > 0.75)
        return np.asarray(found)


def clear_cells(chip: Chip, scl: Bytes | None = None) -> tuple[Bools, Bytes]:
    """Return (clear, kind), both of shape (H, W).

    ``kind`` is 0 clear, 1 cloud, 2 cloud shadow, 3 no data. Chips without blue, green,
    red and near infrared (radar, heights, plain colour) can't be screened: every valid
    cell of theirs is clear.
    """
    seen: Bools = np.asarray(chip.valid.all(axis=0))
    kind = np.where(seen, CLEAR, NO_DATA).astype(np.uint8)
    if scl is not None:
        for value, codes in ((CLOUD, SCL_CLOUD), (SHADOW, SCL_SHADOW), (NO_DATA, SCL_NO_DATA)):
            kind[np.isin(scl, codes) & seen] = value
    elif chip.has("blue", "green", "red", "nir") and seen.any():
        bands = _Bands.of(chip, seen)
        cloud = _clouds(bands, seen, abs(float(chip.geobox.resolution.x)))
        kind[_shadows(bands, cloud, chip) & seen] = SHADOW
        kind[cloud & seen] = CLOUD
    return kind == CLEAR, kind


def require_clear(name: str, kind: Bytes, least: float = 0.001) -> None:
    """Refuse an image that shows almost no ground.

    Raises ``BadSourceError``: the clear share of the cells with data is below ``least``.
    """
    seen = int((kind != NO_DATA).sum())
    share = float((kind == CLEAR).sum()) / max(seen, 1)
    if share < least:
        cloudy = float((kind == CLOUD).sum()) / max(seen, 1)
        raise BadSourceError(
            f"{name}: {share:.0%} clear of the cells with data ({cloudy:.0%} cloud), "
            f"needed {least:.1%}; choose another date"
        )


def _haze(bands: _Bands, land: Bools) -> Layers:
    """Return the distance above the clear line of blue against red, in robust deviations.

    The line is fitted twice by least squares, the second time without the hazy half above
    the first; then its zero is the median and its unit the spread below the median.
    """
    blue, red = bands.blue[land].astype(np.float64), bands.red[land].astype(np.float64)
    keep = np.ones(len(blue), bool)
    for _ in range(3):
        slope, intercept = np.polyfit(red[keep], blue[keep], 1)
        rest = blue - slope * red - intercept
        keep = rest <= np.percentile(rest, 75)
    slope = float(np.clip(slope, 0.2, 1.0))
    rest = bands.blue - slope * bands.red
    middle = float(np.median(rest[land]))
    below = middle - rest[land & (rest < middle)]
    unit = max(1.4826 * float(np.median(below)) if below.size else 0.0, HAZE_FLOOR / SIGMAS)
    return np.asarray((rest - middle) / unit, np.float32)


def _clouds(bands: _Bands, seen: Bools, cell_m: float) -> Bools:
    water, snow, potential = bands.water(), bands.snow(), bands.potential()
    land = seen & ~water & ~snow
    cloud = np.zeros(seen.shape, bool)
    if int(land.sum()) >= 100:
        haze = ndimage.median_filter(_haze(bands, land), size=3)
        cloud = land & potential & (haze > SIGMAS)
    # Where all is hazy the line itself is cloud: what Fmask's own haze test finds there.
    hot = bands.blue - 0.5 * bands.red - 0.08
    cloud |= ~snow & potential & (bands.blue > BRIGHT) & (hot > 0)
    if bands.swir16 is not None:  # over water, clouds are bright in the short-wave infrared
        cloud |= water & (bands.swir16 > 0.055) & (bands.blue > 0.15)
    if bands.cirrus is not None:
        cloud |= bands.cirrus > 0.01
    # Roofs are as white as clouds but small: what an opening of about 70 m removes is none.
    edge = max(round(EDGE_M / cell_m), 1)
    cloud = ndimage.binary_opening(cloud & seen, np.ones((2 * edge + 1, 2 * edge + 1), bool))
    return np.asarray(ndimage.binary_dilation(cloud, iterations=edge))


def _shadows(bands: _Bands, cloud: Bools, chip: Chip) -> Bools:
    """Return the dark cells under the clouds' shadows; none where no shift explains them."""
    cell_m = abs(float(chip.geobox.resolution.x))
    edge = ndimage.binary_dilation(cloud, iterations=max(round(50 / cell_m), 1))
    ground = ~edge & ~bands.water()
    if not cloud.any() or not ground.any():
        return np.zeros(cloud.shape, bool)
    # Dark is what is darker than the ground around it, in the mean of all bands.
    width = 600 / cell_m
    weight = np.maximum(ndimage.gaussian_filter(ground.astype(np.float32), width), 1e-3)
    ratios = [
        band / np.maximum(ndimage.gaussian_filter(band * ground, width) / weight, 1e-3)
        for band in (bands.blue, bands.red, bands.nir, bands.swir16)
        if band is not None
    ]
    dark = ground & (np.mean(ratios, axis=0) < DARK)
    thin = max(1, round(np.sqrt(cloud.size / SEARCH_CELLS)))
    every = np.s_[::thin, ::thin]
    step = _best_step(cloud[every], dark[every], ground[every], chip, cell_m * thin)
    if step is None:
        return np.zeros(cloud.shape, bool)
    return np.asarray(_moved(cloud, step[0] * thin, step[1] * thin) & dark)


def _best_step(
    cloud: Bools, dark: Bools, ground: Bools, chip: Chip, cell_m: float
) -> tuple[int, int] | None:
    """Return the shift (rows, columns) from clouds to dark cells; None where none explains them.

    Searched away from a morning sun, as it stands in the chip's hemisphere.
    """
    x, y = chip.geobox.extent.centroid.coords[0]
    to_degrees = pyproj.Transformer.from_crs(str(chip.geobox.crs), "EPSG:4326", always_xy=True)
    latitude = to_degrees.transform(x, y)[1]
    low, high = (100, 180) if latitude > 25 else (0, 80) if latitude < -25 else (20, 160)
    sun = np.radians(np.arange(low, high + 1, 5))
    reach = np.arange(REACH_M[0], REACH_M[1], max(2 * cell_m, 50)) / cell_m
    down = np.round(np.outer(reach, np.cos(sun))).astype(int).ravel()
    right = np.round(np.outer(reach, -np.sin(sun))).astype(int).ravel()
    # A shift must explain more than chance: dark ground is everywhere in some scenes.
    best = max(SIMILARITY, CONTRAST * float(dark.sum()) / max(int(ground.sum()), 1))
    found = None
    for step in sorted(set(zip(down.tolist(), right.tolist(), strict=True))):
        thrown = _moved(cloud, *step) & ground
        if thrown.sum() < SIMILARITY * cloud.sum():
            continue
        similarity = float((dark & thrown).sum()) / max(int(thrown.sum()), 1)
        if similarity > best:
            best, found = similarity, step
    return found


def _moved(mask: Bools, down: int, right: int) -> Bools:
    """Return ``mask`` moved by whole cells, False where nothing comes in."""
    height, width = mask.shape
    moved = np.zeros_like(mask)
    if abs(down) < height and abs(right) < width:
        part = mask[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
        top, left = max(down, 0), max(right, 0)
        moved[top : top + part.shape[0], left : left + part.shape[1]] = part
    return moved
