"""Areas cut from cubes of many dates: WorldCereal in Flanders and near Waremme.

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
    sources = [
        *sources,
        cubes.summer_radar(folder, year),
        _corine(data),
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


CROPS = {1: "winter_cereals", 2: "spring_cereals", 3: "maize", 4: "other_crop", 5: "not_crop"}
WAREMME_CLASSES = """1,winter_cereals,Winter cereals,e8c840,crop
2,spring_cereals,Spring cereals,f0e090,crop
3,maize,Maize,d08020,crop
4,other_crop,Other temporary crops,f096ff,crop
5,not_crop,No temporary crop,60a060,none"""
MONTHS = {"may": "2021-05", "june": "2021-06", "july": "2021-07"}
WAREMME_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B11", "B12")
RADAR_DB = 83.0
"""Decibels = 20 log10(stored number) - this."""


def waremme(data: Path, folder: Path) -> Ground:
    """1 km of Hesbaye: monthly Sentinel-2 of May to July 2021, radar, heights, rules, CORINE 2018.

    Truth: WorldCereal's maps of 2021 (no licence file; its sister repository is MIT, test only)
    where they do not contradict each other (as they do in 4 % of the cells). They were made from
    the same two satellites, by other people's labels: the area proves agreement with that map, in
    a legend of its own. Four of its classes are one concept and one has none, so that no source
    speaks of them by itself.
    """
    cube = Cube(data / "belgium-s1s2dem" / "waremme_ne_s1s2dem_2020-2022_monthly.nc")
    days = cube.days("t")
    bands = [f"B0{one[1:]}" if len(one) == 2 else one for one in WAREMME_BANDS]
    sources: list[dict[str, Any]] = []
    for name, month in MONTHS.items():
        at = days.index(f"{month}-01")
        layers = np.stack([cube.layer(one, at) for one in WAREMME_BANDS])
        stored = np.where(layers < 0, 0, layers).astype(np.uint16)
        write_raster(folder / f"{name}.tif", stored, cube.transform, CRS, bands=bands, nodata=0)
        sources += [
            {"name": name, "kind": "sentinel2", "path": f"{name}.tif", "bands": bands,
             "date": f"{month}-01/{month}-30", "offset": 0},
            {"name": f"rules_{name}", "kind": "rules", "of": name},
        ]  # fmt: skip
    use = [days.index(f"{month}-01") for month in MONTHS.values()]
    power = [(cube.layer(name)[use].astype(np.float64) ** 2).mean(axis=0) for name in ("VV", "VH")]
    db = (10 * np.log10(np.stack(power)) - RADAR_DB).astype(np.float32)
    write_raster(folder / "radar.tif", db, cube.transform, CRS, bands=["VV", "VH"])
    heights = cube.layer("elevation").astype(np.float32)
    write_raster(folder / "heights.tif", heights[None], cube.transform, CRS)
    sources += [
        {"name": "radar", "kind": "sentinel1", "path": "radar.tif", "unit": "dB",
         "date": "2021-05-01/2021-07-31", "bands": ["VV", "VH"]},
        {"name": "heights", "kind": "dsm", "path": "heights.tif", "date": "2015"},
        _corine(data),
        {"name": "model", "kind": "predicted", "of": list(MONTHS)},
        {"name": "radar_model", "kind": "predicted", "of": ["radar", "heights"]},
    ]  # fmt: skip
    codes = _worldcereal(cube)
    area = {
        "grid": grid_of(cube.transform, codes.shape, CRS),
        "date": "2021-06-15",
        "block": 16,
        "sources": sources,
    }
    truth = spread(codes, CROPS, cube.transform)
    return ground(folder, truth, area, licence="MIT", classes=WAREMME_CLASSES)


def _worldcereal(cube: Cube) -> NDArray[np.int64]:
    """Return the codes of `CROPS` (H, W), 0 where the maps contradict each other."""
    maps = ("WINTERCEREALS", "SPRINGCEREALS", "MAIZE-MAIN")
    said = np.stack([cube.layer(f"WORLDCEREAL_{name}_2021") == 100 for name in maps])
    crop, claims = cube.layer("WORLDCEREAL_TEMPORARYCROPS_2021") == 100, said.sum(axis=0)
    codes = np.where(claims == 1, 1 + said.argmax(axis=0), np.where(crop, 4, 5))
    codes[(claims > 1) | ((claims == 1) & ~crop)] = 0
    return codes


def _corine(data: Path) -> dict[str, Any]:
    """Return the map of Flanders and its rims as a source."""
    path = data / "belgium" / "CLC2018_V2020_20u1_flanders.tif"
    return {"name": "corine", "kind": "landcover", "path": str(path.absolute()),
            "legend": "corine", "date": "2018"}  # fmt: skip
