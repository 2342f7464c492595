"""Osmose: the same proposals grouped into classes of issues, as its analysers write them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
import zlib
from typing import Any

import numpy as np
import shapely

from glocal.sources.osm.batch import Batch
from glocal.sources.osm.file import Whole
from glocal.sources.osm.place import lonlat
from glocal.sources.osm.tags import TagEdit

__all__ = ["osmose_xml"]

ITEM = "7190"
"""Placeholder: the Osmose team assigns the number of an item."""

TITLES = {
    "retag": "Land cover disagrees with the tags",
    "missing": "Area without a land cover object",
    "outdated": "Land cover may have changed since the last edit",
    "vanished": "The object may not be there any more",
    "displaced": "The object may lie elsewhere",
    "doubt": "The tags are doubted",
}

KINDS = tuple(TITLES)

LEVELS = {"retag": "2"}
"""1 is the most urgent; all but edits are 3."""

AGREE = "Evidence from satellite images and maps; a person decides each one by recent imagery."


def osmose_xml(batch: Batch) -> str:
    """Return an analyser's result with one class per kind of issue, or "" for none.

    Rows that are held back for later, or that are flags only, are not issues. The time
    is that of the newest image, or of nothing at all: never that of the run.
    """
    rows, shown = batch.rows, batch.of_fate("modify", "create", "survey", "missing")
    if not shown:
        return ""
    root = ET.Element("analysers")
    newest = max((one.stop for one in batch.dates.values()), default=None)
    when = newest.strftime("%Y-%m-%dT%H:%M:%SZ") if newest else "1970-01-01T00:00:00Z"
    analyser = ET.SubElement(root, "analyser", timestamp=when, analyser_version="1", version="1")
    for kind in KINDS:
        if any(rows.fault[i] == kind for i in shown):
            _class(analyser, kind)
    inner = shapely.point_on_surface(rows.support)
    points = lonlat(inner, rows.crs)
    for i in shown:
        _error(analyser, batch, i, points[i])
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _class(parent: ET.Element, kind: str) -> None:
    about = {
        "id": str(1 + KINDS.index(kind)),
        "item": ITEM,
        "level": LEVELS.get(kind, "3"),
        "tag": "landuse,fix:imagery",
        "source": "glocal",
    }
    one = ET.SubElement(parent, "class", about)
    ET.SubElement(one, "classtext", lang="en", title=TITLES[kind])
    ET.SubElement(one, "detail", lang="en", title=AGREE)


def _error(parent: ET.Element, batch: Batch, i: int, point: Any) -> None:
    rows, name = batch.rows, batch.rows.ids[i]
    error = ET.SubElement(
        parent,
        "error",
        {"class": str(1 + KINDS.index(str(rows.fault[i]))), "subclass": str(_subclass(name))},
    )
    x, y = np.round(shapely.get_coordinates(point)[0], 7).tolist()
    ET.SubElement(error, "location", lat=f"{y:.7f}", lon=f"{x:.7f}")
    base = batch.base.get(i)
    if base is not None:
        _as_it_is(error, base)
    said = str(rows.current[i]) or "nothing mapped"
    text = f"{said} -> {rows.proposed[i] or 'elsewhere'}, p={min(rows.probability[i], 0.99):.2f}"
    ET.SubElement(error, "text", lang="en", value=f"{text} ({name})")
    if base is not None:
        _fix(error, base, batch.edit(i))


def _subclass(name: str) -> int:
    """Return a stable number of a proposal, as Osmose wants one."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def _as_it_is(error: ET.Element, base: Whole) -> None:
    node = ET.SubElement(error, base.osm_type, id=str(base.osm_id), version=str(base.version))
    for ref in base.nodes:
        ET.SubElement(node, "nd", ref=str(ref))
    for kind, number, role in base.members:
        ET.SubElement(node, "member", type=kind, ref=str(number), role=role)
    for key, value in sorted(base.tags.items()):
        ET.SubElement(node, "tag", k=key, v=value)


def _fix(error: ET.Element, base: Whole, edit: TagEdit) -> None:
    fix = ET.SubElement(ET.SubElement(error, "fixes"), "fix")
    node = ET.SubElement(fix, base.osm_type, id=str(base.osm_id))
    for key, value in sorted(edit.set.items()):
        ET.SubElement(
            node, "tag", action="modify" if key in base.tags else "create", k=key, v=value
        )
    for key in edit.unset:
        ET.SubElement(node, "tag", action="delete", k=key)
