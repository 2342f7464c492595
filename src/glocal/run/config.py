"""What ``area.yaml`` may say: typed, frozen, and checked before anything is read."""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from odc.geo import CRS
from odc.geo.geobox import GeoBox
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails

from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.errors import ConfigError, SourceUnavailableError

__all__ = [
    "Anchors",
    "AreaConfig",
    "Grid",
    "ImagerySource",
    "InsituSource",
    "LandcoverSource",
    "OsmSource",
    "PredictedSource",
    "RulesSource",
    "SourceConfig",
    "files_of",
    "load",
    "require_files",
    "to_yaml",
    "with_options",
]

MIN_CELLS = 8
MAX_CELLS = 200_000_000


def known_legends() -> tuple[str, ...]:
    """Return the names of the legends that come with the package."""
    text = resources.files("glocal.core").joinpath("tables/legends.json").read_text("utf-8")
    return tuple(name for name, rows in json.loads(text).items() if isinstance(rows, list))


def _date(value: object) -> str:
    """Return a date as text that ``Interval.parse`` reads; YAML gives dates and ints too."""
    if isinstance(value, datetime | date):
        value = value.isoformat()
    text = str(value).strip()
    Interval.parse(text)
    return text


def _crs(value: object) -> str:
    text = f"EPSG:{value}" if isinstance(value, int) else str(value).strip()
    try:
        CRS(text)
    except Exception as error:  # noqa: BLE001  pyproj raises its own type, odc-geo wraps some
        raise ValueError("must be a CRS such as EPSG:32633 or a WKT string") from error
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


Slug = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Date = Annotated[str, BeforeValidator(_date)]
Crs = Annotated[str, BeforeValidator(_crs)]
FilePath = Annotated[Path, BeforeValidator(_path)]
Licence = Annotated[str, Field(pattern=r"^[A-Za-z0-9.+-]+$")]
Names = Annotated[tuple[str, ...], BeforeValidator(_tuple), Field(min_length=1)]
Column = Literal["id", "x", "y", "class", "confidence", "second", "date", "position_sd_m"]
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

    unit: str | None = None
    """Unit of the stored numbers, where the files don't say (``dB``, ``linear``, …)."""

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
        return self


class PredictedSource(_Model):
    """The model, trained on the loop's own soft labels, out of fold."""

    name: Slug
    kind: Literal["predicted"]
    of: Names
    """Names of the image sources that it reads."""


SourceConfig = Annotated[
    ImagerySource | RulesSource | OsmSource | InsituSource | LandcoverSource | PredictedSource,
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
        _check_legend(self.legend)
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


def _check_legend(legend: str) -> None:
    if not legend.endswith(".csv") and legend not in known_legends():
        raise ValueError(f"legend: {_unknown(legend, known_legends())}, or the path of a .csv")


def _check_unique(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"sources: names must be unique, given twice: {', '.join(twice)}")


def _check_of(name: str, of: Iterable[str], images: Iterable[str]) -> None:
    for one in of:
        if one not in images:
            raise ValueError(
                f"sources.{name}.of: must name an image source; {_unknown(one, tuple(images))}"
            )


def _check_apart(source: InsituSource, anchors: Anchors) -> None:
    """Refuse points that are anchors and evidence at once: they would score themselves."""
    same = source.path.resolve() == anchors.path.resolve()
    if same and (None in (source.part, anchors.part) or source.part == anchors.part):
        raise ValueError(
            f"sources.{source.name} reads the same points as anchors, which must stay unseen; "
            "give one of them part: first and the other part: second"
        )


def _unknown(value: object, allowed: Iterable[str]) -> str:
    allowed = tuple(allowed)
    near = difflib.get_close_matches(str(value), allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{value!r} is not known{hint} allowed: {', '.join(allowed) or 'none is defined'}"


def load(path: Path) -> AreaConfig:
    """Read ``area.yaml``; relative paths in it start at its own folder.

    Raises
    ------
    ConfigError
        Names every field that breaks a rule, its value, and what is allowed.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"can't read the configuration {path}: {error}; "
            "give the path of a YAML file, see examples/havel/area.yaml"
        ) from error
    try:
        values = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506  a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold fields such as 'name:' and 'grid:', got {values!r}")
    return validate(values, folder=path.parent, label=str(path))


def validate(values: Mapping[str, Any], *, folder: Path, label: str) -> AreaConfig:
    """Check a mapping as read from YAML; ``label`` says in errors where it came from.

    Raises
    ------
    ConfigError
        Names every field that breaks a rule, its value, and what is allowed.
    """
    try:
        return AreaConfig.model_validate(values, context={"folder": folder.absolute()})
    except ValidationError as error:
        lines = [f"  {_explain(one)}" for one in error.errors()]
        raise ConfigError(f"{label} breaks {len(lines)} rule(s):\n" + "\n".join(lines)) from None


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader for which a key given twice is an error, not a silent overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"key given twice: {', '.join(sorted(twice))}", node.start_mark
            )
        return super().construct_mapping(node, deep=deep)


KINDS: dict[str, type[_Model]] = {
    **dict.fromkeys(("sentinel2", "sentinel1", "dsm", "rgb"), ImagerySource),
    "rules": RulesSource,
    "osm": OsmSource,
    "insitu": InsituSource,
    "landcover": LandcoverSource,
    "predicted": PredictedSource,
}


def _explain(error: ErrorDetails) -> str:
    """Return one line: the field's path, its value, what is allowed."""
    # pydantic puts the kind of a source after its number; people did not write it there.
    loc = [part for i, part in enumerate(error["loc"]) if not (i == 2 and error["loc"][0] == "sources")]
    kind = error["loc"][2] if len(error["loc"]) > 2 and error["loc"][0] == "sources" else None
    field = ".".join(str(part) for part in loc if part != "[key]") or "area"
    value, context = error.get("input"), error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"{field}: {_unknown(loc[-1], _fields(loc[:-1], kind))}"
        case "missing":
            return f"{field}: is required"
        case "union_tag_invalid":
            return f"{field}.kind: {_unknown(context['tag'], KINDS)}"
        case "union_tag_not_found":
            return f"{field}.kind: is required; allowed: {', '.join(KINDS)}"
        case "literal_error" if "[key]" in loc:
            return f"{field}: {_unknown(value, Column.__args__)}"
        case "value_error" if not loc:
            return str(context["error"])
        case "value_error":
            return f"{field}: {context['error']} (got {_short(value)})"
        case _:
            return f"{field}: {error['msg']}, got {_short(value)}"


def _fields(loc: list[int | str], kind: object) -> tuple[str, ...]:
    """Return the fields that the model at ``loc`` knows."""
    if loc and loc[0] == "sources":
        return tuple(KINDS[str(kind)].model_fields)
    models: dict[str, type[_Model]] = {"grid": Grid, "anchors": Anchors}
    return tuple((models[str(loc[0])] if loc else AreaConfig).model_fields)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def with_options(config: AreaConfig, **options: object) -> AreaConfig:
    """Return ``config`` with fields replaced; options that are None are left out.

    Raises
    ------
    ConfigError
        Where an option breaks the rule of its field.
    """
    given = {name: value for name, value in options.items() if value is not None}
    return validate({**config.model_dump(), **given}, folder=Path(), label="the command line")


def files_of(config: AreaConfig) -> dict[str, Path]:
    """Return every file or folder that the configuration reads, by field path."""
    paths = {} if not config.legend.endswith(".csv") else {"legend": Path(config.legend)}
    for source in config.sources:
        for field in ("path", "salt_file", "legend_csv"):
            path = getattr(source, field, None)
            if path is not None:
                paths[f"sources.{source.name}.{field}"] = path
    if config.anchors is not None:
        paths["anchors.path"] = config.anchors.path
    return paths


def require_files(config: AreaConfig) -> None:
    """Check that all files exist, before hours are spent on the first of them.

    Raises
    ------
    SourceUnavailableError
        Names every file that is missing.
    """
    missing = [f"  {field}: {path}" for field, path in files_of(config).items() if not path.exists()]
    if missing:
        raise SourceUnavailableError(
            "files of the configuration do not exist; paths in a YAML file start at its folder:\n"
            + "\n".join(missing)
        )


def to_yaml(config: AreaConfig, folder: Path | None = None) -> str:
    """Return the resolved configuration as YAML that :func:`load` reads back.

    The same configuration always gives the same text. With ``folder`` paths are
    written relative to it, so that a file there does not name this machine.
    """
    values = config.model_dump(mode="python", exclude_none=True)
    values["sources"] = [
        {"name": one["name"], "kind": one["kind"], **one} for one in values["sources"]
    ]
    return yaml.safe_dump(
        _plain(values, folder),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=10_000,
    )


def _plain(value: Any, folder: Path | None) -> Any:
    match value:
        case Path():
            return Path(os.path.relpath(value, folder)).as_posix() if folder else value.as_posix()
        case Mapping():
            return {key: _plain(one, folder) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one, folder) for one in value]
        case _:
            return value
