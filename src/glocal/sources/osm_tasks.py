"""What mappers get: one small task per object, for a person to decide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from glocal.core.correction import Corrections
from glocal.core.legend import Legend
from glocal.core.observation import Observations
from glocal.core.provenance import osm_accepts
from glocal.errors import LicenceConflictError
from glocal.io.atomic import write_text
from glocal.sources.osm_change import (
    change_xml,
    edited,
    fresh_elements,
    parse_record,
    problem,
)
from glocal.sources.osm_file import Whole
from glocal.sources.osm_readme import readme
from glocal.sources.osm_tags import TagEdit, tags_for

__all__ = ["FILES", "encode_osm"]

FILES = (
    "proposal.osc", "preview.osc", "maproulette.geojsonl", "missing.geojsonl", "flags.geojson",
    "PROPOSAL_README.md",
)  # fmt: skip

RECORD_SEPARATOR = "\x1e"
DECIMALS = 7
"""Of a degree; OSM stores no more."""


@dataclass(slots=True)
class _Plan:
    """Where each row goes: to a tag fix, a survey, or a flag with its reason."""

    fix: dict[int, TagEdit] = field(default_factory=dict)
    survey: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    flag: dict[int, str] = field(default_factory=dict)
    whole: dict[int, Whole] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def encode_osm(
    corrections: Corrections,
    observations: Observations,
    folder: Path,
    *,
    extract: Path | None = None,
    legend: Legend,
    max_tasks: int = 200,
) -> list[Path]:
    """Write what OpenStreetMap's mappers need to judge the corrections; uploads nothing.

    ``proposal.osc`` and ``preview.osc`` come only with ``extract`` (the file that was
    read, with versions and node references); ``maproulette.geojsonl`` holds the same
    edits as tag fixes, ``missing.geojsonl`` areas where nothing is mapped,
    ``flags.geojson`` doubts without an edit, ``PROPOSAL_README.md`` the rest. At most
    ``max_tasks`` edits, the most probable first. Files of these names that have nothing
    to say are removed. Geometries become longitude and latitude (RFC 7946).

    Returns the paths written.

    Raises
    ------
    LicenceConflictError
        An edit rests on evidence that OSM can't accept.
    """
    _check_licence(corrections)
    order = np.lexsort((corrections.record, -corrections.probability))
    rows = corrections.take(order)
    plan = _plan(rows, observations, legend, max_tasks)
    _take_elements(plan, rows, extract, legend)
    shapes = _lonlat(rows)
    feature = _feature_of(rows, observations, shapes)
    content = {
        "proposal.osc": change_xml(plan.whole.values()) if plan.whole else "",
        "preview.osc": change_xml(plan.whole.values(), bump=1) if plan.whole else "",
        "maproulette.geojsonl": "".join(_line(feature(i), e) for i, e in plan.fix.items())
        + "".join(_line(feature(i)) for i in plan.survey),
        "missing.geojsonl": "".join(_line(feature(i)) for i in plan.missing),
        "flags.geojson": _collection([feature(i, why) for i, why in plan.flag.items()]),
        "PROPOSAL_README.md": readme(rows, counts=_counts(plan), notes=plan.notes),
    }
    return _write(folder, content)


def _check_licence(corrections: Corrections) -> None:
    edits = np.isin(corrections.action, ("create", "modify"))
    if edits.any() and not osm_accepts(corrections.provenance.licences):
        raise LicenceConflictError(
            "an edit of OpenStreetMap can't rest on evidence under "
            f"{sorted(corrections.provenance.licences)}; make these rows flags, or leave "
            "those sources out of the evidence"
        )


def _write(folder: Path, content: dict[str, str]) -> list[Path]:
    for name in FILES:
        if content[name]:
            write_text(folder / name, content[name])
        else:
            (folder / name).unlink(missing_ok=True)
    return [folder / name for name in FILES if content[name]]


def _counts(plan: _Plan) -> dict[str, int]:
    return {
        "proposal.osc": len(plan.whole),
        "maproulette.geojsonl": len(plan.fix) + len(plan.survey),
        "missing.geojsonl": len(plan.missing),
        "flags.geojson": len(plan.flag),
    }


def _plan(rows: Corrections, observations: Observations, legend: Legend, max_tasks: int) -> _Plan:
    plan, place = _Plan(), {record: i for i, record in enumerate(observations.record.tolist())}
    held_back = 0
    for i, (record, action) in enumerate(
        zip(rows.record.tolist(), rows.action.tolist(), strict=True)
    ):
        if action == "create" or record.startswith("new/"):
            plan.missing.append(i)
        elif action != "modify":
            plan.flag[i] = "nothing is ever deleted" if action == "delete" else f"to {action}"
        elif record not in place:
            plan.flag[i] = "the element was not read"
        elif not (edit := _edit(rows, i, observations, place[record], legend)):
            plan.flag[i] = "a use or a class that cover alone can't decide"
        elif len(plan.fix) + len(plan.survey) >= max_tasks:
            held_back += 1
        elif parse_record(record) and observations.columns["version"][place[record]] > 0:
            plan.fix[i] = edit
        else:
            plan.survey.append(i)
    if held_back:
        plan.notes.append(f"{held_back} less probable edits are held back for a later batch.")
    return plan


def _edit(
    rows: Corrections, i: int, observations: Observations, at: int, legend: Legend
) -> TagEdit:
    value = legend.values[legend.index(str(rows.proposed[i]))]
    return tags_for(value, json.loads(observations.columns["tags"][at]), legend)


def _take_elements(plan: _Plan, rows: Corrections, extract: Path | None, legend: Legend) -> None:
    """Fill ``plan.whole`` from the extract; stale and unwritable rows become flags."""
    if plan.survey:
        plan.notes.append(
            f"{len(plan.survey)} tasks carry no edit: the source has neither versions nor node "
            "references (a free Geofabrik layer), so no OsmChange can be made from it. Read the "
            ".osm.pbf extract to get one."
        )
    if extract is None or not plan.fix:
        if plan.fix:
            plan.notes.append("No extract was given, so there is no OsmChange.")
        return
    fresh, stale = fresh_elements(extract, [str(rows.record[i]) for i in plan.fix])
    for i in list(plan.fix):
        record = str(rows.record[i])
        reason = stale.get(record, "")
        if not reason:
            value = legend.values[legend.index(str(rows.proposed[i]))]
            edit = tags_for(value, fresh[record].tags, legend)
            after = edited(fresh[record], edit)
            reason = problem(after) if edit else "its full tags say more than cover"
        if reason:
            plan.flag[i] = reason
            del plan.fix[i]
        else:
            plan.fix[i], plan.whole[i] = edit, after
    if stale:
        plan.notes.append(f"{len(stale)} elements have changed since and are only flagged.")


def _lonlat(rows: Corrections) -> NDArray[np.object_]:
    """Return the supports in longitude and latitude, 2D, outer rings counter-clockwise."""
    flat = shapely.force_2d(rows.support)
    move = Transformer.from_crs(rows.crs, "EPSG:4326", always_xy=True)
    xy = shapely.get_coordinates(flat)
    degrees = np.column_stack(move.transform(*xy.T)).round(DECIMALS)
    moved = shapely.set_coordinates(np.array(flat, dtype=object), degrees)
    return np.asarray(shapely.orient_polygons(moved, exterior_cw=False), object)


def _glocal_id(rows: Corrections, i: int) -> str:
    text = "|".join((rows.source, str(rows.record[i]), str(rows.proposed[i])))
    return f"r{rows.round}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _feature_of(
    rows: Corrections, observations: Observations, shapes: NDArray[np.object_]
) -> Callable[..., dict[str, Any]]:
    place = {record: i for i, record in enumerate(observations.record.tolist())}

    def feature(i: int, why: str = "") -> dict[str, Any]:
        record = str(rows.record[i])
        element = parse_record(record)
        name = f"{element[0]}/{element[1]}" if element else record
        properties = {
            "glocal_id": _glocal_id(rows, i),
            "current": str(rows.current[i]),
            "proposed": str(rows.proposed[i]),
            "probability": f"{float(rows.probability[i]):.2f}",
            "round": str(rows.round),
            "because": ", ".join(rows.because),
            "status": "proposal, not reviewed",
        }
        if element:
            properties |= {"@id": name, "base_version": str(element[2])}
        elif record in place:
            properties["osm_id_of_layer"] = str(observations.columns["osm_id"][place[record]])
        if why:
            properties["why_no_edit"] = why
        geometry = json.loads(shapely.to_geojson(shapes[i]))
        return {"type": "Feature", "id": name, "geometry": geometry, "properties": properties}

    return feature


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _collection(features: list[dict[str, Any]]) -> str:
    if not features:
        return ""
    return _json({"type": "FeatureCollection", "features": features}) + "\n"


def _line(feature: dict[str, Any], edit: TagEdit | None = None) -> str:
    """Return one task of a line-by-line file: a tag fix with ``edit``, a survey without."""
    task: dict[str, Any] = {"type": "FeatureCollection", "features": [feature]}
    if edit:
        operations: list[dict[str, Any]] = [{"operation": "setTags", "data": edit.set}]
        if edit.unset:
            operations.append({"operation": "unsetTags", "data": list(edit.unset)})
        change = {"id": feature["id"], "operations": operations}
        task["cooperativeWork"] = {
            "meta": {"version": 2, "type": 1},
            "operations": [{"operationType": "modifyElement", "data": change}],
        }
    return f"{RECORD_SEPARATOR}{_json(task)}\n"
