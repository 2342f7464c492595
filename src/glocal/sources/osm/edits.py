"""Which corrections become a tag edit, of which element; all others say why not.

Writing the files and re-reading the source as corrected both ask here, so that a source
is never scored with an edit that nobody was sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray

from glocal.core.correction import Corrections
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.observation import Observations
from glocal.sources.osm.tags import BUILT_KEYS, TagEdit, fclass_edit, row_of, tags_for

__all__ = [
    "KINDS",
    "LAYER",
    "SHIFT",
    "Decisions",
    "decide",
    "is_layer",
    "is_misplaced",
    "is_missing",
    "kinds_of",
    "layer_element",
]

KINDS = ("retag", "missing", "outdated", "vanished", "displaced", "doubt")
"""What may be wrong: other tags fit; nothing is mapped; it was last edited long before it
was seen; the thing is not there; it lies elsewhere; something is doubtful."""

SHIFT = "shift/"
"""Start of the record of a displacement of a whole layer, or of a part of it."""

NEW = "new/"
OLD_DAYS = 3 * 365
"""An element that was last edited so long before the image may be outdated."""

LAYER = "fclass="
"""Start of the symbols of a layer that tells its own class instead of tags."""

SEEN = 0.9
"""An element is edited only if this share of it lies in the area that was looked at."""

NOT_READ = "the element was not read"
MOVED = (
    "nobody moves a layer as a whole: check the offset of the imagery at several places, and "
    "move single objects by hand"
)
MOVED_ALONE = (
    "nodes are never moved by a machine: its place is known to some metres only, and its nodes may "
    "be those of its neighbours"
)
NOT_COVER = (
    "a use, or a change to or from wetland, built-up or bare ground: cover seen from above "
    "can't decide it"
)
NOT_SURE = "the tags are doubted, but no other class is likely enough for an edit"
SHARED = (
    "several rows of the layer share this OSM id and do not all ask for the same edit; "
    "open the element to see which of its tags is meant"
)


@dataclass(slots=True)
class Decisions:
    """What becomes of each row of the corrections."""

    edit: dict[int, TagEdit] = field(default_factory=dict)
    """One row per element."""

    together: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """All rows of the element (layers split multipolygons), for each row in ``edit``."""

    survey: dict[int, str] = field(default_factory=dict)
    """Rows that a person can answer though no edit is sound, with the reason."""

    flag: dict[int, str] = field(default_factory=dict)


def is_layer(observations: Observations, at: int) -> bool:
    """Return True when statement ``at`` comes from a layer without tags of its own."""
    return _symbol(observations, at).startswith(LAYER)


def layer_element(observations: Observations, at: int) -> str:
    """Return the element that a row of a layer seems to be, ``way/123``; its type is inferred."""
    return f"{observations.columns['osm_type'][at]}/{observations.columns['osm_id'][at]}"


def decide(corrections: Corrections, observations: Observations, legend: Legend) -> Decisions:
    """Return which rows become edits, surveys and flags, in the order of ``corrections``."""
    place = {record: i for i, record in enumerate(observations.record.tolist())}
    at = [place.get(record, -1) for record in corrections.record.tolist()]
    seen = _share_seen(observations)
    made = Decisions()
    alone = is_misplaced(corrections)
    for i, action in enumerate(corrections.action.tolist()):
        if alone[i] and at[i] >= 0:
            made.flag[i] = MOVED_ALONE
            continue
        if at[i] < 0:
            record = str(corrections.record[i])
            made.flag[i] = MOVED if record.startswith(SHIFT) else NOT_READ
            continue
        edit = _edit(str(corrections.proposed[i]), observations, at[i], legend)
        if action == "delete":
            made.flag[i] = "nothing is ever deleted"
        elif not edit:
            made.flag[i] = NOT_COVER
        elif action != "modify":
            made.flag[i] = NOT_SURE if action == "flag" else f"to {action}"
        elif seen[at[i]] < SEEN:
            made.flag[i] = f"only {seen[at[i]]:.0%} of it lies in the area that was looked at"
        else:
            made.edit[i], made.together[i] = edit, (i,)
    if "layer_rows" in observations.columns:
        _one_per_element(made, at, observations)
    return made


def is_missing(corrections: Corrections) -> NDArray[np.bool_]:
    """Return which rows are areas that nothing maps, shape (n,)."""
    new = np.char.startswith(corrections.record.astype(str), NEW)
    return np.asarray(new | (corrections.action == "create"))


def is_misplaced(corrections: Corrections) -> NDArray[np.bool_]:
    """Return which rows say that something lies elsewhere: those with a shift, shape (n,)."""
    nothing = np.full(len(corrections), np.nan)
    return np.asarray(np.isfinite(corrections.columns.get("dx", nothing)))


def kinds_of(
    corrections: Corrections, observations: Observations, dates: Mapping[str, Interval]
) -> list[str]:
    """Return which of ``KINDS`` each row is; ``dates`` say when the images were taken."""
    place = {record: i for i, record in enumerate(observations.record.tolist())}
    seen = max(
        (np.datetime64(one.start.replace(tzinfo=None)) for one in dates.values()), default=None
    )
    missing, elsewhere = is_missing(corrections), is_misplaced(corrections)
    out = []
    for i, record in enumerate(corrections.record.tolist()):
        at = place.get(record, -1)
        if missing[i]:
            out.append("missing")
        elif elsewhere[i] or record.startswith(SHIFT):
            out.append("displaced")
        elif corrections.action[i] == "modify":
            out.append("retag")
        elif at >= 0 and _is_thing(_symbol(observations, at)):
            out.append("vanished")
        elif at >= 0 and seen is not None and _is_old(observations, at, seen):
            out.append("outdated")
        else:
            out.append("doubt")
    return out


def _is_thing(symbol: str) -> bool:
    """Return True for single things, which are there or not: buildings, dams, open water."""
    row = row_of(symbol) if symbol else None
    return row is not None and (row.key in BUILT_KEYS or row.base == "natural=water")


def _is_old(observations: Observations, at: int, seen: np.datetime64) -> bool:
    edited = observations.columns["timestamp"][at]
    return bool(not np.isnat(edited) and seen - edited > np.timedelta64(OLD_DAYS, "D"))


def _symbol(observations: Observations, at: int) -> str:
    symbol = int(observations.symbols[at])
    return observations.crosswalk.symbols[symbol - 1] if symbol else ""


def _edit(name: str, observations: Observations, at: int, legend: Legend) -> TagEdit:
    if name not in legend.names:
        return TagEdit(set={}, unset=())
    concept = legend.concepts[legend.index(name)]
    symbol = _symbol(observations, at)
    if symbol.startswith(LAYER):
        return fclass_edit(symbol.removeprefix(LAYER), concept)
    return tags_for(concept, json.loads(observations.columns["tags"][at]))


def _share_seen(observations: Observations) -> NDArray[np.float64]:
    """Return the share of each object's area that lies inside the area, shape (n,)."""
    box = observations.geobox.extent.boundingbox
    inside = shapely.clip_by_rect(observations.geometry, *box.bbox)
    whole = shapely.area(observations.geometry)
    share = shapely.area(inside) / np.maximum(whole, 1e-9)
    return np.asarray(np.where(whole > 0, share, 1.0), np.float64)


def _one_per_element(made: Decisions, at: list[int], observations: Observations) -> None:
    """Join rows of one element that ask for the same; the others ask a person."""
    rows: dict[int, list[int]] = {}
    for i in made.edit:
        rows.setdefault(int(observations.columns["osm_id"][at[i]]), []).append(i)
    for group in rows.values():
        first, *others = group
        need = int(observations.columns["layer_rows"][at[first]])
        unknown = int(observations.columns["osm_id"][at[first]]) <= 0
        if unknown or need > len(group) or not _all_equal(made.edit[i] for i in group):
            made.survey[first] = SHARED
            del made.edit[first], made.together[first]
        else:
            made.together[first] = tuple(group)
        for i in others:
            del made.edit[i], made.together[i]


def _all_equal(edits: Iterable[TagEdit]) -> bool:
    first, *others = edits
    return all(one == first for one in others)
