"""What ``area.yaml`` may say: typed, frozen, and checked before any source is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from odc.geo.geobox import GeoBox
from pydantic import Field, ValidationInfo, model_validator

from glocal.core import legends
from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.sources.config import (
    Crs,
    Date,
    Model,
    PointsConfig,
    Slug,
    SourceConfig,
    resolved,
    unknown,
)
from glocal.sources.kinds import KINDS

MIN_CELLS = 8
MAX_CELLS = 200_000_000

WORDS = {word: kind.Config for kind in KINDS for word in kind.words()}
"""What ``kind:`` may say, and the fields that a source of that kind knows."""

if TYPE_CHECKING:
    AnySource = SourceConfig  # a union that is made of a tuple can't be told to a type checker
else:
    AnySource = Annotated[reduce(or_, (kind.Config for kind in KINDS)), Field(discriminator="kind")]


class Grid(Model):
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


class AreaConfig(Model):
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

    sources: Annotated[tuple[AnySource, ...], Field(min_length=1)]
    anchors: PointsConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _legend_path(cls, values: Any, info: ValidationInfo) -> Any:
        legend = values.get("legend") if isinstance(values, Mapping) else None
        if isinstance(legend, str) and legend.endswith(".csv"):
            return {**values, "legend": str(resolved(legend, info))}
        return values

    @model_validator(mode="after")
    def _classes_known(self) -> AreaConfig:
        if self.legend.endswith(".csv"):  # its classes are known when the file is read
            return self
        if self.legend not in legends.legend_names():
            known = unknown(self.legend, legends.legend_names())
            raise ValueError(f"legend: {known}, or the path of a .csv")
        whole = legends.legend(self.legend)
        for key in self.classes or ():
            if key not in whole.values and key not in whole.names:
                raise ValueError(f"classes: {unknown(key, map(str, whole.values + whole.names))}")
        points = [one for one in self.sources if isinstance(one, PointsConfig)]
        tables = {f"sources.{one.name}": one for one in points} | {"anchors": self.anchors}
        for field, table in tables.items():
            for text, key in table.classes.items() if table else ():
                if key not in whole.values and key not in whole.names:
                    raise ValueError(f"{field}.classes.{text}: {unknown(key, whole.names)}")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> AreaConfig:
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"sources: names must be unique, given twice: {', '.join(twice)}")
        for source in self.sources:
            source.check(self.sources, self.anchors)
        return self

    @property
    def interval(self) -> Interval:
        """The reference date as a half-open interval."""
        return Interval.parse(self.date)
