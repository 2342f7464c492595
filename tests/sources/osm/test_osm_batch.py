"""Each file for mappers, on a made-up map: kinds, new areas, base versions, bad input."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import osmium
import pytest
import shapely
from jsonschema import Draft202012Validator
from shapely.geometry import shape

from glocal.core import legends
from glocal.core.findings import Findings
from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.result import Displacement
from glocal.errors import LicenceConflictError
from glocal.sources.osm.change import change_xml
from glocal.sources.osm.index import INDEX
from glocal.sources.osm.outline import outline
from glocal.sources.osm.read import observe_osm
from glocal.sources.osm.tags import CANONICAL, rows_of_table, tags_of_new
from glocal.sources.osm.write import FILES
from tests.sources.osm.giving import found, give, told
from tests.sources.osm.osm_world import RefusedError, Relation, Way, uploaded, written

LEGEND = legends.legend("worldcover")
DATES = {"sentinel2": Interval.parse("2021-06-01")}
WAYS = [
    Way(0, {"landuse": "farmland", "name": "Au & <Anger>", "crop": "rye"}),
    Way(1, {"natural": "scrub", "source": "survey"}, version=7),
    Way(2, {"building": "yes"}),
    Way(3, {"landuse": "residential"}, stamp="2009-01-01T00:00:00Z"),
    Way(4, {"landuse": "residential"}),
    Way(5, {"landuse": "meadow"}),
    Way(6, {}),
]
PARK = Relation(90, {"landuse": "meadow", "name": "Ried"}, ways=(6,))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("map") / "map.osm", WAYS, [PARK])


def observed(path: Path) -> Observations:
    geobox = area_geobox((499_500, 5_204_500, 503_500, 5_208_500), "EPSG:32632", 10)
    return observe_osm(path, geobox, LEGEND, interval=Interval.of_year(2021))


def wishes(one: Observations, rows: dict[str, tuple[str, str]], patches=(), **fields) -> Findings:
    """Return findings about elements, and patches of trees that nothing maps, the surest first."""
    place = {record.partition("@")[0]: i for i, record in enumerate(one.record.tolist())}
    n = len(rows)
    sure = np.linspace(0.98, 0.91, n + len(patches)).tolist()
    doubted = {place[name]: (*row, p) for (name, row), p in zip(rows.items(), sure, strict=False)}
    trees = [("tree", p, patch) for p, patch in zip(sure[n:], patches, strict=True)]
    return found(one, doubted, unmapped=trees, **fields)


ROWS = {
    "way/0": ("modify", "grass"), "way/1": ("modify", "tree"), "way/2": ("flag", "grass"),
    "way/3": ("flag", "tree"), "way/4": ("flag", "tree"), "relation/90": ("modify", "crop"),
}  # fmt: skip


def staircase(x: float, y: float, cells: int = 16) -> shapely.Polygon:
    """Return cells of 10 m under a diagonal, as an estimate would outline them."""
    return shapely.union_all(
        [shapely.box(x, y + 10 * k, x + 10 * (cells + k), y + 10 * (k + 1)) for k in range(cells)]
    )


def patches() -> list[shapely.Polygon]:
    free = staircase(501_500, 5_207_000)
    holed = shapely.box(500_500, 5_207_600, 500_900, 5_208_000).difference(
        shapely.box(500_600, 5_207_700, 500_800, 5_207_900)
    )
    return [free, holed]


@pytest.fixture(scope="module")
def folder(base, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("give")
    one = observed(base)
    give(
        one, wishes(one, ROWS, patches()), path, extract=base, dates=DATES,
        promise="Expected precision of the 3 edits: 0.95",
    )  # fmt: skip
    return path


def lines(path: Path) -> list[dict]:
    text = path.read_text("utf-8").removesuffix("\n")
    return [json.loads(one.removeprefix("\x1e")) for one in text.split("\n")]


def test_every_file_is_there_and_osmium_reads_it(folder) -> None:
    missing = {"missing.geojsonl"}
    assert {one.name for one in folder.iterdir()} == {*FILES, INDEX} - missing
    for name, ways, relations in (("proposal.osc", 5, 2), ("proposal.osm", 6, 2)):
        read = [one.type_str() for one in osmium.FileProcessor(str(folder / name))]
        assert (read.count("w"), read.count("r")) == (ways, relations)


def test_a_server_takes_the_proposal_and_keeps_what_it_does_not_name(folder, base) -> None:
    after = uploaded(base, (folder / "proposal.osc").read_text("utf-8"))
    tags = {
        key: {tag.get("k"): tag.get("v") for tag in one.iterfind("tag")}
        for key, one in after.items()
    }
    assert tags["way", 0] == {"landuse": "meadow", "name": "Au & <Anger>"}
    assert tags["way", 1] == {"natural": "wood", "source": "survey"}
    assert tags["relation", 90] == {
        "type": "multipolygon", "landuse": "farmland", "name": "Ried"
    }  # fmt: skip
    assert after["way", 1].get("version") == "8"
    created = {key: one for key, one in tags.items() if key[1] >= 900_000 and one}
    source = "Contains modified Copernicus Sentinel data 2021"
    assert list(created.values()) == [
        {"natural": "wood", "source": source},
        {"type": "multipolygon", "natural": "wood", "source": source},
    ]
    untouched = {key for key in after if key[1] < 900_000} - {
        ("way", 0), ("way", 1), ("relation", 90)
    }  # fmt: skip
    assert all(after[key].get("version") in ("1", "3") for key in untouched)


def test_a_proposal_from_an_older_version_is_refused_by_the_server(folder, tmp_path) -> None:
    ways = [Way(1, WAYS[1].tags, version=8), *(one for one in WAYS if one.number != 1)]
    newer = written(tmp_path / "newer.osm", ways, [PARK])
    with pytest.raises(RefusedError, match="409"):
        uploaded(newer, (folder / "proposal.osc").read_text("utf-8"))


def test_new_elements_come_in_order_of_use(folder) -> None:
    root = ET.parse(folder / "proposal.osc").getroot()
    assert [block.tag for block in root] == ["create", "modify"]
    kinds = [one.tag for one in root[0]]
    assert kinds == sorted(kinds, key=("node", "way", "relation").index)
    ids = [int(one.get("id", "")) for one in root[0]]
    assert max(ids) < 0
    assert len(set(ids)) == len(ids)


def test_josm_asks_before_an_upload_and_finds_every_reference(folder, base) -> None:
    root = ET.parse(folder / "proposal.osm").getroot()
    assert root.get("upload") == "false"
    held = {(one.tag, one.get("id")) for one in root}
    for one in root:
        if int(one.get("id", "")) > 0:
            assert int(one.get("version", "")) > 0
        else:
            assert "version" not in one.attrib
            assert one.get("action") == "modify"
        refs = {("node", nd.get("ref")) for nd in one.iterfind("nd")}
        refs |= {(m.get("type"), m.get("ref")) for m in one.iterfind("member")}
        assert refs <= held
    acted = {(one.tag, one.get("id")) for one in root if one.get("action")}
    assert {("way", "0"), ("way", "1"), ("relation", "90")} <= acted
    assert ("way", "6") in held - acted


def test_a_missing_area_is_a_change_file_that_equals_its_outline(folder, shared) -> None:
    path = shared / "schemas" / "maproulette" / "cooperative_task.schema.json"
    check = Draft202012Validator(json.loads(path.read_text("utf-8")))
    tasks = lines(folder / "new_areas.geojsonl")
    assert len(tasks) == 2
    for task in tasks:
        check.validate(task)
        work = task["cooperativeWork"]
        assert work["meta"] == {"version": 2, "type": 2}
        change = ET.fromstring(base64.b64decode(work["file"]["content"], validate=True))
        assert {block.tag for block in change} == {"create"}
        nodes = {
            one.get("id"): (float(one.get("lon", "")), float(one.get("lat", "")))
            for one in change.iterfind("create/node")
        }
        rings = [
            [nodes[nd.get("ref")] for nd in way.iterfind("nd")]
            for way in change.iterfind("create/way")
        ]
        drawn = shapely.Polygon(rings[0], rings[1:])
        assert drawn.equals(shape(task["features"][0]["geometry"]))
        assert task["attachments"][0]["data"]["source"]


def test_kinds_are_told_apart(folder) -> None:
    index = gpd.read_parquet(folder / INDEX).set_index("element")
    kind, fate = index.kind.to_dict(), index.fate.to_dict()
    assert kind | {"": "missing"} == {
        "way/0": "retag", "way/1": "retag", "relation/90": "retag", "way/2": "vanished",
        "way/3": "outdated", "way/4": "doubt", "": "missing",
    }  # fmt: skip
    assert fate | {"": "create"} == {
        "way/0": "modify", "way/1": "modify", "relation/90": "modify", "way/2": "survey",
        "way/3": "survey", "way/4": "flag", "": "create",
    }  # fmt: skip
    assert not any("delete" in path.read_text("utf-8") for path in folder.glob("proposal.*"))


def test_index_ids_are_those_of_the_tasks(folder) -> None:
    index = gpd.read_parquet(folder / INDEX).set_index("proposal")
    assert index.index.is_unique
    for name in ("maproulette", "new_areas", "survey"):
        for task in lines(folder / f"{name}.geojsonl"):
            held = task["features"][0]["properties"]
            row = index.loc[held["glocal_id"]]
            assert row.kind == held["kind"]
            assert row.proposed == held["proposed"]
            assert str(row.base_version) == held.get("base_version", "0")
            operations = task.get("cooperativeWork", {}).get("operations")
            if operations:
                steps = {
                    one["operation"]: one["data"] for one in operations[0]["data"]["operations"]
                }
                assert json.loads(row.set_tags) == steps["setTags"]
                assert json.loads(row.unset_tags) == steps.get("unsetTags", [])


def test_ids_do_not_depend_on_the_round(base, tmp_path) -> None:
    one = observed(base)
    ids = []
    for number in (1, 4):
        give(one, wishes(one, ROWS, round=number), tmp_path, extract=base)
        ids.append(gpd.read_parquet(tmp_path / INDEX).proposal.tolist())
    assert ids[0] == ids[1]


def test_osmose_groups_by_kind(folder) -> None:
    root = ET.parse(folder / "osmose.xml").getroot()
    (analyser,) = root
    assert analyser.get("timestamp") == "2021-06-02T00:00:00Z"
    classes = {
        one.get("id"): one.find("classtext").get("title") for one in analyser.iterfind("class")
    }
    errors = analyser.findall("error")
    assert {one.get("class") for one in errors} == set(classes)
    assert len({one.get("subclass") for one in errors}) == len(errors) == 7
    (way,) = [one for one in analyser.iterfind("error/way") if one.get("id") == "0"]
    assert {tag.get("k"): tag.get("v") for tag in way.iterfind("tag")} == WAYS[0].tags
    fix = {
        (tag.get("action"), tag.get("k"), tag.get("v"))
        for tag in analyser.iterfind("error/fixes/fix/way[@id='0']/tag")
    }
    assert fix == {("modify", "landuse", "meadow"), ("delete", "crop", None)}


def test_readme_states_the_promise(folder) -> None:
    assert "Expected precision of the 3 edits" in (folder / "PROPOSAL_README.md").read_text("utf-8")


def test_nothing_of_a_mapper_is_written(folder) -> None:
    for path in folder.iterdir():
        assert b"Some Body" not in path.read_bytes(), path.name


def test_a_shift_of_the_layer_is_a_question(base, tmp_path) -> None:
    one = observed(base)
    off = Displacement(dx=12.0, dy=-3.0, covariance=((4.0, 0.5), (0.5, 9.0)))
    wish = wishes(one, {"way/4": ("flag", "tree")}, shift=off)
    give(one, wish, tmp_path, extract=base)
    (task,) = lines(tmp_path / "survey.geojsonl")
    held = task["features"][0]["properties"]
    assert held["kind"] == "displaced"
    assert "+12.0 m east and -3.0 m north" in held["instruction"]
    assert "cooperativeWork" not in task
    assert not (tmp_path / "proposal.osc").exists()


def test_elements_of_unknown_version_are_named_too(tmp_path) -> None:
    """Some tools drop versions: tag fixes go out all the same, by their elements."""
    path = written(tmp_path / "map.osm", WAYS[:1])
    path.write_text(re.sub(r' (version="3"|timestamp="[^"]*")', "", path.read_text("utf-8")))
    one = observed(path)
    assert one.record.tolist() == ["way/0@0"]
    give(one, wishes(one, {"way/0": ("modify", "grass")}), tmp_path / "out")
    (task,) = lines(tmp_path / "out" / "maproulette.geojsonl")
    held = task["features"][0]["properties"]
    assert (held["@id"], held["base_version"]) == ("way/0", "0")
    index = gpd.read_parquet(tmp_path / "out" / INDEX)
    assert (index.element[0], index.base_version[0]) == ("way/0", 0)


LONG = {"landuse": "farmland", "note:x": "y" * 256}


@pytest.mark.parametrize(
    ("now", "relations", "unfit", "reason"),
    [
        ([Way(1, WAYS[1].tags, version=9)], [PARK], False, "way/1 is version 9 now"),
        ([Way(1, {}, version=8, visible=False)], [PARK], False, "way/1 was deleted in version 8"),
        ([], [PARK], False, "way/1 is not in now.osm: deleted, or outside the extract"),
        ([Way(1, WAYS[1].tags | LONG, version=7)], [PARK], True, "longer than 255"),
        ([Way(1, WAYS[1].tags, version=7, corners=2000)], [PARK], True, "the way has 2001 nodes"),
        (
            [WAYS[1]],
            [Relation(90, PARK.tags, ways=(6,), nodes=(555,))],
            True,
            "1 of its 2 members are not in now.osm, such as node/555",
        ),
    ],
)
def test_what_moved_on_or_is_unfit_is_only_flagged_and_says_why(
    base, tmp_path, now, relations, unfit, reason
) -> None:
    """What an element is like is known when it is read; that it moved on, when files are made."""
    path = written(tmp_path / "now.osm", [WAYS[0], *now, WAYS[6]], relations)
    one = observed(path if unfit else base)
    wish = wishes(one, {"way/1": ("modify", "tree"), "relation/90": ("modify", "crop")})
    give(one, wish, tmp_path / "out", extract=path)
    flags = json.loads((tmp_path / "out" / "flags.geojson").read_text("utf-8"))["features"]
    (held,) = [one["properties"] for one in flags]
    assert reason in held["why_no_edit"]
    kept = lines(tmp_path / "out" / "maproulette.geojsonl")
    assert len(kept) == 1
    assert reason not in json.dumps(kept)
    known_early = "flag" in told(one, wish).fate.tolist()
    assert known_early == unfit


def test_patches_smaller_than_the_minimum_mapping_unit_are_not_told(base, tmp_path) -> None:
    one = observed(base)
    small = shapely.box(501_500, 5_207_000, 501_600, 5_207_100)
    give(one, wishes(one, {}, [small]), tmp_path, extract=base)
    assert not (tmp_path / "missing.geojsonl").exists()
    assert not (tmp_path / "proposal.osc").exists()
    assert "minimum mapping unit" in outline(small, shapely.Polygon(), 10, min_area=2e4)[1]


def test_areas_that_are_mostly_mapped_are_questions(base, tmp_path) -> None:
    """What is left beside its neighbours is too small to be drawn."""
    one = observed(base)
    between = shapely.box(500_150, 5_205_200, 500_300, 5_205_340)  # 2.1 ha
    give(one, wishes(one, {}, [between]), tmp_path, extract=base)
    (task,) = lines(tmp_path / "missing.geojsonl")
    assert "minimum mapping unit" in task["features"][0]["properties"]["why_no_edit"]
    assert not (tmp_path / "proposal.osc").exists()


def test_a_new_area_never_overlaps_what_is_mapped(base, tmp_path) -> None:
    one = observed(base)
    wide = shapely.box(500_050, 5_205_000, 501_400, 5_206_800)
    give(one, wishes(one, {}, [wide]), tmp_path, extract=base)
    index = gpd.read_parquet(tmp_path / INDEX)
    assert index.fate.tolist() == ["create"]
    mapped = shapely.union_all(one.geometry)
    assert shapely.area(shapely.intersection(index.geometry[0], mapped)) == 0
    assert shapely.area(index.geometry[0]) > 20_000


def test_a_batch_holds_so_many_edits_and_the_rest_waits(base, tmp_path) -> None:
    one = observed(base)
    batch, _ = give(one, wishes(one, ROWS), tmp_path, extract=base, batch=1, dates=DATES)
    assert batch.rows.counts() == {"modify": 1, "survey": 1, "flag": 2, "later": 2}
    assert gpd.read_parquet(tmp_path / INDEX).fate.tolist().count("later") == 2


def test_evidence_that_osm_cannot_accept_only_asks(base, tmp_path) -> None:
    one = observed(base)
    tainted = Provenance(activity="propose", agent="glocal", licences=frozenset({"CC-BY-4.0"}))
    sound = told(one, wishes(one, ROWS, patches()), dates=DATES)
    with pytest.raises(LicenceConflictError, match="CC-BY"):
        replace(sound, provenance=tainted)
    wish = wishes(one, ROWS, patches(), provenance=tainted)
    batch, _ = give(one, wish, tmp_path, extract=base, dates=DATES)
    assert len(batch.rows) == 8
    assert set(batch.rows.action.tolist()) == {"flag"}
    written_files = {path.name for path in tmp_path.iterdir()}
    assert not written_files & {
        "proposal.osc", "preview.osc", "proposal.osm", "maproulette.geojsonl",
        "new_areas.geojsonl",
    }  # fmt: skip
    why = dict(zip(batch.rows.record.tolist(), batch.rows.columns["why"], strict=True))
    assert all("licence" in why[record] for record in ("way/0@3", "way/1@7", "relation/90@2"))
    for name in ("survey.geojsonl", "missing.geojsonl"):
        assert all("cooperativeWork" not in task for task in lines(tmp_path / name))
    assert all("licence" in one["features"][0]["properties"]["why_no_edit"]
               for one in lines(tmp_path / "missing.geojsonl"))  # fmt: skip


def test_no_deprecated_tag_is_ever_proposed(shared) -> None:
    (path,) = (shared / "schemas").glob("osm_deprecated_tags*.json")
    old = [one["old"] for one in json.loads(path.read_text("utf-8"))]
    proposed = [{key: value} for key, value in (*CANONICAL.values(), ("natural", "grassland"))]
    proposed += [tags_of_new(concept) for concept in LEGEND.concepts]
    for tags in filter(None, proposed):
        assert not any(
            all(
                tags.get(key) in (value, *(["*"] if value == "*" else []))
                for key, value in one.items()
            )
            for one in old
        ), tags
    known = {row.base for row in rows_of_table()}
    assert {"landuse=meadow", "natural=wood"} <= known


def test_an_empty_change_is_still_a_document() -> None:
    assert len(ET.fromstring(change_xml())) == 0
