"""Whether STAC items keep to their schemas, without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pystac
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7


def stac_errors(item: dict[str, Any], extensions: Path | None = None) -> list[str]:
    stored = dict(schemas(extensions))
    registry: Registry[Any] = Registry().with_resources(stored.items())
    wanted = ["https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"]
    wanted += item["stac_extensions"] if extensions else []
    assert set(wanted) <= set(stored)
    found = []
    for address in wanted:
        validator = jsonschema.Draft7Validator({"$ref": address}, registry=registry)
        found += [error.message for error in validator.iter_errors(item)]
    return found


def schemas(extensions: Path | None) -> Iterator[tuple[str, Resource[Any]]]:
    core = Path(pystac.__file__).parent / "validation" / "jsonschemas"
    for path in sorted(core.rglob("*.json")):
        schema = json.loads(path.read_text())
        resource = Resource.from_contents(schema, default_specification=DRAFT7)
        if "$id" in schema:
            yield schema["$id"].rstrip("#"), resource
        yield f"https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/{path.name}", resource
        yield f"https://geojson.org/schema/{path.name}", resource
    for path in sorted(extensions.glob("*/*/schema.json")) if extensions else ():
        name, version = path.parts[-3:-1]
        resource = Resource.from_contents(
            json.loads(path.read_text()), default_specification=DRAFT7
        )
        yield f"https://stac-extensions.github.io/{name}/{version}/schema.json", resource
