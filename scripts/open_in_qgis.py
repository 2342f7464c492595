"""Open files with PyQGIS and print one line of JSON for each; run by release_check.py."""

from __future__ import annotations

import json
import sqlite3
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from qgis.core import QgsApplication, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtGui import qAlpha

SIDE = 64


def look_at_raster(path: Path) -> tuple[str, str]:
    """Return (what was seen, what is wrong) of a GeoTIFF and the style beside it."""
    layer = QgsRasterLayer(str(path), path.stem)
    if not layer.isValid() or not layer.crs().isValid():
        return "", "QGIS can't open it, or knows no CRS"
    seen = f"{layer.bandCount()} bands, {layer.crs().authid()}"
    style = path.with_suffix(".qml")
    if style.exists():
        wanted = len(ET.parse(style).getroot().findall(".//paletteEntry"))
        renderer = layer.renderer()
        if renderer.type() != "paletted" or len(renderer.classes()) != wanted:
            return seen, f"the style {style.name} with {wanted} classes is not taken up"
        seen += f", {wanted} classes of {style.name}"
    block = layer.renderer().block(1, layer.extent(), SIDE, SIDE)
    drawn = {block.color(row, column) for row in range(SIDE) for column in range(SIDE)}
    drawn = {one for one in drawn if qAlpha(one)}
    return f"{seen}, {len(drawn)} colours drawn", "" if drawn else "nothing is drawn"


def look_at_layers(path: Path) -> tuple[str, str]:
    """Return (what was seen, what is wrong) of all layers of a vector file."""
    seen = []
    for name, number in layers_of(path):
        layer = QgsVectorLayer(f"{path}|layername={name}" if name else str(path), name, "ogr")
        if not layer.isValid() or not layer.crs().isValid():
            return "", f"QGIS can't open layer {name or path.stem}, or knows no CRS"
        shapes = [one.geometry() for one in layer.getFeatures()]
        if number is not None and len(shapes) != number:
            return "", f"QGIS reads {len(shapes)} of {number} rows of layer {name}"
        broken = sum(not one.isNull() and not one.isGeosValid() for one in shapes)
        if broken:
            return "", f"{broken} of {len(shapes)} geometries are not valid"
        seen.append(f"{name} {len(shapes)} rows".strip())
    return ", ".join(seen), "" if seen else "it holds no layer"


def layers_of(path: Path) -> list[tuple[str, int | None]]:
    """Return names and numbers of rows of the layers of a file, by its own tables."""
    if path.suffix != ".gpkg":
        return [("", len(json.loads(path.read_text("utf-8"))["features"]))]
    with sqlite3.connect(path) as base:
        query = "select table_name from gpkg_contents where data_type = 'features'"
        names = [name for (name,) in base.execute(query)]
        return [
            (name, base.execute(f'select count(*) from "{name}"').fetchone()[0]) for name in names
        ]


def main(files: list[Path]) -> None:
    """Open each file, say what was seen."""
    program = QgsApplication([], False)
    program.initQgis()
    for path in files:
        try:
            seen, wrong = look_at_raster(path) if path.suffix == ".tif" else look_at_layers(path)
        except (sqlite3.Error, ET.ParseError, ValueError, KeyError) as error:
            seen, wrong = "", str(error)
        print(json.dumps({"file": str(path), "seen": seen, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main([Path(one) for one in sys.argv[1:]])
