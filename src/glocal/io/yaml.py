"""YAML 1.2 as ruamel.yaml reads it: a key that is given twice is an error."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from glocal.errors import ConfigError


def read_yaml(text: str, label: str) -> object:
    """Return what ``text`` says; ``label`` says in errors where it came from.

    Raises
    ------
    ConfigError
        It is not YAML, or gives a key twice.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except DuplicateKeyError as error:  # its own text also tells how to look away
        raise ConfigError(
            f"{label}: {error.problem}{error.problem_mark}; give each key once"
        ) from error
    except YAMLError as error:
        raise ConfigError(f"{label} is not valid YAML: {error}") from error


def yaml_text(values: Mapping[str, Any]) -> str:
    """Return ``values`` as YAML, keys in their order, lists of plain values on one line."""
    writer, text = YAML(typ="safe", pure=True), io.StringIO()
    writer.default_flow_style = None  # a mapping of plain values stands on one line
    writer.width = 10_000
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.dump(dict(values), text)
    return text.getvalue()
