"""A finished run on a small synthetic world, and mappers who answer it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import yaml

from glocal.loop.area.area import Area
from glocal.loop.area.config import load
from glocal.loop.area.schema import AreaConfig
from glocal.loop.run import run_area
from glocal.sources.kind import Reading
from glocal.synthetic import simulate, world_named, write_scene
from tests.sources.osm.osm_world import uploaded

SEED = 3
KEPT = ("worldcover", "esri", "dynamicworld", "osm", "field")


def quiet(*_: object) -> None:
    """Draw no progress."""


def make_world(folder: Path) -> AreaConfig:
    """Write a world of 96 x 96 cells with maps, OSM, field points and anchors, no model."""
    write_scene(simulate(world_named("standard", 96), SEED), folder)
    path = folder / "area.yaml"
    values = yaml.safe_load(path.read_text("utf-8"))
    values["sources"] = [one for one in values["sources"] if one["name"] in KEPT]
    values.update(precision=0.8, folds=2)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return load(path)


def finished_run(folder: Path) -> Path:
    """Return the folder of a finished run on a new world beside it."""
    config = make_world(folder / "world")
    run_area(config, folder / "run", progress=quiet)
    return folder / "run"


def proposals(run: Path) -> gpd.GeoDataFrame:
    """Return the index of what mappers got."""
    return gpd.read_parquet(run / "corrections" / "osm" / "proposals.parquet")


def reading_of(area: Area, name: str) -> Reading:
    """Return a source as it was read."""
    return next(one for one in area.readings if one.name == name)


def newer_extract(extract: Path, change: str, elements: Collection[str], out: Path) -> Path:
    """Let a mapper upload the named elements (``way/1``; ``new`` for all new ones) of a change."""
    root = ET.fromstring(change)
    for block in root:
        for one in list(block):
            new = block.tag == "create" and "new" in elements
            if not (new or f"{one.tag}/{one.get('id')}" in elements):
                block.remove(one)
    held = uploaded(extract, ET.tostring(root, encoding="unicode"))
    document = ET.Element("osm", version="0.6")
    order = ("node", "way", "relation")
    for key in sorted(held, key=lambda key: (order.index(key[0]), key[1])):
        document.append(held[key])
    ET.ElementTree(document).write(out)
    return out


def challenge_view(run: Path, status: Mapping[str, Any], out: Path, **more: Any) -> Path:
    """Write what MapRoulette tells of its tasks, by proposal id; all others are open."""
    features = []
    for name in ("maproulette", "new_areas", "survey", "missing"):
        path = run / "corrections" / "osm" / f"{name}.geojsonl"
        lines = path.read_text("utf-8").split("\n") if path.exists() else []
        for line in filter(None, lines):
            feature = json.loads(line.strip("\x1e"))["features"][0]
            given = feature["properties"]
            given.update(
                mr_taskId=len(features),
                mr_taskName=feature["id"],
                mr_taskStatus=status.get(given["glocal_id"], "Created"),
                mr_mapper="Some Body",
                **more,
            )
            features.append(
                {**feature, "geometry": None if len(features) % 2 else feature["geometry"]}
            )
    text = json.dumps({"type": "FeatureCollection", "features": features})
    out.write_text(text, encoding="utf-8")
    return out
