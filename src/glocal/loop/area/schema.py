"""What ``area.yaml`` may say: typed, frozen, and checked before any source is read."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from odc.geo import CRS
from odc.geo.geobox import GeoBox
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)

from glocal.core import legends
from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.sources.models.predict import FeatureKind

__all__ = [
    "KINDS",
    "Anchors",
    "AreaConfig",
    "Column",
    "Grid",
    "ImagerySource",
    "InsituSource",
    "LandcoverSource",
    "OsmSource",
    "PredictedSource",
    "ReviewSource",
    "RulesSource",
    "SourceConfig",
    "unknown",
]

MIN_CELLS = 8
MAX_CELLS = 200_000_000


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


def _path(value: object, info: ValidationInfo) -> Path:
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
FilePath = Annotated[Path, BeforeValidator(_path)]
Licence = Annotated[str, AfterValidator(_spdx)]
Names = Annotated[tuple[str, ...], BeforeValidator(_tuple), Field(min_length=1)]
Column = Literal["id", "x", "y", "class", "confidence", "second", "position_sd", "weight", "date"]
Unit = Annotated[
    Literal["DN", "1", "reflectance", "dB", "linear", "power", "m"],
    BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
]
ClassMap = Annotated[dict[str, int | str], BeforeValidator(_texts)]
Part = Literal["first", "second"]


class _Model(BaseModel):
    """Frozen, and a field that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Grid(_Model):
    """The grid on which sources meet."""

    bbox: tuple[float, float, float, float]
    """Left, bottom, right, top in ``crs``."""

    crs: Crs
    """Projected, in metres."""

    resolution: Annotated[float, Field(gt=0)]
    """Side of a cell in metres."""

    @model_validator(mode="after")
    def _sensible(self) -> Grid:
        left, bottom, right, top = self.bbox
        if not (left < right and bottom < top):
            raise ValueError(
                f"bbox must be [left, bottom, right, top] with left < right and bottom < top, "
                f"got {list(self.bbox)}"
            )
        rows = math.ceil((top - bottom) / self.resolution)
        columns = math.ceil((right - left) / self.resolution)
        if min(rows, columns) < MIN_CELLS or rows * columns > MAX_CELLS:
            raise ValueError(
                f"the area has {rows} rows x {columns} columns; at least {MIN_CELLS} of each and "
                f"at most {MAX_CELLS:,} cells are allowed; bbox is in the units of {self.crs}"
            )
        _ = self.geobox
        return self

    @property
    def geobox(self) -> GeoBox:
        """The grid as a ``GeoBox``, edges snapped to multiples of ``resolution``."""
        return area_geobox(self.bbox, self.crs, self.resolution)


class ImagerySource(_Model):
    """Pixels of one sensor."""

    name: Slug
    kind: Literal["sentinel2", "sentinel1", "dsm", "rgb"]
    path: FilePath
    """A SAFE folder, a folder of band files, or one stacked raster."""

    date: Date | None = None
    """When the sensor looked, where the files don't say."""

    unit: Unit | None = None
    """Unit of the stored numbers, where the files don't say."""

    offset: float | None = None
    """Added to Sentinel-2 numbers before scaling, where no metadata says it (-1000 or 0)."""

    crs: Crs | None = None
    """Replaces a missing or wrong CRS of the files."""

    bands: Names | None = None
    """Names of the bands of a stacked raster, in order."""

    licence: Licence = "unknown"
    attribution: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _copernicus(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and str(values.get("kind")).startswith("sentinel"):
            return {"licence": "Copernicus", **values}
        return values


class RulesSource(_Model):
    """A physically based spectral classifier of one image."""

    name: Slug
    kind: Literal["rules"]
    of: Slug
    """Name of a ``sentinel2`` source."""


class OsmSource(_Model):
    """OpenStreetMap: ``.osm.pbf``, ``.osm``, or Geofabrik free layers."""

    name: Slug
    kind: Literal["osm"]
    path: FilePath
    date: Date | None = None
    licence: Licence = "ODbL-1.0"
    attribution: str | None = None
    salt_file: FilePath | None = None
    """Secret key of the contributor strata; stays outside every output."""

    batch: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Most edits, and most questions, that go out at once; the rest waits."""


class Anchors(_Model):
    """Reference points from a probability sample: the only privileged data."""

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
    part: Part | None = None
    """A seeded random half of the table; None for all of it."""

    licence: Licence = "unknown"
    attribution: str | None = None


class InsituSource(Anchors):
    """Field points as an ordinary source; the same keys as anchors, and a name."""

    name: Slug
    kind: Literal["insitu"]


class LandcoverSource(_Model):
    """A categorical raster."""

    name: Slug
    kind: Literal["landcover"]
    path: FilePath
    legend: str | None = None
    """Name of a known legend."""

    legend_csv: FilePath | None = None
    """A table of codes, where the legend is not a known one."""

    date: Date | None = None
    crs: Crs | None = None
    licence: Licence = "unknown"
    attribution: str | None = None

    @model_validator(mode="after")
    def _one_legend(self) -> LandcoverSource:
        if (self.legend is None) == (self.legend_csv is None):
            raise ValueError("exactly one of legend (a known name) and legend_csv must be given")
        if self.legend is not None and self.legend not in legends.legend_names():
            raise ValueError(f"legend: {unknown(self.legend, legends.legend_names())}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _licence_of_legend(cls, values: Any) -> Any:
        known = isinstance(values, Mapping) and values.get("legend") in legends.legend_names()
        return {"licence": legends.licence(values["legend"]), **values} if known else values


class PredictedSource(_Model):
    """The model, trained on the loop's own soft labels, out of fold."""

    name: Slug
    kind: Literal["predicted"]
    of: Names
    """Names of the image sources that it reads."""

    features: FeatureKind = "bands"
    """``bands``: values, ratios and local statistics; ``msgfm``: the image model's beside them."""


class ReviewSource(_Model):
    """People's answers to the proposals of an earlier run, as ``glocal answers`` keeps them."""

    name: Slug
    kind: Literal["review"]
    path: FilePath
    """The folder ``DIR/answers``."""

    accept_if_right: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """How often a right suggestion is accepted."""

    accept_if_wrong: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """How often a wrong suggestion is accepted because it was shown."""

    right_if_blind: Annotated[float, Field(gt=0, lt=1)] = 0.85
    """How often a class that people name without a suggestion is right."""

    date: Date | None = None
    licence: Licence = "unknown"
    attribution: str | None = None

    @model_validator(mode="after")
    def _acceptance_means_yes(self) -> ReviewSource:
        if self.accept_if_wrong >= self.accept_if_right:
            raise ValueError(
                "accept_if_wrong must be below accept_if_right, else an acceptance would say "
                f"the opposite; got {self.accept_if_wrong} and {self.accept_if_right}"
            )
        return self


SourceConfig = Annotated[
    ImagerySource
    | RulesSource
    | OsmSource
    | InsituSource
    | LandcoverSource
    | PredictedSource
    | ReviewSource,
    Field(discriminator="kind"),
]


class AreaConfig(_Model):
    """One area, its sources, and how the loop runs on them."""

    name: Slug
    grid: Grid
    date: Date
    """Reference date of the estimate: ``YYYY``, ``YYYY-MM-DD``, or two joined by ``/``."""

    legend: str = "worldcover"
    """A known legend, or a path to a CSV (resolved against the YAML file)."""

    classes: Annotated[tuple[int | str, ...], Field(min_length=2)] | None = None
    """Values or names of the legend's classes to estimate; None for all."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    rounds: Annotated[int, Field(ge=1, le=10)] = 3
    block: Annotated[int, Field(ge=8, le=4096)] = 96
    """Side in cells of the spatial blocks for out-of-fold prediction."""

    folds: Annotated[int, Field(ge=2, le=20)] = 5
    precision: Annotated[float, Field(ge=0.5, le=0.999)] = 0.9
    """Expected precision of the corrections that are exported."""

    sources: Annotated[tuple[SourceConfig, ...], Field(min_length=1)]
    anchors: Anchors | None = None

    @model_validator(mode="before")
    @classmethod
    def _legend_path(cls, values: Any, info: ValidationInfo) -> Any:
        legend = values.get("legend") if isinstance(values, Mapping) else None
        if isinstance(legend, str) and legend.endswith(".csv"):
            return {**values, "legend": str(_path(legend, info))}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> AreaConfig:
        _check_legend(self)
        _check_unique([source.name for source in self.sources])
        images = {one.name: one for one in self.sources if isinstance(one, ImagerySource)}
        for source in self.sources:
            if isinstance(source, PredictedSource):
                _check_of(source.name, source.of, images)
            if isinstance(source, RulesSource):
                optical = [name for name, one in images.items() if one.kind == "sentinel2"]
                _check_of(source.name, (source.of,), optical)
            if isinstance(source, InsituSource) and self.anchors is not None:
                _check_apart(source, self.anchors)
        return self

    @property
    def interval(self) -> Interval:
        """The reference date as a half-open interval."""
        return Interval.parse(self.date)

    def source(self, name: str) -> SourceConfig:
        """Return the source called ``name``."""
        return next(one for one in self.sources if one.name == name)


def _check_legend(config: AreaConfig) -> None:
    if config.legend.endswith(".csv"):  # its classes are known when the file is read
        return
    if config.legend not in legends.legend_names():
        known = unknown(config.legend, legends.legend_names())
        raise ValueError(f"legend: {known}, or the path of a .csv")
    whole = legends.legend(config.legend)
    for key in config.classes or ():
        if key not in whole.values and key not in whole.names:
            raise ValueError(f"classes: {unknown(key, map(str, whole.values + whole.names))}")
    tables = {f"sources.{one.name}": one for one in config.sources if isinstance(one, Anchors)}
    for field, table in {**tables, "anchors": config.anchors}.items():
        for text, key in table.classes.items() if table else ():
            if key not in whole.values and key not in whole.names:
                raise ValueError(f"{field}.classes.{text}: {unknown(key, whole.names)}")


def _check_unique(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"sources: names must be unique, given twice: {', '.join(twice)}")


def _check_of(name: str, of: Iterable[str], images: Iterable[str]) -> None:
    for one in of:
        if one not in images:
            raise ValueError(
                f"sources.{name}.of: must name an image source; {unknown(one, tuple(images))}"
            )


def _check_apart(source: InsituSource, anchors: Anchors) -> None:
    """Refuse points that are anchors and evidence at once: they would score themselves."""
    same = source.path.resolve() == anchors.path.resolve()
    if same and (None in (source.part, anchors.part) or source.part == anchors.part):
        raise ValueError(
            f"sources.{source.name} reads the same points as anchors, which must stay unseen; "
            "give one of them part: first and the other part: second"
        )


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


KINDS: dict[str, type[BaseModel]] = {
    **dict.fromkeys(("sentinel2", "sentinel1", "dsm", "rgb"), ImagerySource),
    "rules": RulesSource,
    "osm": OsmSource,
    "insitu": InsituSource,
    "landcover": LandcoverSource,
    "predicted": PredictedSource,
    "review": ReviewSource,
}
