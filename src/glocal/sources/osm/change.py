"""OsmChange and JOSM files: tag edits of existing elements, and areas that are missing.

``modify`` replaces an element, so every node reference, member and tag is repeated; new
elements have negative ids and come before what is drawn with them. There is no ``delete``
here, and no changeset or user: a person decides on each element and uploads it with an
editor. libosmium's writers choose the block from the version alone and would put new
elements into ``modify``, so the XML is written here.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from pathlib import Path

from glocal.io.xml import read_xml
from glocal.sources.osm.file import Whole, read_elements
from glocal.sources.record import element_of, version_of

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


def parse_record(record: str) -> tuple[str, int, int] | None:
    """Return (type, id, version) of a record, or None for one that is no OSM element.

    >>> parse_record("way/123@4"), parse_record("geofabrik/7")
    (('way', 123, 4), None)
    """
    kind, _, number = element_of(record).partition("/")
    if kind not in ("way", "relation") or not number.isdigit() or "@" not in record:
        return None
    return kind, int(number), version_of(record)


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
        whole, name = held.get((kind, number)), f"{kind}/{number}"
        if whole is None:
            stale[one] = f"{name} is not in {extract.name}: deleted, or outside the extract"
        elif whole.deleted:
            stale[one] = f"{name} was deleted in version {whole.version}"
        elif whole.version != version:
            now = "now" if whole.version > version else f"in {extract.name}, which is older"
            then = f"the proposal was made from version {version}"
            stale[one] = f"{name} is version {whole.version} {now}, {then}"
        else:
            fresh[one] = whole
    return fresh, stale


def read_change(path: Path) -> Iterator[Whole]:
    """Yield the elements of an OsmChange or an augmented diff, as they are after it.

    Without what they are drawn with; ids and versions that are no numbers become 0. Errors are
    those of `io.xml.read_xml`.
    """
    for action in read_xml(path):
        kind = action.get("type") if action.tag == "action" else action.tag
        new = action.find("new") if action.tag == "action" else action
        for element in () if new is None else new:
            number, version = element.get("id", ""), element.get("version", "")
            yield Whole(
                osm_type=element.tag,
                osm_id=int(number) if number.lstrip("-").isdigit() else 0,
                version=int(version) if version.isdigit() else 0,
                tags={tag.get("k", ""): tag.get("v", "") for tag in element.iter("tag")},
                deleted=kind == "delete" or element.get("visible") == "false",
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
    return "" if whole.version > 0 or whole.osm_id < 0 else "its version is not known"


def incomplete(extract: Path, elements: Iterable[Whole]) -> dict[tuple[str, int], str]:
    """Return why a relation can't be judged: members that ``extract`` does not hold."""
    held = {one.key: [ref[:2] for ref in one.members] for one in elements}
    there = read_elements(extract, {ref for refs in held.values() for ref in refs})
    gone = {key: [ref for ref in refs if ref not in there] for key, refs in held.items()}
    return {
        key: f"{len(lost)} of its {len(held[key])} members are not in {extract.name}, "
        f"such as {lost[0][0]}/{lost[0][1]}"
        for key, lost in gone.items()
        if lost
    }


ORDER = {"node": 0, "way": 1, "relation": 2}


def _sorted(elements: Iterable[Whole]) -> list[Whole]:
    """Nodes, ways, relations; new ones first (-1, -2, ...), as osmium wants them."""
    return sorted(elements, key=lambda one: (ORDER[one.osm_type], one.osm_id > 0, abs(one.osm_id)))


def add_element(parent: ET.Element, one: Whole, version: int | None, **extra: str) -> None:
    """Write an element with everything that it holds; ``version`` None for one without."""
    node = ET.SubElement(parent, one.osm_type, id=str(one.osm_id))
    if version is not None:
        node.set("version", str(version))
    for name, value in extra.items():
        node.set(name, value)
    if one.place is not None:
        node.set("lat", f"{one.place[1]:.7f}")
        node.set("lon", f"{one.place[0]:.7f}")
    for ref in one.nodes:
        ET.SubElement(node, "nd", ref=str(ref))
    for kind, number, role in one.members:
        ET.SubElement(node, "member", type=kind, ref=str(number), role=role)
    for key, value in sorted(one.tags.items()):
        ET.SubElement(node, "tag", k=key, v=value)


def document(root: ET.Element) -> str:
    """Return the text of an XML file."""
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def change_xml(modify: Iterable[Whole] = (), create: Iterable[Whole] = (), *, bump: int = 0) -> str:
    """Return an OsmChange document: first ``create``, then ``modify``.

    ``bump`` is added to each version: 0 for a proposal (the server wants the base
    version), 1 for a local preview with ``osmium apply-changes``, where the higher
    version wins and an equal one may be dropped without a word.
    """
    root = ET.Element("osmChange", {"version": "0.6", "generator": "glocal", **CREDIT})
    for name, elements in (("create", _sorted(create)), ("modify", _sorted(modify))):
        block = ET.SubElement(root, name) if elements else root
        for one in elements:
            add_element(block, one, one.version + bump)
    return document(root)


def josm_xml(
    modify: Iterable[Whole], create: Iterable[Whole], context: Iterable[Whole] = ()
) -> str:
    """Return the proposals as a JOSM layer, which asks before anything is uploaded.

    ``context`` holds the unchanged elements that the others are drawn with. New elements
    bear no version; existing ones must, or JOSM refuses the file.
    """
    root = ET.Element("osm", {"version": "0.6", "generator": "glocal", "upload": "false", **CREDIT})
    changed = [*modify, *create]
    touched = {one.key for one in changed}
    for one in _sorted((*changed, *(one for one in context if one.key not in touched))):
        action = {"action": "modify"} if one.key in touched else {}
        version = one.version if one.osm_id > 0 else None
        add_element(root, one, version, **action, visible="true")
    return document(root)
