"""Full history of OpenStreetMap (``.osh.pbf``, ``.osh``): how statements came to be.

A history names a person for every version. Names and changesets are never read; user
numbers are read only to count how many people touched an element, and dropped at once. A file
that is missing, truncated or no OSM data raises `SourceUnavailableError`, one that is no history
`BadSourceError`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import osmium
from numpy.typing import NDArray
from osmium.osm import ALL, RELATION, WAY
from osmium.osm.mutable import Node, Relation, Way

from glocal.errors import BadSourceError, SourceUnavailableError
from glocal.io.atomic import replacing
from glocal.sources.osm.file import ENTITY_OF, is_history, readable
from glocal.sources.osm.tags import KEYS, classify

WHAT = "a history of OpenStreetMap"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Versions:
    """Every version of every way and relation that ever bore a tag of cover or use.

    Rows are sorted by type, id and version, as history files are.
    """

    osm_type: NDArray[np.str_]
    osm_id: NDArray[np.int64]
    version: NDArray[np.int32]
    timestamp: NDArray[np.datetime64]
    """Second resolution, UTC."""

    visible: NDArray[np.bool_]
    """False for a version that deletes the element."""

    symbol: NDArray[np.str_]
    """What the tags say (`tags.classify`), empty for nothing about cover."""

    contributors: NDArray[np.int32]
    """Distinct people who had edited the element up to this version."""

    nodes: NDArray[np.int64]
    """Shape (n,), a number that is equal where two versions have the same references."""

    @property
    def element(self) -> NDArray[np.int64]:
        """Shape (n,), number of the element that each row is a version of."""
        new = (self.osm_id[1:] != self.osm_id[:-1]) | (self.osm_type[1:] != self.osm_type[:-1])
        return np.concatenate([[0], np.cumsum(new)]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.osm_id)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ages:
    """What the history of each element says at one date, one row per living element."""

    row: NDArray[np.int64]
    """Which row of `Versions` was in force."""

    age: NDArray[np.float64]
    """Years since the last edit."""

    life: NDArray[np.float64]
    """Years since the first."""

    versions: NDArray[np.int64]
    contributors: NDArray[np.int64]
    retags: NDArray[np.int64]
    """How often its meaning had changed."""

    deletions: NDArray[np.int64]
    """How often it had been deleted (and brought back)."""

    reshapes: NDArray[np.int64]
    """How often its references had changed."""

    def stratum(self) -> NDArray[np.uint8]:
        """Return 1..4: untouched; by one person; by several; once changed in meaning or deleted.

        Four groups whose reliability may differ, each learned by the engine.
        """
        group = np.where(self.versions == 1, 1, np.where(self.contributors == 1, 2, 3))
        return np.where(self.retags + self.deletions > 0, 4, group).astype(np.uint8)


def _opened(path: Path, entities: Any = ALL) -> Any:
    if not path.is_file():
        raise SourceUnavailableError(f"no history file at {path}; check the path")
    if not is_history(path):
        raise BadSourceError(
            f"{path.name} is an extract of one date; give a full history (.osh.pbf)"
        )
    with readable(path, WHAT):
        return osmium.FileProcessor(str(path), entities)


def read_versions(path: Path) -> Versions:
    """Return all versions of ways and relations that say or once said something of cover."""
    rows: list[tuple[Any, ...]] = []
    processor = _opened(path, WAY | RELATION)
    with readable(path, WHAT):
        for (kind, number), versions in groupby(processor, _key):
            rows += _versions(kind, number, versions)
    types = {
        "osm_type": "U", "osm_id": "i8", "version": "i4", "timestamp": "M8[s]", "visible": "?",
        "symbol": "U", "contributors": "i4", "nodes": "i8",
    }  # fmt: skip
    columns = zip(*rows, strict=True) if rows else [()] * len(types)
    made = zip(types.items(), columns, strict=True)
    return Versions(**{name: np.array(column, kind) for (name, kind), column in made})


def _key(item: Any) -> tuple[str, int]:
    return ENTITY_OF[item.type_str()], item.id


def _versions(kind: str, number: int, versions: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of one element, none if it never bore a key that is read."""
    people: set[int] = set()
    drawn: dict[tuple[int, ...], int] = {}
    rows, speaks = [], False
    for item in versions:
        people.add(item.uid)
        tags = {tag.k: tag.v for tag in item.tags}
        speaks |= any(key in tags for key in KEYS)
        row = classify(tags, is_line=kind == "way" and tags.get("area") != "yes")
        parts = item.nodes if kind == "way" else item.members
        refs = tuple(one.ref for one in parts)
        stamp = item.timestamp.replace(tzinfo=None)
        said = row.base if row is not None and not item.deleted else ""
        same = drawn.setdefault(refs, len(drawn))
        rows.append((kind, number, item.version, stamp, not item.deleted, said, len(people), same))
    return rows if speaks else []


def ages_at(versions: Versions, when: datetime) -> Ages:
    """Return the history of each element that is alive at ``when``, as known then.

    Nothing later than ``when`` enters.
    """
    moment = np.datetime64(when.astimezone(UTC).replace(tzinfo=None), "s")
    known = np.flatnonzero(versions.timestamp <= moment)
    _, first, element, count = np.unique(
        versions.element[known], return_index=True, return_inverse=True, return_counts=True
    )
    row = known[first + count - 1]
    same = element[1:] == element[:-1]

    def changed(values: NDArray[Any]) -> NDArray[np.bool_]:
        return np.asarray((values[known][1:] != values[known][:-1]) & same)

    def per_element(element: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(element, minlength=len(row))

    # an element that goes or comes back has not changed its meaning
    retagged = changed(versions.symbol) & ~changed(versions.visible)
    living = versions.visible[row]
    year = np.timedelta64(365 * 24 * 3600 + 6 * 3600, "s")
    columns = {
        "row": row,
        "age": (moment - versions.timestamp[row]) / year,
        "life": (moment - versions.timestamp[known[first]]) / year,
        "versions": count,
        "contributors": versions.contributors[row].astype(np.int64),
        "retags": per_element(element[1:][retagged]),
        "deletions": per_element(element[~versions.visible[known]]),
        "reshapes": per_element(element[1:][changed(versions.nodes)]),
    }
    return Ages(**{name: values[living] for name, values in columns.items()})


def slice_history(path: Path, when: datetime, out: Path) -> Path:
    """Write the map as it was at ``when`` as an ordinary extract, and return its path.

    Versions and dates stay, people and changesets do not. ``out`` ends in ``.osm.pbf``
    or ``.osm``.
    """
    processor, moment = _opened(path), when.astimezone(UTC)
    form = "osm.pbf" if out.suffix == ".pbf" else "osm"
    with replacing(out) as part:
        part.unlink(missing_ok=True)
        writer = osmium.SimpleWriter(osmium.io.File(str(part), form))
        add = {Node: writer.add_node, Way: writer.add_way, Relation: writer.add_relation}
        with closing(writer), readable(path, WHAT):
            for _, versions in groupby(processor, _key):
                last = None
                for item in versions:
                    if item.timestamp <= moment:
                        last = _copied(item)
                if last is not None:
                    add[type(last)](last)
    return out


def _copied(item: Any) -> Any:
    """Return what an extract holds of a version, without people; None for a deletion."""
    if item.deleted:
        return None
    tags = [(tag.k, tag.v) for tag in item.tags]
    held = {"id": item.id, "version": item.version, "timestamp": item.timestamp, "tags": tags}
    if item.is_node():
        return Node(location=(item.location.lon, item.location.lat), **held)
    if item.is_way():
        return Way(nodes=[node.ref for node in item.nodes], **held)
    return Relation(members=[(m.type, m.ref, m.role) for m in item.members], **held)
