"""From areas of a file to statements about land cover: class, place, painting order."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.geom import box
from pyproj import Transformer

from glocal.core.grid import require_overlap
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.typing import Codes
from glocal.errors import BadSourceError
from glocal.sources.osm.file import Elements
from glocal.sources.osm.tags import TagRow, classify, crosswalk_of, level_of, row_of, symbol_of

ATTRIBUTION = "© OpenStreetMap contributors (openstreetmap.org/copyright), ODbL 1.0"

log = logging.getLogger(__name__)


def observations_of(
    elements: Elements,
    geobox: GeoBox,
    legend: Legend,
    *,
    name: str,
    source: str,
    interval: Interval,
    licence: str,
) -> Observations:
    """Return what ``elements`` of the file ``name`` say about the area.

    Objects that touch the area are kept whole, in the CRS of ``geobox``. Painting order:
    uses first, then cover, then single built things; inside each level the larger
    before the smaller; so the most specific and then the smallest object speaks.
    Errors are those of `read.observe_osm`.
    """
    kinds, kind = _kinds(elements)
    index, geometry = _touching(elements, np.flatnonzero(kind >= 0), geobox, name)
    present, kind, count = np.unique(kind[index], return_inverse=True, return_counts=True)
    found = [kinds[i] for i in present]
    symbols = [
        given or symbol_of(row, int(n)) for (given, row), n in zip(found, count, strict=True)
    ]
    level = np.array([level_of(row) for _, row in found])[kind]
    tie = elements.osm_id if elements.row is None else elements.row
    order = np.lexsort((tie[index], -shapely.area(geometry), level))
    index, kind, geometry = index[order], kind[order], geometry[order]
    alphabet, symbol_of_kind = np.unique(symbols, return_inverse=True)
    counts = f"{len(elements)} areas read, {len(index)} used, {elements.broken} broken"
    log.info("%s: %s", name, counts)
    return Observations(
        source=source,
        support="objects",
        geobox=geobox,
        symbols=(symbol_of_kind[kind] + 1).astype(np.uint16),
        crosswalk=crosswalk_of(tuple(alphabet.tolist()), legend),
        phenomenon_time=interval,
        provenance=Provenance(
            activity="read",
            agent="OpenStreetMap contributors",
            used=(f"{name}: {counts}",),
            licences=frozenset({licence}),
            roots=frozenset({source}),
            attribution=(ATTRIBUTION,),
        ),
        geometry=geometry,
        record=elements.records(index),
        stratum=None if elements.stratum is None else elements.stratum[index],
        columns=elements.columns(index),
    )


def _kinds(elements: Elements) -> tuple[list[tuple[str, TagRow]], NDArray[np.int64]]:
    """Return the distinct (given symbol, row) and which one each element has; -1 is none."""
    kinds: dict[str, tuple[str, TagRow]] = {}
    place: dict[str, int] = {}
    known: dict[Any, int] = {}  # many elements have the same tags
    code = []
    given = elements.symbol or [""] * len(elements)
    lines = elements.is_line.tolist()
    for symbol, tags, line in zip(given, elements.tags, lines, strict=True):
        key = symbol or (line, *tags.items())
        if key not in known:
            known[key] = -1
            row = row_of(symbol) if symbol else classify(tags, is_line=line)
            if row is not None and row.shares:
                name = symbol or row.symbol
                kinds[name] = (symbol, row)
                known[key] = place.setdefault(name, len(place))
        code.append(known[key])
    return list(kinds.values()), np.array(code, dtype=np.int64)


def _touching(
    elements: Elements, usable: Codes, geobox: GeoBox, name: str
) -> tuple[Codes, NDArray[np.object_]]:
    """Return which usable elements touch the area, and their outlines in the grid's CRS."""
    if not len(usable):
        raise BadSourceError(
            f"{name}: {len(elements)} areas read, none with a tag of land cover "
            f"({elements.broken} broken); check that it is the right extract"
        )
    bounds = shapely.bounds(elements.geometry[usable])
    left, bottom, right, top = shapely.total_bounds(elements.geometry[usable]).tolist()
    require_overlap(name, box(left, bottom, right, top, crs=elements.crs), geobox)
    area = geobox.extent.to_crs(elements.crs).boundingbox
    near = (bounds[:, 0] <= area.right) & (bounds[:, 2] >= area.left)
    near &= (bounds[:, 1] <= area.top) & (bounds[:, 3] >= area.bottom)
    index = usable[near]
    # all coordinates go through one call
    crs = geobox.crs.proj if geobox.crs else elements.crs
    move = Transformer.from_crs(elements.crs, crs, always_xy=True)
    xy = np.column_stack(move.transform(*shapely.get_coordinates(elements.geometry[index]).T))
    geometry = np.asarray(shapely.set_coordinates(elements.geometry[index], xy), object)
    touches = shapely.intersects(geometry, geobox.extent.geom)
    if not touches.any():
        raise BadSourceError(
            f"{name}: {len(elements)} areas read, {len(usable)} of them with a tag of land "
            "cover, but none touches the area; check the area or take another extract"
        )
    return index[touches], geometry[touches]
