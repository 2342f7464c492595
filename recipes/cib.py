"""Time series of the WorldCereal reference cubes as arrays.

One site is 640 m wide; bands of 20 m are repeated onto the grid of 10 m.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from netCDF4 import Dataset
from numpy.typing import NDArray

from glocal.errors import SourceUnavailableError

__all__ = ["SITES", "Cube", "day_of_year", "read_cube"]

SITES = ("00002806639B424A", "000028085BF08E7E", "2021_TZA_COPERNICUS-GEOGLAM_POLY_1101950")
"""Flanders, Flanders, Tanzania; the last two have bands of 20 m only."""

BANDS_10M = ("B02", "B03", "B04", "B08")
BANDS_20M = ("B05", "B06", "B07", "B8A", "B11", "B12")
SCALE_S2, SCALE_DB = 1e-4, 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cube:
    """All dates of one site on its grid of 10 m."""

    name: str
    bands: tuple[str, ...]
    s2: NDArray[np.float32]
    """(T, C, H, W) surface reflectance, NaN where there is none."""

    scl: NDArray[np.uint8]
    """(T, H, W) scene classification; 0 is no data."""

    s2_time: NDArray[np.datetime64]
    sar: NDArray[np.float32]
    """(T', 2, H, W) VV and VH in dB, NaN where there is none."""

    sar_time: NDArray[np.datetime64]
    cover: NDArray[np.uint16]
    """(H, W) land-cover code; 0 is unknown."""

    def nearest_sar(self, i: int, days: float = 6) -> NDArray[np.float32]:
        """Return the radar image (2, H, W) nearest in time to date ``i``, NaN if none is near."""
        gap = np.abs(self.sar_time - self.s2_time[i]) / np.timedelta64(1, "D")
        best = int(gap.argmin())
        return self.sar[best] if gap[best] <= days else np.full_like(self.sar[best], np.nan)


def read_cube(folder: Path, site: str) -> Cube:
    """Read one of :data:`SITES` from the folder of netCDF files."""
    fine, time_fine = _read(folder, f"{site}__S2_L2A_10m*", BANDS_10M)
    coarse, time = _read(folder, f"{site}__S2_L2A_20m*", (*BANDS_20M, "SCL"))
    sar, sar_time = _read(folder, f"{site}__S1*", ("VV", "VH"))
    cover, _ = _read(folder, f"{site}__OUTPUT*", ("LC",))
    parts = {name: _doubled(coarse[name]) for name in BANDS_20M}
    if fine:
        if not np.array_equal(time, time_fine):
            raise SourceUnavailableError(f"{site}: 10 m and 20 m files list different dates")
        parts = {**fine, **parts}
    stack = np.stack(list(parts.values()), 1)
    decibels = np.stack([_doubled(sar[name]) for name in ("VV", "VH")], 1)
    return Cube(
        name=site[:8],
        bands=tuple(parts),
        s2=np.where(stack > 0, stack * np.float32(SCALE_S2), np.nan).astype(np.float32),
        scl=_doubled(coarse["SCL"]).astype(np.uint8),
        s2_time=time,
        sar=np.where(decibels != 0, decibels * SCALE_DB, np.nan).astype(np.float32),
        sar_time=sar_time,
        cover=cover["LC"].astype(np.uint16),
    )


def day_of_year(time: NDArray[np.datetime64]) -> NDArray[np.float32]:
    """Return 1 to 366 for each date."""
    return ((time - time.astype("datetime64[Y]")) / np.timedelta64(1, "D") + 1).astype(np.float32)


def _doubled(image: NDArray[np.generic]) -> NDArray[np.generic]:
    return image.repeat(2, axis=-1).repeat(2, axis=-2)


def _read(
    folder: Path, pattern: str, names: tuple[str, ...]
) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.datetime64]]:
    """Return {variable: stored numbers} and dates; both empty when the site has no such file."""
    found = sorted(folder.glob(pattern))
    none = np.array([], "datetime64[s]")
    if not found:
        return {}, none
    with Dataset(found[0]) as file:
        # the masks of these files are wrong, and so is automatic scaling beside them
        file.set_auto_mask(False)
        file.set_auto_scale(False)
        values = {name: np.asarray(file[name][:]) for name in names}
        if "timestamp" not in file.variables:
            return values, none
        clock = file["timestamp"]
        start = np.datetime64(clock.units.removeprefix("seconds since ").replace(" ", "T"), "s")
        return values, start + np.asarray(clock[:]).astype("timedelta64[s]")
