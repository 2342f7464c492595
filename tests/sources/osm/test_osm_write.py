"""Giving back to OpenStreetMap: whole elements, sound tags, tasks that can be answered."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import osmium
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from shapely.affinity import translate
from shapely.geometry import shape

from glocal.core import legends
from glocal.core.concepts import CONCEPTS
from glocal.core.findings import Findings
from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.core.observation import Observations
from glocal.errors import LicenceConflictError
from glocal.sources.osm.change import change_xml, problem
from glocal.sources.osm.file import Whole, read_elements
from glocal.sources.osm.index import INDEX
from glocal.sources.osm.read import observe_osm, with_edits
from glocal.sources.osm.tags import (
    CANONICAL,
    FCLASS,
    classify,
    fclass_edit,
    retaggable,
    row_of,
    tags_for,
)
from glocal.sources.osm.write import FILES
from tests.sources.findings import EVIDENCE, free_square
from tests.sources.osm.giving import found, give, told

LEGEND = legends.legend("worldcover")
EXTRACT = "liechtenstein-20210504.osm.pbf"


TAINTED = replace(EVIDENCE, licences=frozenset({"CC-BY-4.0"}))


@pytest.fixture(scope="module")
def extract(shared: Path) -> Path:
    return shared / "osm" / EXTRACT


@pytest.fixture(scope="module")
def observed(extract: Path) -> Observations:
    geobox = area_geobox((535_000, 5_214_000, 545_000, 5_236_000), "EPSG:32632", 50)
    return observe_osm(extract, geobox, LEGEND, interval=Interval.of_year(2021))


Rows = list[tuple[int, str, str]]
"""Index of an object, action, proposed class."""


def findings(one: Observations, rows: Rows, **fields) -> Findings:
    """Return findings about objects, the surest first."""
    sure = np.linspace(0.95, 0.7, len(rows)).tolist()
    wanted = {i: (action, name, p) for (i, action, name), p in zip(rows, sure, strict=True)}
    return found(one, wanted, round=3, **fields)


@pytest.fixture(scope="module")
def wishes(observed: Observations) -> Rows:
    tags = observed.columns["tags"].tolist()
    farmland = [i for i, one in enumerate(tags) if retaggable(one, "grass") and "landuse" in one][
        :8
    ]
    scrub = [i for i, one in enumerate(tags) if one.get("natural") == "scrub"][:4]
    relations = [
        i
        for i, one in enumerate(tags)
        if retaggable(one, "crop") and observed.columns["osm_type"][i] == "relation"
    ][:3]
    built = [i for i, one in enumerate(tags) if one.get("landuse") == "residential"][:2]
    rows = [(i, "modify", "grass") for i in farmland] + [(i, "modify", "tree") for i in scrub]
    rows += [(i, "modify", "crop") for i in relations if i not in farmland + scrub]
    rows += [(i, "modify", "grass") for i in built]
    assert len(rows) > 12
    return rows


@pytest.fixture(scope="module")
def folder(wishes, observed, extract, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corrections")
    give(observed, findings(observed, wishes), path, extract=extract)
    return path


def edits(path: Path) -> list[ET.Element]:
    return list(ET.parse(path).getroot().iterfind("modify/*"))


def test_proposal_keeps_every_tag_reference_and_version(folder, extract) -> None:
    proposed = edits(folder / "proposal.osc")
    keys = [(one.tag, int(one.get("id", "0"))) for one in proposed]
    held = read_elements(extract, keys)
    assert {kind for kind, _ in keys} == {"way", "relation"}
    for key, one in zip(keys, proposed, strict=True):
        before = held[key]
        tags = {tag.get("k"): tag.get("v") for tag in one.iterfind("tag")}
        changed = {"landuse", "natural", "landcover", "leaf_type", "leaf_cycle", "crop"}
        assert {k: v for k, v in before.tags.items() if k not in changed}.items() <= tags.items()
        assert tuple(int(nd.get("ref", "0")) for nd in one.iterfind("nd")) == before.nodes
        members = [
            (m.get("type"), int(m.get("ref")), m.get("role")) for m in one.iterfind("member")
        ]
        assert tuple(members) == before.members
        assert one.get("version") == str(before.version)
        assert set(one.attrib) == {"id", "version"}


def test_preview_applies_to_the_extract(folder, extract, tmp_path) -> None:
    after = tmp_path / "after.osm.pbf"
    merge = osmium.MergeInputReader()
    merge.add_file(str(folder / "preview.osc"))
    writer = osmium.io.Writer(str(after))
    merge.apply_to_reader(osmium.io.Reader(str(extract)), writer)
    writer.close()
    proposed = edits(folder / "proposal.osc")
    held = read_elements(after, [(one.tag, int(one.get("id", "0"))) for one in proposed])
    for one in proposed:
        now = held[one.tag, int(one.get("id", "0"))]
        assert now.version == int(one.get("version", "0")) + 1
        assert now.tags == {tag.get("k"): tag.get("v") for tag in one.iterfind("tag")}


def tasks(path: Path) -> list[dict]:
    lines = path.read_text("utf-8").removesuffix("\n").split("\n")
    assert all(line.startswith("\x1e") for line in lines)
    return [json.loads(line.removeprefix("\x1e")) for line in lines]


def test_tasks_pass_the_schema(folder, shared) -> None:
    path = shared / "schemas" / "maproulette" / "cooperative_task.schema.json"
    check = Draft202012Validator(json.loads(path.read_text("utf-8")))
    lines = tasks(folder / "maproulette.geojsonl")
    for task in lines:
        check.validate(task)
        (feature,) = task["features"]
        assert feature["properties"]["@id"] == feature["id"]
        assert int(feature["properties"]["base_version"]) > 0
        assert task["cooperativeWork"]["operations"][0]["data"]["id"] == feature["id"]
        geometry = shape(feature["geometry"])
        assert not geometry.has_z
        assert 9 < geometry.centroid.x < 10
        parts = getattr(geometry, "geoms", [geometry])
        assert all(part.exterior.is_ccw for part in parts)
    names = [task["features"][0]["properties"]["glocal_id"] for task in lines]
    assert len(set(names)) == len(names) == len(edits(folder / "proposal.osc"))
    broken = json.loads(json.dumps(lines[0]))
    broken["cooperativeWork"]["operations"][0]["data"]["id"] = "point/1"
    assert not check.is_valid(broken)


def test_uses_are_flagged_and_never_edited(folder) -> None:
    flags = json.loads((folder / "flags.geojson").read_text("utf-8"))["features"]
    reasons = {}
    for one in flags:
        reasons.setdefault(one["properties"]["current"], set()).add(
            one["properties"]["why_no_edit"]
        )
    assert all("a use" in why for why in reasons.pop("landuse=residential"))
    assert all("lies in the area" in why for one in reasons.values() for why in one)


def test_readme_names_licence_and_way_to_answer(folder) -> None:
    text = (folder / "PROPOSAL_README.md").read_text("utf-8")
    for part in ("ODbL-1.0", "Copernicus", "one human decision", "round 3", "not reviewed"):
        assert part.lower() in text.lower()


def test_same_input_same_bytes(folder, wishes, observed, extract, tmp_path) -> None:
    order = np.random.default_rng(1).permutation(len(observed))
    place = np.argsort(order)
    rows = [(int(place[i]), action, name) for i, action, name in wishes]
    shuffled = observed.take(order)
    _, paths = give(shuffled, findings(shuffled, rows), tmp_path, extract=extract)
    assert [path.name for path in paths] == [
        name for name in (*FILES, INDEX) if (folder / name).exists()
    ]
    for path in paths:
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_at_most_so_many_tasks(wishes, observed, extract, tmp_path) -> None:
    give(observed, findings(observed, wishes), tmp_path, extract=extract, batch=3)
    assert len(tasks(tmp_path / "maproulette.geojsonl")) == 3
    assert len(edits(tmp_path / "proposal.osc")) == 3
    assert "held back" in (tmp_path / "PROPOSAL_README.md").read_text("utf-8")


def test_a_newer_extract_turns_edits_into_flags(wishes, observed, shared, tmp_path) -> None:
    older = shared / "osm" / "liechtenstein-20150727.osm.pbf"
    give(observed, findings(observed, wishes), tmp_path, extract=older)
    flags = json.loads((tmp_path / "flags.geojson").read_text("utf-8"))["features"]
    reasons = [one["properties"]["why_no_edit"] for one in flags]
    assert any("the proposal was made from version" in one for one in reasons)
    assert any("is not in" in one for one in reasons)


LAYER = [
    # osm_id, fclass, place of the box in a row, with a hole
    (101, "scrub", 0, False),
    (102, "forest", 1, False),
    (103, "meadow", 2, True),
    (104, "farm", 3, False), (104, "farm", 4, False),
    (105, "scrub", 5, False), (105, "meadow", 5, False),
    (106, "meadow", 6, False), (106, "meadow", 6, False),
    (107, "residential", 7, False),
    (108, "wetland", 8, False),
    (109, "scrub", 29, False),
    (110, "farm", 9, False), (110, "farm", 10, False),
]  # fmt: skip


@pytest.fixture(scope="module")
def layer(tmp_path_factory) -> Observations:
    """Return what a small Geofabrik layer says; element 109 crosses the border."""
    corner = 500_100 + 97 * np.array([row[2] for row in LAYER])
    whole, hole = shapely.box(0, 0, 90, 200), shapely.box(20, 20, 40, 40)
    boxes = [
        translate(whole.difference(hole) if row[3] else whole, x, 5_206_000)
        for x, row in zip(corner, LAYER, strict=True)
    ]
    table = {"osm_id": [str(row[0]) for row in LAYER], "fclass": [row[1] for row in LAYER]}
    path = tmp_path_factory.mktemp("layer") / "layer.gpkg"
    gpd.GeoDataFrame(table, geometry=boxes, crs="EPSG:32632").to_crs("EPSG:4326").to_file(path)
    geobox = area_geobox((500_000, 5_205_000, 502_950, 5_208_000), "EPSG:32632", 10)
    return observe_osm(path, geobox, LEGEND, interval=Interval.parse("2019-04-26"))


@pytest.fixture(scope="module")
def layer_findings(layer: Observations) -> Findings:
    numbers = layer.columns["osm_id"].tolist()
    proposed = {101: "crop", 102: "crop", 103: "tree", 104: "grass", 105: "crop", 106: "crop"}
    proposed |= {107: "tree", 108: "crop", 109: "crop", 110: "grass"}
    rows = [(i, "modify", proposed[number]) for i, number in enumerate(numbers)]
    rows.remove((numbers.index(110), "modify", "grass"))  # only one of its two rows
    return findings(layer, rows)


@pytest.fixture(scope="module")
def layer_folder(layer, layer_findings, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("layer-tasks")
    (path / "proposal.osc").write_text("left from an earlier run")
    dates = {"image": Interval.parse("2017-02-16")}
    give(layer, layer_findings, path, dates=dates)
    return path


def test_layer_becomes_tag_fixes_without_an_osmchange(layer_folder) -> None:
    assert not (layer_folder / "proposal.osc").exists()
    edits_of = {}
    for task in tasks(layer_folder / "maproulette.geojsonl"):
        (operation,) = task["cooperativeWork"]["operations"]
        change = {one["operation"]: one["data"] for one in operation["data"]["operations"]}
        edits_of[operation["data"]["id"]] = (change["setTags"], change.get("unsetTags", []))
        assert task["features"][0]["properties"]["inferred"]
    assert edits_of == {
        "way/101": ({"landuse": "farmland"}, ["natural"]),
        "way/102": ({"landuse": "farmland"}, ["natural"]),
        "relation/103": ({"natural": "wood"}, ["landuse"]),
        "relation/104": ({"landuse": "meadow"}, []),
        "way/106": ({"landuse": "farmland"}, []),
    }
    text = (layer_folder / "PROPOSAL_README.md").read_text("utf-8")
    assert "neither versions nor node" in text
    assert "Inferred: type and old tags" in text


def test_rows_of_a_layer_that_disagree_ask_a_person(layer_folder) -> None:
    lines = tasks(layer_folder / "survey.geojsonl")
    assert all("cooperativeWork" not in one for one in lines)
    held = [one["features"][0]["properties"] for one in lines]
    assert sorted(one["osm_id_of_layer"] for one in held) == ["105", "110"]
    assert all("share this OSM id" in one["why_no_edit"] for one in held)
    flags = json.loads((layer_folder / "flags.geojson").read_text("utf-8"))["features"]
    reasons = {
        one["properties"]["osm_id_of_layer"]: one["properties"]["why_no_edit"] for one in flags
    }
    assert set(reasons) == {"107", "108", "109"}
    assert "lies in the area" in reasons["109"]


def test_parts_of_one_element_make_one_task(layer_folder) -> None:
    lines = {one["features"][0]["id"]: one for one in tasks(layer_folder / "maproulette.geojsonl")}
    assert len(shape(lines["relation/104"]["features"][0]["geometry"]).geoms) == 2


def test_layer_tasks_pass_the_schema(layer_folder, shared) -> None:
    path = shared / "schemas" / "maproulette" / "cooperative_task.schema.json"
    check = Draft202012Validator(json.loads(path.read_text("utf-8")))
    for name in ("maproulette.geojsonl", "survey.geojsonl"):
        for task in tasks(layer_folder / name):
            check.validate(task)


def test_each_task_says_what_to_look_at(layer_folder) -> None:
    for task in tasks(layer_folder / "maproulette.geojsonl"):
        (feature,) = task["features"]
        text = feature["properties"]["instruction"]
        for part in (feature["id"], "2017-02-16", "2019-04-26", "probability", "sentinel2", "%"):
            assert part in text


def test_after_is_read_with_exactly_the_edits_that_were_sent(layer, layer_findings) -> None:
    after = with_edits(layer, told(layer, layer_findings))
    names = (*after.crosswalk.symbols,)
    said = {
        (number, names[symbol - 1])
        for number, symbol in zip(after.columns["osm_id"].tolist(), after.symbols, strict=True)
    }
    assert said == {
        (101, "landuse=farmland"), (102, "landuse=farmland"), (103, "natural=wood"),
        (104, "landuse=meadow"), (105, "fclass=scrub"), (105, "fclass=meadow"),
        (106, "landuse=farmland"), (107, "fclass=residential"), (108, "fclass=wetland"),
        (109, "fclass=scrub"), (110, "fclass=farm"),
    }  # fmt: skip


@given(st.sampled_from(sorted(FCLASS)), st.sampled_from(CONCEPTS))
def test_an_edit_of_a_layer_leaves_none_of_its_old_tags(fclass: str, concept: str) -> None:
    edit = fclass_edit(fclass, concept)
    if not edit:
        return
    possible = [row_of(f"fclass={fclass}").base]
    possible += ["natural=wood"] if fclass == "forest" else []
    for tag in possible:
        key, _, old = tag.partition("=")
        after = edit.applied({key: old, "name": "Au"})
        assert after["name"] == "Au"
        assert after.get(key) != old
        row = classify(after)
        assert row is not None
        assert set(row.shares) == {concept}


def test_unmapped_areas_become_surveys_without_an_edit(observed, tmp_path) -> None:
    """Evidence that OSM can't accept asks where nothing is mapped, and flags what is doubted."""
    places = [("water", 0.95, free_square(observed, 4)), ("tree", 0.9, free_square(observed, 4, 9))]
    wish = findings(observed, [(2, "flag", "tree")], unmapped=places, provenance=TAINTED)
    _, paths = give(observed, wish, tmp_path)
    assert {path.name for path in paths} == {
        "missing.geojsonl",
        "flags.geojson",
        "osmose.xml",
        "proposals.parquet",
        "PROPOSAL_README.md",
    }
    lines = tasks(tmp_path / "missing.geojsonl")
    assert len(lines) == 2
    assert all("cooperativeWork" not in line for line in lines)


def test_evidence_that_osm_cannot_accept_never_becomes_an_edit(wishes, observed, tmp_path) -> None:
    sound = told(observed, findings(observed, wishes))
    assert (sound.action == "modify").any()
    with pytest.raises(LicenceConflictError, match="CC-BY"):
        replace(sound, provenance=TAINTED)
    rows = told(observed, findings(observed, wishes, provenance=TAINTED))
    assert set(rows.action.tolist()) == {"flag"}
    assert np.isin(sound.record, rows.record).all()


def test_awkward_text_survives_and_limits_are_checked(tmp_path) -> None:
    tags = {"name": 'Ça & <là> "x"\n😀', "landuse": "meadow"}
    whole = Whole(osm_type="way", osm_id=5, version=2, tags=tags, nodes=(1, 2, 3, 1))
    assert problem(whole) == ""
    path = tmp_path / "one.osc"
    path.write_text(change_xml([whole]), encoding="utf-8")
    for read in osmium.FileProcessor(str(path)):
        assert {tag.k: tag.v for tag in read.tags} == tags
        assert [node.ref for node in read.nodes] == [1, 2, 3, 1]
        assert read.version == 2
    long = Whole(osm_type="way", osm_id=5, version=2, tags={"name": "x" * 256}, nodes=(1, 2))
    assert "255" in problem(long)
    many = Whole(osm_type="way", osm_id=5, version=2, tags=tags, nodes=tuple(range(2001)))
    assert "2001 nodes" in problem(many)
    bad = Whole(osm_type="way", osm_id=5, version=2, tags={"name": "a\x07"}, nodes=(1, 2))
    assert "XML" in problem(bad)


@given(st.sampled_from(CONCEPTS), st.dictionaries(
    st.sampled_from(["landuse", "natural", "leisure", "name", "leaf_type", "boundary", "crop"]),
    st.sampled_from(["farmland", "meadow", "wood", "scrub", "water", "residential", "forest"]),
))  # fmt: skip
def test_an_edit_says_the_class_and_keeps_the_rest(concept: str, tags: dict[str, str]) -> None:
    edit = tags_for(concept, tags)
    if not edit:
        return
    after = edit.applied(tags)
    row = classify(after)
    assert row is not None
    assert set(row.shares) == {concept}
    assert {"name", "boundary", "leisure"} & set(tags) == {"name", "boundary", "leisure"} & set(
        after
    )
    assert not tags_for(concept, after)


def test_never_proposes_deprecated_or_built_tags(shared) -> None:
    (path,) = (shared / "schemas").glob("osm_deprecated_tags_*.json")
    old = [entry["old"] for entry in json.loads(path.read_text("utf-8"))]
    proposed = [{key: value} for key, value in CANONICAL.values()] + [{"natural": "grassland"}]
    assert not [one for one in proposed if one in old]
    for tags in ({"landuse": "farmland"}, {"natural": "wood"}):
        assert not tags_for("built", tags)
        assert not tags_for("bare", tags)


@pytest.mark.parametrize(
    "tags",
    [
        {"landuse": "residential"},
        {"landuse": "military", "natural": "scrub"},
        {"landuse": "orchard"},
        {"landuse": "vineyard"},
        {"leisure": "park", "natural": "wood"},
        {"natural": "wood", "boundary": "protected_area"},
        {"natural": "water", "intermittent": "yes"},
        {"building": "yes", "landuse": "meadow"},
        {},
    ],
)
def test_what_cover_cannot_decide_is_left_alone(tags: dict[str, str]) -> None:
    assert not any(retaggable(tags, concept) for concept in CONCEPTS)


def test_outlines_are_rounded_to_what_osm_stores(folder) -> None:
    lines = tasks(folder / "maproulette.geojsonl")
    xy = shapely.get_coordinates([shape(one["features"][0]["geometry"]) for one in lines])
    assert np.array_equal(xy, xy.round(7))
