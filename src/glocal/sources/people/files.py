"""Which kind of answers a file holds, and reading it as that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import osmium

from glocal.core.legend import Legend
from glocal.errors import BadSourceError, SourceUnavailableError
from glocal.io.vector import read_table
from glocal.sources.osm.answers_edits import read_diff, read_extract
from glocal.sources.osm.answers_maproulette import read_maproulette
from glocal.sources.people.asked import Asked
from glocal.sources.people.tables import ANSWER, ID, column_of, read_form, read_review
from glocal.sources.people.verdict import Heard

__all__ = ["KINDS", "identify", "read_answers"]

Kind = Literal["maproulette", "extract", "history", "diff", "odk", "kobo", "layer", "review"]

KINDS: dict[Kind, str] = {
    "maproulette": "MapRoulette, GeoJSON of challenge/view/ID (.geojson, .json)",
    "extract": "a newer OpenStreetMap extract (.osm.pbf, .osm, .osm.gz)",
    "history": "a full history of OpenStreetMap (.osh.pbf, .osh)",
    "diff": "an augmented diff or OsmChange (.adiff, .osc, .xml)",
    "odk": "ODK Central submissions (.csv, .json, .geojson) with sample_id",
    "kobo": "KoboToolbox submissions (.csv, .json, .geojson) with sample_id",
    "layer": "a GeoPackage of ours, edited in QGIS: column status or answer (.gpkg)",
    "review": "our own review table: columns proposal and answer (.csv, .geojson, .parquet)",
}
"""The kinds of files that are understood, and what each is."""

DIFFS = (".adiff", ".osc", ".xml")


def read_answers(
    path: Path, asked: Asked, legend: Legend, *, class_column: str | None = None
) -> Heard:
    """Return what the answers in a file mean for the run that asked.

    Raises
    ------
    SourceUnavailableError, BadSourceError
        The file can't be read, is of no known kind, or answers another run.
    """
    kind, rows = identify(path)
    if kind == "diff":
        return read_diff(path, asked, legend)
    if kind in ("extract", "history"):
        return read_extract(path, asked, legend, history=kind == "history")
    if kind == "maproulette":
        return read_maproulette(list(rows), asked, legend)
    if kind in ("odk", "kobo"):
        return read_form(rows, path.name, kind, asked, legend, class_column)
    return read_review(rows, path.name, kind, asked, legend)


Rows = Sequence[Mapping[str, Any]]


def identify(path: Path) -> tuple[Kind, Rows]:
    """Return which of ``KINDS`` a file is, by name and content, and its rows if it is a table.

    Raises
    ------
    SourceUnavailableError
        The file is missing or damaged.
    BadSourceError
        It is none of them; lists all.
    """
    if not path.is_file():
        raise SourceUnavailableError(f"{path} does not exist; check the path")
    suffixes = [one.lower() for one in path.suffixes]
    if any(one in (".osh",) for one in suffixes):
        return "history", ()
    if ".pbf" in suffixes or ".osm" in suffixes:
        return _of_osm(path), ()
    if suffixes and suffixes[-1] in DIFFS:
        return "diff", ()
    if suffixes and suffixes[-1] in (".geojson", ".json"):
        return _of_json(path)
    if suffixes and suffixes[-1] in (".csv", ".tsv", ".gpkg", ".parquet", ".geoparquet"):
        table = read_table(path)
        plain = table.drop(columns=getattr(table, "_geometry_column_name", None) or [])
        rows = plain.to_dict("records")
        return _of_rows(path, rows), rows
    raise _unknown(path)


def _of_osm(path: Path) -> Kind:
    with path.open("rb") as handle:
        start = handle.read(4096)
    if b"<action" in start:
        return "diff"
    try:
        header = osmium.FileProcessor(str(path)).header
    except RuntimeError as error:
        raise SourceUnavailableError(
            f"{path.name} can't be read as OpenStreetMap data ({error}); fetch it again"
        ) from error
    return "history" if header.has_multiple_object_versions else "extract"


def _of_json(path: Path) -> tuple[Kind, Rows]:
    """Tell a GeoJSON of MapRoulette, ODK, Kobo or ours, and lists of submissions, apart."""
    try:
        document = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceUnavailableError(
            f"{path.name} is not valid JSON ({error}); export it again"
        ) from error
    features = document.get("features") if isinstance(document, Mapping) else None
    if isinstance(features, list):
        features = [one for one in features if isinstance(one, Mapping)]
        if any("mr_taskStatus" in (one.get("properties") or {}) for one in features):
            return "maproulette", features
        rows = [_flat({"id": one.get("id"), **(one.get("properties") or {})}) for one in features]
        return _of_rows(path, rows), rows
    listed = document
    if isinstance(document, Mapping):
        listed = document.get("value", document.get("results"))
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
        raise _unknown(path)
    rows = [_flat(one) for one in listed]
    return _of_rows(path, rows), rows


def _flat(row: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested groups of a submission as columns ``group/question``."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping) and name != "_validation_status":
            out.update(_flat(value, f"{before}{name}/"))
        else:
            out[f"{before}{name}"] = value
    return out


def _of_rows(path: Path, rows: Rows) -> Kind:
    columns = {str(name).lower() for row in rows for name in row}
    if {"taskid", "taskstatus"} <= columns:
        raise BadSourceError(
            f"{path.name} is MapRoulette's CSV, whose columns shift; take the GeoJSON of the "
            "challenge instead: https://maproulette.org/api/v2/challenge/view/ID"
        )
    if "_uuid" in columns or "meta/rootuuid" in columns:
        return "kobo"
    if "key" in columns or any(
        one.startswith(("__system", "__id", "meta-inst")) for one in columns
    ):
        return "odk"
    if column_of(rows, ID) and (column_of(rows, ANSWER) or column_of(rows, ("stated",))):
        return "layer" if path.suffix.lower() == ".gpkg" else "review"
    if column_of(rows, ("sample_id",)):
        return "odk"
    raise _unknown(path)


def _unknown(path: Path) -> BadSourceError:
    known = "\n".join(f"  {text}" for text in KINDS.values())
    return BadSourceError(f"{path.name} is no kind of answers that we know; known are:\n{known}")
