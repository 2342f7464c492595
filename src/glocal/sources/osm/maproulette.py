"""MapRoulette: one task per line, a tag fix, a change file, or a question."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import shapely

from glocal.sources.osm.batch import Batch
from glocal.sources.osm.change import change_xml
from glocal.sources.osm.file import Whole
from glocal.sources.osm.page import instruction
from glocal.sources.osm.place import lonlat
from glocal.sources.osm.rows import VECTOR
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


def feature_maker(batch: Batch) -> Feature:
    """Return the function that makes the GeoJSON feature of one row."""
    rows = batch.rows
    shapes = lonlat(np.array(shapely.force_2d(rows.support), dtype=object), rows.crs)
    asked = set(batch.of_fate("modify", "create", "survey", "missing"))

    def feature(i: int) -> dict[str, Any]:
        named = batch.name[i]
        name = named.get("@id", str(rows.record[i]).partition("@")[0])
        properties = {**_properties(batch, i), **named}
        if batch.why(i):
            properties["why_no_edit"] = batch.why(i)
        if i in asked:
            properties["instruction"] = instruction(batch, i, name)
        geometry = json.loads(shapely.to_geojson(shapes[i]))
        return {"type": "Feature", "id": name, "geometry": geometry, "properties": properties}

    return feature


def _properties(batch: Batch, i: int) -> dict[str, str]:
    rows = batch.rows
    # A flag doubts the tags, an edit or an unmapped area believes in a class.
    elsewhere = rows.fault[i] == "displaced"
    doubt = rows.fault[i] in ("doubt", "outdated", "vanished")
    vector = {f"{name}_m": f"{rows.columns[name][i]:.1f}" for name in VECTOR if elsewhere}
    return vector | {
        "glocal_id": rows.ids[i],
        "kind": str(rows.fault[i]),
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
