"""Polygons as an OpenStreetMap file: nodes, ways, and multipolygons where there are holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from glocal.core.typing import Codes

FIRST_WAY = 1_000_000
"""Rings of multipolygons are ways with ids from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """What an element bears besides its outline."""

    tag: str
    """``key=value``."""

    version: int
    timestamp: str
    person: int

    @property
    def attributes(self) -> str:
        """What stands in the element itself."""
        user = quoteattr(f"mapper {self.person}")
        return (
            f'version="{self.version}" timestamp="{self.timestamp}" '
            f'changeset="{self.person}" uid="{self.person}" user={user}'
        )


def record_of(number: int, outline: shapely.Polygon, version: int) -> str:
    """Return the native id with version of element ``number`` (from 0)."""
    kind = "relation" if shapely.get_num_interior_rings(outline) else "way"
    return f"{kind}/{number + 1}@{version}"


def osm_xml(outline: NDArray[np.object_], elements: Sequence[Element], crs: str) -> str:
    """Return the text of an ``.osm`` file of polygons (n,) in ``crs``.

    Element i gets the id i + 1, as a way, or as a relation where it has holes. Nodes are
    not shared between elements. Coordinates have 7 decimals, about 1 cm.
    """
    rings, owner = shapely.get_rings(outline, return_index=True)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    last = np.append(ring[1:] != ring[:-1], True)
    open_xy, open_ring = xy[~last], ring[~last]
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*open_xy.T)
    meta = [one.attributes for one in elements]
    nodes = [
        f'<node id="{i}" {meta[element]} lat="{b:.7f}" lon="{a:.7f}"/>'
        for i, (element, a, b) in enumerate(
            zip(owner[open_ring].tolist(), lon.tolist(), lat.tolist(), strict=True), 1
        )
    ]
    start = np.searchsorted(open_ring, np.arange(len(rings) + 1)) + 1
    first = np.searchsorted(owner, np.arange(len(outline) + 1))
    ways, relations = [], []
    for i, one in enumerate(elements):
        of_element = range(int(first[i]), int(first[i + 1]))
        if len(of_element) == 1:
            ways.append((i + 1, _way(i + 1, start[of_element[0] :][:2], meta[i], _tag(one.tag))))
            continue
        numbers = [FIRST_WAY + number for number in of_element]
        ways += [
            (number, _way(number, start[k:][:2], meta[i], ""))
            for number, k in zip(numbers, of_element, strict=True)
        ]
        members = "".join(
            f'<member type="way" ref="{way}" role="{"inner" if k else "outer"}"/>'
            for k, way in enumerate(numbers)
        )
        members += '<tag k="type" v="multipolygon"/>' + _tag(one.tag)
        relations.append(f'<relation id="{i + 1}" {meta[i]}>{members}</relation>')
    body = "\n".join([*nodes, *(text for _, text in sorted(ways)), *relations])
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<osm version="0.6">\n{body}\n</osm>\n'


def _tag(tag: str) -> str:
    key, _, value = tag.partition("=")
    return f"<tag k={quoteattr(key)} v={quoteattr(value)}/>"


def _way(number: int, span: Codes, meta: str, tag: str) -> str:
    refs = [*range(int(span[0]), int(span[1])), int(span[0])]
    nodes = "".join(f'<nd ref="{one}"/>' for one in refs)
    return f'<way id="{number}" {meta}>{nodes}{tag}</way>'
