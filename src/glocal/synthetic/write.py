"""A world as ordinary files: what sources say, ``area.yaml``, and apart from it the truth."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core import legends
from glocal.core.typing import Bytes
from glocal.errors import RunError
from glocal.io.atomic import replacing_folder, write_json, write_text
from glocal.io.raster import write_cog
from glocal.io.vector import write_csv, write_table
from glocal.synthetic.bands import BANDS
from glocal.synthetic.ground import CELL, CRS
from glocal.synthetic.measure import measured_rates, outcome
from glocal.synthetic.osm_xml import Element, osm_xml, record_of
from glocal.synthetic.scene import Scene
from glocal.synthetic.source_maps import SILENT
from glocal.synthetic.source_osm import KINDS
from glocal.synthetic.world import CLASSES, World

__all__ = ["DATE", "write_scene"]

DATE = datetime(2023, 6, 15, 10)
"""The reference date of every world, UTC."""

LICENCE = "CC0-1.0"
NOTE = "Made up: a synthetic earth of Glocal, no real place."
LEGEND = legends.legend("worldcover").subset(CLASSES)

CODES: dict[str, tuple[int, ...]] = {
    "worldcover": CLASSES,
    "esri": (2, 6, 3, 5, 7, 8, 1),
    "dynamicworld": (1, 5, 2, 4, 6, 7, 0),
    "igbp": (5, 7, 10, 12, 13, 16, 17),
}
"""Raster code of each class in each legend."""

RANGELAND = (2, 11, 11, 5, 7, 8, 1)
"""The codes of the map ``esri`` with one class for shrub and grass."""

SILENT_CODE = {"worldcover": 0, "esri": 0, "dynamicworld": 255, "igbp": 255}


def write_scene(scene: Scene, out: Path) -> None:
    """Write a world into the new or empty folder ``out``; the same scene gives the same bytes.

    ``area.yaml`` and the files it names are all that a run may read; ``truth`` holds the
    class of every cell (``truth.tif``), the true error of every object and point, and the
    knobs with the rates they had (``world.json``).

    Raises
    ------
    RunError
        The folder holds something already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists and is not empty; choose another --out, or delete it")
    with replacing_folder(out.absolute()) as part:
        sources = [*_images(scene, part), *_maps(scene, part), _osm(scene, part)]
        sources += _points(scene, part)
        model = ["image", *(["radar"] if scene.radar is not None else [])]
        sources.append({"name": "model", "kind": "predicted", "of": model})
        size = scene.world.size
        bbox = [int(one) for one in scene.geobox.extent.boundingbox.bbox]
        config = {
            "name": "synthetic",
            "grid": {"bbox": bbox, "crs": CRS, "resolution": CELL},
            "date": _day(0),
            "classes": list(CLASSES),
            "seed": scene.seed % 2**32,
            "block": max(8, min(96, size // 4)),
            "folds": 5 if size >= 128 else 3,
            "sources": sources,
        }
        if "anchors" in scene.points:
            table = {"path": _csv(scene, "anchors", part), "crs": CRS, "position_sd_m": 1}
            config["anchors"] = {**table, "date": _day(0), "licence": LICENCE}
        text = yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=10_000)
        write_text(part / "area.yaml", text)
        _truth(scene, part / "truth")


def _day(age: float) -> str:
    return (DATE - timedelta(days=365.25 * age)).date().isoformat()


def _cog(path: Path, values: NDArray[Any], geobox: GeoBox, **options: Any) -> str:
    write_cog(path, values, geobox, copyright=LICENCE, description=NOTE, **options)
    return path.name


def _images(scene: Scene, folder: Path) -> list[dict[str, Any]]:
    """Write all images; return their entries of ``area.yaml``."""
    rows = []
    common = {"date": _day(0), "licence": LICENCE}
    for number, image in enumerate(scene.images, 1):
        name = "image" if number == 1 else f"image{number}"
        counts = np.clip(np.rint(image.values * 10_000), 1, 65_534).astype(np.uint16)
        options = {"nodata": 65_535, "band_names": BANDS, "categorical": False}
        path = _cog(folder / f"{name}.tif", counts, scene.geobox, **options)
        row = {"name": name, "kind": "sentinel2", "path": path, "unit": "DN", "offset": 0}
        rows.append({**row, **common, "date": _day(image.age)})
    for name, kind, values, more in (
        ("radar", "sentinel1", scene.radar, {"unit": "dB"}),
        ("heights", "dsm", scene.heights, {"unit": "m"}),
        ("colour", "rgb", scene.colour, {"unit": "DN"}),
    ):
        if values is not None:
            named = {"band_names": ("VV", "VH")} if name == "radar" else {}
            nodata = None if name == "colour" else -9999.0
            options = {"nodata": nodata, "categorical": False, **named}
            path = _cog(folder / f"{name}.tif", values, scene.geobox, **options)
            rows.append({"name": name, "kind": kind, "path": path, **more, **common})
    return rows


def _maps(scene: Scene, folder: Path) -> list[dict[str, Any]]:
    """Write all maps in their own legends; return their entries of ``area.yaml``."""
    rows = []
    for name, said in scene.maps.items():
        known = name in CODES
        codes = codes_of(name, scene.world)
        silent = SILENT_CODE.get(name, 0)
        path = _cog(folder / f"{name}.tif", _coded(said, codes, silent), scene.geobox)
        legend = {"legend": name} if known else {"legend_csv": "legend.csv"}
        year = int(_day(scene.world.map_age if known else 0)[:4])
        rows.append({"name": name, "kind": "landcover", "path": path, **legend, "date": year})
    if not set(scene.maps) <= set(CODES):
        entries = [(one.value, one.name, one.title, one.color) for one in LEGEND.classes]
        write_csv(folder / "legend.csv", ("value", "name", "title", "color"), entries)
    if scene.coarse is not None:
        coarse = _coded(scene.coarse, CODES["igbp"], SILENT_CODE["igbp"])
        # From the north-west corner, and beyond the others where cells don't fit.
        side = max(round(scene.world.coarse_m / CELL), 1) * CELL
        left, _, _, top = scene.geobox.extent.boundingbox.bbox
        height, width = coarse.shape
        bbox = (left, top - height * side, left + width * side, top)
        grid = GeoBox.from_bbox(bbox, crs=CRS, shape=coarse.shape)
        path = _cog(folder / "modis.tif", coarse, grid)
        year = int(_day(scene.world.map_age)[:4])
        row = {"name": "modis", "kind": "landcover", "path": path, "legend": "igbp", "date": year}
        rows.append(row)
    return [{**row, "licence": LICENCE} for row in rows]


def codes_of(name: str, world: World) -> tuple[int, ...]:
    """Return the raster code that a map has for each class, in the order of ``CLASSES``."""
    if name == "esri" and world.merged_legend:
        return RANGELAND
    return CODES["igbp"] if name == "modis" else CODES.get(name, CLASSES)


def _coded(said: Bytes, codes: tuple[int, ...], silent: int) -> Bytes:
    table = np.full(SILENT + 1, silent, np.uint8)
    table[: len(codes)] = codes
    return table[said]


def _osm(scene: Scene, folder: Path) -> dict[str, Any]:
    """Write the extract; return its entry of ``area.yaml``."""
    osm = scene.osm
    if not len(osm):
        raise RunError("nothing is mapped in this world; raise completeness or the size")
    elements = [
        Element(
            tag=tag,
            version=version,
            timestamp=(DATE - timedelta(days=365.25 * age)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            person=person,
        )
        for tag, version, age, person in zip(
            osm.tag.tolist(), osm.version.tolist(), osm.age.tolist(), osm.person.tolist(),
            strict=True,
        )
    ]  # fmt: skip
    write_text(folder / "extract.osm", osm_xml(osm.outline, elements, CRS))
    return {"name": "osm", "kind": "osm", "path": "extract.osm", "date": _day(0)}


def _table(scene: Scene, name: str) -> pd.DataFrame:
    """Return points as their observers wrote them down."""
    points = scene.points[name]
    return pd.DataFrame(
        {
            "id": [f"{name}{i}" for i in range(len(points))],
            "x": points.xy[:, 0].round(2),
            "y": points.xy[:, 1].round(2),
            "class": np.array(LEGEND.names)[points.said],
        }
    )


def _csv(scene: Scene, name: str, folder: Path) -> str:
    table = _table(scene, name)
    return write_csv(folder / f"{name}.csv", table.columns, table.to_numpy(object).tolist()).name


def _points(scene: Scene, folder: Path) -> list[dict[str, Any]]:
    """Write the points of sources, one as CSV, one as GeoParquet."""
    rows = []
    for name, sd in (("field", scene.world.field_sd_m), ("citizen", scene.world.citizen_sd_m)):
        if name not in scene.points:
            continue
        if name == "field":
            path = _csv(scene, name, folder)
        else:
            table = _table(scene, name)
            shape = gpd.points_from_xy(table.pop("x"), table.pop("y"))
            table = gpd.GeoDataFrame(table, geometry=shape, crs=CRS)
            path = f"{name}.parquet"
            write_table(folder / path, table, licence=LICENCE, attribution=NOTE)
        row = {"name": name, "kind": "insitu", "path": path, "crs": CRS, "date": _day(0)}
        rows.append({**row, "position_sd_m": max(sd, 0.5), "licence": LICENCE})
    return rows


# Truth ----------------------------------------------------------------------


def _truth(scene: Scene, folder: Path) -> None:
    folder.mkdir()
    world = scene.world
    values = np.array(CLASSES, np.uint8)
    oldest = max(world.map_age, world.osm_age, *world.image_ages)
    _cog(folder / "truth.tif", scene.truth, scene.geobox, nodata=0, colors=LEGEND)
    before = values[scene.ground.classes(oldest)]
    _cog(folder / "before.tif", before, scene.geobox, nodata=0, colors=LEGEND)
    for number, image in enumerate(scene.images, 1):
        hidden = np.where(image.cloud, 1, np.where(image.shadow, 2, 0)).astype(np.uint8)
        name = "image" if number == 1 else f"image{number}"
        _cog(folder / f"hidden_{name}.tif", hidden, scene.geobox)
    notes = {"licence": LICENCE, "attribution": NOTE}
    write_table(folder / "objects.parquet", _true_objects(scene), **notes)
    write_table(folder / "points.parquet", _true_points(scene), **notes)
    names = [*scene.maps, *(["modis"] if scene.coarse is not None else [])]
    content = {
        "seed": scene.seed,
        "world": asdict(world),
        "classes": list(CLASSES),
        "before_years": oldest,
        "rates": measured_rates(scene),
        "codes": {name: list(codes_of(name, world)) for name in names},
    }
    write_json(folder / "world.json", content)


def _true_objects(scene: Scene) -> gpd.GeoDataFrame:
    """Return every object of the ground, and what the extract says of it if it does."""
    ground, osm, values = scene.ground, scene.osm, np.array(CLASSES)
    n = len(ground.now)
    place = np.full(n, -1)
    place[osm.object] = np.arange(len(osm))
    mapped = place >= 0

    def spread(column: NDArray[Any], empty: Any) -> NDArray[Any]:
        return np.asarray(np.where(mapped, np.append(column, empty)[place], empty))

    record = [
        record_of(i, shape, version)
        for i, (shape, version) in enumerate(zip(osm.outline, osm.version.tolist(), strict=True))
    ]
    columns = {
        "record": spread(np.array(record, dtype="U24"), ""),
        "truth": values[ground.now],
        "before": values[ground.before],
        "changed_years": ground.changed,
        "outcome": spread(outcome(scene).astype("U12"), "missing"),
        "said": spread(values[osm.said], 0),
        "age_years": spread(osm.age, np.nan),
        "kind": spread(np.array(KINDS)[osm.kind], ""),
        "imported": spread(osm.imported, -1),
        "dx_m": spread(osm.step[:, 0], np.nan),
        "dy_m": spread(osm.step[:, 1], np.nan),
    }
    return gpd.GeoDataFrame(columns, geometry=ground.outline, crs=CRS)


def _true_points(scene: Scene) -> pd.DataFrame:
    """Return every point of every source with its true class and place."""
    values = np.array(CLASSES)
    tables = []
    for name, points in scene.points.items():
        true_xy = points.xy - points.step
        columns = {
            "source": name,
            "id": [f"{name}{i}" for i in range(len(points))],
            "truth": values[points.truth],
            "said": values[points.said],
            "wrong": points.said != points.truth,
            "x": true_xy[:, 0],
            "y": true_xy[:, 1],
            "dx_m": points.step[:, 0],
            "dy_m": points.step[:, 1],
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)
