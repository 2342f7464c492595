"""Areas made of single scenes: Bolzano and the sites of TerraMind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from rasterio.transform import Affine

from benchmarks.real.ground import (
    Ground,
    grid_of,
    ground,
    own_classes,
    spread,
    write_raster,
)
from glocal.loop.demo import MODIS, find_data

S2L2A = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")

LULC = {1: "water", 2: "tree", 4: "crop", 5: "built", 6: "bare", 9: "grass"}
"""Codes of the land-cover map of TerraMind's sites; rangeland is said as grass."""


def bolzano(data: Path, folder: Path) -> Ground:
    """South Tyrol, 9.4 x 7 km: two clear June dates of 2022, radar, OpenStreetMap of 2024, rules.

    Truth: 120 points of a simple random sample, read from the images by a single machine
    interpreter (CC0). It can't prove rare classes (three points are shrub or bare, none is
    water), nor independence from the images, which the interpreter saw. Water stands in the
    legend because OpenStreetMap, the rules and anyone who looks see two rivers.
    """
    here = data / "bolzano-s2-june2022"
    days = {"june12": "2022-06-12", "june27": "2022-06-27"}
    transform, shape = _pixels(here, folder, days)
    images = [
        {"name": name, "kind": "sentinel2", "path": name, "date": day, "offset": 0}
        for name, day in days.items()
    ]
    sources = [
        *images,
        {"name": "radar", "kind": "sentinel1", "path": "radar.tif", "date": "2022", "unit": "dB"},
        *({"name": f"rules_{name}", "kind": "rules", "of": name} for name in days),
        {
            "name": "osm",
            "kind": "osm",
            "path": str((here / "bolzano-20240511.osm.pbf").absolute()),
            "date": "2024-05-11",
            "attribution": "© OpenStreetMap contributors",
        },
        {"name": "model", "kind": "predicted", "of": list(days)},
        {"name": "radar_model", "kind": "predicted", "of": ["radar"]},
    ]
    area = {
        "grid": grid_of(transform, shape, "EPSG:32632"),
        "date": "2022-06-20",
        "legend": "worldcover",
        "classes": ["tree", "shrub", "grass", "crop", "built", "bare", "water"],
        "sources": sources,
    }
    kept = ["id", "x", "y", "class", "confidence", "second"]
    truth = pd.read_csv(here / "points_open.csv", keep_default_na=False)[kept]
    return ground(folder, truth, area, licence="CC0-1.0")


def _pixels(here: Path, folder: Path, days: dict[str, str]) -> tuple[Affine, tuple[int, int]]:
    """Write the images of Bolzano; return their grid."""
    names = ("B02", "B03", "B04", "B08", "SCL")
    for name, day in days.items():
        with rasterio.open(here / f"s2_l2a_{day}.tif") as file:
            transform, shape, crs = file.transform, file.shape, file.crs
            # the blue of dark forest was corrected down to 0, which elsewhere means no data
            layers = np.maximum(file.read(), 1)
        for band, layer in zip(names, layers, strict=True):
            write_raster(folder / name / f"{band}.tif", layer[None], transform, crs)
    with rasterio.open(here / "s1_gamma0_db100.tif") as file:
        db = file.read().astype(np.float32)
        radar = np.where(db == file.nodata, np.nan, db / 100)
    write_raster(folder / "radar.tif", radar, transform, crs, bands=["VV"], nodata=np.nan)
    return transform, shape


def brazil(data: Path, folder: Path) -> Ground:
    """Coast of Brazil, 2.2 km: water, trees, bare and rangeland, July 2021."""
    return _terramind(data, folder, "282D_485L_3_3", "2021-07-23")


def tanzania(data: Path, folder: Path) -> Ground:
    """Tanzania, 2.2 km: crops and rangeland, June 2023."""
    return _terramind(data, folder, "38D_378R_2_3", "2023-06-10")


def _terramind(data: Path, folder: Path, site: str, day: str) -> Ground:
    """Write one site: Sentinel-2, radar, heights, rules and MODIS of 2019.

    Truth: the land-cover map that comes with the site (made from Sentinel-2 of the year by a
    network; TerraMesh, CC-BY-SA-4.0, test only). It proves agreement with that map, not with the
    ground, and flatters what reads the image. Rangeland is said as grass, which MODIS and the
    rules understand as such. Grids are moved by less than half a cell onto multiples of 10 m,
    all layers alike.
    """
    for name, kind in (("s2", "S2L2A"), ("s1", "S1RTC"), ("dem", "DEM"), ("lulc", "LULC")):
        with rasterio.open(data / "terramind-5sites" / kind / f"{site}.tif") as file:
            layers, old, crs = file.read(), file.transform, file.crs
        transform = Affine(10, 0, round(old.c, -1), 0, -10, round(old.f, -1))
        if name == "lulc":
            codes = layers[0]
        else:
            bands = {"s2": S2L2A, "s1": ("VV", "VH")}.get(name, ())
            plain = layers.astype(np.float32) if name != "s2" else layers.astype(np.uint16)
            write_raster(folder / f"{name}.tif", plain, transform, crs, bands=bands)
    sources: list[dict[str, Any]] = [
        {"name": "image", "kind": "sentinel2", "path": "s2.tif", "date": day, "offset": 0,
         "bands": list(S2L2A)},
        {"name": "radar", "kind": "sentinel1", "path": "s1.tif", "date": day, "unit": "dB",
         "bands": ["VV", "VH"]},
        {"name": "heights", "kind": "dsm", "path": "dem.tif", "date": day,
         "licence": "CC-BY-SA-4.0"},
        {"name": "rules", "kind": "rules", "of": "image"},
        {"name": "modis", "kind": "landcover", "path": str(find_data() / MODIS),
         "legend": "igbp", "date": "2019", "crs": "EPSG:4326", "licence": "public-domain"},
        {"name": "model", "kind": "predicted", "of": ["image"]},
        {"name": "radar_model", "kind": "predicted", "of": ["radar", "heights"]},
    ]  # fmt: skip
    names = {code: LULC[code] for code in LULC if (codes == code).any()}
    area = {
        "grid": grid_of(transform, codes.shape, str(crs)),
        "date": day,
        "block": 32,
        "sources": sources,
    }
    truth = spread(codes, names, transform)
    return ground(folder, truth, area, licence="CC-BY-SA-4.0", classes=own_classes(names))
