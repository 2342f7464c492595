"""What area.yaml may say of any source: field types, and the model that every kind extends."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from odc.geo import CRS
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)

from glocal.core.interval import Interval
from glocal.core.sensor import Sensor


def _date(value: object) -> str:
    """Return a date as text that ``Interval.parse`` reads; YAML gives dates and ints too."""
    if isinstance(value, datetime | date):
        value = value.isoformat()
    text = str(value).strip()
    try:
        Interval.parse(text)
    except ValueError as error:
        raise ValueError("must be YYYY, YYYY-MM-DD, or two of them as start/stop") from error
    return text


def _crs(value: object) -> str:
    text = f"EPSG:{value}" if isinstance(value, int) else str(value).strip()
    try:
        CRS(text)
    except Exception as error:
        raise ValueError("must be a CRS, such as EPSG:32633 or a WKT string") from error
    return text


def resolved(value: object, info: ValidationInfo) -> Path:
    """Resolve a path against the folder of the YAML file, given as validation context."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ValueError("must be a path")
    folder = Path((info.context or {}).get("folder", "."))
    return Path(os.path.normpath(folder / Path(value).expanduser()))


def _tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _texts(value: object) -> object:
    """Return keys of a class map as text: YAML reads ``10:`` as a number."""
    return {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else value


def _slug(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", text):
        raise ValueError("must be 1..40 of a-z, 0-9, _ and -, starting with a letter")
    return text


def _spdx(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.+-]+", text):
        raise ValueError("must be an SPDX identifier such as CC-BY-4.0, or Copernicus")
    return text


Slug = Annotated[str, AfterValidator(_slug)]
Date = Annotated[str, BeforeValidator(_date)]
Crs = Annotated[str, BeforeValidator(_crs)]
FilePath = Annotated[Path, BeforeValidator(resolved)]
Licence = Annotated[str, AfterValidator(_spdx)]
Names = Annotated[tuple[str, ...], BeforeValidator(_tuple), Field(min_length=1)]
ClassMap = Annotated[dict[str, int | str], BeforeValidator(_texts)]
Column = Literal["id", "x", "y", "class", "confidence", "second", "position_sd", "weight", "date"]


def unknown(value: object, allowed: Iterable[str]) -> str:
    """Say that ``value`` is not one of ``allowed``, and which of them was meant.

    >>> unknown("igpb", ["corine", "igbp"])
    "'igpb' is not known; did you mean 'igbp'? allowed: corine, igbp"
    """
    allowed = tuple(allowed)
    start = [one for one in allowed if len(str(value)) > 1 and one.startswith(str(value))]
    near = start or difflib.get_close_matches(str(value), allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{value!r} is not known; {hint}allowed: {', '.join(allowed) or 'none is defined'}"


class Model(BaseModel):
    """Frozen, and a field that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PointsConfig(Model):
    """A table of points with classes: a field source, or anchors."""

    path: FilePath
    """CSV, GeoJSON or GeoParquet."""

    crs: Crs | None = None
    columns: dict[Column, str] = {}
    """Our name -> the table's name, where they differ."""

    classes: ClassMap = {}
    """The table's class -> value or name in the legend."""

    position_sd_m: Annotated[float, Field(gt=0)] = 5.0
    """Standard uncertainty of the position per axis, metres."""

    date: Date | None = None
    part: Literal["first", "second"] | None = None
    """A seeded random half of the table; None for all of it."""

    licence: Licence = "unknown"
    attribution: str | None = None


class SourceConfig(Model):
    """What the loop needs to know of the configuration of any source."""

    stage: ClassVar[int] = 1
    """Sources are read in this order: those that others look at first."""

    name: Slug
    kind: str
    """Narrowed by each kind to the words that mean it."""

    def check(self, others: Sequence[SourceConfig], anchors: PointsConfig | None) -> None:
        """Refuse what contradicts the other sources or the anchors; raises ``ValueError``."""

    @property
    def sensor(self) -> Sensor | None:
        """The sensor whose pixels it gives, None for a source of statements."""
        return None

    def files(self) -> dict[str, Path]:
        """Return what it reads, by field."""
        names = [name for name in type(self).model_fields if isinstance(getattr(self, name), Path)]
        return {name: getattr(self, name) for name in names}

    def secrets(self) -> frozenset[str]:
        """Return the fields of `files` that no output may give away, not even as a digest."""
        return frozenset()


def check_of(name: str, of: Iterable[str], images: Iterable[str]) -> None:
    """Refuse a name under ``of`` that is none of ``images``; raises ``ValueError``."""
    for one in of:
        if one not in images:
            raise ValueError(
                f"sources.{name}.of: must name an image source; {unknown(one, tuple(images))}"
            )
