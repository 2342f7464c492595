"""What OpenStreetMap tags mean for land cover, and which of them a cover map may question.

The table ``core/tables/osm_tags.csv`` gives each tag (with qualifiers) a prior class in
WorldCover codes, read here as concepts. It was reasoned from the definitions of tags and
classes; columns named ``osmclcplus`` in its notes come from the Czech CLCplus mapping
(ctu-geoforall-lab/osmclcplus, CC BY 4.0). It is a prior only: the engine learns what
each tag means in the area at hand.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from glocal.core import legends
from glocal.core.legend import Crosswalk, Legend

KEYS = (
    "building", "aeroway", "natural", "landuse", "landcover", "wetland", "waterway",
    "man_made", "leisure", "amenity", "power", "tourism",
)  # fmt: skip
"""Keys read, the one that says most about the ground first. Roads, railways and bare
``surface=*`` are lines nearly everywhere and are not read."""

NEVER = frozenset({"leisure=swimming_pool", "leisure=playground", "highway=path"})
"""Tags of things too small to speak for a cell."""

LINEAR = frozenset({
    "natural=tree_row", "natural=coastline", "natural=cliff", "natural=earth_bank",
    "waterway=river", "waterway=canal", "waterway=dam", "leisure=track", "aeroway=taxiway",
    "aeroway=runway", "man_made=pier", "man_made=breakwater", "man_made=groyne",
})  # fmt: skip
"""Tags of lines: a closed way is an area only with ``area=yes`` or as a multipolygon."""

USES = frozenset({
    "landuse=residential", "landuse=commercial", "landuse=retail", "landuse=industrial",
    "landuse=garages", "landuse=institutional", "landuse=education", "landuse=religious",
    "landuse=railway", "landuse=port", "landuse=harbour", "landuse=depot",
    "landuse=construction", "landuse=brownfield", "landuse=greenfield", "landuse=landfill",
    "landuse=cemetery", "landuse=recreation_ground", "landuse=allotments", "landuse=farm",
    "landuse=farmyard", "landuse=animal_keeping", "landuse=winter_sports", "leisure=park",
    "leisure=garden", "leisure=common", "leisure=golf_course", "leisure=stadium",
    "leisure=sports_centre", "leisure=marina", "leisure=dog_park", "leisure=horse_riding",
    "amenity=school", "amenity=hospital", "amenity=university", "amenity=grave_yard",
    "power=plant", "power=substation", "tourism=camp_site", "tourism=zoo",
    "tourism=theme_park", "man_made=wastewater_plant", "natural=bay", "natural=strait",
})  # fmt: skip
"""Uses and wide frames: what lies on the ground inside them is drawn on top of them."""

BUILT_KEYS = frozenset({"building", "aeroway", "man_made"})
"""Single built things, on top of the cover around them."""

JUDGED_BY_COVER = frozenset({
    "landuse=farmland", "landuse=meadow", "landuse=forest", "landcover=trees", "landcover=grass",
    "natural=wood", "natural=scrub", "natural=heath", "natural=grassland", "natural=sand",
    "natural=bare_rock", "natural=scree", "natural=shingle", "natural=mud", "natural=water",
})  # fmt: skip
"""Tags whose truth can be seen from above. Uses, protection, gardens, orchards,
vineyards and everything built can't: they are flagged, never retagged. Nor are
wetlands: how wet they look depends on the season of the image."""

CANONICAL = {
    "tree": ("natural", "wood"),
    "shrub": ("natural", "scrub"),
    "grass": ("landuse", "meadow"),
    "crop": ("landuse", "farmland"),
    "water": ("natural", "water"),
}
"""Undeprecated tag of each concept that can be proposed. Built-up is a use and bare ground has
no tag of its own (rock, sand and mud differ); wetland, snow, mangroves and
moss need someone who was there. Those are flagged only."""

MAIN_KEYS = ("natural", "landuse", "landcover")

QUALIFIERS = (
    "crop", "grassland", "leaf_cycle", "leaf_type", "meadow", "wetland", "wood",
)  # fmt: skip
"""Tags that describe the old cover and go with it."""

OTHER_NATURE = frozenset({
    "aeroway", "amenity", "boundary", "building", "heritage", "highway", "historic", "leisure",
    "man_made", "military", "office", "place", "power", "protect_class", "protection_title",
    "public_transport", "railway", "shop", "tourism", "water", "waterway", "intermittent",
    "seasonal", "tidal",
})  # fmt: skip
"""Keys that make an element more than a piece of land cover: only people retag those."""

LAYER = "fclass="
"""Start of the symbols of a layer that tells its own class instead of tags."""

FCLASS = {
    "allotments": "landuse=allotments", "beach": "natural=beach", "building": "building=*",
    "cemetery": "landuse=cemetery", "commercial": "landuse=commercial", "dock": "waterway=dock",
    "farm": "landuse=farmland", "farmland": "landuse=farmland", "farmyard": "landuse=farmyard",
    "forest": "landuse=forest", "glacier": "natural=glacier", "grass": "landuse=grass",
    "heath": "natural=heath", "industrial": "landuse=industrial", "meadow": "landuse=meadow",
    "military": "landuse=military", "national_park": "leisure=nature_reserve",
    "nature_reserve": "leisure=nature_reserve", "orchard": "landuse=orchard",
    "park": "leisure=park", "parking": "amenity=parking", "quarry": "landuse=quarry",
    "recreation_ground": "landuse=recreation_ground", "reservoir": "landuse=reservoir",
    "residential": "landuse=residential", "retail": "landuse=retail",
    "river": "natural=water&water=river", "riverbank": "natural=water&water=river",
    "scrub": "natural=scrub", "vineyard": "landuse=vineyard", "water": "natural=water",
    "wetland": "natural=wetland",
}  # fmt: skip
"""Classes of the free Geofabrik layers and the tag that each stands for. ``forest``
stands for ``landuse=forest`` and ``natural=wood`` alike; ``farm`` is its older name of
``farmland``."""

FCLASS_ALSO = {"forest": ("natural=wood",), "farm": ("landuse=farm",)}
"""Further tags that a class of a layer may stand for."""

TRUST = {"high": 0.85, "med": 0.7, "low": 0.5}
MAIN_SHARE = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRow:
    """One row of the table."""

    key: str
    value: str
    """``*`` stands for any value."""

    qualifiers: tuple[tuple[str, str], ...]
    """Further tags that must be present."""

    shares: dict[str, float]
    """Prior share of each concept; empty when the tag must not be used."""

    confidence: float
    """0..1, how far the row is to be believed."""

    @classmethod
    def of(cls, record: Mapping[str, str]) -> TagRow:
        """Return a row as the table gives it: the first of several codes is the main one."""
        key, (value, *further) = record["osm_key"], record["osm_value"].split("&")
        hub, codes = legends.legend(legends.HUB), record["worldcover_code"]
        concepts = [hub.names[hub.index(int(code))] for code in codes.split("|") if code]
        main = MAIN_SHARE if len(concepts) > 1 else 1.0
        rest = (1 - main) / max(len(concepts) - 1, 1)
        shares = {one: rest if i else main for i, one in enumerate(concepts)}
        level = record["note"].partition(";")[0].removeprefix("confidence=").strip()
        return cls(
            key=key,
            value=value,
            qualifiers=tuple(tuple(one.split("=", 1)) for one in further),  # type: ignore[misc]
            shares={} if f"{key}={value}" in NEVER else shares,
            confidence=TRUST[level],
        )

    @property
    def base(self) -> str:
        """The tag without qualifiers, ``natural=wood``."""
        return f"{self.key}={self.value}"

    @property
    def symbol(self) -> str:
        """The tag with its qualifiers, ``natural=wood&leaf_type=needleleaved``."""
        return "&".join((self.base, *(f"{k}={v}" for k, v in self.qualifiers)))

    @property
    def tags(self) -> dict[str, str]:
        """The tags of an element of which only this row is known."""
        return {self.key: "yes" if self.value == "*" else self.value, **dict(self.qualifiers)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TagEdit:
    """A change of tags: what to set and what to take away. Falsy when it changes nothing."""

    set: dict[str, str]
    unset: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.set or self.unset)

    def applied(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return ``tags`` after the edit; tags that it does not name stay as they are."""
        kept = {key: value for key, value in tags.items() if key not in self.unset}
        return {**kept, **self.set}


@cache
def _table() -> dict[tuple[str, str], tuple[TagRow, ...]]:
    """Rows by (key, value), the most qualified first."""
    text = resources.files("glocal.core").joinpath("tables/osm_tags.csv").read_text("utf-8")
    table: dict[tuple[str, str], list[TagRow]] = {}
    for record in csv.DictReader(text.splitlines()):
        row = TagRow.of(record)
        table.setdefault((row.key, row.value), []).append(row)
    return {
        tag: tuple(sorted(rows, key=lambda row: -len(row.qualifiers)))
        for tag, rows in table.items()
    }


def rows_of_table() -> list[TagRow]:
    """Return all rows, in the order of the table."""
    return [row for rows in _table().values() for row in rows]


def row_of(symbol: str) -> TagRow:
    """Return the row of a symbol such as ``natural=wood&leaf_type=mixed`` or ``fclass=park``.

    Raises ``KeyError``: the table has no such row.
    """
    if symbol.startswith(LAYER):
        symbol = FCLASS[symbol.removeprefix(LAYER)]
    key, _, value = symbol.partition("&")[0].partition("=")
    found = {row.symbol: row for row in _table()[key, value]}
    return found[symbol]


def classify(tags: Mapping[str, str], *, is_line: bool = False) -> TagRow | None:
    """Return the row that tells most about the cover of an element, or None.

    A tag of cover speaks before a tag of use, then more qualifiers before fewer, then
    the order of ``KEYS``. ``is_line`` says that a closed way did not declare itself an
    area. None also stands for tags that must not be used (protection, military land).

    >>> classify({"natural": "wood", "leaf_type": "mixed"}).symbol
    'natural=wood&leaf_type=mixed'
    >>> classify({"landuse": "military"}) is None
    True
    """
    table, usable = _table(), []
    for key in KEYS:
        value = tags.get(key)
        if value is None or value == "no" or (is_line and f"{key}={value}" in LINEAR):
            continue
        for row in table.get((key, value), table.get((key, "*"), ())):
            if all(tags.get(k) == v for k, v in row.qualifiers):
                usable += [row] if row.shares else []
                break
    return max(usable, key=lambda row: (level_of(row) > 0, len(row.qualifiers)), default=None)


def level_of(row: TagRow) -> int:
    """Return 0 for uses and frames, 1 for cover, 2 for single built things.

    This is the overlap rule: a higher level is painted over a lower one, and inside a
    level the smaller object over the larger.
    """
    if row.key in BUILT_KEYS and row.base not in USES:
        return 2
    return 0 if row.base in USES else 1


def symbol_of(row: TagRow, count: int, *, enough: int = 20) -> str:
    """Return the symbol for a row that ``count`` objects have.

    Rows with qualifiers keep a symbol of their own when they are frequent enough to
    learn from, or when they mean another class than the tag alone.
    """
    if count >= enough or not row.qualifiers:
        return row.symbol
    base = _table()[row.key, row.value][-1]
    return base.symbol if base.shares == row.shares else row.symbol


def crosswalk_of(symbols: tuple[str, ...], legend: Legend) -> Crosswalk:
    """Return the prior meaning of ``symbols`` in ``legend``, by way of concepts."""
    rows = {symbol: row_of(symbol) for symbol in symbols}
    return legends.crosswalk_from_concepts(
        legend,
        {symbol: row.shares for symbol, row in rows.items()},
        {symbol: row.confidence for symbol, row in rows.items()},
    )


def retaggable(tags: Mapping[str, str], concept: str) -> bool:
    """Return True when seeing another cover is reason enough to propose another tag.

    ``concept`` is what is seen. Everything that names the element's nature must be a tag of
    cover; forest is also a use (a clearing stays forest), so it changes only into cropland or
    water.

    >>> retaggable({"landuse": "farmland"}, "grass"), retaggable({"landuse": "farm"}, "grass")
    (True, False)
    """
    main = {f"{key}={tags[key]}" for key in MAIN_KEYS if key in tags}
    if concept not in CANONICAL or not main or not main <= JUDGED_BY_COVER:
        return False
    if any(key.partition(":")[0] in OTHER_NATURE for key in tags):
        return False
    if "landuse=forest" in main and concept not in ("crop", "water"):
        return False
    row = classify(tags)
    return row is not None and concept not in row.shares


def tags_for(concept: str, current_tags: Mapping[str, str]) -> TagEdit:
    """Return the edit that makes an element say ``concept``; empty when none is sound.

    Grass on natural ground becomes ``natural=grassland``, elsewhere ``landuse=meadow``.
    """
    if not retaggable(current_tags, concept):
        return TagEdit(set={}, unset=())
    key, value = CANONICAL[concept]
    if value == "meadow" and "landuse" not in current_tags:
        key, value = "natural", "grassland"
    old = {*MAIN_KEYS, *QUALIFIERS} & set(current_tags) - {key}
    return TagEdit(set={key: value}, unset=tuple(sorted(old)))


def tags_of_new(concept: str) -> dict[str, str]:
    """Return the tags of a new area, empty when its concept has none.

    Built-up ground has none: it is roofs, roads and yards alike.

    >>> tags_of_new("water"), tags_of_new("built")
    ({'natural': 'water'}, {})
    """
    key, value = CANONICAL.get(concept, ("", ""))
    return {key: value} if key else {}


def fclass_edit(fclass: str, concept: str) -> TagEdit:
    """Return the edit of an element of which only Geofabrik's ``fclass`` is known.

    It takes away only keys that bear the class: surely, or possibly where a class stands
    for several tags. Taking away a tag that is not there changes nothing.

    >>> fclass_edit("scrub", "crop")
    TagEdit(set={'landuse': 'farmland'}, unset=('natural',))
    >>> fclass_edit("forest", "crop")
    TagEdit(set={'landuse': 'farmland'}, unset=('natural',))
    """
    edit = tags_for(concept, row_of(f"{LAYER}{fclass}").tags)
    if not edit:
        return edit
    keys = sorted({tag.partition("=")[0] for tag in fclass_tags(fclass)})
    return TagEdit(set=edit.set, unset=tuple(key for key in keys if key not in edit.set))


def edit_of(word: str, tags: Mapping[str, str], concept: str) -> TagEdit:
    """Return the edit that makes an object say ``concept``; empty when none is sound.

    Of an object of a layer only its own class is known (``fclass=...``).
    """
    if word.startswith(LAYER):
        return fclass_edit(word.removeprefix(LAYER), concept)
    return tags_for(concept, tags)


def fclass_tags(fclass: str) -> tuple[str, ...]:
    """Return the tags that a class of a layer may stand for.

    >>> fclass_tags("forest"), fclass_tags("scrub")
    (('landuse=forest', 'natural=wood'), ('natural=scrub',))
    """
    return (row_of(f"{LAYER}{fclass}").base, *FCLASS_ALSO.get(fclass, ()))
