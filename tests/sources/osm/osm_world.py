"""A small made-up piece of OpenStreetMap, and a server that judges uploads like the real one."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import quoteattr

STEP = 0.002
"""Side of an area, and half the way to the next, in degrees."""


@dataclass(slots=True)
class Way:
    """A square area."""

    number: int
    tags: dict[str, str]
    version: int = 3
    stamp: str = "2020-05-01T00:00:00Z"
    visible: bool = True
    corners: int = 4


@dataclass(slots=True)
class Relation:
    """A multipolygon of ways, and of nodes that are no part of its outline."""

    number: int
    tags: dict[str, str]
    ways: tuple[int, ...] = field(default_factory=tuple)
    version: int = 2
    nodes: tuple[int, ...] = ()


def written(path: Path, ways: list[Way], relations: list[Relation] = ()) -> Path:
    """Write an ``.osm`` file; way k is a square at column k % 5, row k // 5."""
    nodes, body = [], []
    for way in ways:
        x, y = 9 + 2 * STEP * (way.number % 5), 47 + 2 * STEP * (way.number // 5)
        refs = []
        for k in range(way.corners):
            side, part = divmod(4 * k / way.corners, 1)
            u = (part, 1, 1 - part, 0)[int(side)] * STEP
            v = (0, part, 1, 1 - part)[int(side)] * STEP
            refs.append(10_000 * way.number + k + 1)
            nodes.append(f'<node id="{refs[-1]}" version="1" lat="{y + v:.7f}" lon="{x + u:.7f}"/>')
        inside = "".join(f'<nd ref="{ref}"/>' for ref in (*refs, refs[0])) + _tags(way.tags)
        if not way.visible:
            inside = ""
        body.append(
            f'<way id="{way.number}" version="{way.version}" timestamp="{way.stamp}" '
            f'visible="{str(way.visible).lower()}" uid="77" user="Some Body">{inside}</way>'
        )
    for one in relations:
        members = "".join(f'<member type="way" ref="{ref}" role="outer"/>' for ref in one.ways)
        members += "".join(f'<member type="node" ref="{ref}" role="label"/>' for ref in one.nodes)
        body.append(
            f'<relation id="{one.number}" version="{one.version}">{members}'
            f"{_tags({'type': 'multipolygon', **one.tags})}</relation>"
        )
    path.write_text(f'<osm version="0.6">{"".join(nodes)}{"".join(body)}</osm>', encoding="utf-8")
    return path


def _tags(tags: dict[str, str]) -> str:
    return "".join(f"<tag k={quoteattr(k)} v={quoteattr(v)}/>" for k, v in tags.items())


class RefusedError(Exception):
    """The server's answer: 409, 412, 400."""


def uploaded(base: Path, change: str) -> dict[tuple[str, int], ET.Element]:
    """Return the elements after an upload, or refuse as ``diff_reader.rb`` of the server does.

    Blocks are handled in order. Placeholders must be created before they are used; a
    modified element must be at its present version; its references must exist.
    """
    db = {
        (one.tag, int(one.get("id", ""))): one
        for one in ET.parse(base).getroot()
        if one.tag in ("node", "way", "relation") and one.get("visible") != "false"
    }
    ids: dict[tuple[str, int], int] = {}
    for block in ET.fromstring(change):
        for one in block:
            key = (one.tag, int(one.get("id", "")))
            _resolve(one, ids, db)
            if block.tag == "create":
                if key[1] >= 0 or key in ids:
                    raise RefusedError(f"400 placeholder {key}")
                ids[key] = 900_000 + len(ids)
                one.set("id", str(ids[key]))
                one.set("version", "1")
                db[one.tag, ids[key]] = one
            elif block.tag == "modify":
                held = db.get(key)
                if held is None or held.get("version") != one.get("version"):
                    raise RefusedError(f"409 {key}")
                one.set("version", str(int(one.get("version", "")) + 1))
                db[key] = one
            else:
                raise RefusedError(f"400 {block.tag}")
    return db


def _resolve(
    one: ET.Element, ids: dict[tuple[str, int], int], db: dict[tuple[str, int], ET.Element]
) -> None:
    for child in one:
        if child.tag not in ("nd", "member"):
            continue
        kind = "node" if child.tag == "nd" else child.get("type", "")
        ref = int(child.get("ref", ""))
        ref = ids.get((kind, ref), ref)
        if (kind, ref) not in db:
            raise RefusedError(f"412 {kind} {ref}")
        child.set("ref", str(ref))
