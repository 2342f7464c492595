"""Catalogue entries: STAC 1.1 items as plain mappings, so that no library version shifts them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.provenance import Provenance
from glocal.errors import RunError

__all__ = ["Asset", "class_band", "geographic_outline", "multihash", "round_item"]

MEDIA_TYPES = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".parquet": "application/vnd.apache.parquet",
    ".geojson": "application/geo+json",
    ".json": "application/json",
    ".csv": "text/csv",
    ".gpkg": "application/geopackage+sqlite3",
    ".gpx": "application/gpx+xml",
    ".qml": "application/xml",
    ".osc": "application/xml",
    ".osm": "application/xml",
    ".html": "text/html",
}

LICENCE_PAGES = {
    "ODbL-1.0": "https://opendatacommons.org/licenses/odbl/1-0/",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "PDDL-1.0": "https://opendatacommons.org/licenses/pddl/1-0/",
}

EXTENSIONS = ("projection/v2.0.0", "classification/v2.0.0", "processing/v1.2.0", "file/v2.1.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file of an item."""

    path: Path
    title: str
    roles: tuple[str, ...] = ("data",)
    bands: tuple[Mapping[str, Any], ...] = field(default=())
    """STAC 1.1 ``bands``; see :func:`class_band`."""

    geobox: GeoBox | None = None
    """Grid of a raster."""


def class_band(name: str, legend: Legend) -> dict[str, Any]:
    """Return the ``bands`` entry of a class map (value, name, title and colour of each class)."""
    return {
        "name": name,
        "description": f"classes of legend {legend.name}",
        "data_type": "uint8",
        "nodata": legend.nodata,
        "classification:classes": [
            {
                "value": one.value,
                "name": one.name,
                "description": one.title,
                "color_hint": one.color.upper(),
            }
            for one in legend.classes
        ],
    }


def multihash(content: bytes) -> str:
    """Return the SHA-256 of ``content`` as a hexadecimal multihash.

    >>> multihash(b"")[:12]
    '1220e3b0c442'
    """
    return "1220" + hashlib.sha256(content).hexdigest()


def geographic_outline(geobox: GeoBox) -> tuple[dict[str, Any], list[float]]:
    """Return the grid's outline as GeoJSON in longitude and latitude (7 decimals), and its bbox.

    Each edge carries points in between, as straight lines on the grid bend on the globe.
    """
    height, width = geobox.shape
    along = np.linspace(0, 1, 9)[:-1]
    still = np.zeros_like(along)
    # Counter-clockwise from the lower left corner of a north-up grid.
    column = np.concatenate([along, still + 1, 1 - along, still]) * width
    row = np.concatenate([still + 1, 1 - along, still, along]) * height
    a, b, c, d, e, f = tuple(geobox.transform)[:6]
    to_degrees = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(a * column + b * row + c, d * column + e * row + f)
    lon, lat = np.round(lon, 7), np.round(lat, 7)
    ring = np.column_stack([lon, lat]).tolist()
    box = [float(v) for v in (lon.min(), lat.min(), lon.max(), lat.max())]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}, box


def round_item(
    *,
    area: str,
    round: int,
    geobox: GeoBox,
    interval: Interval,
    legend: Legend,
    provenance: Provenance,
    assets: Mapping[str, Asset],
    folder: Path,
    licence: str,
    software: Mapping[str, str],
    derived_from: Iterable[str] = (),
    previous: str = "",
    prov: str = "",
    title: str = "",
) -> dict[str, Any]:
    """Return the STAC 1.1 item of one round.

    Parameters
    ----------
    area
        Machine name of the area; the item's id is ``<area>-r<round>``.
    folder
        Where ``item.json`` will stand; assets must lie inside it or beside it.
    software
        Name → version.
    derived_from
        Addresses or relative paths of the inputs.
    previous, prov
        Relative paths of the item of the round before and of the PROV document.

    No time of creation is written: equal runs give equal items. ``interval.stop`` lies
    just outside, so ``end_datetime`` is the instant of the stop.

    Raises
    ------
    RunError
        An asset does not exist.
    """
    geometry, box = geographic_outline(geobox)
    start, stop = interval.isoformat().split("/")
    spdx = licence if licence in LICENCE_PAGES else "other"
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            f"https://stac-extensions.github.io/{name}/schema.json" for name in EXTENSIONS
        ],
        "id": f"{area}-r{round}",
        "geometry": geometry,
        "bbox": box,
        "properties": {
            "title": title or f"{area}, round {round}",
            "datetime": None,
            "start_datetime": start,
            "end_datetime": stop,
            "license": spdx,
            "attribution": "; ".join(provenance.attribution),
            **_projection(geobox),
            "processing:lineage": f"round {round}: " + ", ".join(sorted(provenance.roots)),
            "processing:software": dict(software),
            "glocal:legend": legend.name,
            "glocal:licences": sorted(provenance.licences),
            "glocal:round": round,
            "glocal:status": "proposed, not reviewed",
        },
        "links": _links(licence, derived_from, previous, prov),
        "assets": {key: _asset(one, Path(folder)) for key, one in sorted(assets.items())},
    }


def _projection(geobox: GeoBox) -> dict[str, Any]:
    crs = CRS.from_user_input(str(geobox.crs))
    authority = crs.to_authority()
    return (
        {"proj:code": ":".join(authority)}
        if authority
        else {"proj:code": None, "proj:wkt2": crs.to_wkt()}
    )


def _links(
    licence: str, derived_from: Iterable[str], previous: str, prov: str
) -> list[dict[str, str]]:
    links = [{"rel": "derived_from", "href": one} for one in sorted(set(derived_from))]
    if licence in LICENCE_PAGES:
        page = {"rel": "license", "href": LICENCE_PAGES[licence], "type": "text/html"}
        links.insert(0, page)
    if prov:
        via = {"rel": "via", "href": prov, "type": "application/json", "title": "W3C PROV-JSON"}
        links.append(via)
    if previous:
        links.append(
            {"rel": "predecessor-version", "href": previous, "type": "application/geo+json"}
        )
    return links


def _asset(one: Asset, folder: Path) -> dict[str, Any]:
    if not one.path.is_file():
        raise RunError(f"asset {one.path.name} does not exist; write it before the item")
    content = one.path.read_bytes()
    entry: dict[str, Any] = {
        "href": _href(one.path, folder),
        "title": one.title,
        "roles": list(one.roles),
        "file:checksum": multihash(content),
        "file:size": len(content),
    }
    if one.path.suffix in MEDIA_TYPES:
        entry["type"] = MEDIA_TYPES[one.path.suffix]
    if one.bands:
        entry["bands"] = [dict(band) for band in one.bands]
    if one.geobox is not None:
        entry["proj:shape"] = [int(v) for v in one.geobox.shape]
        entry["proj:transform"] = [float(v) for v in tuple(one.geobox.transform)[:6]]
    return entry


def _href(path: Path, folder: Path) -> str:
    """Return a path relative to the item, so that a run folder can be moved as a whole."""
    path, folder = path.resolve(), folder.resolve()
    up = 0
    while not path.is_relative_to(folder):
        folder, up = folder.parent, up + 1
    return ("../" * up or "./") + path.relative_to(folder).as_posix()
