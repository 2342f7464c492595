"""The index of proposals: one row each, for the machine that reads the answers."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np

from glocal.core.correction import Corrections
from glocal.io.vector import write_table
from glocal.sources.osm.plan import Plan, element_of

__all__ = ["INDEX", "write_index"]

INDEX = "proposals.parquet"
VECTOR = ("dx", "dy", "sd")


def write_index(path: Path, plan: Plan, rows: Corrections) -> Path:
    """Write what was proposed, held back or only doubted; a row of the corrections each.

    Columns: ``proposal`` (stable id, in every file as ``glocal_id``), ``source``,
    ``record``, ``element`` (``way/1``, empty when there is none) and ``base_version`` (0
    unknown), ``kind`` (`osm_edits.KINDS`), ``fate`` (`osm_plan.FATES`), ``current`` and
    ``proposed`` class, ``set_tags`` and ``unset_tags`` (JSON; empty without an edit),
    ``probability`` (of the class for edits and missing areas, else of the doubt), ``why``
    there is no edit, ``dx_m``, ``dy_m`` and ``sd_m`` (how far east and north something
    displaced should go, and the standard uncertainty of each; NaN for other kinds),
    ``round``, and the geometry in the CRS of the corrections.
    """
    n = len(rows)
    leader = {i: first for first, group in plan.together.items() for i in group}
    edit = [plan.fix.get(leader.get(i, i)) for i in range(n)]
    new = [plan.new[i][-1].tags if i in plan.new else None for i in range(n)]
    made = [one.set if one else tags for one, tags in zip(edit, new, strict=True)]
    element = [element_of(str(record)) for record in rows.record]
    geometry = np.array(rows.support, object)
    for i, shape in plan.shape.items():
        geometry[i] = shape
    table = gpd.GeoDataFrame(
        {
            "proposal": plan.ids,
            "source": [rows.source] * n,
            "record": rows.record.tolist(),
            "element": [name for name, _ in element],
            "base_version": np.array([version for _, version in element], np.int64),
            "kind": plan.kind,
            "fate": [plan.fate(i) for i in range(n)],
            "current": rows.current.tolist(),
            "proposed": rows.proposed.tolist(),
            "set_tags": [_json(one) if one else "" for one in made],
            "unset_tags": [_json(list(one.unset)) if one else "" for one in edit],
            "probability": rows.probability.astype(np.float64),
            "why": [plan.why(i) for i in range(n)],
            **{f"{name}_m": rows.columns.get(name, np.full(n, np.nan)) for name in VECTOR},
            "round": np.full(n, rows.round, np.int64),
        },
        geometry=geometry,
        crs=rows.crs,
    )
    credit = "; ".join((*rows.provenance.attribution, "© OpenStreetMap contributors"))
    return write_table(path, table, licence="ODbL-1.0", attribution=credit)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
