"""Areas that the map lacks: an outline that a mapper can work with, and its elements."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np
import shapely

from glocal.sources.osm.file import Whole

PART = 0.5
"""Simplified lines stay within this part of a cell of the outline along cells."""

TOO_SMALL = "what is not mapped yet is smaller than the minimum mapping unit"


def outline(patch: Any, taken: Any, cell: float, *, min_area: float) -> tuple[Any, str]:
    """Return the outline of a patch of cells, and why it can't be proposed ("" if it can).

    The steps along cells are cut, and what lies within half a cell of ``taken`` (the
    union of everything mapped there) is left out, so that nothing mapped is overlapped.
    Only the largest part is kept.

    ``cell`` is the side of a cell and ``min_area`` the minimum mapping unit, in the units
    of ``patch``.
    """
    shape = shapely.simplify(shapely.force_2d(patch), PART * cell)
    if not shapely.is_empty(taken) and shapely.intersects(shape, taken):
        shape = shapely.difference(shape, shapely.buffer(taken, PART * cell))
        shape = shapely.simplify(_largest(shape), PART * cell / 2)
    shape = _largest(shapely.make_valid(shape))
    if shapely.is_empty(shape):
        return shape, TOO_SMALL
    # holes that are too small to be drawn are filled, unless something mapped lies in them
    holes = [shapely.Polygon(ring) for ring in shape.interiors]
    kept = [one.exterior for one in holes if one.area >= min_area or one.intersects(taken)]
    shape = shapely.Polygon(shape.exterior, kept)
    if shapely.area(shape) < min_area:
        return shape, TOO_SMALL
    if shapely.area(shapely.intersection(shape, taken)) > 0:
        return shape, "it can't be drawn without overlapping what is mapped"
    return shape, ""


def _largest(shape: Any) -> Any:
    parts = shapely.get_parts(shape)
    parts = parts[shapely.get_type_id(parts) == 3]
    return parts[np.argmax(shapely.area(parts))] if len(parts) else shapely.Polygon()


def new_elements(polygon: Any, tags: Mapping[str, str], first: int = -1) -> list[Whole]:
    """Return the nodes and the way of a new area, in longitude and latitude.

    Ids count down from ``first``. An area with holes becomes a multipolygon.
    """
    number = count(first, -1)

    def new(kind: str, tags: Mapping[str, str], **held: Any) -> Whole:
        return Whole(osm_type=kind, osm_id=next(number), version=0, tags=dict(tags), **held)

    nodes: list[Whole] = []
    ways: list[Whole] = []
    for ring in (polygon.exterior, *polygon.interiors):
        places = shapely.get_coordinates(ring)[:-1].tolist()
        corners = [new("node", {}, place=tuple(one)) for one in places]
        refs = tuple(one.osm_id for one in corners)
        ways.append(new("way", {} if polygon.interiors else tags, nodes=(*refs, refs[0])))
        nodes += corners
    if not polygon.interiors:
        return [*nodes, *ways]
    roles = ("outer", *("inner" for _ in ways[1:]))
    members = tuple(("way", way.osm_id, role) for way, role in zip(ways, roles, strict=True))
    return [*nodes, *ways, new("relation", {"type": "multipolygon", **tags}, members=members)]
