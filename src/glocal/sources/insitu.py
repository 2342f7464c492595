"""Field points: read them as one source among equals, or as anchors; give flags back."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.correction import Corrections
from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk, Legend
from glocal.core.observation import Anchors, Observations
from glocal.core.provenance import Provenance
from glocal.errors import BadSourceError, ConfigError, LegendMismatchError
from glocal.io.atomic import write_json
from glocal.io.vector import guard, read_table, write_csv, write_gpkg, write_table
from glocal.sources.insitu_classes import CONFIDENCES, Shares, is_silent, meanings
from glocal.sources.insitu_points import PointTable, read_points

__all__ = ["encode_insitu", "observe_insitu", "read_anchors"]

log = logging.getLogger(__name__)

TRUST = {"high": 0.9, "med": 0.8, "low": 0.6, "": 0.8}
"""How far the prior of a symbol is believed before any data is seen; declared, not measured."""

PERSONAL = frozenset(
    {"submittername", "submitterid", "deviceid", "_submitted_by", "username", "phonenumber"}
    | {"email", "subscriberid", "simserial", "surveyor", "observer_name"}
)
"""Columns with personal data (ODK, Kobo); they never leave with our files."""

QARTOD = {1: "good", 2: "not evaluated", 3: "suspect", 4: "fail", 9: "missing"}


def observe_insitu(
    path: Path,
    geobox: GeoBox,
    legend: Legend,
    *,
    source: str,
    columns: dict[str, str],
    crs: Any = None,
    interval: Interval | None = None,
    position_sd_m: float = 5.0,
    class_names: dict[str, int | str] | None = None,
    licence: str,
    attribution: str = "",
) -> Observations:
    """Return the statements of field observers inside ``geobox``.

    Symbols are the file's own words with confidence and second choice (``crop``,
    ``crop/med``, ``crop/low:grass``), so that doubtful points stay, as soft labels.
    Points whose class could not be told (cloud) and points outside are left out.

    Parameters
    ----------
    columns, crs, position_sd_m
        See :func:`glocal.sources.insitu_points.read_points`.
    interval
        When the ground was as the points say; not given: from the ``date`` column.
    class_names
        What a class text means: value or name in ``legend``, empty for "could not tell".

    Raises
    ------
    BadSourceError, GridMismatchError, LegendMismatchError, SourceUnavailableError
        As said by the message: nothing is guessed silently.
    ConfigError
        Neither ``interval`` nor a date column; no licence.
    """
    points, shares = _answers(path, geobox, legend, columns, crs, position_sd_m, class_names)
    when = interval or points.interval
    if when is None:
        raise ConfigError(
            f"{source}: when was the ground as {Path(path).name} says? give interval: "
            "2017-02-16, or name its date column in columns"
        )
    spoken = np.array([bool(shares[text]) for text in points.text.tolist()])
    points = points.take(spoken)
    if len(points) == 0:
        raise BadSourceError(f"{source}: no point in the area has a class")
    rows, trust, symbol = _alphabet(points, shares, legend)
    names = sorted(rows)
    position = {name: i + 1 for i, name in enumerate(names)}
    prior: dict[str, Mapping[int | str, float]] = {
        name: {key: share for key, share in rows[name].items()}  # noqa: C416
        for name in names
    }
    return Observations(
        source=source,
        support="points",
        geobox=geobox,
        symbols=np.array([position[one] for one in symbol], dtype=np.uint16),
        crosswalk=Crosswalk.from_shares(legend, prior, confidence=trust),
        phenomenon_time=when,
        provenance=_provenance(points, source, licence, attribution),
        geometry=np.asarray(shapely.points(points.x, points.y), dtype=object),
        record=points.record,
        position_sd_m=points.position_sd_m,
        columns={
            "class": points.text,
            "confidence": points.confidence,
            "second": points.second,
        },
    )


def read_anchors(
    path: Path,
    geobox: GeoBox,
    legend: Legend,
    *,
    columns: dict[str, str],
    crs: Any = None,
    weight_column: str | None = None,
    class_names: dict[str, int | str] | None = None,
    licence: str,
    attribution: str = "",
) -> Anchors:
    """Return reference points of a probability sample, with soft labels.

    A high-confidence answer is one class; a doubtful one with a second choice is split
    between the two (med .84 / .16, low .63 / .37; declared, not measured). A point whose
    class could not be told stays, as a row of zeros: it is non-response, not a class.

    Raises
    ------
    LegendMismatchError
        A class that the legend does not have: an anchor can't be left without one.
    BadSourceError, GridMismatchError, ConfigError, SourceUnavailableError
        As in :func:`observe_insitu`.
    """
    named = {**columns, "weight": weight_column} if weight_column else dict(columns)
    points, shares = _answers(path, geobox, legend, named, crs, 0.0, class_names)
    known = set(legend.names)
    lost = sorted(text for text, row in shares.items() if row and not set(row) & known)
    if lost:
        raise LegendMismatchError(
            f"{Path(path).name}: legend {legend.name} has no class for {lost}; add the class to "
            "the legend, or say with class_names what these anchors are"
        )
    soft = np.zeros((len(points), len(legend)))
    rows = zip(
        points.text.tolist(), points.confidence.tolist(), points.second.tolist(), strict=True
    )
    for i, (text, confidence, second) in enumerate(rows):
        main, other = CONFIDENCES[confidence]
        for name, part in shares[text].items():
            if name in known:
                soft[i, legend.index(name)] += main * part
        for name, part in (shares[second] if shares[text] and second else {}).items():
            if name in known:
                soft[i, legend.index(name)] += other * part
    total = soft.sum(axis=1, keepdims=True)
    return Anchors(
        x=points.x,
        y=points.y,
        shares=np.divide(soft, total, out=np.zeros_like(soft), where=total > 0),
        weight=points.weight,
        record=points.record,
        provenance=_provenance(points, f"anchors:{Path(path).stem}", licence, attribution),
    )


def _answers(
    path: Path,
    geobox: GeoBox,
    legend: Legend,
    columns: Mapping[str, str],
    crs: Any,
    position_sd_m: float,
    class_names: Mapping[str, int | str] | None,
) -> tuple[PointTable, dict[str, Shares]]:
    """Return the points in the area, and what each of their class texts means."""
    points = read_points(path, geobox, columns=columns, crs=crs, position_sd_m=position_sd_m)
    said = points.text.tolist() + [one for one in points.second.tolist() if one]
    shares = meanings(said, legend, class_names)
    silent = sum(not shares[one] for one in points.text.tolist())
    if silent:
        log.info("%s: the class of %d points could not be told", Path(path).name, silent)
    return points, shares


def _alphabet(
    points: PointTable, shares: Mapping[str, Shares], legend: Legend
) -> tuple[dict[str, Shares], dict[str, float], list[str]]:
    """Return the prior shares and trust of every symbol, and the symbol of every point."""
    rows: dict[str, Shares] = {}
    trust: dict[str, float] = {}
    symbol = []
    for text, confidence, second in zip(
        points.text.tolist(), points.confidence.tolist(), points.second.tolist(), strict=True
    ):
        main, other = CONFIDENCES[confidence]
        doubt = second if other > 0 and second != text else ""
        name = text + (f"/{confidence}" if confidence else "") + (f":{doubt}" if doubt else "")
        rows[name] = _prior(shares[text], shares[doubt] if doubt else {}, main, other, legend)
        trust[name] = TRUST[confidence]
        symbol.append(name)
    return rows, trust, symbol


def _prior(first: Shares, second: Shares, main: float, other: float, legend: Legend) -> Shares:
    """Mix main and second class; what is left goes to all classes alike.

    Without a main class in the legend there is nothing to state: the row stays empty.
    """
    if not set(first) & set(legend.names):
        return {}
    other = other if second else 0.0
    row = dict.fromkeys(legend.names, (1 - main - other) / len(legend))
    for shares, weight in ((first, main), (second, other)):
        for name, part in shares.items():
            row[name] = row.get(name, 0.0) + weight * part
    return row


def _provenance(points: PointTable, source: str, licence: str, attribution: str) -> Provenance:
    if not licence:
        raise ConfigError(f"{source}: name the licence of the points (SPDX, as CC-BY-4.0)")
    return Provenance(
        activity="observe",
        agent=attribution or source,
        used=(points.digest,),
        licences=frozenset({licence}),
        roots=frozenset({f"insitu:{source}"}),
        attribution=(attribution,) if attribution else (),
    )


def encode_insitu(
    corrections: Corrections | None,
    observations: Observations,
    p_correct: NDArray[np.floating],
    flags: NDArray[np.uint8],
    suggested: NDArray[np.str_],
    original: Path,
    columns: dict[str, str],
    folder: Path,
    *,
    crs: Any = None,
    licence: str = "",
    attribution: str = "",
) -> list[Path]:
    """Write the observers' own table back, with our verdict in columns of its own.

    Parameters
    ----------
    p_correct
        Shape (n,), probability that each observation's class is right.
    flags
        Shape (n,), QARTOD: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing.
    suggested
        Shape (n,), class name that the other sources prefer; empty for none.
    original, columns, crs
        As given to :func:`observe_insitu`.
    licence, attribution
        Of the result; not given: ODbL-1.0 if any evidence is, else all licences joined.

    Rows without an observation get flag 9 (class not told) or 2 (outside the area, or kept
    out of this source: anchors). The
    observers' columns keep their text; columns with personal data are left out.
    """
    n = len(observations)
    if not len(p_correct) == len(flags) == len(suggested) == n:
        raise ValueError(f"p_correct, flags and suggested must have length {n}")
    if not set(np.unique(flags).tolist()) <= set(QARTOD):
        raise ValueError(f"flags must be QARTOD {sorted(QARTOD)}, got {np.unique(flags)}")
    known = [observations.provenance] + ([corrections.provenance] if corrections else [])
    licence = licence or _joined({one for p in known for one in p.licences})
    attribution = attribution or "; ".join(sorted({t for p in known for t in p.attribution}))
    points = read_points(original, observations.geobox, columns=columns, crs=crs)
    verdict = _verdict(points, observations, p_correct, flags, suggested)
    table = _with_points(read_table(original), points, observations.geobox)
    table = table.assign(
        **{
            name: _spread(values, points.row, len(table), empty)
            for name, (values, empty) in verdict.items()
        }
    )
    private = [name for name in table.columns if str(name).lower() in PERSONAL]
    if private:
        log.info("%s: columns with personal data are left out: %s", original, private)
    table = table.drop(columns=private)
    folder, stem = Path(folder), Path(original).stem
    plain = table.drop(columns=table.geometry.name)
    files = [
        write_csv(folder / f"{stem}_checked.csv", plain.columns, plain.to_numpy(object).tolist())
    ]
    notes = {"licence": licence, "attribution": attribution}
    files.append(write_table(folder / f"{stem}_checked.parquet", table, **notes))
    files.append(
        write_gpkg(folder / f"{stem}_checked.gpkg", table, layer=f"{stem}_checked", **notes)
    )
    because = corrections.because if corrections else ()
    package = _datapackage(plain, files[0], points.columns["id"], licence, attribution, because)
    write_json(folder / "datapackage.json", package)
    return [*files, folder / "datapackage.json"]


def _joined(licences: set[str]) -> str:
    return "ODbL-1.0" if "ODbL-1.0" in licences else " AND ".join(sorted(licences))


def _with_points(table: pd.DataFrame, points: PointTable, geobox: GeoBox) -> gpd.GeoDataFrame:
    """Return every row of the file with its point; without one outside the area."""
    if isinstance(table, gpd.GeoDataFrame) and table.crs is not None:
        return table
    shape = np.full(len(table), None, dtype=object)
    shape[points.row] = shapely.points(points.x, points.y)
    name = "geometry" if "geometry" not in table else "loop_geometry"
    series = gpd.GeoSeries(shape, index=table.index, crs=str(geobox.crs))
    return gpd.GeoDataFrame(table.assign(**{name: series}), geometry=name)


def _verdict(
    points: PointTable,
    observations: Observations,
    p_correct: NDArray[np.floating],
    flags: NDArray[np.uint8],
    suggested: NDArray[np.str_],
) -> dict[str, tuple[list[Any], Any]]:
    """Return our columns: values of the points in the area, and what stands elsewhere."""
    place = {name: i for i, name in enumerate(observations.record.tolist())}
    at = [place.get(name, -1) for name in points.record.tolist()]
    silent = [is_silent(text) for text in points.text.tolist()]
    other = [9 if quiet else 2 for quiet in silent]
    return {
        "loop_flag": ([int(flags[i]) if i >= 0 else o for i, o in zip(at, other, strict=True)], 2),
        "loop_p": ([round(float(p_correct[i]), 4) if i >= 0 else np.nan for i in at], np.nan),
        "loop_class": ([guard(str(suggested[i])) if i >= 0 else "" for i in at], ""),
    }


def _spread(values: list[Any], row: NDArray[np.int64], n: int, empty: Any) -> list[Any]:
    """Return ``n`` values, ``empty`` but for the given rows."""
    column = [empty] * n
    for i, value in zip(row.tolist(), values, strict=True):
        column[i] = value
    return column


def _datapackage(
    table: pd.DataFrame,
    path: Path,
    key: str,
    licence: str,
    attribution: str,
    because: tuple[str, ...],
) -> dict[str, Any]:
    """Return the Frictionless description (Data Package 2.0) of the CSV."""
    content = path.read_bytes()
    ours: dict[str, dict[str, Any]] = {
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
        "loop_class": {
            "type": "string",
            "description": "class that the other sources prefer: " + (", ".join(because) or "none"),
        },
    }
    fields = [
        {"name": name, **ours.get(name, {"type": "string"})} for name in map(str, table.columns)
    ]
    return {
        "$schema": "https://datapackage.org/profiles/2.0/datapackage.json",
        "name": "glocal-insitu",
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
                "schema": {
                    "primaryKey": [key],
                    "missingValues": [""],
                    "fields": fields,
                },
            }
        ],
    }
