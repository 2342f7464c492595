"""Tables with geometry: GeoParquet, GeoPackage, GeoJSON, CSV; the same bytes every time."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import shapes

from glocal.errors import BadSourceError, SourceUnavailableError
from glocal.io.atomic import replacing, write_text

GPKG_DATE = "2000-01-01T00:00:00.000Z"
"""GeoPackage stores a time of change; the clock would make equal runs differ."""

FORMULA = re.compile(r"(?![+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z|-+\Z)[=+\-@\t\r\n]")
"""How a formula begins, for Excel and LibreOffice; numbers and dashes are none."""


def guard(text: str) -> str:
    """Return ``text`` such that a spreadsheet won't run it as a formula.

    >>> guard("=1+1"), guard("-2+cmd"), guard("tree"), guard("-2.5")
    ("'=1+1", "'-2+cmd", 'tree', '-2.5')
    """
    return f"'{text}" if FORMULA.match(text) else text


def read_table(path: Path) -> gpd.GeoDataFrame | pd.DataFrame:
    """Read CSV, GeoJSON, GeoPackage or (Geo)Parquet.

    CSV values stay text exactly as written, the separator (comma, semicolon, tab) is
    found from the header. Layers with geometry come back with their own CRS.

    Raises
    ------
    SourceUnavailableError
        The file is missing, truncated, or not of the format its suffix says.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceUnavailableError(f"{path} does not exist; check the path in area.yaml")
    suffix = path.suffix.lower()
    try:
        if suffix in (".csv", ".tsv", ".txt"):
            return _read_csv(path)
        if suffix in (".parquet", ".geoparquet"):
            located = b"geo" in (pq.read_schema(path).metadata or {})
            return gpd.read_parquet(path) if located else pd.read_parquet(path)
        if suffix in (".geojson", ".json", ".gpkg", ".fgb"):
            layers = pyogrio.list_layers(path)[:, 0].tolist()
            if len(layers) == 1:
                return gpd.read_file(path, engine="pyogrio")
            raise BadSourceError(
                f"{path.name} must hold exactly one layer, it has {layers}; export the one you mean"
            )
    except (OSError, UnicodeDecodeError, RuntimeError, pa.ArrowException) as error:
        raise SourceUnavailableError(
            f"{path.name} could not be read as {suffix[1:]}: {error}; "
            "download or export it again (CSV must be UTF-8)"
        ) from error
    raise SourceUnavailableError(
        f"{path.name}: a table must be .csv, .geojson, .gpkg or .parquet, got {suffix!r}"
    )


def _read_csv(path: Path) -> pd.DataFrame:
    text = path.read_text("utf-8-sig")
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    if not rows:
        raise BadSourceError(f"{path.name} is empty; a table needs a header and rows")
    header, body = rows[0], rows[1:]
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise BadSourceError(
                f"{path.name}: record {number} has {len(row)} values, the header {len(header)}; "
                "put text that holds the separator in double quotes"
            )
    if len(set(header)) != len(header):
        raise BadSourceError(f"{path.name}: column names must be unique, got {header}")
    return pd.DataFrame(body, columns=header, dtype=object)


GEOPARQUET = {"schema_version": "1.1.0", "write_covering_bbox": True, "geometry_encoding": "WKB"}


def write_table(
    path: Path, table: gpd.GeoDataFrame | pd.DataFrame, *, licence: str, attribution: str
) -> Path:
    """Write (Geo)Parquet with licence and attribution inside.

    Tables with geometry become GeoParquet 1.1 (WKB, covering boxes); all are zstd.
    """
    raw = io.BytesIO()
    with_shapes = isinstance(table, gpd.GeoDataFrame)
    table.to_parquet(raw, index=False, **(GEOPARQUET if with_shapes else {}))
    content = pq.read_table(pa.BufferReader(raw.getvalue()))
    notes = {b"licence": licence.encode(), b"attribution": attribution.encode()}
    content = content.replace_schema_metadata({**content.schema.metadata, **notes})
    with replacing(Path(path)) as part:
        pq.write_table(content, part, compression="zstd")
    return Path(path)


def write_gpkg(
    path: Path, table: gpd.GeoDataFrame, *, layer: str, licence: str, attribution: str
) -> Path:
    """Write one GeoPackage layer, for programs without a Parquet driver (QGIS before 3.34)."""
    if len(table) == 0:
        table = table.set_geometry(table.geometry.astype("geometry"))
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": GPKG_DATE})
    try:
        with replacing(Path(path)) as part:
            part.unlink(missing_ok=True)
            pyogrio.write_dataframe(
                table,
                part,
                driver="GPKG",
                layer=layer,
                layer_metadata={"LICENCE": licence, "ATTRIBUTION": attribution},
                FID="_fid",
            )
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
    return Path(path)


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> Path:
    """Write UTF-8 CSV with commas and line feeds; ``None`` and NaN become empty.

    Text that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([guard(str(name)) for name in header])
    for row in rows:
        texts = [guard(value) if isinstance(value, str) else value for value in row]
        writer.writerow(["" if _missing(value) else value for value in texts])
    write_text(Path(path), out.getvalue())
    return Path(path)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def write_geojson(path: Path, table: gpd.GeoDataFrame, *, licence: str, attribution: str) -> Path:
    """Write RFC 7946 GeoJSON: WGS84 longitude and latitude, 7 decimals, outer rings to the left."""
    degrees = table.geometry.to_crs("EPSG:4326").to_numpy()
    degrees = shapely.orient_polygons(degrees) if len(degrees) else degrees
    columns = [name for name in table.columns if name != table.geometry.name]
    values = table[columns].to_dict("records")
    features = [
        {
            "type": "Feature",
            "properties": {name: _plain(value) for name, value in row.items()},
            "geometry": {"type": shape["type"], "coordinates": _rounded(shape["coordinates"])},
        }
        for row, shape in zip(values, map(shapely.geometry.mapping, degrees), strict=True)
    ]
    document = {
        "type": "FeatureCollection",
        "licence": licence,
        "attribution": attribution,
        "features": features,
    }
    write_text(Path(path), json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
    return Path(path)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if _missing(value) else value


def _rounded(part: Any) -> Any:
    """Return nested coordinates with 7 decimals, about 1 cm."""
    return round(part, 7) if isinstance(part, float) else [_rounded(one) for one in part]


def polygons_of_labels(labels: NDArray[np.int32], geobox: GeoBox) -> NDArray[np.object_]:
    """Return the polygon of each label 1..n, shape (n,), along cell edges.

    ``labels`` has shape (H, W); 0 is background; the cells of a label must touch by edges.
    """
    count = int(labels.max(initial=0))
    polygons = np.empty(count, object)
    found = shapes(labels, mask=labels > 0, connectivity=4, transform=geobox.transform)
    for geometry, label in found:
        polygons[int(label) - 1] = shapely.geometry.shape(geometry)
    return polygons
