"""What goes back to makers of maps: a corrected map, the patches that changed, accuracy."""

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
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from glocal.core.accuracy import AccuracyReport
from glocal.core.correction import Corrections
from glocal.core.grid import cell_area_ha
from glocal.core.legend import Legend
from glocal.io.atomic import write_json
from glocal.io.raster import write_cog, write_qml
from glocal.io.vector import polygons_of_labels, write_csv, write_gpkg, write_table

__all__ = ["encode_map", "encode_shares"]

Classes = NDArray[np.uint8]


def encode_map(
    folder: Path,
    *,
    corrected: Classes,
    original: Classes,
    probability: NDArray[np.floating],
    geobox: GeoBox,
    legend: Legend,
    accuracy: AccuracyReport | None,
    why_no_accuracy: str = "",
    corrections: Corrections | None,
    licence: str,
    attribution: str,
    mmu_cells: int = 4,
    design: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a corrected copy of a map, with every change as a polygon of its own.

    Parameters
    ----------
    corrected, original
        Shape (H, W), class values of ``legend``; 0 is no data.
    probability
        Shape (H, W), probability that the corrected class is right.
    accuracy
        From reference points that no round has used; ``None`` with ``why_no_accuracy``.
    corrections
        Names the evidence and the round; ``None`` leaves them empty.
    mmu_cells
        Smallest patch in the list of changes; the map itself keeps smaller ones.
    design
        What the report must say of the reference sample: ``sampling``, ``strata``,
        ``response``, ``independent_of_training``, ``reference``...
    """
    _check_map(corrected, original, probability, geobox, accuracy, why_no_accuracy)
    folder = Path(folder)
    notes = f"{attribution}; licence {licence}"
    write_cog(
        folder / "corrected_map.tif",
        corrected,
        geobox,
        nodata=0,
        band_names=("class",),
        colors=legend,
        copyright=notes,
        description=f"Proposed map, legend {legend.name}; not reviewed",
    )
    write_qml(folder / "corrected_map.qml", legend)
    patches = _patches(corrected, original, probability, geobox, legend, corrections, mmu_cells)
    given = {"licence": licence, "attribution": attribution}
    write_table(folder / "patches.parquet", patches, **given)
    write_gpkg(folder / "patches.gpkg", patches, layer="patches", **given)
    unit = f"cell of {abs(float(geobox.resolution.x)):g} m"
    head = {
        "legend": legend.name,
        "design": {"assessment_unit": unit, "patches_from_cells": mmu_cells, **(design or {})},
        **given,
    }
    write_json(folder / "accuracy.json", _accuracy(accuracy, why_no_accuracy, legend, head))
    names = ("corrected_map.tif", "corrected_map.qml", "patches.parquet", "patches.gpkg")
    return [folder / name for name in (*names, "accuracy.json")]


def _check_map(
    corrected: Classes,
    original: Classes,
    probability: NDArray[np.floating],
    geobox: GeoBox,
    accuracy: AccuracyReport | None,
    why: str,
) -> None:
    shape = tuple(geobox.shape)
    if not corrected.shape == original.shape == probability.shape == shape:
        raise ValueError(
            f"corrected, original and probability must have the grid's shape {shape}, got "
            f"{corrected.shape}, {original.shape}, {probability.shape}"
        )
    at_changes = probability[(corrected != original) & (corrected > 0) & (original > 0)]
    if not ((at_changes >= 0) & (at_changes <= 1)).all():
        raise ValueError("probability must lie in 0..1 wherever the class changes")
    if accuracy is None and not why:
        raise ValueError("without an accuracy report, why_no_accuracy must say why")


def _accuracy(
    report: AccuracyReport | None, why: str, legend: Legend, head: dict[str, Any]
) -> dict[str, Any]:
    said = {"available": False, "reason": why}
    if report is not None:
        said = {"available": True, **report.as_dict(legend)}
    return {
        "type": "glocal-accuracy-report",
        "version": "1.0",
        "map": "corrected_map.tif",
        **head,
        **said,
    }


def patch_labels(code: NDArray[np.int64], smallest: int) -> NDArray[np.int32]:
    """Return labels 1..n of edge-connected cells with equal ``code`` > 0, shape (H, W).

    Patches with fewer than ``smallest`` cells get 0; labels follow the first cell of a
    patch in row-major order.

    >>> patch_labels(np.array([[5, 5, 0], [7, 5, 5]]), 2).tolist()
    [[1, 1, 0], [0, 1, 1]]
    """
    cells = np.arange(code.size).reshape(code.shape)
    pairs = []
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        same = (code[one] == code[other]) & (code[one] > 0)
        pairs.append((cells[one][same], cells[other][same]))
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(code.size,) * 2)
    _, part = connected_components(graph, directed=False)
    size = np.bincount(part)
    keep = (code.ravel() > 0) & (size[part] >= smallest)
    labels = np.zeros(code.size, np.int32)
    _, start, inverse = np.unique(part[keep], return_index=True, return_inverse=True)
    rank = np.empty(len(start), np.int32)
    rank[np.argsort(start)] = np.arange(1, len(start) + 1)
    labels[keep] = rank[inverse]
    return labels.reshape(code.shape)


def _patches(
    corrected: Classes,
    original: Classes,
    probability: NDArray[np.floating],
    geobox: GeoBox,
    legend: Legend,
    corrections: Corrections | None,
    smallest: int,
) -> gpd.GeoDataFrame:
    """Return the changed patches: what the map says, what is proposed, how sure, on what ground."""
    changed = (corrected != original) & (corrected > 0) & (original > 0)
    code = np.where(changed, original.astype(np.int64) * 256 + corrected, 0)
    labels = patch_labels(code, smallest)
    flat = labels.ravel()
    n = int(flat.max(initial=0))
    _, at = np.unique(flat, return_index=True)
    at = at[-n:] if n else at[:0]
    size = np.bincount(flat, minlength=n + 1)[1:]
    sure = np.where(flat > 0, probability.ravel(), 0.0)
    mean = np.bincount(flat, sure, n + 1)[1:] / np.maximum(size, 1)
    names = dict(zip(legend.values, legend.names, strict=True))
    before = [names.get(value, str(value)) for value in original.ravel()[at].tolist()]
    after = [names.get(value, str(value)) for value in corrected.ravel()[at].tolist()]
    polygons = polygons_of_labels(labels, geobox)
    corner = shapely.bounds(polygons)[:, [0, 3]] if n else np.empty((0, 2))
    because = ", ".join(corrections.because) if corrections else ""
    columns = {
        "change_id": np.array(
            [
                f"{old}-{new}-{x:.1f}-{y:.1f}-{i}"
                for old, new, (x, y), i in zip(before, after, corner, size.tolist(), strict=True)
            ],
            dtype=object,
        ),
        "class_from": np.array(before, dtype=object),
        "class_to": np.array(after, dtype=object),
        "probability": np.round(mean, 4),
        "area_ha": np.round(size * cell_area_ha(geobox), 4),
        "because": np.array([because] * n, dtype=object),
        "round": np.full(n, corrections.round if corrections else -1),
        "status": np.array(["proposed"] * n, dtype=object),
    }
    return gpd.GeoDataFrame(columns, geometry=polygons, crs=str(geobox.crs))


def encode_shares(
    folder: Path,
    geometry: NDArray[np.object_],
    records: NDArray[np.str_],
    shares: NDArray[np.floating],
    shares_sd: NDArray[np.floating],
    legend: Legend,
    geobox: GeoBox,
    *,
    stated: NDArray[np.str_] | None = None,
    licence: str,
    attribution: str,
) -> list[Path]:
    """Write, for each cell of a coarse map, the share of every class inside it.

    Parameters
    ----------
    geometry
        Shape (n,), outlines of the coarse cells in the grid's CRS.
    shares, shares_sd
        Shape (n, K): shares that sum to 1 and their standard uncertainty.
    stated
        Shape (n,), the class that the coarse map gives now.
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
        "stated": np.asarray(stated if stated is not None else [""] * len(records), dtype=object),
        "main_class": names[top],
    }
    for k, name in enumerate(legend.names):
        columns[f"share_{name}"] = np.round(shares[:, k], 4)
        columns[f"sd_{name}"] = np.round(shares_sd[:, k], 4)
    table = gpd.GeoDataFrame(columns, geometry=np.asarray(geometry), crs=str(geobox.crs))
    folder = Path(folder)
    write_table(folder / "shares.parquet", table, licence=licence, attribution=attribution)
    _write_shares_csv(folder / "shares.csv", table, licence, attribution)
    return [folder / "shares.parquet", folder / "shares.csv"]


def _write_shares_csv(path: Path, table: gpd.GeoDataFrame, licence: str, attribution: str) -> None:
    centre = shapely.centroid(table.geometry.to_numpy())
    to_degrees = Transformer.from_crs(table.crs, "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(shapely.get_x(centre), shapely.get_y(centre))
    plain = table.drop(columns="geometry").assign(
        lon=np.round(lon, 7), lat=np.round(lat, 7), licence=licence, attribution=attribution
    )
    write_csv(path, plain.columns, plain.to_numpy(object).tolist())
