"""A user's own OpenStreetMap extract: edits come out whole, and only on accepted evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import jsonschema
import numpy as np
import osmium
import pytest
from numpy.typing import NDArray
from rasterio.transform import from_origin
from scipy import ndimage

from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.core.legends import legend
from glocal.core.observation import Observations
from glocal.sources.osm.file import Whole, read_elements
from glocal.sources.osm.read import observe_osm
from tests.loop.areas import run_area, write_tif, write_yaml

GRID_CRS = "EPSG:32632"
BOX = (537_000, 5_222_000, 543_000, 5_228_000)
CELL = 25
CLASSES = (10, 20, 30, 40, 50, 60, 80, 90)
LEGEND = legend("worldcover").subset(CLASSES)
BECOME = [CLASSES.index(code) for code in (10, 40, 80)]
LARGE_HA = 1.5
COVER_KEYS = {"landuse", "natural", "leisure", "landcover", "water", "wetland", "crop"}
COVER_KEYS |= {"wood", "leaf_type", "leaf_cycle", "surface"}
Codes = NDArray[np.uint8]


def extract_of(shared: Path) -> Path:
    return shared / "osm" / "liechtenstein-20210504.osm.pbf"


def ground(osm: Observations, rng: np.random.Generator) -> Codes:
    """Return a truth in which a quarter of the large OSM objects has changed."""
    said = osm.said_class()
    large = np.array([one.area > LARGE_HA * 1e4 for one in osm.geometry]) & (said >= 0)
    changed = large & (rng.random(len(said)) < 0.25)
    now = np.where(changed, rng.choice(BECOME, len(said)), said)
    owner = osm.owner_of_cells()
    index = np.concatenate([[-1], now])[owner]
    _, nearest = ndimage.distance_transform_edt(index < 0, return_indices=True)
    return np.array(CLASSES, np.uint8)[index[tuple(nearest)]]


def with_errors(truth: Codes, rng: np.random.Generator) -> Codes:
    """Return the truth with one in twelve blocks of 10 x 10 cells set to any class."""
    height, width = truth.shape
    blocks = (height // 10, width // 10)
    wrong = np.where(rng.random(blocks) < 1 / 12, rng.integers(0, len(CLASSES), blocks), -1)
    wrong = np.kron(wrong, np.ones((10, 10), int))
    return np.where(wrong >= 0, np.array(CLASSES)[wrong], truth).astype(np.uint8)


def make_files(folder: Path, extract: Path, licence: str, **fields: Any) -> Path:
    geobox = area_geobox(BOX, GRID_CRS, CELL)
    osm = observe_osm(extract, geobox, LEGEND, interval=Interval.parse("2021-05-04"))
    rng = np.random.default_rng(7)
    truth = ground(osm, rng)
    at = from_origin(BOX[0], BOX[3], CELL, CELL)
    for name in ("map", "cadastre"):
        codes = with_errors(truth, rng)
        write_tif(folder / f"{name}.tif", codes, transform=at, crs=GRID_CRS, nodata=0)
    table = [f"{one.value},{one.name},{one.title},{one.color}" for one in LEGEND.classes]
    (folder / "legend.csv").write_text("\n".join(["value,name,title,color", *table]))
    rows, columns = np.divmod(rng.choice(truth.size, 250, replace=False), truth.shape[1])
    lines = [
        f"p{i},{BOX[0] + (c + 0.5) * CELL},{BOX[3] - (r + 0.5) * CELL},{truth[r, c]}"
        for i, (r, c) in enumerate(zip(rows, columns, strict=True))
    ]
    (folder / "points.csv").write_text("\n".join(["id,x,y,class", *lines]))
    return write_yaml(folder / "area.yaml", settings(extract, licence) | fields)


def settings(extract: Path, licence: str) -> dict[str, Any]:
    common = {"kind": "landcover", "date": "2021", "licence": licence, "attribution": "Made up"}
    return {
        "name": "liechtenstein",
        "grid": {"bbox": list(BOX), "crs": GRID_CRS, "resolution": CELL},
        "date": "2021",
        "classes": list(CLASSES),
        "folds": 2,
        "sources": [
            {"name": "osm", "kind": "osm", "path": str(extract), "date": "2021-05-04"},
            {
                "name": "map",
                "path": "map.tif",
                "legend": "worldcover",
                **common,
            },
            {
                "name": "cadastre",
                "path": "cadastre.tif",
                "legend_csv": "legend.csv",
                **common,
            },
        ],
        "anchors": {
            "path": "points.csv",
            "crs": GRID_CRS,
            "classes": {str(code): code for code in CLASSES},
            "position_sd_m": 1,
            "licence": "CC0-1.0",
        },
    }


@pytest.fixture(scope="module")
def free(shared, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("free")
    area = make_files(folder, extract_of(shared), "CC0-1.0")
    return folder / "out", run_area(area, folder / "out")


@pytest.fixture(scope="module")
def noticed(shared, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("noticed")
    area = make_files(folder, extract_of(shared), "CC-BY-4.0")
    return folder / "out", run_area(area, folder / "out")


@pytest.fixture(scope="module")
def alone(shared, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """Return a run with one map as the only other source."""
    folder, extract = tmp_path_factory.mktemp("alone"), extract_of(shared)
    two = settings(extract, "CC0-1.0")["sources"]
    area = make_files(folder, extract, "CC0-1.0", sources=two[:2])
    return folder / "out", run_area(area, folder / "out")


def changes(path: Path) -> dict[tuple[str, int], Whole]:
    """Return the elements of a change file that exist already; all others are new areas."""
    found = {}
    for one in osmium.FileProcessor(str(path)):
        assert one.visible
        if one.id < 0:
            continue
        key = "way" if one.is_way() else "relation"
        assert one.is_way() or one.is_relation()
        found[key, one.id] = whole(one)
    return found


def whole(one: Any) -> Whole:
    way = one.is_way()
    kinds = {"n": "node", "w": "way", "r": "relation"}
    return Whole(
        osm_type="way" if way else "relation",
        osm_id=one.id,
        version=one.version,
        tags={tag.k: tag.v for tag in one.tags},
        nodes=tuple(node.ref for node in one.nodes) if way else (),
        members=() if way else tuple((kinds[m.type], m.ref, m.role) for m in one.members),
    )


def test_osm_gains_and_nothing_is_promised_beyond(free):
    _, metrics = free
    row = metrics["sources"]["osm"]
    assert metrics["corrections"]["osm"]["count"]["modify"] >= 5
    assert row["after"] > row["before"]


def test_a_lone_map_sends_no_edit_that_is_likelier_wrong(alone):
    out, metrics = alone
    assert metrics["corrections"]["osm"]["count"]["modify"] >= 5
    rows = gpd.read_parquet(out / "corrections.parquet").query("action == 'modify'")
    assert rows["probability"].min() > 0.5


@pytest.mark.parametrize("run", ["free", "alone"])
def test_the_change_repeats_each_element_whole(run, request, shared):
    out, _ = request.getfixturevalue(run)
    edits = changes(out / "corrections" / "osm" / "proposal.osc")
    assert len(edits) >= 5
    before = read_elements(extract_of(shared), edits)
    assert set(before) == set(edits)
    for key, after in edits.items():
        old = before[key]
        assert (after.version, after.nodes, after.members) == (
            old.version,
            old.nodes,
            old.members,
        )
        assert after.tags != old.tags
        touched = {k for k in old.tags | after.tags if old.tags.get(k) != after.tags.get(k)}
        assert touched <= COVER_KEYS, (key, touched)


@pytest.mark.parametrize("run", ["free", "alone"])
def test_nothing_is_deleted_and_what_is_new_overlaps_nothing(run, request):
    room = request.getfixturevalue(run)[0] / "corrections" / "osm"
    text = (room / "proposal.osc").read_text()
    assert "<modify" in text
    assert "<delete" not in text
    index = gpd.read_parquet(room / "proposals.parquet")
    created = index[index.fate == "create"]
    assert text.count("<create") == (len(created) > 0)
    tags = set(created.set_tags)
    assert all({"natural", "source"} >= set(json.loads(one)) - {"type"} for one in tags)
    mapped = index[index.element != ""].union_all()
    assert created.intersection(mapped).area.sum() == 0
    assert "user=" not in text
    assert "uid=" not in text


@pytest.mark.parametrize("run", ["free", "alone"])
def test_the_preview_applies_to_a_scratch_copy(run, request, shared, tmp_path):
    preview = request.getfixturevalue(run)[0] / "corrections" / "osm" / "preview.osc"
    edits = changes(preview)
    merged = osmium.MergeInputReader()
    merged.add_file(str(extract_of(shared)))
    merged.add_file(str(preview))
    copy = tmp_path / "copy.osm.pbf"
    with osmium.SimpleWriter(str(copy)) as target:
        merged.apply(target, simplify=True)
    assert {key: one.tags for key, one in read_elements(copy, edits).items()} == {
        key: one.tags for key, one in edits.items()
    }
    number = [sum(1 for _ in osmium.FileProcessor(str(one))) for one in (extract_of(shared), copy)]
    new = sum(one.id < 0 for one in osmium.FileProcessor(str(preview)))
    assert number[0] + new == number[1]


def test_tasks_pass_the_schema_of_maproulette(free, shared):
    schema = json.loads(
        (shared / "schemas" / "maproulette" / "cooperative_task.schema.json").read_text()
    )
    validator = jsonschema.validators.validator_for(schema)(schema)
    lines = (free[0] / "corrections" / "osm" / "maproulette.geojsonl").read_text()
    tasks = [json.loads(line) for line in lines.split("\x1e") if line.strip()]
    edits = [one for one in tasks if "cooperativeWork" in one]
    assert len(edits) >= 5
    for task in edits:
        assert not list(validator.iter_errors(task))
        assert task["features"][0]["geometry"]["type"] in ("Polygon", "MultiPolygon")


def test_evidence_under_a_notice_licence_edits_nothing(noticed):
    out, metrics = noticed
    room = out / "corrections" / "osm"
    assert not metrics["corrections"]["osm"]["count"].get("modify")
    assert not (room / "proposal.osc").exists()
    assert not (room / "preview.osc").exists()
    for path in room.glob("*.geojsonl"):
        assert "cooperativeWork" not in path.read_text()
    rows = gpd.read_parquet(out / "corrections.parquet").query("source == 'osm'")
    assert set(rows["action"]) <= {"flag"}
    told = gpd.read_parquet(room / "proposals.parquet")
    assert told["record"].tolist() == rows["record"].tolist()
    assert any("can't accept" in note for note in metrics["notes"])


def test_a_map_receives_what_osm_knows(noticed):
    _, metrics = noticed
    row = metrics["sources"]["map"]
    assert metrics["corrections"]["map"]["count"].get("modify", 0) > 0
    assert row["after"] >= row["before"]
