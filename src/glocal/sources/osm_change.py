"""OsmChange: tag edits of existing ways and relations, whole elements, nothing else.

``modify`` replaces an element, so every node reference, member and tag is repeated.
There is no ``create`` and no ``delete`` here, and no changeset or user: a person decides
on each element and uploads it with an editor.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from glocal.core.correction import Corrections
from glocal.errors import BadSourceError
from glocal.sources.osm_file import Whole, read_elements
from glocal.sources.osm_tags import TagEdit

__all__ = ["change_xml", "check_base", "edited", "fresh_elements", "parse_record", "problem"]

MAX_TEXT = 255
MAX_NODES = 2000
MAX_MEMBERS = 32_000
"""Limits of the OSM server for a tag's key or value, a way and a relation."""

FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Characters that XML 1.0 can't hold."""

CREDIT = {
    "copyright": "OpenStreetMap and contributors",
    "attribution": "https://www.openstreetmap.org/copyright",
    "license": "https://opendatacommons.org/licenses/odbl/1-0/",
}
"""As the OSM server writes them on its own documents."""

RECORD = re.compile(r"(way|relation)/(\d+)@(\d+)")


def parse_record(record: str) -> tuple[str, int, int] | None:
    """Return (type, id, version) of a record, or None for one that is no OSM element.

    >>> parse_record("way/123@4"), parse_record("geofabrik/7")
    (('way', 123, 4), None)
    """
    match = RECORD.fullmatch(record)
    return (match[1], int(match[2]), int(match[3])) if match else None


def fresh_elements(
    extract: Path, records: Iterable[str]
) -> tuple[dict[str, Whole], dict[str, str]]:
    """Return (elements by record, reason by record) of what ``extract`` holds today.

    A record is fresh when the extract has the element at the very version that the
    record names; else it is in the second answer, with the version found.
    """
    parsed = {one: parse_record(str(one)) for one in records}
    wanted = {one: key for one, key in parsed.items() if key is not None and key[2] > 0}
    held = read_elements(extract, [key[:2] for key in wanted.values()])
    fresh: dict[str, Whole] = {}
    stale = {one: "no OSM element with a version" for one in parsed if one not in wanted}
    for one, (kind, number, version) in wanted.items():
        whole = held.get((kind, number))
        if whole is None:
            stale[one] = f"{kind}/{number} is not in {extract.name} any more"
        elif whole.version != version:
            stale[one] = (
                f"{kind}/{number} is version {whole.version} now, "
                f"the proposal was made from version {version}"
            )
        else:
            fresh[one] = whole
    return fresh, stale


def check_base(extract: Path, corrections: Corrections) -> None:
    """Refuse corrections whose elements have changed since they were proposed.

    Raises
    ------
    BadSourceError
        Names the elements with the version that they have now.
    """
    edits = corrections.record[corrections.action == "modify"].tolist()
    _, stale = fresh_elements(extract, edits)
    if stale:
        shown = "; ".join(list(stale.values())[:5])
        raise BadSourceError(
            f"{len(stale)} of {len(edits)} proposals are stale: {shown}; run the round again "
            "on the newer extract"
        )


def problem(whole: Whole) -> str:
    """Return why the OSM server would refuse this element, or an empty string."""
    for key, value in whole.tags.items():
        if max(len(key), len(value)) > MAX_TEXT:
            return f"tag {key[:40]!r} is longer than {MAX_TEXT} characters"
        if not key or not value or FORBIDDEN.search(key + value):
            return f"tag {key[:40]!r} is empty or holds characters that XML can't"
    if whole.osm_type == "way" and not 2 <= len(whole.nodes) <= MAX_NODES:
        return f"the way has {len(whole.nodes)} nodes, allowed are 2 to {MAX_NODES}"
    if whole.osm_type == "relation" and not 1 <= len(whole.members) <= MAX_MEMBERS:
        return f"the relation has {len(whole.members)} members, allowed are 1 to {MAX_MEMBERS}"
    return "" if whole.version > 0 else "its version is not known"


def edited(whole: Whole, edit: TagEdit) -> Whole:
    """Return the element after ``edit``, at its base version."""
    return replace(whole, tags=edit.applied(whole.tags))


def change_xml(elements: Iterable[Whole], *, bump: int = 0) -> str:
    """Return an OsmChange document that modifies ``elements``, ways before relations.

    ``bump`` is added to each version: 0 for a proposal (the server wants the base
    version), 1 for a local preview with ``osmium apply-changes``, where the higher
    version wins and an equal one may be dropped without a word.
    """
    root = ET.Element("osmChange", {"version": "0.6", "generator": "glocal", **CREDIT})
    block = ET.SubElement(root, "modify")
    for one in sorted(elements, key=lambda one: (one.osm_type != "way", one.osm_id)):
        node = ET.SubElement(
            block, one.osm_type, id=str(one.osm_id), version=str(one.version + bump)
        )
        for ref in one.nodes:
            ET.SubElement(node, "nd", ref=str(ref))
        for kind, number, role in one.members:
            ET.SubElement(node, "member", type=kind, ref=str(number), role=role)
        for key, value in sorted(one.tags.items()):
            ET.SubElement(node, "tag", k=key, v=value)
    ET.indent(root)
    body = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'
