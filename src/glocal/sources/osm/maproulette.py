"""MapRoulette: one task per line, a tag fix, a change file, or a question."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import shapely

from glocal.sources.osm.batch import Batch
from glocal.sources.osm.change import change_xml
from glocal.sources.osm.file import Whole
from glocal.sources.osm.page import instruction
from glocal.sources.osm.place import lonlat
from glocal.sources.osm.rows import VECTOR
from glocal.sources.osm.tags import TagEdit
from glocal.sources.record import element_of

RECORD_SEPARATOR = "\x1e"
CAME_FROM = ("glocal_id", "round", "because", "source", "licence", "status")


def task(feature: dict[str, Any], edit: TagEdit | None, new: list[Whole] | None) -> str:
    """Return one line: a tag fix with ``edit``, a change file with ``new``, else a question."""
    line: dict[str, Any] = {"type": "FeatureCollection", "features": [feature]}
    if edit:
        operations: list[dict[str, Any]] = [{"operation": "setTags", "data": edit.set}]
        if edit.unset:
            operations.append({"operation": "unsetTags", "data": list(edit.unset)})
        change = {"id": feature["id"], "operations": operations}
        work: dict[str, Any] = {"operations": [{"operationType": "modifyElement", "data": change}]}
    elif new:
        content = base64.b64encode(change_xml(create=new).encode()).decode()
        file = {"type": "xml", "format": "osc", "encoding": "base64", "content": content}
        work = {"file": file}
    if edit or new:
        line["cooperativeWork"] = {"meta": {"version": 2, "type": 1 if edit else 2}, **work}
        held = feature["properties"]
        name = str(uuid.uuid5(uuid.NAMESPACE_URL, held["glocal_id"]))
        blob = {"id": name, "kind": "blob", "purpose": "glocal-provenance", "type": "json"}
        line["attachments"] = [{**blob, "data": {name: held[name] for name in CAME_FROM}}]
    return f"{RECORD_SEPARATOR}{_json(line)}\n"


def features(batch: Batch) -> list[dict[str, Any]]:
    """Return the GeoJSON feature of every row."""
    rows, ids, out = batch.rows, batch.rows.ids, []
    shapes = shapely.to_geojson(lonlat(shapely.force_2d(rows.support), rows.crs)).tolist()
    asked = set(batch.of_fate("modify", "create", "survey", "missing"))
    for i, fault in enumerate(rows.fault.tolist()):
        named = batch.named(i)
        name = named.get("@id", element_of(str(rows.record[i])))
        # a flag doubts the tags, an edit or an unmapped area believes in a class
        doubt = fault in ("doubt", "outdated", "vanished")
        sure = "probability_wrong" if doubt else "probability"
        moved = VECTOR if fault == "displaced" else ()
        properties = {
            **{f"{column}_m": f"{rows.columns[column][i]:.1f}" for column in moved},
            "glocal_id": ids[i],
            "kind": fault,
            "current": str(rows.current[i]),
            "proposed": str(rows.proposed[i]),
            sure: f"{min(rows.probability[i], 0.99):.2f}",
            "round": str(rows.round),
            "because": ", ".join(rows.because),
            "source": "; ".join(rows.provenance.attribution),
            "status": "proposal, not reviewed",
            "licence": "ODbL-1.0, © OpenStreetMap contributors",
            **named,
        }
        if batch.why(i):
            properties["why_no_edit"] = batch.why(i)
        if i in asked:
            properties["instruction"] = instruction(batch, i, name)
        geometry = json.loads(shapes[i])
        out.append({"type": "Feature", "id": name, "geometry": geometry, "properties": properties})
    return out


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def collection(features: list[dict[str, Any]]) -> str:
    """Return a GeoJSON file, or nothing when there is no feature."""
    if not features:
        return ""
    return _json({"type": "FeatureCollection", "features": features}) + "\n"
