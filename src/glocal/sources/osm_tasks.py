"""What mappers get: one small task per object, for a person to decide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from glocal.core.correction import Corrections
from glocal.core.interval import Interval
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
from glocal.sources.osm_edits import decide, is_layer, layer_element
from glocal.sources.osm_file import Whole
from glocal.sources.osm_readme import instruction, readme
from glocal.sources.osm_tags import TagEdit, tags_for

__all__ = ["FILES", "encode_osm"]

FILES = (
    "proposal.osc", "preview.osc", "maproulette.geojsonl", "survey.geojsonl",
    "missing.geojsonl", "flags.geojson", "PROPOSAL_README.md",
)  # fmt: skip

RECORD_SEPARATOR = "\x1e"
DECIMALS = 7
"""Of a degree; OSM stores no more."""

NO_DATES: Mapping[str, Interval] = MappingProxyType({})

Feature = Callable[..., dict[str, Any]]


@dataclass(slots=True)
class _Plan:
    """Where each row goes: to a tag fix, a survey, or a flag with its reason."""

    fix: dict[int, TagEdit] = field(default_factory=dict)
    together: dict[int, tuple[int, ...]] = field(default_factory=dict)
    survey: dict[int, str] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)
    flag: dict[int, str] = field(default_factory=dict)
    whole: dict[int, Whole] = field(default_factory=dict)
    layer: bool = False
    notes: list[str] = field(default_factory=list)


def encode_osm(
    corrections: Corrections,
    observations: Observations,
    folder: Path,
    *,
    extract: Path | None = None,
    legend: Legend,
    max_tasks: int = 200,
    dates: Mapping[str, Interval] = NO_DATES,
) -> list[Path]:
    """Write what OpenStreetMap's mappers need to judge the corrections; uploads nothing.

    ``proposal.osc`` and ``preview.osc`` come only with ``extract`` (the file that was
    read, with versions and node references). ``maproulette.geojsonl`` holds tag fixes,
    one per element; of a Geofabrik layer too, whose element types and old tags are
    inferred and marked so. ``survey.geojsonl`` asks where no edit is sound,
    ``missing.geojsonl`` where nothing is mapped, ``flags.geojson`` shows doubts,
    ``PROPOSAL_README.md`` tells the rest. At most ``max_tasks`` edits, the most probable
    first. ``dates`` names the images and when they were taken, for the mappers. Files of
    these names that have nothing to say are removed. Geometries become longitude and
    latitude (RFC 7946).

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
    feature = _feature_of(plan, rows, observations, dates)
    content = {
        "proposal.osc": change_xml(plan.whole.values()) if plan.whole else "",
        "preview.osc": change_xml(plan.whole.values(), bump=1) if plan.whole else "",
        "maproulette.geojsonl": "".join(_line(feature(i), e) for i, e in plan.fix.items()),
        "survey.geojsonl": "".join(_line(feature(i)) for i in plan.survey),
        "missing.geojsonl": "".join(_line(feature(i)) for i in plan.missing),
        "flags.geojson": _collection([feature(i) for i in plan.flag]),
        "PROPOSAL_README.md": readme(
            rows, counts=_counts(plan), notes=plan.notes, inferred=plan.layer
        ),
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
        "maproulette.geojsonl": len(plan.fix),
        "survey.geojsonl": len(plan.survey),
        "missing.geojsonl": len(plan.missing),
        "flags.geojson": len(plan.flag),
    }


def _plan(rows: Corrections, observations: Observations, legend: Legend, max_tasks: int) -> _Plan:
    made = decide(rows, observations, legend)
    new = (rows.action == "create") | np.char.startswith(rows.record.astype(str), "new/")
    missing = np.flatnonzero(new).tolist()
    flag = {i: why for i, why in made.flag.items() if not new[i]}
    kept = list(made.edit)[:max_tasks]
    plan = _Plan(
        fix={i: made.edit[i] for i in kept},
        together={i: made.together[i] for i in kept},
        survey=made.survey,
        missing=missing,
        flag=flag,
        layer="layer_rows" in observations.columns,
    )
    held_back = len(made.edit) - len(kept)
    if held_back:
        plan.notes.append(f"{held_back} less probable edits are held back for a later batch.")
    if plan.layer:
        plan.notes.append(
            "No OsmChange: the source is a layer that has neither versions nor node references. "
            "Read the .osm.pbf extract to get one."
        )
    return plan


def _take_elements(plan: _Plan, rows: Corrections, extract: Path | None, legend: Legend) -> None:
    """Fill ``plan.whole`` from the extract; stale and unwritable rows become flags."""
    if plan.layer or not plan.fix:
        return
    if extract is None:
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


def _shapes(plan: _Plan, rows: Corrections, cell: float) -> NDArray[np.object_]:
    """Return the outlines as tasks show them: parts of one element joined, steps of cells cut."""
    shapes = np.array(shapely.force_2d(rows.support), dtype=object)
    for i, group in plan.together.items():
        if len(group) > 1:
            shapes[i] = shapely.multipolygons(shapely.get_parts(rows.support[list(group)]))
    shapes[plan.missing] = shapely.simplify(shapes[plan.missing], cell)
    return shapes


def _lonlat(shapes: NDArray[np.object_], crs: str) -> NDArray[np.object_]:
    """Return the shapes in longitude and latitude, 2D, outer rings counter-clockwise."""
    move = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    xy = shapely.get_coordinates(shapes)
    degrees = np.column_stack(move.transform(*xy.T)).round(DECIMALS)
    moved = shapely.set_coordinates(shapes.copy(), degrees)
    return np.asarray(shapely.orient_polygons(moved, exterior_cw=False), object)


def _glocal_id(rows: Corrections, i: int) -> str:
    text = "|".join((rows.source, str(rows.record[i]), str(rows.proposed[i])))
    return f"r{rows.round}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _feature_of(
    plan: _Plan, rows: Corrections, observations: Observations, dates: Mapping[str, Interval]
) -> Feature:
    """Return the function that makes the GeoJSON feature of one row."""
    place = {record: i for i, record in enumerate(observations.record.tolist())}
    cell = abs(float(observations.geobox.resolution.x))
    shapes = _lonlat(_shapes(plan, rows, cell), rows.crs)

    def feature(i: int) -> dict[str, Any]:
        record, at = str(rows.record[i]), place.get(str(rows.record[i]), -1)
        named = _element(plan, i, record, observations, at)
        name = named.get("@id", record.partition("@")[0])
        properties = _properties(rows, i) | named
        why = plan.flag.get(i) or plan.survey.get(i, "")
        if why:
            properties["why_no_edit"] = why
        if i not in plan.flag:
            properties["instruction"] = instruction(
                rows,
                i,
                dates=dates,
                mapped=observations.phenomenon_time,
                edit=plan.fix.get(i),
                element=name,
                inferred=plan.layer,
                why=why,
            )
        geometry = json.loads(shapely.to_geojson(shapes[i]))
        return {"type": "Feature", "id": name, "geometry": geometry, "properties": properties}

    return feature


def _element(
    plan: _Plan, i: int, record: str, observations: Observations, at: int
) -> dict[str, str]:
    """Return the properties that name the element, as far as it is known."""
    if element := parse_record(record):
        return {"@id": f"{element[0]}/{element[1]}", "base_version": str(element[2])}
    if at < 0 or not is_layer(observations, at):
        return {}
    if i in plan.fix:
        inferred = "element type and old tags; check both"
        return {
            "@id": layer_element(observations, at), "layer_row": record, "inferred": inferred
        }  # fmt: skip
    return {"layer_row": record, "osm_id_of_layer": str(observations.columns["osm_id"][at])}


def _properties(rows: Corrections, i: int) -> dict[str, str]:
    # A flag doubts the tags, an edit or an unmapped area believes in a class.
    doubt = rows.action[i] == "flag" and bool(rows.current[i])
    return {
        "glocal_id": _glocal_id(rows, i),
        "current": str(rows.current[i]),
        "proposed": str(rows.proposed[i]),
        "probability_wrong" if doubt else "probability": f"{min(rows.probability[i], 0.99):.2f}",
        "round": str(rows.round),
        "because": ", ".join(rows.because),
        "status": "proposal, not reviewed",
        "licence": "ODbL-1.0, © OpenStreetMap contributors",
    }


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
