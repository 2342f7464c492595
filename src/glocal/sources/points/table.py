"""Read tables of field points: which column is what, where the points lie, what is wrong."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from glocal.core.columns import chosen
from glocal.core.grid import cells_of_points
from glocal.core.interval import Interval
from glocal.core.typing import Bools, Codes, Table
from glocal.errors import BadSourceError, ConfigError, GridMismatchError
from glocal.sources.points.personal import read_field_table
from glocal.sources.points.words import confidence_word, is_silent, lucas_confidence

log = logging.getLogger(__name__)

LUCAS_2018 = {
    "id": "POINT_ID",
    "x": "TH_LONG",
    "y": "TH_LAT",
    "class": "LC1",
    "confidence": "OBS_TYPE",
    "date": "SURVEY_DATE",
    "east_west": "CAR_EW",
}
LUCAS_HARMONISED = {ours: theirs.lower() for ours, theirs in LUCAS_2018.items()} | {"id": "id"}
OURS = {name: name for name in ("id", "x", "y", "class", "confidence", "second", "date")}

COLUMNS = (
    "record", "x", "y", "text", "confidence", "second", "position_sd_m", "weight", "row",
)  # fmt: skip
"""Of a `PointTable`."""

ALLOWED = frozenset({*OURS, "position_sd", "weight"})
"""Names of ours that may be given a column."""

LONGITUDES = ("lon", "longitude", "long", "lng")
LATITUDES = ("lat", "latitude")
DATE_FORMATS = ("%d/%m/%y", "%d/%m/%Y", "%d-%m-%y", "%d.%m.%Y")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PointTable:
    """Field points inside the area, with what was left out counted."""

    record: NDArray[np.str_]
    """Shape (n,), the file's own ids."""

    x: Table
    """Shape (n,), in the CRS of the area's grid."""

    y: Table
    text: NDArray[np.str_]
    """Shape (n,), the class as the file says it."""

    confidence: NDArray[np.str_]
    """Shape (n,): ``high``, ``med``, ``low``, or empty where not stated."""

    second: NDArray[np.str_]
    """Shape (n,), second choice, empty where there is none."""

    position_sd_m: Table
    weight: Table
    """Shape (n,), inverse inclusion probability; 1 where not stated."""

    row: Codes
    """Shape (n,), row of the file, from 0."""

    interval: Interval | None
    """From the first to the last date in the file."""

    columns: dict[str, str]
    """Our name → the file's column, as found or given."""

    outside: int
    """Points outside the area, left out."""

    digest: str
    """Name and SHA-256 of the file."""

    def take(self, keep: NDArray[Any]) -> PointTable:
        """Return the points selected by a boolean or index array."""
        return chosen(self, keep, COLUMNS)

    def each(self, *columns: str) -> Iterator[tuple[Any, ...]]:
        """Yield some columns of each point."""
        return zip(*(getattr(self, name).tolist() for name in columns), strict=True)

    def __len__(self) -> int:
        return len(self.record)


def read_points(
    path: Path,
    geobox: GeoBox,
    *,
    columns: Mapping[str, str],
    crs: Any = None,
    position_sd_m: float = 5.0,
) -> PointTable:
    """Read the points of a file that lie inside ``geobox``.

    Parameters
    ----------
    path
        CSV, GeoJSON, GeoPackage or (Geo)Parquet.
    columns
        Our name → the file's: ``id``, ``x``, ``y``, ``class``, ``confidence``,
        ``second``, ``position_sd``, ``weight``, ``date``. Names that are not given are
        looked for: LUCAS 2018, LUCAS harmonised (theoretical position), our own names.
        A harmonised LUCAS file holds several years: select one first.
    crs
        Of ``x`` and ``y``. Not given: the layer's own; longitude and latitude for columns
        of these names and for LUCAS; otherwise the grid's.
    position_sd_m
        Standard uncertainty of positions, metres, where the file states none.

    Raises
    ------
    BadSourceError
        Missing columns, coordinates or ids; swapped coordinates; unreadable values.
    GridMismatchError
        Every point lies outside the area.
    """
    path = Path(path)
    table = read_field_table(path)
    if len(table) == 0:
        raise BadSourceError(f"{path.name} holds no rows; a field source needs at least one point")
    file = _File.of(path.name, table, columns)
    record = file.records()
    x, y, inside = file.located(record, geobox, crs)
    second = ["" if is_silent(one) else one for one in file.text("second").tolist()]
    everything = PointTable(
        record=record,
        x=x,
        y=y,
        text=file.text("class"),
        confidence=file.confidences(),
        second=np.array(second, dtype=np.str_),
        position_sd_m=file.numbers("position_sd", position_sd_m, zero=True),
        weight=file.numbers("weight", 1.0, zero=False),
        row=np.arange(len(table)),
        interval=file.interval(),
        columns=file.columns,
        outside=int((~inside).sum()),
        digest=f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
    )
    if everything.outside:
        log.info("%s: %d points lie outside the area, left out", path.name, everything.outside)
    return everything.take(inside)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _File:
    """A table as its file holds it, and which of its columns is what."""

    name: str
    table: pd.DataFrame
    columns: dict[str, str]

    @classmethod
    def of(cls, name: str, table: pd.DataFrame, given: Mapping[str, str]) -> _File:
        """Find our name → the file's column, from a known schema and from ``given``."""
        known = set(table.columns)
        has_points = isinstance(table, gpd.GeoDataFrame)
        strange = sorted(set(given) - ALLOWED)
        if strange:
            raise ConfigError(f"columns knows {sorted(ALLOWED)}, got {strange}")
        absent = sorted(set(given.values()) - known)
        if absent:
            raise BadSourceError(f"{name} has no columns {absent}; it has: {sorted(known)}")
        names: dict[str, str] = {}
        for schema in (LUCAS_2018, LUCAS_HARMONISED, OURS):
            needed = {schema["id"], schema["class"], schema["x"], schema["y"]}
            if needed <= known or (schema is OURS and not names):
                names = {ours: theirs for ours, theirs in schema.items() if theirs in known}
                break
        names = {**names, **given}
        lower = {str(name).lower(): str(name) for name in table.columns}
        for axis, candidates in (("x", LONGITUDES), ("y", LATITUDES)):
            found = [lower[name] for name in candidates if name in lower]
            # ODK and Kobo: <question>-Longitude, _<question>_longitude.
            found = found or [lower[name] for name in lower if name.endswith(candidates[1:2])]
            if axis not in names and found and not has_points:
                names[axis] = found[0]
        wanted = ("id", "class") if has_points else ("id", "class", "x", "y")
        missing = [one for one in wanted if one not in names]
        if missing:
            raise BadSourceError(
                f"{name}: no column found for {missing}; it has {sorted(known)}; "
                f"name them in columns, as {{{missing[0]!r}: '...'}}"
            )
        return cls(name=name, table=table, columns=names)

    def text(self, ours: str) -> NDArray[np.str_]:
        """Return a column as text, empty where the file has no such column or value."""
        if ours not in self.columns:
            return np.full(len(self.table), "", dtype="U1")
        column = self.table[self.columns[ours]]
        return np.array(["" if pd.isna(one) else str(one).strip() for one in column], dtype=np.str_)

    def numbers(self, ours: str, default: float, *, zero: bool) -> Table:
        """Return a column of numbers >= 0 (> 0 without ``zero``), ``default`` where empty."""
        if ours not in self.columns:
            return np.full(len(self.table), float(default))
        values = self.measured(ours)
        values = np.where(np.isnan(values), default, values)
        fine = np.isfinite(values) & ((values >= 0) if zero else (values > 0))
        if not fine.all():
            raise BadSourceError(
                f"{self.name}: column {self.columns[ours]!r} must be {'>=' if zero else '>'} 0 and "
                f"finite, got {values[~fine][0]} in {int((~fine).sum())} rows"
            )
        return values

    def measured(self, ours: str) -> Table:
        """Return a column of numbers, NaN where it says nothing."""
        column = self.table[self.columns[ours]]
        numbers = pd.to_numeric(column, errors="coerce")
        wrong = numbers.isna() & ~column.fillna("").astype(str).map(is_silent)
        if wrong.any():
            raise BadSourceError(
                f"{self.name}: column {self.columns[ours]!r} must hold numbers with a decimal "
                f"point, got {column[wrong].iloc[0]!r} in {int(wrong.sum())} rows"
            )
        return np.asarray(numbers.to_numpy(dtype=float, na_value=np.nan))

    def records(self) -> NDArray[np.str_]:
        """Return the ids; refuse those that are empty or repeat."""
        record = self.text("id")
        unique, counts = np.unique(record, return_counts=True)
        twice, empty = unique[counts > 1].tolist(), int((record == "").sum())
        if twice or empty:
            raise BadSourceError(
                f"{self.name}: column {self.columns['id']!r} must hold one id per row, "
                f"{len(twice)} ids repeat (first: {twice[:5]}) and {empty} are empty; make ids "
                "unique (LUCAS: select one year)"
            )
        return record

    def confidences(self) -> NDArray[np.str_]:
        """Return ``high``, ``med``, ``low`` or empty for each row."""
        text = self.text("confidence").tolist()
        if self.columns.get("confidence", "").lower() == "obs_type":
            return np.array([lucas_confidence(one) for one in text], dtype=np.str_)
        words = [confidence_word(one) for one in text]
        wrong = sorted({one for one, word in zip(text, words, strict=True) if word is None})
        if wrong:
            raise BadSourceError(
                f"{self.name}: confidence must be high, med, low or a number 0..1, got {wrong[:5]}"
            )
        return np.array(words, dtype=np.str_)

    def interval(self) -> Interval | None:
        """Return from the first to the last date; None without any."""
        days = [_day(self.name, one) for one in np.unique(self.text("date")).tolist() if one]
        return Interval.of_day(min(days)).union(Interval.of_day(max(days))) if days else None

    def coordinates(self, geobox: GeoBox, crs: Any) -> tuple[Table, Table, Any]:
        """Return x, y as the file has them, and their CRS."""
        if isinstance(self.table, gpd.GeoDataFrame) and not {"x", "y"} <= set(self.columns):
            shape = self.table.geometry
            kinds = sorted(set(shape.dropna().geom_type))
            if kinds != ["Point"]:
                raise BadSourceError(f"{self.name}: a field source needs points, got {kinds}")
            own = crs or self.table.crs
            if own is None:
                raise GridMismatchError(f"{self.name} names no CRS; give it as crs: EPSG:...")
            return shape.x.to_numpy(float), shape.y.to_numpy(float), own
        x, y = self.measured("x"), self.measured("y")
        # LUCAS 2018 has longitudes without a sign, and east or west beside them.
        if "east_west" in self.columns and not (x < 0).any():
            x = np.where(np.char.upper(self.text("east_west")) == "W", -x, x)
        degrees = re.search(r"(^|[_\W])(lon|lng)", self.columns["x"].lower()) is not None
        return x, y, crs or ("EPSG:4326" if degrees else str(geobox.crs))

    def located(
        self, record: NDArray[np.str_], geobox: GeoBox, crs: Any
    ) -> tuple[Table, Table, Bools]:
        """Return x, y in the grid's CRS and which rows lie inside; refuse what can't be right."""
        x, y, crs = self.coordinates(geobox, crs)
        bad = ~(np.isfinite(x) & np.isfinite(y))
        if bad.any():
            raise BadSourceError(
                f"{self.name}: {int(bad.sum())} rows have no finite coordinates "
                f"(ids {record[bad][:5].tolist()}); fill them in or remove the rows"
            )
        to_grid = Transformer.from_crs(crs, str(geobox.crs), always_xy=True)
        degrees = CRS.from_user_input(crs).is_geographic
        grid_x, grid_y = to_grid.transform(x, y)
        inside = cells_of_points(geobox, grid_x, grid_y) >= 0
        swapped = cells_of_points(geobox, *to_grid.transform(y, x)) >= 0
        if (degrees and np.abs(y).max() > 90) or swapped.sum() > inside.sum():
            raise BadSourceError(
                f"{self.name}: the coordinates look swapped: as they stand {int(inside.sum())} of "
                f"{len(x)} points lie in the area, with latitude and longitude exchanged "
                f"{int(swapped.sum())} (largest latitude {np.abs(y).max():g}); exchange the two "
                f"columns, as columns: {{x: {self.columns.get('y', 'lon')}, "
                f"y: {self.columns.get('x', 'lat')}}}"
            )
        if not inside.any():
            box = tuple(round(float(v), 4) for v in (x.min(), y.min(), x.max(), y.max()))
            degrees_of = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True)
            area = tuple(round(v, 4) for v in degrees_of.transform_bounds(*geobox.boundingbox.bbox))
            raise GridMismatchError(
                f"{self.name}: none of {len(x)} points lies in the area: they span {box} in {crs}, "
                f"the area spans lon/lat {area}; check crs and the columns x and y"
            )
        return np.asarray(grid_x, float), np.asarray(grid_y, float), np.asarray(inside)


def _day(name: str, text: str) -> date:
    for form in DATE_FORMATS:
        with suppress(ValueError):
            return datetime.strptime(text, form).date()
    with suppress(ValueError):
        return datetime.fromisoformat(text).date()
    raise BadSourceError(f"{name}: a date must be YYYY-MM-DD or day/month/year, got {text!r}")
