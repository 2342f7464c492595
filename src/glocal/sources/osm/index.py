"""The index of proposals: one row each, for the machine that reads the answers."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np

from glocal.io.vector import write_table
from glocal.sources.osm.batch import Batch
from glocal.sources.osm.change import parse_record
from glocal.sources.osm.rows import VECTOR
from glocal.sources.record import element_of, version_of

INDEX = "proposals.parquet"


def write_index(path: Path, batch: Batch) -> Path:
    """Write what was proposed, held back or only doubted; a row of the corrections each.

    Columns: ``proposal`` (stable id, in every file as ``glocal_id``), ``source``,
    ``record``, ``element`` (``way/1``, empty when there is none) and ``base_version`` (0
    unknown), ``kind`` (`correction.FAULTS`), ``fate`` (`correction.Fate`), ``current`` and
    ``proposed`` class, ``set_tags`` and ``unset_tags`` (JSON; empty without an edit),
    ``probability`` (of the class for edits and missing areas, else of the doubt), ``why``
    there is no edit, ``dx_m``, ``dy_m`` and ``sd_m`` (how far east and north something
    displaced should go, and the standard uncertainty of each; NaN for other kinds),
    ``round``, and the geometry in the CRS of the corrections.
    """
    rows, n = batch.rows, len(batch.rows)
    edit = [batch.edit(i) for i in range(n)]
    new = {i: elements[-1].tags for i, elements in batch.new.items()}
    made = [one.set if one else new.get(i) for i, one in enumerate(edit)]
    records = rows.record.tolist()
    table = gpd.GeoDataFrame(
        {
            "proposal": rows.ids,
            "source": [rows.source] * n,
            "record": records,
            "element": [element_of(one) if parse_record(one) else "" for one in records],
            "base_version": np.array([version_of(one) for one in records], np.int64),
            "kind": rows.fault.tolist(),
            "fate": rows.fate.tolist(),
            "current": rows.current.tolist(),
            "proposed": rows.proposed.tolist(),
            "set_tags": [_json(one) if one else "" for one in made],
            "unset_tags": [_json(list(one.unset)) if one else "" for one in edit],
            "probability": rows.probability.astype(np.float64),
            "why": [batch.why(i) for i in range(n)],
            **{f"{name}_m": rows.columns[name] for name in VECTOR},
            "round": np.full(n, rows.round, np.int64),
        },
        geometry=np.array(rows.support, object),
        crs=rows.crs,
    )
    credit = "; ".join((*rows.provenance.attribution, "© OpenStreetMap contributors"))
    return write_table(path, table, licence="ODbL-1.0", attribution=credit)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
