"""What goes back to map makers: a corrected map, its patches, shares of classes, accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from glocal.core.accuracy import AccuracyReport
from glocal.core.legend import Legend
from glocal.core.typing import Floats
from glocal.io.atomic import write_json, write_text
from glocal.io.raster import write_cog, write_qml
from glocal.io.vector import write_csv, write_gpkg, write_table
from glocal.sources.maps.patches import MapChange, patch_table
from glocal.sources.maps.quality import quality_xml

UNKNOWN = 255
"""Stored confidence where there is none."""


def encode_map(
    folder: Path,
    change: MapChange,
    *,
    accuracy: AccuracyReport | None,
    accuracy_before: AccuracyReport | None = None,
    why_no_accuracy: str = "",
    licence: str,
    attribution: str,
    smallest: int = 1,
    mmu_cells: int = 4,
    design: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a corrected copy of a map, with every change as a polygon of its own.

    ``corrected_map.tif`` with palette and QGIS style, ``confidence.tif`` (percent),
    ``patches.parquet`` and ``.gpkg``, ``confirmed.gpkg`` (changes that people confirmed
    after earlier runs, if any), ``accuracy.json``, ``quality.xml`` (ISO 19157).

    Parameters
    ----------
    accuracy, accuracy_before
        Of the corrected and of the original map; ``None`` with ``why_no_accuracy``.
    smallest
        Cells of the smallest patch in the list of changes.
    mmu_cells
        Cells below which nothing was changed.
    design
        What the report must say of the reference sample: ``sampling``, ``strata``,
        ``response``, ``independent_of_corrections``, ``reference``...
    """
    if accuracy is None and not why_no_accuracy:
        raise ValueError("without an accuracy report, why_no_accuracy must say why")
    given, table = {"licence": licence, "attribution": attribution}, patch_table(change, smallest)
    files = _write_rasters(folder, change, f"{attribution}; licence {licence}")
    files.append(write_table(folder / "patches.parquet", table, **given))
    files.append(write_gpkg(folder / "patches.gpkg", table, layer="patches", **given))
    unit = f"cell of {abs(float(change.geobox.resolution.x)):g} m"
    report = {
        "type": "glocal-accuracy-report",
        "version": "1.0",
        "map": "corrected_map.tif",
        "base_map": {"id": change.base.name, "version": change.base.version},
        "legend": change.legend.name,
        "design": {"assessment_unit": unit, "patches_from_cells": mmu_cells, **(design or {})},
        **given,
        **_accuracy(accuracy, why_no_accuracy, change.legend),
        "original_map": _accuracy(accuracy_before, why_no_accuracy, change.legend),
    }
    files.append(folder / "accuracy.json")
    write_json(files[-1], report)
    kept, confirmed = patch_table(change, 1, confirmed=True), folder / "confirmed.gpkg"
    confirmed.unlink(missing_ok=True)
    if len(kept):
        files.append(write_gpkg(confirmed, kept, layer="confirmed", **given))
    if accuracy is not None:
        files.append(folder / "quality.xml")
        title = change.base.name
        write_text(files[-1], quality_xml(accuracy, change.legend, title=title, **given))
    return files


def _write_rasters(folder: Path, change: MapChange, notes: str) -> list[Path]:
    names = ("corrected_map.tif", "corrected_map.qml", "confidence.tif")
    map_, style, confidence = (folder / name for name in names)
    values = np.array([*change.legend.values, change.legend.nodata], np.uint8)
    write_cog(
        map_,
        values[change.corrected],
        change.geobox,
        nodata=change.legend.nodata,
        band_names=("class",),
        colors=change.legend,
        copyright=notes,
        description=f"Proposed map, legend {change.legend.name}; not reviewed",
    )
    write_qml(style, change.legend)
    sure = np.nan_to_num(change.probability(change.corrected))
    percent = np.round(100 * np.clip(sure, 0, 1))
    write_cog(
        confidence,
        np.where(change.corrected >= 0, percent, UNKNOWN).astype(np.uint8),
        change.geobox,
        nodata=UNKNOWN,
        band_names=("confidence",),
        copyright=notes,
        description="percent: probability of the class in corrected_map.tif by everybody but "
        "this map",
        categorical=False,
    )
    return [map_, style, confidence]


def _accuracy(report: AccuracyReport | None, why: str, legend: Legend) -> dict[str, Any]:
    if report is None:
        return {"available": False, "reason": why or "not measured"}
    return {"available": True, **report.as_dict(legend)}


def encode_shares(
    folder: Path,
    geometry: NDArray[np.object_],
    records: NDArray[np.str_],
    shares: Floats,
    shares_sd: Floats,
    legend: Legend,
    geobox: GeoBox,
    *,
    stated: NDArray[np.str_] | None = None,
    licence: str,
    attribution: str,
) -> list[Path]:
    """Write, for each cell of a coarse map, the share of every class inside it.

    ``geometry`` (n,) outlines the coarse cells in the grid's CRS, ``shares`` (n, K) sum to 1 and
    have the standard uncertainty ``shares_sd``, ``stated`` (n,) is what the coarse map says now.
    """
    shares, shares_sd = np.asarray(shares, float), np.asarray(shares_sd, float)
    shape = (len(records), len(legend))
    if shares.shape != shape or shares_sd.shape != shape or len(geometry) != shape[0]:
        raise ValueError(
            f"shares and shares_sd must have shape (n, K) = {shape}, got {shares.shape}, "
            f"{shares_sd.shape}; geometry must have length n, got {len(geometry)}"
        )
    total = shares.sum(axis=1)
    if (shares < 0).any() or not np.allclose(total, 1, atol=1e-4) or not (shares_sd >= 0).all():
        raise ValueError("shares must be >= 0 and sum to 1, shares_sd >= 0, and neither NaN")
    top = shares.argmax(axis=1)
    names = np.array(legend.names, dtype=object)
    columns: dict[str, Any] = {
        "record": np.asarray(records, dtype=object),
        "stated": "" if stated is None else np.asarray(stated, dtype=object),
        "main_class": names[top],
    }
    for k, name in enumerate(legend.names):
        columns[f"share_{name}"] = np.round(shares[:, k], 4)
        columns[f"sd_{name}"] = np.round(shares_sd[:, k], 4)
    table = gpd.GeoDataFrame(columns, geometry=np.asarray(geometry), crs=str(geobox.crs))
    given = {"licence": licence, "attribution": attribution}
    written = write_table(folder / "shares.parquet", table, **given)
    centre = shapely.centroid(table.geometry.to_numpy())
    to_degrees = Transformer.from_crs(table.crs, "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(shapely.get_x(centre), shapely.get_y(centre))
    plain = table.drop(columns="geometry").assign(
        lon=np.round(lon, 7), lat=np.round(lat, 7), **given
    )
    rows = plain.to_numpy(object).tolist()
    return [written, write_csv(folder / "shares.csv", plain.columns, rows)]
