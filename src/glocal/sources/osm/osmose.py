"""Osmose: the same proposals grouped into classes of issues, as its analysers write them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
import zlib
from typing import Any

import shapely

from glocal.sources.osm.batch import Batch
from glocal.sources.osm.change import add_element, document
from glocal.sources.osm.place import lonlat

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

NUMBER = {kind: str(1 + i) for i, kind in enumerate(TITLES)}

OURS = {"tag": "landuse,fix:imagery", "source": "glocal"}
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
    for kind in TITLES:
        if any(rows.fault[i] == kind for i in shown):
            level = "2" if kind == "retag" else "3"  # 1 is the most urgent
            about = {"id": NUMBER[kind], "item": ITEM, "level": level, **OURS}
            one = ET.SubElement(analyser, "class", about)
            ET.SubElement(one, "classtext", lang="en", title=TITLES[kind])
            ET.SubElement(one, "detail", lang="en", title=AGREE)
    points, ids = lonlat(shapely.point_on_surface(rows.support), rows.crs), rows.ids
    for i in shown:
        _error(analyser, batch, i, ids[i], points[i])
    return document(root)


def _error(parent: ET.Element, batch: Batch, i: int, name: str, point: Any) -> None:
    rows, base, edit = batch.rows, batch.base.get(i), batch.edit(i)
    stable = str(zlib.crc32(name.encode()) & 0x7FFFFFFF)  # Osmose wants a number
    error = ET.SubElement(parent, "error", {"class": NUMBER[rows.fault[i]], "subclass": stable})
    ET.SubElement(error, "location", lat=f"{point.y:.7f}", lon=f"{point.x:.7f}")
    if base is not None:
        add_element(error, base, base.version)
    said = str(rows.current[i]) or "nothing mapped"
    text = f"{said} -> {rows.proposed[i] or 'elsewhere'}, p={min(rows.probability[i], 0.99):.2f}"
    ET.SubElement(error, "text", lang="en", value=f"{text} ({name})")
    if base is None:
        return
    fix = ET.SubElement(ET.SubElement(error, "fixes"), "fix")
    node = ET.SubElement(fix, base.osm_type, id=str(base.osm_id))
    for key, value in sorted(edit.set.items()):
        action = "modify" if key in base.tags else "create"
        ET.SubElement(node, "tag", action=action, k=key, v=value)
    for key in edit.unset:
        ET.SubElement(node, "tag", action="delete", k=key)
