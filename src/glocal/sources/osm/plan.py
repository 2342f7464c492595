"""Where each correction goes: to an edit, a new area, a question, or a flag with its reason."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import Transformer

from glocal.core.correction import Corrections
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.observation import Observations
from glocal.sources.osm.change import (
    MAX_NODES,
    MAX_TEXT,
    edited,
    fresh_elements,
    incomplete,
    parse_record,
    problem,
)
from glocal.sources.osm.edits import decide, is_missing, kinds_of
from glocal.sources.osm.file import Whole, read_context
from glocal.sources.osm.outline import new_elements, outline
from glocal.sources.osm.tags import TagEdit, tags_for, tags_of_new

__all__ = ["FATES", "Plan", "element_of", "lonlat", "make_plan", "proposal_ids"]

FATES = ("modify", "create", "survey", "missing", "flag", "later")
"""What may become of a row: a tag edit, a new area, a question, a question about an area
that nothing maps, a doubt on a map, or held back for another batch."""

DECIMALS = 7
"""Of a degree; OSM stores no more."""

LAYER_IS_PART = "a layer holds only a part of OpenStreetMap, so it may be mapped elsewhere"
LAYER_IS_OFF = "the layer lies off the images, so its outline would not fit its neighbours"
NO_LICENCE = "its evidence is under a licence that OpenStreetMap can't accept"


@dataclass(slots=True, kw_only=True)
class Plan:
    """What becomes of each row of the corrections, by its position."""

    ids: list[str]
    """Stable string id of each row."""

    kind: list[str]
    fix: dict[int, TagEdit] = field(default_factory=dict)
    """Tag edits; one row per element."""

    together: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """All rows of an edited element (layers split multipolygons)."""

    new: dict[int, list[Whole]] = field(default_factory=dict)
    """Elements of each missing area, ids from -1; the last one bears the tags."""

    shape: dict[int, Any] = field(default_factory=dict)
    """Outline of each missing area in the CRS of the corrections, as far as one was made."""

    survey: dict[int, str] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    flag: dict[int, str] = field(default_factory=dict)
    later: list[int] = field(default_factory=list)
    whole: dict[int, Whole] = field(default_factory=dict)
    """Edited elements; empty without an extract."""

    base: dict[int, Whole] = field(default_factory=dict)
    """The same elements before the edit."""

    context: list[Whole] = field(default_factory=list)
    """Unchanged elements that the edited ones are drawn with."""

    layer: bool = False
    notes: list[str] = field(default_factory=list)

    def fate(self, i: int) -> str:
        """Return which of ``FATES`` row ``i`` meets; rows of one element share it."""
        return next((name for name, rows in self.groups().items() if i in rows), "modify")

    def groups(self) -> dict[str, Collection[int]]:
        """Return the rows of each of ``FATES``, one row per element."""
        every = (self.fix, self.new, self.survey, self.missing, self.flag, self.later)
        return dict(zip(FATES, every, strict=True))

    def why(self, i: int) -> str:
        """Return why row ``i`` is no edit, or an empty string."""
        return self.survey.get(i) or self.missing.get(i) or self.flag.get(i, "")

    def numbered(self) -> list[Whole]:
        """Return all new elements with ids that are unique among them."""
        out: list[Whole] = []
        for elements in self.new.values():
            out += renumbered(elements, -len(out))
        return out


def proposal_ids(rows: Corrections) -> list[str]:
    """Return a stable id per row: the same element, version and class give the same id.

    The round is not part of it: a proposal that is made again is the same proposal.
    """
    parts = zip(rows.record.tolist(), rows.proposed.tolist(), strict=True)
    return [
        "g-" + hashlib.sha256(f"{rows.source}|{record}|{proposed}".encode()).hexdigest()[:12]
        for record, proposed in parts
    ]


def renumbered(elements: Iterable[Whole], shift: int) -> list[Whole]:
    """Return new elements with ``shift`` added to every id."""
    return [
        Whole(
            osm_type=one.osm_type,
            osm_id=one.osm_id + shift,
            version=one.version,
            tags=one.tags,
            nodes=tuple(ref + shift for ref in one.nodes),
            members=tuple((kind, ref + shift, role) for kind, ref, role in one.members),
            place=one.place,
        )
        for one in elements
    ]


def make_plan(
    rows: Corrections,
    observations: Observations,
    legend: Legend,
    *,
    extract: Path | None,
    dates: Mapping[str, Interval],
    max_tasks: int,
    min_area_ha: float,
    in_place: bool = True,
) -> Plan:
    """Return what becomes of each row; ``rows`` come in order of preference."""
    made = decide(rows, observations, legend)
    missing = is_missing(rows)
    plan = Plan(
        ids=proposal_ids(rows),
        kind=kinds_of(rows, observations, dates),
        fix=made.edit,
        together=made.together,
        survey=made.survey,
        flag={i: why for i, why in made.flag.items() if not missing[i]},
        layer="layer_rows" in observations.columns,
    )
    _ask_people(plan, max_tasks)
    _hold_back(plan, max_tasks)
    _take_elements(plan, rows, extract, legend)
    for i in np.flatnonzero(missing).tolist():
        why = "" if in_place else LAYER_IS_OFF
        _draw(plan, i, rows, observations, legend, min_area_ha, why)
    return plan


def _ask_people(plan: Plan, most: int) -> None:
    """Turn flags that a person can answer by looking into questions, the surest first."""
    asked = [i for i in plan.flag if plan.kind[i] in ("outdated", "vanished", "displaced")]
    for i in asked[: max(most - len(plan.survey), 0)]:
        plan.survey[i] = plan.flag.pop(i)


def _hold_back(plan: Plan, most: int) -> None:
    rest = list(plan.fix)[most:]
    for i in rest:
        plan.later += plan.together[i]
        del plan.fix[i], plan.together[i]
    if rest:
        plan.notes.append(f"{len(rest)} less probable edits are held back for a later batch.")


def _take_elements(plan: Plan, rows: Corrections, extract: Path | None, legend: Legend) -> None:
    """Fill ``plan.whole`` from the extract; stale and unwritable rows become flags."""
    if plan.layer:
        plan.notes.append(
            "No OsmChange: the source is a layer that has neither versions nor node references. "
            "Read the .osm.pbf extract to get one."
        )
        return
    if extract is None:
        plan.notes.append("No extract was given, so there is no OsmChange.")
        return
    fresh, stale = fresh_elements(extract, [str(rows.record[i]) for i in plan.fix])
    torn = incomplete(extract, fresh.values())
    for i in list(plan.fix):
        record = str(rows.record[i])
        reason = stale.get(record, "")
        if not reason:
            concept = legend.concepts[legend.index(str(rows.proposed[i]))]
            edit = tags_for(concept, fresh[record].tags)
            after = edited(fresh[record], edit)
            reason = torn.get((after.osm_type, after.osm_id), "") or problem(after)
            reason = reason if edit else "its full tags say more than cover"
        if reason:
            plan.flag[i] = reason
            del plan.fix[i]
        else:
            plan.fix[i], plan.whole[i], plan.base[i] = edit, after, fresh[record]
    plan.context = read_context(extract, plan.whole.values())
    if stale:
        plan.notes.append(f"{len(stale)} elements have changed since and are only flagged.")


def _draw(
    plan: Plan,
    i: int,
    rows: Corrections,
    observations: Observations,
    legend: Legend,
    min_area_ha: float,
    barred: str,
) -> None:
    """Make a missing area an edit with an outline, or else a question with the reason."""
    cell = abs(float(observations.geobox.resolution.x))
    patch = rows.support[i]
    tags = tags_of_new(legend.concepts[legend.index(str(rows.proposed[i]))])
    near = shapely.intersects(observations.geometry, shapely.buffer(patch, cell))
    taken = shapely.union_all(shapely.make_valid(observations.geometry[near]))
    shape, why = outline(patch, taken, cell, min_area=min_area_ha * 1e4)
    plan.shape[i] = shapely.simplify(shapely.force_2d(patch), cell)
    if plan.layer:
        why = LAYER_IS_PART
    elif barred:
        why = barred
    elif rows.action[i] != "create":
        why = NO_LICENCE
    elif not tags:
        why = "its class has no tag that can be told from above"
    elif not why and shapely.count_coordinates(shape) > MAX_NODES:
        why = f"its outline has more than {MAX_NODES} nodes"
    if why:
        plan.missing[i] = why
        return
    plan.shape[i] = shape
    named = tags | source_tag(rows)
    plan.new[i] = new_elements(lonlat(np.array([shape]), rows.crs)[0], named)


def source_tag(rows: Corrections) -> dict[str, str]:
    """Return the tag that names the evidence; empty when it is longer than OSM allows."""
    text = "; ".join(rows.provenance.attribution)
    return {"source": text} if 0 < len(text) <= MAX_TEXT else {}


def lonlat(shapes: Any, crs: str) -> Any:
    """Return shapes in longitude and latitude, 2D, outer rings counter-clockwise."""
    move = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    xy = shapely.get_coordinates(shapes)
    degrees = np.column_stack(move.transform(*xy.T)).round(DECIMALS)
    moved = shapely.set_coordinates(np.array(shapes, object), degrees)
    return np.asarray(shapely.orient_polygons(moved, exterior_cw=False), object)


def element_of(record: str) -> tuple[str, int]:
    """Return (element, base version) of a record, ("", 0) where it is none of OSM."""
    parsed = parse_record(record)
    return (f"{parsed[0]}/{parsed[1]}", parsed[2]) if parsed else ("", 0)
