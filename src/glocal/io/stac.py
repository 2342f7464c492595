"""Catalogue entries: STAC 1.1 items as plain mappings, so that no library version shifts them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from glocal.core.grid import points_at
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.provenance import Provenance
from glocal.errors import RunError

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

EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
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

    def entry(self, folder: Path) -> dict[str, Any]:
        """Return what an item in ``folder`` says of the file.

        Paths are relative to the item, so that a run folder can be moved as a whole.

        Raises ``RunError``: the file does not exist.
        """
        if not self.path.is_file():
            raise RunError(f"asset {self.path.name} does not exist; write it before the item")
        content = self.path.read_bytes()
        href = Path(os.path.relpath(self.path.resolve(), folder.resolve())).as_posix()
        entry: dict[str, Any] = {
            "href": href if href.startswith("../") else f"./{href}",
            "title": self.title,
            "roles": list(self.roles),
            "file:checksum": multihash(content),
            "file:size": len(content),
        }
        if self.path.suffix in MEDIA_TYPES:
            entry["type"] = MEDIA_TYPES[self.path.suffix]
        if self.bands:
            entry["bands"] = [dict(band) for band in self.bands]
        return entry | (grid_fields(self.geobox) if self.geobox is not None else {})


def class_band(name: str, legend: Legend) -> dict[str, Any]:
    """Return the ``bands`` entry of a class map (value, name, title and colour of each class)."""
    return {
        "name": name,
        "description": f"classes of legend {legend.name}",
        "data_type": "uint8",
        "nodata": legend.nodata,
        "classification:classes": [
            {
                "value": c.value,
                "name": c.name,
                "description": c.title,
                "color_hint": c.color.upper(),
            }
            for c in legend.classes
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
    to_degrees = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True)
    ring = np.column_stack(to_degrees.transform(*points_at(geobox, row, column))).round(7)
    box = np.concatenate([ring.min(axis=0), ring.max(axis=0)]).tolist()
    return {"type": "Polygon", "coordinates": [[*ring.tolist(), ring[0].tolist()]]}, box


def grid_fields(geobox: GeoBox) -> dict[str, Any]:
    """Return shape and transform of a grid as the projection extension names them."""
    return {
        "proj:shape": [int(n) for n in geobox.shape],
        "proj:transform": [float(v) for v in tuple(geobox.transform)[:6]],
    }


def stac_item(
    name: str,
    extensions: Iterable[str],
    geobox: GeoBox,
    interval: Interval,
    licence: str,
    properties: Mapping[str, Any],
    *,
    links: Sequence[Mapping[str, str]],
    assets: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a STAC 1.1 item: what all items of a run share, and ``properties`` of its own.

    No time of creation is written: equal runs give equal items. ``interval.stop`` lies
    just outside, so ``end_datetime`` is the instant of the stop.
    """
    geometry, box = geographic_outline(geobox)
    start, stop = interval.isoformat().split("/")
    crs = CRS.from_user_input(str(geobox.crs))
    code = crs.to_authority()
    named = (
        {"proj:code": ":".join(code)} if code else {"proj:code": None, "proj:wkt2": crs.to_wkt()}
    )
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [EXTENSION.format(one) for one in extensions],
        "id": name,
        "geometry": geometry,
        "bbox": box,
        "properties": {
            "datetime": None,
            "start_datetime": start,
            "end_datetime": stop,
            "license": licence if licence in LICENCE_PAGES else "other",
            **named,
            "glocal:status": "proposed, not reviewed",
            **properties,
        },
        "links": list(links),
        "assets": dict(assets),
    }


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
) -> dict[str, Any]:
    """Return the STAC 1.1 item of one round.

    Its id is ``<area>-r<round>``. It will stand in ``folder``, and assets must lie inside it or
    beside it, else `Asset.entry` refuses them. ``software`` gives versions by name,
    ``derived_from`` addresses or relative paths of the inputs, ``previous`` and ``prov`` relative
    paths of the item of the round before and of the PROV document.
    """
    links = []
    if licence in LICENCE_PAGES:
        links.append({"rel": "license", "href": LICENCE_PAGES[licence], "type": "text/html"})
    links += [{"rel": "derived_from", "href": one} for one in sorted(set(derived_from))]
    if prov:
        via = {"rel": "via", "href": prov, "type": "application/json", "title": "W3C PROV-JSON"}
        links.append(via)
    if previous:
        older = {"rel": "predecessor-version", "href": previous, "type": "application/geo+json"}
        links.append(older)
    properties = {
        "title": f"{area}, round {round}",
        "attribution": "; ".join(provenance.attribution),
        "processing:lineage": f"round {round}: " + ", ".join(sorted(provenance.roots)),
        "processing:software": dict(software),
        "glocal:legend": legend.name,
        "glocal:licences": sorted(provenance.licences),
        "glocal:round": round,
    }
    return stac_item(
        f"{area}-r{round}",
        EXTENSIONS,
        geobox,
        interval,
        licence,
        properties,
        links=links,
        assets={key: one.entry(Path(folder)) for key, one in sorted(assets.items())},
    )
