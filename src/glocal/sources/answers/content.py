"""A file of answers, opened once: its rows if it is a table, its features if it is GeoJSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glocal.errors import SourceUnavailableError
from glocal.io.vector import read_table
from glocal.sources.answers.rows import Rows

JSON = (".geojson", ".json")
TABLES = (".csv", ".tsv", ".gpkg", ".parquet", ".geoparquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is in a file; both are empty for a file that is neither table nor JSON."""

    path: Path
    rows: Rows = ()
    """Nested groups of a submission are columns ``group/question``."""

    features: Sequence[Mapping[str, Any]] = ()
    """Features of a GeoJSON as they stand."""

    @property
    def columns(self) -> frozenset[str]:
        """Names of all columns, in lower case."""
        return frozenset(str(name).lower() for row in self.rows for name in row)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Endings of the name, in lower case."""
        return tuple(one.lower() for one in self.path.suffixes)


def read_content(path: Path) -> Content:
    """Open a file of answers.

    Raises ``SourceUnavailableError``: the file is missing or damaged.
    """
    if not path.is_file():
        raise SourceUnavailableError(f"{path} does not exist; check the path")
    suffix = path.suffix.lower()
    if suffix in JSON:
        return _of_json(path)
    if suffix in TABLES:
        table = read_table(path)
        plain = table.drop(columns=getattr(table, "_geometry_column_name", None) or [])
        return Content(path=path, rows=plain.to_dict("records"))
    return Content(path=path)


def _of_json(path: Path) -> Content:
    """Return the rows of a GeoJSON, or of a list of submissions."""
    try:
        document = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceUnavailableError(
            f"{path.name} is not valid JSON ({error}); export it again"
        ) from error
    held = document if isinstance(document, Mapping) else {"value": document}
    features = held.get("features")
    if isinstance(features, list):
        features = [one for one in features if isinstance(one, Mapping)]
        rows = [_flat({"id": one.get("id"), **(one.get("properties") or {})}) for one in features]
        return Content(path=path, rows=rows, features=features)
    listed = held.get("value", held.get("results"))
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
        return Content(path=path)
    return Content(path=path, rows=[_flat(one) for one in listed])


def _flat(row: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested groups of a submission as columns ``group/question``."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        nested = isinstance(value, Mapping) and name != "_validation_status"
        out |= _flat(value, f"{before}{name}/") if nested else {f"{before}{name}": value}
    return out
