"""Areas cut from cubes of many dates: the sites of WorldCereal in Flanders.

The third site of the collection, in Tanzania, makes no area: its labels know one land cover, no
source speaks of its crop types, and its Sentinel-2 lacks the bands that rules need.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.ground import (
    Cube,
    Ground,
    grid_of,
    ground,
    own_classes,
    spread,
    write_raster,
)

CRS = "EPSG:32631"
LPIS = {11: "crop", 13: "grass", 60: "built"}
"""Codes of the declarations; 99 is whatever else a farmer declares, 0 is not declared."""

TEN, TWENTY = ("B02", "B03", "B04", "B08"), ("B05", "B06", "B07", "B8A", "B11", "B12")
LANDSAT = {"B02": "B02", "B03": "B03", "B04": "B04", "B05": "B08", "B06": "B11", "B07": "B12"}
"""Bands of Landsat 8 by the Sentinel-2 band that sees the same, as in harmonised products."""

CLEAR = (4, 5, 6, 7)
"""Classes of SCL that show the ground."""


def flanders_2018(data: Path, folder: Path) -> Ground:
    """0.64 km near Roeselare: three Sentinel-2 dates of 2018, radar, rules, CORINE 2018.

    Truth: `_declared`.
    """
    cubes = _Site(data / "worldcereal-cib", "00002806639B424A", "2017-08-01_2018-11-30")
    images = cubes.dates(folder, TEN + TWENTY, 2018)
    rules = [{"name": f"rules_{name}", "kind": "rules", "of": name} for name in SEASONS]
    return _declared(folder, data, cubes, [*images, *rules], 2018)


def flanders_2019(data: Path, folder: Path) -> Ground:
    """0.64 km near Maldegem: three dates of Sentinel-2 without visible bands, Landsat 8, radar.

    Rules read Landsat, whose bands stand under the names of the Sentinel-2 bands that see the
    same. CORINE is of 2018. Truth: `_declared`.
    """
    cubes = _Site(data / "worldcereal-cib", "000028085BF08E7E", "2018-08-01_2019-11-30")
    images = cubes.dates(folder, TWENTY, 2019)
    images.append(cubes.landsat(folder, "2019-06-18"))
    rules = [{"name": "rules_landsat", "kind": "rules", "of": "landsat"}]
    return _declared(folder, data, cubes, [*images, *rules], 2019)


SEASONS = {
    "spring": ("04-01", "05-31"),
    "summer": ("06-01", "07-15"),
    "autumn": ("07-16", "09-30"),
}
"""From when till when one date is taken, the clearest, of equals the first."""


class _Site:
    """The cubes of one site."""

    def __init__(self, folder: Path, name: str, span: str) -> None:
        def cube(what: str) -> Path:
            return folder / f"{name}__{what}_{name}_32631_{span}.nc"

        self.labels = Cube(cube("OUTPUT_POLY-110_10m"))
        self.radar = Cube(cube("S1_GRD-ASCENDING_20m"))
        self.l8 = Cube(cube("L8_SR_10m"))
        self.s2 = {20: Cube(cube("S2_L2A_20m"))}
        if cube("S2_L2A_10m").exists():
            self.s2[10] = Cube(cube("S2_L2A_10m"))

    def dates(self, folder: Path, bands: tuple[str, ...], year: int) -> list[dict[str, Any]]:
        """Write one folder of bands for each season; return the sources that they are."""
        days, scl = self.s2[20].days(), self.s2[20].layer("SCL")
        clear = np.isin(scl, CLEAR).mean(axis=(1, 2))
        sources = []
        for name, (first, last) in SEASONS.items():
            inside = [f"{year}-{first}" <= day <= f"{year}-{last}" for day in days]
            at = int(np.where(inside, clear, -1).argmax())
            for band in (*bands, "SCL"):
                cube = self.s2[10 if band in TEN else 20]
                file = folder / name / f"{band}.tif"
                write_raster(file, cube.layer(band, at)[None], cube.transform, CRS)
            sources.append({"name": name, "kind": "sentinel2", "path": name, "date": days[at],
                            "offset": 0})  # fmt: skip
        return sources

    def landsat(self, folder: Path, day: str) -> dict[str, Any]:
        """Write the Landsat image of a day."""
        at = self.l8.days().index(day)
        layers = np.stack([self.l8.layer(name, at) for name in LANDSAT])
        bands = list(LANDSAT.values())
        write_raster(folder / "landsat.tif", layers, self.l8.transform, CRS, bands=bands)
        return {"name": "landsat", "kind": "sentinel2", "path": "landsat.tif", "date": day,
                "offset": 0, "bands": bands, "licence": "public-domain",
                "attribution": "Landsat 8 courtesy of the U.S. Geological Survey"}  # fmt: skip

    def summer_radar(self, folder: Path, year: int) -> dict[str, Any]:
        """Write the mean power of radar from May to August, in dB."""
        span = f"{year}-05-01", f"{year}-08-31"
        use = np.array([span[0] <= day <= span[1] for day in self.radar.days()])
        layers = [_mean_db(self.radar.layer(name)[use]) for name in ("VV", "VH")]
        write_raster(
            folder / "radar.tif", np.stack(layers), self.radar.transform, CRS, bands=["VV", "VH"]
        )
        return {"name": "radar", "kind": "sentinel1", "path": "radar.tif", "unit": "dB",
                "date": "/".join(span), "bands": ["VV", "VH"]}  # fmt: skip


def _mean_db(stored: NDArray[Any]) -> NDArray[np.float32]:
    """Return the mean over time of power that is stored as dB x 10000."""
    power = 10 ** (stored.astype(np.float64) / 1e5)
    return (10 * np.log10(power.mean(axis=0))).astype(np.float32)


def _declared(
    folder: Path, data: Path, cubes: _Site, sources: list[dict[str, Any]], year: int
) -> Ground:
    """Write an area whose truth are declarations of farmers.

    Truth: land cover of the declared parcels (Flemish LPIS, in WorldCereal's training cubes, MIT;
    Flanders open data). It can't prove anything of ground that nobody declared: 43 and 17 % of
    the two sites, towns and woods among it; "built" are farm yards. All cells of a parcel share
    one label, so that points in one parcel tell much of each other.
    """
    optical = [one["name"] for one in sources if one["kind"] == "sentinel2"]
    corine = data / "belgium" / "CLC2018_V2020_20u1_flanders.tif"
    sources = [
        *sources,
        cubes.summer_radar(folder, year),
        {"name": "corine", "kind": "landcover", "path": str(corine.absolute()),
         "legend": "corine", "date": "2018"},
        {"name": "model", "kind": "predicted", "of": optical},
        {"name": "radar_model", "kind": "predicted", "of": ["radar"]},
    ]  # fmt: skip
    codes = cubes.labels.layer("LC")
    area = {
        "grid": grid_of(cubes.labels.transform, codes.shape, CRS),
        "date": f"{year}-06-30",
        "block": 16,
        "sources": sources,
    }
    truth = spread(codes, LPIS, cubes.labels.transform)
    return ground(folder, truth, area, licence="MIT", classes=own_classes(LPIS))
