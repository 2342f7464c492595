"""``area.yaml``: read it, check it, explain what is wrong, write it back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from glocal.core import legends
from glocal.core.legend import Legend
from glocal.errors import ConfigError, SourceUnavailableError
from glocal.io.yaml import read_yaml, yaml_text
from glocal.loop.area.schema import WORDS, AreaConfig, Grid
from glocal.sources.config import Column, PointsConfig, unknown

MODELS: dict[object, type[BaseModel]] = {"grid": Grid, "anchors": PointsConfig}
"""What stands in a field of the area beside its sources."""


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
    values = read_yaml(text, str(path))
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
        # "too few items" says nothing where items were given and each has an error of its own
        told = [one for one in error.errors() if one["type"] != "too_short" or not one["input"]]
        lines = [f"  {_explain(one, values.get('sources'))}" for one in told]
        raise ConfigError(f"{label} breaks {len(lines)} rule(s):\n" + "\n".join(lines)) from None


def _explain(error: ErrorDetails, sources: Any) -> str:
    """Return one line: the field's path, its value, what is allowed."""
    loc = list(error["loc"])
    model = MODELS.get(loc[0] if loc else "", AreaConfig)
    if loc[:1] == ["sources"] and len(loc) > 1:
        if len(loc) > 2:  # pydantic adds the kind, people did not
            model = WORDS[str(loc.pop(2))]
        one = sources[int(loc[1])]
        loc[1] = str(one.get("name", loc[1]) if isinstance(one, Mapping) else loc[1])
    field = ".".join(str(part) for part in loc if part != "[key]") or "area"
    value, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"{field}: {unknown(loc[-1], tuple(model.model_fields))}"
        case "missing":
            return f"{field}: is required"
        case "union_tag_invalid":
            return f"{field}.kind: {unknown(context['tag'], WORDS)}"
        case "union_tag_not_found":
            return f"{field}.kind: is required; allowed: {', '.join(WORDS)}"
        case "literal_error" if "[key]" in loc:
            return f"{field}: {unknown(value, get_args(Column))}"
        case "value_error" if not loc:
            return str(context["error"])
        case "value_error":
            got = "" if isinstance(value, Mapping) else f", got {_short(value)}"
            return f"{field}: {context['error']}{got}"
        case _:
            return f"{field}: {error['msg']}, got {_short(value)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def target_legend(config: AreaConfig) -> Legend:
    """Return the classes to estimate.

    Raises
    ------
    LegendMismatchError
        Where a CSV legend lacks a class that ``classes`` names.
    """
    if config.legend.endswith(".csv"):
        whole = legends.legend_from_csv(Path(config.legend))
    else:
        whole = legends.legend(config.legend)
    return whole if config.classes is None else whole.subset(config.classes)


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
    paths = {"legend": Path(config.legend)} if config.legend.endswith(".csv") else {}
    for source in config.sources:
        paths |= {f"sources.{source.name}.{field}": path for field, path in source.files().items()}
    if config.anchors is not None:
        paths["anchors.path"] = config.anchors.path
    return paths


def told_files(config: AreaConfig) -> list[Path]:
    """Return what outputs may name, by content, as their inputs: no secret keys."""
    secret = {f"sources.{one.name}.{field}" for one in config.sources for field in one.secrets()}
    return sorted({path for field, path in files_of(config).items() if field not in secret})


def require_files(config: AreaConfig) -> None:
    """Check that all files exist, before hours are spent on the first of them.

    Raises
    ------
    SourceUnavailableError
        Names every file that is missing.
    """
    missing = [
        f"  {field}: {path}" for field, path in files_of(config).items() if not path.exists()
    ]
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
    plain = _plain(values, folder)
    return yaml_text(plain)


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
