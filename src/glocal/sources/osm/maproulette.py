"""MapRoulette: one task per line, a tag fix, a change file, or a question."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import shapely

from glocal.core.correction import Corrections
from glocal.core.interval import Interval
from glocal.core.observation import Observations
from glocal.sources.osm.change import change_xml
from glocal.sources.osm.edits import is_layer, is_misplaced, layer_element
from glocal.sources.osm.file import Whole
from glocal.sources.osm.page import instruction
from glocal.sources.osm.plan import Plan, element_of, lonlat
from glocal.sources.osm.tags import TagEdit

__all__ = ["Feature", "collection", "feature_maker", "task"]

RECORD_SEPARATOR = "\x1e"

Feature = Callable[[int], dict[str, Any]]


def task(
    feature: dict[str, Any], *, edit: TagEdit | None = None, new: list[Whole] | None = None
) -> str:
    """Return one line: a tag fix with ``edit``, a change file with ``new``, else a question."""
    line: dict[str, Any] = {"type": "FeatureCollection", "features": [feature]}
    if edit:
        line["cooperativeWork"] = _tag_fix(feature["id"], edit)
    elif new:
        line["cooperativeWork"] = _change_file(new)
    if edit or new:
        line["attachments"] = [_blob(feature)]
    return f"{RECORD_SEPARATOR}{_json(line)}\n"


def _tag_fix(element: str, edit: TagEdit) -> dict[str, Any]:
    operations: list[dict[str, Any]] = [{"operation": "setTags", "data": edit.set}]
    if edit.unset:
        operations.append({"operation": "unsetTags", "data": list(edit.unset)})
    change = {"id": element, "operations": operations}
    return {
        "meta": {"version": 2, "type": 1},
        "operations": [{"operationType": "modifyElement", "data": change}],
    }


def _change_file(new: list[Whole]) -> dict[str, Any]:
    content = base64.b64encode(change_xml(create=new).encode()).decode()
    file = {"type": "xml", "format": "osc", "encoding": "base64", "content": content}
    return {"meta": {"version": 2, "type": 2}, "file": file}


def _blob(feature: dict[str, Any]) -> dict[str, Any]:
    """Return where a proposal comes from, to travel with its task."""
    held = feature["properties"]
    names = ("glocal_id", "round", "because", "source", "licence", "status")
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, held["glocal_id"])),
        "kind": "blob",
        "purpose": "glocal-provenance",
        "type": "json",
        "data": {name: held[name] for name in names},
    }


def feature_maker(
    plan: Plan, rows: Corrections, observations: Observations, dates: Mapping[str, Interval]
) -> Feature:
    """Return the function that makes the GeoJSON feature of one row."""
    place = {record: i for i, record in enumerate(observations.record.tolist())}
    shapes = lonlat(_shapes(plan, rows), rows.crs)
    concept = dict(zip(observations.legend.names, observations.legend.concepts, strict=True))

    def feature(i: int) -> dict[str, Any]:
        record, at = str(rows.record[i]), place.get(str(rows.record[i]), -1)
        named = _element(plan, i, record, observations, at)
        name = named.get("@id", record.partition("@")[0])
        properties = _properties(plan, rows, i) | named
        if plan.why(i):
            properties["why_no_edit"] = plan.why(i)
        if i not in plan.flag:
            properties["instruction"] = instruction(
                rows,
                i,
                concept=concept.get(str(rows.proposed[i]), ""),
                dates=dates,
                mapped=observations.phenomenon_time,
                edit=plan.fix.get(i),
                new=plan.new[i][-1].tags if i in plan.new else None,
                element=name,
                inferred=plan.layer,
                why=plan.why(i),
            )
        geometry = json.loads(shapely.to_geojson(shapes[i]))
        return {"type": "Feature", "id": name, "geometry": geometry, "properties": properties}

    return feature


def _shapes(plan: Plan, rows: Corrections) -> Any:
    """Return the outlines as tasks show them: parts of one element joined, steps cut."""
    shapes = np.array(shapely.force_2d(rows.support), dtype=object)
    for i, group in plan.together.items():
        if len(group) > 1:
            shapes[i] = shapely.multipolygons(shapely.get_parts(rows.support[list(group)]))
    for i, shape in plan.shape.items():
        shapes[i] = shape
    return shapes


def _element(
    plan: Plan, i: int, record: str, observations: Observations, at: int
) -> dict[str, str]:
    """Return the properties that name the element, as far as it is known."""
    element, version = element_of(record)
    if element:
        return {"@id": element, "base_version": str(version)}
    if at < 0 or not is_layer(observations, at):
        return {}
    if i in plan.fix:
        inferred = "element type and old tags; check both"
        named = layer_element(observations, at)
        return {"@id": named, "layer_row": record, "inferred": inferred}
    return {"layer_row": record, "osm_id_of_layer": str(observations.columns["osm_id"][at])}


def _properties(plan: Plan, rows: Corrections, i: int) -> dict[str, str]:
    # A flag doubts the tags, an edit or an unmapped area believes in a class.
    elsewhere = bool(is_misplaced(rows)[i])
    doubt = rows.action[i] == "flag" and bool(rows.current[i]) and not elsewhere
    vector = {f"{name}_m": f"{rows.columns[name][i]:.1f}" for name in rows.columns if elsewhere}
    return vector | {
        "glocal_id": plan.ids[i],
        "kind": plan.kind[i],
        "current": str(rows.current[i]),
        "proposed": str(rows.proposed[i]),
        "probability_wrong" if doubt else "probability": f"{min(rows.probability[i], 0.99):.2f}",
        "round": str(rows.round),
        "because": ", ".join(rows.because),
        "source": "; ".join(rows.provenance.attribution),
        "status": "proposal, not reviewed",
        "licence": "ODbL-1.0, © OpenStreetMap contributors",
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def collection(features: list[dict[str, Any]]) -> str:
    """Return a GeoJSON file, or nothing when there is no feature."""
    if not features:
        return ""
    return _json({"type": "FeatureCollection", "features": features}) + "\n"
