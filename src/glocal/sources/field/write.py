"""Field points back to their observers: their own table with our verdict beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from glocal.core.correction import Corrections
from glocal.core.observation import Observations
from glocal.core.placement import Places
from glocal.core.provenance import Provenance
from glocal.core.result import Displacement
from glocal.core.typing import Bytes, Floats, Table
from glocal.io.atomic import write_json
from glocal.io.vector import write_csv, write_gpkg, write_table
from glocal.sources.points.personal import read_field_table
from glocal.sources.points.table import PointTable, read_points
from glocal.sources.points.words import is_silent

QARTOD = {1: "good", 2: "not evaluated", 3: "suspect", 4: "fail", 9: "missing"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdicts:
    """What the loop says of each of n observations."""

    p_correct: Floats
    """Shape (n,), probability that the class is right."""

    flags: Bytes
    """Shape (n,), QARTOD: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing."""

    suggested: NDArray[np.str_]
    """Shape (n,), class name that the other sources prefer; empty for none."""

    places: Places
    """Better places."""

    layer_shift: Displacement | None = None
    """Shift of all points together, relative to the other sources."""

    def __post_init__(self) -> None:
        n = len(self.p_correct)
        if not len(self.flags) == len(self.suggested) == len(self.places.dx) == n:
            raise ValueError(f"p_correct, flags, suggested and places must have length {n}")
        if not set(np.unique(self.flags).tolist()) <= set(QARTOD):
            raise ValueError(f"flags must be QARTOD {sorted(QARTOD)}, got {np.unique(self.flags)}")


OURS: dict[str, dict[str, Any]] = {
    "loop_flag": {
        "type": "integer",
        "constraints": {"enum": sorted(QARTOD)},
        "description": "QARTOD: " + ", ".join(f"{k} {v}" for k, v in QARTOD.items()),
    },
    "loop_p": {
        "type": "number",
        "constraints": {"minimum": 0, "maximum": 1},
        "description": "probability that the observed class is right; a proposal, not reviewed",
    },
    "loop_class": {"type": "string", "description": "class that the other sources prefer"},
    "loop_dx_m": {
        "type": "number",
        "description": "metres to the east, to be added to the position, where the class would fit "
        "a place nearby; empty where the point may stay",
    },
    "loop_dy_m": {"type": "number", "description": "the same to the north"},
    "loop_shift_sd_m": {
        "type": "number",
        "constraints": {"minimum": 0},
        "description": "standard uncertainty of that place along each axis, metres",
    },
}
"""Our columns, as the Frictionless descriptor tells of them."""

NO_SHIFT = "too few points, or no shift stands out"
SHIFT = (
    "added to all positions it brings the points onto the other sources; not applied, and "
    "relative to them only"
)


def encode_field(
    corrections: Corrections | None,
    observations: Observations,
    verdicts: Verdicts,
    original: Path,
    columns: dict[str, str],
    folder: Path,
    *,
    crs: Any = None,
    licence: str = "",
    attribution: str = "",
) -> list[Path]:
    """Write the observers' own table back, with our verdict in columns of its own.

    CSV with a Frictionless descriptor, GeoParquet, GeoPackage, and the doubted points as
    a TrainingDML-AI changeset.

    Parameters
    ----------
    verdicts
        Of each observation.
    original, columns, crs
        As given to :func:`glocal.sources.points.read.observe_points`.
    licence, attribution
        Of the result; not given: ODbL-1.0 if any evidence is, else all licences joined.

    Rows without an observation get flag 9 (class not told) or 2 (outside the area, or kept
    out of this source: anchors). The observers' columns keep their values, flags of their
    own included; columns with personal data are left out, and in the CSV an apostrophe
    stands before text that a spreadsheet would run.
    """
    known = [observations.provenance] + ([corrections.provenance] if corrections else [])
    made_of = Provenance.derive("check", known)
    notes = {"licence": licence or made_of.licence, "attribution": attribution or made_of.credit}
    points = read_points(original, observations.geobox, columns=columns, crs=crs)
    table = read_field_table(original)
    if not isinstance(table, gpd.GeoDataFrame) or table.crs is None:
        # Rows outside the area have no point: where they lie was not asked.
        shape = np.full(len(table), None, dtype=object)
        shape[points.row] = shapely.points(points.x, points.y)
        name = "geometry" if "geometry" not in table else "loop_geometry"
        series = gpd.GeoSeries(shape, index=table.index, crs=str(observations.geobox.crs))
        table = gpd.GeoDataFrame(table.assign(**{name: series}), geometry=name)
    table = table.assign(**_verdict(points, observations, verdicts, len(table)))
    stem, plain = f"{Path(original).stem}_checked", table.drop(columns=table.geometry.name)
    checked = write_csv(folder / f"{stem}.csv", plain.columns, plain.to_numpy(object).tolist())
    written = write_table(folder / f"{stem}.parquet", table, **notes)
    layer = write_gpkg(folder / f"{stem}.gpkg", table, layer=stem, **notes)
    because = corrections.because if corrections else ()
    key, shift = points.columns["id"], verdicts.layer_shift
    described, changes = folder / "datapackage.json", folder / "td_changeset.json"
    write_json(described, _datapackage(plain, checked, key, because, shift, **notes))
    write_json(changes, _changeset(corrections, observations, checked.name, notes))
    return [checked, written, layer, described, changes]


def _verdict(
    points: PointTable, observations: Observations, verdicts: Verdicts, rows: int
) -> dict[str, list[Any]]:
    """Return our columns: verdicts of the points that spoke, and what stands elsewhere."""
    place = {name: i for i, name in enumerate(observations.record.tolist())}
    numbers: dict[str, Table] = {
        "loop_p": verdicts.p_correct.astype(np.float64).round(4),
        "loop_dx_m": np.round(verdicts.places.dx, 2),
        "loop_dy_m": np.round(verdicts.places.dy, 2),
        "loop_shift_sd_m": np.round(verdicts.places.sd, 2),
    }
    empty = {"loop_flag": 2, "loop_class": "", **dict.fromkeys(numbers, np.nan)}
    out: dict[str, list[Any]] = {name: [value] * rows for name, value in empty.items()}
    given: dict[str, NDArray[Any]] = {**numbers, "loop_flag": verdicts.flags}
    given["loop_class"] = verdicts.suggested
    for row, name, text in points.each("row", "record", "text"):
        at = place.get(name)
        if at is None:
            out["loop_flag"][row] = 9 if is_silent(text) else 2
            continue
        for column, values in given.items():
            out[column][row] = values[at].item()
    return {name: out[name] for name in OURS}


def _changeset(
    corrections: Corrections | None, observations: Observations, data: str, notes: Mapping[str, str]
) -> dict[str, Any]:
    """Return the doubted points as an AI_TDChangeset (TrainingDML-AI 1.0, OGC 23-008).

    An edit names the class proposed; a doubt without one is a negative label: not the
    class that stands there, with what confidence.
    """
    entries = []
    if corrections is not None:
        place = {name: i for i, name in enumerate(observations.record.tolist())}
        at = [place[name] for name in corrections.record.tolist()]
        to_degrees = Transformer.from_crs(str(observations.geobox.crs), "EPSG:4326", always_xy=True)
        x, y = shapely.get_x(observations.geometry[at]), shapely.get_y(observations.geometry[at])
        lon, lat = (np.round(one, 7).tolist() for one in to_degrees.transform(x, y))
        stated = observations.columns["class"][at].tolist()
        for i, record in enumerate(corrections.record.tolist()):
            confidence = round(float(corrections.probability[i]), 4)
            said = {"class": stated[i], "isNegative": True}
            if corrections.action[i] == "modify":
                said = {"class": str(corrections.proposed[i])}
            entries.append(
                {
                    "type": "AI_EOTrainingData",
                    "id": record,
                    "datasetId": observations.source,
                    "dataURL": [f"./{data}"],
                    "extent": [lon[i], lat[i], lon[i], lat[i]],
                    "dataTime": observations.phenomenon_time.isoformat().split("/"),
                    "labels": [{"type": "AI_SceneLabel", "confidence": confidence, **said}],
                }
            )
    version = str(corrections.round if corrections is not None else 0)
    return {
        "type": "AI_TDChangeset",
        "id": f"{observations.source}-r{version}",
        "datasetId": observations.source,
        "version": version,
        "changeCount": len(entries),
        "modify": entries,
        **notes,
    }


def _datapackage(
    table: pd.DataFrame,
    path: Path,
    key: str,
    because: tuple[str, ...],
    shift: Displacement | None,
    *,
    licence: str,
    attribution: str,
) -> dict[str, Any]:
    """Return the Frictionless description (Data Package 2.0) of the CSV."""
    moved: dict[str, Any] = {"available": False, "reason": NO_SHIFT}
    if shift is not None:
        moved = {
            "available": True,
            "north_m": shift.dy,
            "east_m": shift.dx,
            "covariance_m2": {"order": ["north", "east"], "values": shift.covariance},
            "significant": shift.significant,
            "meaning": SHIFT,
        }
    content = path.read_bytes()
    fields = [
        {"name": name, **OURS.get(name, {"type": "string"})} for name in map(str, table.columns)
    ]
    return {
        "$schema": "https://datapackage.org/profiles/2.0/datapackage.json",
        "name": "glocal-insitu",
        "description": "field points with our doubts; evidence: " + (", ".join(because) or "none"),
        "licenses": [{"name": licence}],
        "contributors": [{"title": attribution, "roles": ["rightsHolder"]}] if attribution else [],
        "resources": [
            {
                "name": "points",
                "path": path.name,
                "format": "csv",
                "mediatype": "text/csv",
                "encoding": "utf-8",
                "bytes": len(content),
                "hash": f"sha256:{hashlib.sha256(content).hexdigest()}",
                "schema": {"primaryKey": [key], "missingValues": [""], "fields": fields},
            }
        ],
        "glocal:layer_shift": moved,
    }
