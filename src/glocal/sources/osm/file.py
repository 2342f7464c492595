"""Areas of an OpenStreetMap file (``.osm.pbf``, ``.osm``, ``.osm.gz``), in columns."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np
import osmium
import shapely
from numpy.typing import NDArray
from osmium.osm import AREA, NODE, RELATION, WAY

from glocal.core.typing import Codes
from glocal.errors import BadSourceError, SourceUnavailableError
from glocal.sources.osm.tags import KEYS

PERSONAL = ("addr:", "contact:", "email", "fax", "mobile", "phone", "created_by", "note", "fixme")
"""Tags that may name or locate a person, or say nothing of the ground; dropped on read."""

STRATA = 4
"""Contributors fall into this many groups: enough to differ, too few to tell one person."""

ENTITY = {"node": NODE, "way": WAY, "relation": RELATION}
ENTITY_OF = {"n": "node", "w": "way", "r": "relation"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Elements:
    """Areas as a file holds them, one row each."""

    osm_type: NDArray[np.str_]
    """Shape (n,), ``way`` or ``relation``."""

    osm_id: NDArray[np.int64]
    version: NDArray[np.int32]
    """0 where the file does not tell."""

    timestamp: NDArray[np.datetime64]
    """Second resolution, UTC; NaT where the file does not tell."""

    tags: list[dict[str, str]]
    symbol: list[str] | None = None
    """Given by a layer with classes of its own; None to classify ``tags``."""

    row: NDArray[np.int64] | None = None
    """Row number in a layer whose ids are not unique; None for OSM files."""

    sharing: NDArray[np.int64] | None = None
    """How many rows of the layer bear the same id, itself included; None for OSM files."""

    is_line: NDArray[np.bool_]
    """True for a closed way that does not say ``area=yes``."""

    geometry: NDArray[np.object_]
    """Shape (n,), polygons in ``crs``."""

    crs: Any = 4326
    stratum: NDArray[np.uint8] | None = None
    """Group of contributors 1..STRATA, 0 where unknown; only with a key to hide them by."""

    broken: int = 0
    """Multipolygons that could not be assembled (open rings, missing members)."""

    def __len__(self) -> int:
        return len(self.geometry)

    def records(self, rows: Codes) -> NDArray[np.str_]:
        """Return the names of some areas: ``way/1@2`` with the version, ``geofabrik/ROW``."""
        if self.row is not None:
            return np.array([f"geofabrik/{row}" for row in self.row[rows].tolist()])
        columns = (self.osm_type, self.osm_id, self.version)
        parts = zip(*(column[rows].tolist() for column in columns), strict=True)
        return np.array([f"{kind}/{number}@{version}" for kind, number, version in parts])

    def columns(self, rows: Codes) -> dict[str, NDArray[Any]]:
        """Return what is known of some areas beside what they say and where."""
        tags = np.empty(len(rows), object)
        tags[:] = [self.tags[i] for i in rows.tolist()]
        layer = {} if self.sharing is None else {"layer_rows": self.sharing[rows]}
        names = ("osm_type", "osm_id", "version", "timestamp")
        held = {name: getattr(self, name)[rows] for name in names}
        return {**held, "tags": tags, "has_metadata": self.version[rows] > 0, **layer}


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """One element with everything that an edit has to repeat."""

    osm_type: str
    osm_id: int
    """Negative for an element that does not exist yet."""

    version: int
    tags: dict[str, str]
    nodes: tuple[int, ...] = ()
    members: tuple[tuple[str, int, str], ...] = ()
    """(type, ref, role) of each member of a relation."""

    place: tuple[float, float] | None = None
    """Longitude and latitude of a node."""

    deleted: bool = False
    """The file names the element only to say that it was deleted."""

    @property
    def key(self) -> tuple[str, int]:
        """Type and id."""
        return self.osm_type, self.osm_id

    @classmethod
    def of(cls, item: Any) -> Whole:
        """Return what osmium reads as a value; its own is gone when it reads the next."""
        kind = ENTITY_OF[item.type_str()]
        parts = item.members if kind == "relation" else ()
        return cls(
            osm_type=kind,
            osm_id=item.id,
            version=item.version,
            tags={tag.k: tag.v for tag in item.tags},
            nodes=tuple(node.ref for node in item.nodes) if kind == "way" else (),
            members=tuple((ENTITY_OF[one.type], one.ref, one.role) for one in parts),
            place=(item.lon, item.lat) if kind == "node" and not item.deleted else None,
            deleted=bool(item.deleted),
        )


@contextmanager
def readable(path: Path, what: str = "OpenStreetMap data") -> Iterator[None]:
    """Say what to do about a file that osmium can't read."""
    try:
        yield
    except RuntimeError as error:
        step = "sort it with: osmium sort" if "out of order" in str(error) else "fetch it again"
        raise SourceUnavailableError(
            f"{path.name} can't be read as {what} ({error}); {step}"
        ) from error


def is_history(path: Path) -> bool:
    """Return True when the name of a file says that it holds every version of its elements."""
    return ".osh" in path.suffixes


def has_versions(path: Path) -> bool:
    """Return True when a file itself says that it holds several versions of one element."""
    with readable(path):
        return bool(osmium.FileProcessor(str(path)).header.has_multiple_object_versions)


def _checked(path: Path) -> str:
    if not path.is_file():
        raise SourceUnavailableError(f"no OpenStreetMap file at {path}; check the path")
    if is_history(path) or has_versions(path):
        raise BadSourceError(
            f"{path.name} is a history or change file (several versions of one element); cut one "
            "date out of a history: osmium time-filter FILE 2021-01-01T00:00:00Z -o day.osm.pbf"
        )
    return str(path)


def read_areas(path: Path, *, salt: bytes | None = None) -> Elements:
    """Return every closed way and multipolygon that bears one of ``KEYS``, in lon/lat.

    User names and changesets are never read; user numbers only to be hashed with ``salt``. Errors
    are those of `read.observe_osm`.
    """
    name, keys = _checked(path), osmium.filter.KeyFilter(*KEYS)
    items: Any = (
        osmium.FileProcessor(name)
        .with_areas(keys)
        .with_filter(osmium.filter.EntityFilter(AREA | RELATION))
        .with_filter(keys)
    )
    to_wkb = osmium.geom.WKBFactory().create_multipolygon
    wkb, tags, wanted = [], [], set()
    rows: list[tuple[float, ...]] = []
    shared: dict[Any, dict[str, str]] = {}  # thousands have the same tags
    with readable(path):
        for item in items:
            held = item.tags
            if item.is_relation():
                if held.get("type") == "multipolygon":
                    wanted.add(item.id)
                continue
            try:
                wkb.append(bytes.fromhex(to_wkb(item)))
            except RuntimeError:  # an area without a ring
                continue
            building = held.get("building", "no")
            # A building is never retagged and its other tags are mostly an address.
            if building == "no":
                pairs = tuple([(k, v) for k, v in held if not k.startswith(PERSONAL)])
            else:
                pairs = (("building", building),)
            tags.append(shared.get(pairs) or shared.setdefault(pairs, dict(pairs)))
            uid = 0 if salt is None else item.uid
            rows.append((item.id, item.version, item.timestamp.timestamp(), uid))
    elements = _elements(wkb, tags, rows, salt)
    made = elements.osm_id[elements.osm_type == "relation"].tolist()
    return replace(elements, broken=len(wanted.difference(made)))


def _elements(
    wkb: list[bytes], tags: list[dict[str, str]], rows: list[tuple[float, ...]], salt: bytes | None
) -> Elements:
    number, version, seconds, uid = np.array(rows, np.float64).reshape(-1, 4).astype(np.int64).T
    is_way = number % 2 == 0  # as libosmium numbers areas
    stamps = seconds.astype("datetime64[s]")
    stamps[seconds <= 0] = np.datetime64("NaT")
    undeclared = np.array([one.get("area") != "yes" for one in tags], dtype=bool)
    return Elements(
        osm_type=np.where(is_way, "way", "relation"),
        osm_id=number // 2,
        version=version.astype(np.int32),
        timestamp=stamps,
        tags=tags,
        is_line=is_way & undeclared,
        geometry=np.asarray(shapely.from_wkb(wkb), dtype=object).reshape(-1),
        stratum=None if salt is None or not (uid > 0).any() else _strata(uid, salt),
    )


def _strata(uid: NDArray[np.int64], salt: bytes) -> NDArray[np.uint8]:
    """Return stratum 1..STRATA by a keyed hash of the contributor, 0 where unknown."""
    people, which = np.unique(uid, return_inverse=True)
    group = [
        1 + hmac.new(salt, str(one).encode(), hashlib.sha256).digest()[0] % STRATA if one > 0 else 0
        for one in people.tolist()
    ]
    return np.array(group, dtype=np.uint8)[which]


def read_elements(path: Path, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Whole]:
    """Return the nodes, ways and relations named by (type, id), with all tags and members.

    Elements that the file does not hold are absent from the answer.
    """
    return {one.key: one for one in iterate_elements(path, keys)}


def iterate_elements(
    path: Path, keys: Iterable[tuple[str, int]], *, every_version: bool = False
) -> Iterator[Whole]:
    """Yield what `read_elements` returns one by one, in one pass over the file.

    A file of several versions of one element is refused, unless ``every_version`` is asked for.
    """
    wanted = set(keys)
    if not wanted:
        return
    ids = osmium.filter.IdFilter([number for _, number in wanted])
    kinds = reduce(or_, {ENTITY[kind] for kind, _ in wanted})
    name = str(path) if every_version else _checked(path)
    with readable(path):
        for item in osmium.FileProcessor(name, kinds).with_filter(ids):
            whole = Whole.of(item)
            if whole.key in wanted:
                yield whole


def read_context(path: Path, elements: Iterable[Whole]) -> list[Whole]:
    """Return the nodes that ``elements`` are drawn with, and the ways of relations.

    An editor needs them to show an element. What the file does not hold is left out.
    """
    elements = list(elements)
    own = {one.key for one in elements}
    members = {(kind, ref) for one in elements for kind, ref, _ in one.members}
    ways = read_elements(path, {key for key in members if key[0] == "way"} - own)
    nodes = {("node", ref) for one in (*elements, *ways.values()) for ref in one.nodes}
    nodes |= {key for key in members if key[0] == "node"}
    return [*read_elements(path, nodes).values(), *ways.values()]
