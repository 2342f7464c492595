"""A world as ordinary files: what sources say, ``area.yaml``, and apart from it the truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core import legends
from glocal.core.typing import Bytes
from glocal.errors import RunError
from glocal.io.atomic import replacing_folder, write_json, write_text
from glocal.io.raster import write_cog
from glocal.io.vector import write_csv, write_table
from glocal.io.yaml import yaml_text
from glocal.synthetic.bands import BANDS, OpticalImage
from glocal.synthetic.ground import CELL, CRS
from glocal.synthetic.measure import measured_rates, outcome
from glocal.synthetic.osm_xml import Element, osm_xml, record_of
from glocal.synthetic.scene import Scene
from glocal.synthetic.source_maps import SILENT
from glocal.synthetic.source_osm import KINDS
from glocal.synthetic.world import CLASSES, World

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
        files = _Files(scene=scene, folder=part)
        learns = ["image", *(["radar"] if scene.radar is not None else [])]
        model = {"name": "model", "kind": "predicted", "of": learns}
        size, bbox = scene.world.size, scene.geobox.extent.boundingbox.bbox
        config = {
            "name": "synthetic",
            "grid": {"bbox": [int(one) for one in bbox], "crs": CRS, "resolution": CELL},
            "date": _day(0),
            "classes": list(CLASSES),
            "seed": scene.seed % 2**32,
            "block": max(8, min(96, size // 4)),
            "folds": 5 if size >= 128 else 3,
            "sources": [*files.images(), *files.maps(), files.osm(), *files.points(), model],
            **files.anchors(),
        }
        write_text(part / "area.yaml", yaml_text(config))
        (part / "truth").mkdir()
        _Files(scene=scene, folder=part / "truth").truth()


def _day(age: float) -> str:
    return (DATE - timedelta(days=365.25 * age)).date().isoformat()


def codes_of(name: str, world: World) -> tuple[int, ...]:
    """Return the raster code that a map has for each class, in the order of ``CLASSES``."""
    if name == "esri" and world.merged_legend:
        return RANGELAND
    return CODES["igbp"] if name == "modis" else CODES.get(name, CLASSES)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Files:
    """A scene, and the folder that it is written into.

    What writes a source returns its entry of ``area.yaml``.
    """

    scene: Scene
    folder: Path

    def cog(
        self, name: str, values: NDArray[Any], geobox: GeoBox | None = None, **options: Any
    ) -> str:
        """Write a raster, on the grid of the scene unless another is given; return its name."""
        grid = geobox or self.scene.geobox
        path = self.folder / f"{name}.tif"
        write_cog(path, values, grid, copyright=LICENCE, description=NOTE, **options)
        return path.name

    def images(self) -> list[dict[str, Any]]:
        """Write all images."""
        scene, rows = self.scene, []
        common = {"date": _day(0), "licence": LICENCE}
        for name, image in self.optical():
            counts = np.clip(np.rint(image.values * 10_000), 1, 65_534).astype(np.uint16)
            path = self.cog(name, counts, nodata=65_535, band_names=BANDS, categorical=False)
            row = {"name": name, "kind": "sentinel2", "path": path, "unit": "DN", "offset": 0}
            rows.append({**row, **common, "date": _day(image.age)})
        for name, kind, values, unit, bands, nodata in (
            ("radar", "sentinel1", scene.radar, "dB", ("VV", "VH"), -9999.0),
            ("heights", "dsm", scene.heights, "m", (), -9999.0),
            ("colour", "rgb", scene.colour, "DN", (), None),
        ):
            if values is not None:
                path = self.cog(name, values, nodata=nodata, band_names=bands, categorical=False)
                rows.append({"name": name, "kind": kind, "path": path, "unit": unit, **common})
        return rows

    def optical(self) -> list[tuple[str, OpticalImage]]:
        """Return the optical images with their names."""
        names = ("image" if n == 1 else f"image{n}" for n in range(1, len(self.scene.images) + 1))
        return list(zip(names, self.scene.images, strict=True))

    def maps(self) -> list[dict[str, Any]]:
        """Write all maps in their own legends."""
        scene, rows = self.scene, []
        for name, said in scene.maps.items():
            legend = {"legend": name} if name in CODES else {"legend_csv": "legend.csv"}
            age = scene.world.map_age if name in CODES else 0
            rows.append(self.map(name, said, legend, age))
        if not set(scene.maps) <= set(CODES):
            entries = [(one.value, one.name, one.title, one.color) for one in LEGEND.classes]
            write_csv(self.folder / "legend.csv", ("value", "name", "title", "color"), entries)
        if scene.coarse is not None:
            # From the north-west corner, and beyond the others where cells don't fit.
            side = max(round(scene.world.coarse_m / CELL), 1) * CELL
            left, _, _, top = scene.geobox.extent.boundingbox.bbox
            height, width = scene.coarse.shape
            bbox = (left, top - height * side, left + width * side, top)
            grid = GeoBox.from_bbox(bbox, crs=CRS, shape=scene.coarse.shape)
            legend = {"legend": "igbp"}
            rows.append(self.map("modis", scene.coarse, legend, scene.world.map_age, grid))
        return rows

    def map(
        self, name: str, said: Bytes, legend: dict[str, str], age: float, grid: GeoBox | None = None
    ) -> dict[str, Any]:
        """Write one map of class positions."""
        codes = codes_of(name, self.scene.world)
        table = np.full(SILENT + 1, SILENT_CODE.get(legend.get("legend", ""), 0), np.uint8)
        table[: len(codes)] = codes
        row = {"name": name, "kind": "landcover", "path": self.cog(name, table[said], grid)}
        return {**row, **legend, "date": int(_day(age)[:4]), "licence": LICENCE}

    def osm(self) -> dict[str, Any]:
        """Write the extract."""
        osm = self.scene.osm
        if not len(osm):
            raise RunError("nothing is mapped in this world; raise completeness or the size")
        edited = [DATE - timedelta(days=365.25 * age) for age in osm.age.tolist()]
        elements = [
            Element(
                tag=tag,
                version=version,
                timestamp=when.strftime("%Y-%m-%dT%H:%M:%SZ"),
                person=person,
            )
            for tag, version, when, person in zip(
                osm.tag.tolist(), osm.version.tolist(), edited, osm.person.tolist(), strict=True
            )
        ]
        write_text(self.folder / "extract.osm", osm_xml(osm.outline, elements, CRS))
        return {"name": "osm", "kind": "osm", "path": "extract.osm", "date": _day(0)}

    def table(self, name: str) -> pd.DataFrame:
        """Return points as their observers wrote them down."""
        points = self.scene.points[name]
        columns = {
            "id": [f"{name}{i}" for i in range(len(points))],
            "x": points.xy[:, 0].round(2),
            "y": points.xy[:, 1].round(2),
            "class": np.array(LEGEND.names)[points.said],
        }
        return pd.DataFrame(columns)

    def csv(self, name: str) -> str:
        """Write points as CSV; return the name of the file."""
        table = self.table(name)
        write_csv(self.folder / f"{name}.csv", table.columns, table.to_numpy(object).tolist())
        return f"{name}.csv"

    def points(self) -> list[dict[str, Any]]:
        """Write the points of sources, one as CSV, one as GeoParquet."""
        world, rows = self.scene.world, []
        for name, sd in (("field", world.field_sd_m), ("citizen", world.citizen_sd_m)):
            if name not in self.scene.points:
                continue
            if name == "field":
                path = self.csv(name)
            else:
                table, path = self.table(name), f"{name}.parquet"
                shape = gpd.points_from_xy(table.pop("x"), table.pop("y"))
                table = gpd.GeoDataFrame(table, geometry=shape, crs=CRS)
                write_table(self.folder / path, table, licence=LICENCE, attribution=NOTE)
            row = {"name": name, "kind": "insitu", "path": path, "crs": CRS, "date": _day(0)}
            rows.append({**row, "position_sd_m": max(sd, 0.5), "licence": LICENCE})
        return rows

    def anchors(self) -> dict[str, Any]:
        """Write the reference points, if there are any."""
        if "anchors" not in self.scene.points:
            return {}
        row = {"path": self.csv("anchors"), "crs": CRS, "position_sd_m": 1, "date": _day(0)}
        return {"anchors": {**row, "licence": LICENCE}}

    def truth(self) -> None:
        """Write what is there, and what is wrong with every statement."""
        scene, world = self.scene, self.scene.world
        oldest = max(world.map_age, world.osm_age, *world.image_ages)
        before = np.array(CLASSES, np.uint8)[scene.ground.classes(oldest)]
        self.cog("truth", scene.truth, nodata=0, colors=LEGEND)
        self.cog("before", before, nodata=0, colors=LEGEND)
        for name, image in self.optical():
            hidden = np.where(image.cloud, 1, np.where(image.shadow, 2, 0)).astype(np.uint8)
            self.cog(f"hidden_{name}", hidden)
        notes = {"licence": LICENCE, "attribution": NOTE}
        write_table(self.folder / "objects.parquet", self.true_objects(), **notes)
        write_table(self.folder / "points.parquet", self.true_points(), **notes)
        names = [*scene.maps, *(["modis"] if scene.coarse is not None else [])]
        content = {
            "seed": scene.seed,
            "world": asdict(world),
            "classes": list(CLASSES),
            "before_years": oldest,
            "rates": measured_rates(scene),
            "codes": {name: list(codes_of(name, world)) for name in names},
        }
        write_json(self.folder / "world.json", content)

    def true_objects(self) -> gpd.GeoDataFrame:
        """Return every object of the ground, and what the extract says of it if it does."""
        ground, osm, values = self.scene.ground, self.scene.osm, np.array(CLASSES)
        place = np.full(len(ground.now), -1)
        place[osm.object] = np.arange(len(osm))

        def spread(column: NDArray[Any], empty: Any) -> NDArray[Any]:
            return np.asarray(np.where(place >= 0, np.append(column, empty)[place], empty))

        drawn = zip(osm.outline, osm.version.tolist(), strict=True)
        record = [record_of(i, shape, version) for i, (shape, version) in enumerate(drawn)]
        columns = {
            "record": spread(np.array(record, dtype="U24"), ""),
            "truth": values[ground.now],
            "before": values[ground.before],
            "changed_years": ground.changed,
            "outcome": spread(outcome(self.scene).astype("U12"), "missing"),
            "said": spread(values[osm.said], 0),
            "age_years": spread(osm.age, np.nan),
            "kind": spread(np.array(KINDS)[osm.kind], ""),
            "imported": spread(osm.imported, -1),
            "dx_m": spread(osm.step[:, 0], np.nan),
            "dy_m": spread(osm.step[:, 1], np.nan),
        }
        return gpd.GeoDataFrame(columns, geometry=ground.outline, crs=CRS)

    def true_points(self) -> pd.DataFrame:
        """Return every point of every source with its true class and place."""
        values, tables = np.array(CLASSES), []
        for name, points in self.scene.points.items():
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
