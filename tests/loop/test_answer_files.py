"""Files of answers as people really have them, broken ones among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pytest
import shapely

from glocal.core.correction import correction_id
from glocal.core.legends import legend
from glocal.errors import BadSourceError, SourceUnavailableError
from glocal.loop.answers import CHANNELS, read_answers
from glocal.sources.answers.asked import Asked
from glocal.sources.answers.verdict import Heard
from tests.sources.osm.osm_world import Way, written

LEGEND = legend("worldcover")
CRS = "EPSG:32632"
ROWS = [
    ("way/1@3", "natural=wood", "water", "retag"),
    ("way/2@3", "landuse=farmland", "grass", "retag"),
    ("relation/2@2", "landuse=farmland", "grass", "retag"),
    ("new/tree/500100_5205000", "", "tree", "missing"),
]
IDS = [correction_id("osm", record, proposed) for record, _, proposed, _ in ROWS]


@pytest.fixture
def asked() -> Asked:
    square = shapely.box(9.05, 47.05, 9.052, 47.052)
    shapes = gpd.GeoSeries([square] * len(ROWS), crs="EPSG:4326").to_crs(CRS)
    columns = pd.DataFrame(ROWS, columns=["record", "current", "proposed", "kind"])
    table = columns.assign(proposal=IDS, source="osm", probability=0.9, round=1)
    visits = pd.DataFrame(
        {"sample_id": ["visit-1", "visit-2"], "x": [1.0, 2.0], "y": [1.0, 2.0],
         "inclusion_probability": [0.1, 0.02]}
    )  # fmt: skip
    return Asked(
        run="here-0123456789",
        proposals=gpd.GeoDataFrame(table, geometry=shapes, crs=CRS),
        visits=visits,
    )


def given(heard: Heard) -> dict[str, tuple[str, str]]:
    return {one.proposal: (one.verdict, one.stated) for one in heard.answers}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def view(*tasks: dict[str, Any]) -> dict[str, Any]:
    features = [{"type": "Feature", "geometry": None, "properties": one} for one in tasks]
    return {"type": "FeatureCollection", "features": features}


# MapRoulette ----------------------------------------------------------------


def test_tasks_are_known_by_id_name_or_bare_number(asked: Asked, tmp_path: Path) -> None:
    tasks = view(
        {"glocal_id": IDS[1], "mr_taskStatus": "Fixed"},
        {"mr_taskName": "relation/2", "mr_taskStatus": 2},
        {"mr_taskName": 1, "mr_taskStatus": "Too_Hard"},
        {"glocal_id": IDS[3], "mr_taskStatus": "Created"},
    )
    heard = read_answers(write(tmp_path / "v.geojson", tasks), asked, LEGEND)
    assert given(heard) == {
        IDS[1]: ("accepted", ""), IDS[2]: ("rejected", ""), IDS[0]: ("too_hard", ""),
    }  # fmt: skip


def test_a_number_that_names_two_elements_names_none(asked: Asked, tmp_path: Path) -> None:
    path = write(tmp_path / "v.geojson", view({"mr_taskName": 2, "mr_taskStatus": "Fixed"}))
    heard = read_answers(path, asked, LEGEND)
    assert not heard.answers
    assert len(heard.unknown) == 1


def test_a_task_of_another_version_is_refused(asked: Asked, tmp_path: Path) -> None:
    task = {"glocal_id": IDS[0], "mr_taskName": "way/1", "mr_taskStatus": 1, "base_version": "2"}
    heard = read_answers(write(tmp_path / "v.json", view(task)), asked, LEGEND)
    assert "version 2" in heard.unknown[0][1]
    assert "version 3" in heard.unknown[0][1]


@pytest.mark.parametrize(
    ("responses", "verdict"),
    [({"cover": "grass"}, ("told", "grass")), ('{"q": "yes"}', ("accepted", "")),
     ({"q": "no"}, ("rejected", "")), ("Water", ("told", "water"))],
)  # fmt: skip
def test_surveys_are_answered_in_words(
    responses: Any, verdict: tuple[str, str], asked: Asked, tmp_path: Path
) -> None:
    task = {"glocal_id": IDS[0], "mr_taskStatus": "Answered", "mr_responses": responses}
    heard = read_answers(write(tmp_path / "v.json", view(task)), asked, LEGEND)
    assert given(heard) == {IDS[0]: verdict}


def test_the_csv_of_maproulette_is_refused_with_a_way_out(asked: Asked, tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "TaskID,TaskStatus,TaskName\n1,Fixed,way/1\n")
    with pytest.raises(BadSourceError, match="challenge/view"):
        read_answers(path, asked, LEGEND)


# OpenStreetMap --------------------------------------------------------------

WOOD, WATER, MEADOW = {"natural": "wood"}, {"natural": "water"}, {"landuse": "meadow"}


@pytest.mark.parametrize(
    ("tags", "version", "verdict"),
    [
        (WOOD, 3, None),
        (WATER, 4, ("accepted", "")),
        ({**WATER, "name": "Pond"}, 9, ("accepted", "")),
        (MEADOW, 4, ("changed", "grass")),
        ({**WOOD, "name": "Grove"}, 5, ("moved_on", "")),
        ({"building": "no"}, 4, ("moved_on", "")),
    ],
)
def test_what_mappers_did_shows_in_a_newer_extract(
    tags: dict[str, str],
    version: int,
    verdict: tuple[str, str] | None,
    asked: Asked,
    tmp_path: Path,
) -> None:
    path = written(tmp_path / "new.osm", [Way(1, tags, version=version)])
    heard = read_answers(path, asked, LEGEND)
    assert given(heard) == ({} if verdict is None else {IDS[0]: verdict})
    assert all(f"version {version} now" in one.why for one in heard.answers)
    assert "2 elements are not in the file" in heard.notes[0]


def test_an_extract_of_somewhere_else_is_refused(asked: Asked, tmp_path: Path) -> None:
    path = written(tmp_path / "new.osm", [Way(77, WOOD)])
    with pytest.raises(BadSourceError, match="none of the 3 elements"):
        read_answers(path, asked, LEGEND)


def history(path: Path, *states: tuple[int, dict[str, str], bool]) -> Path:
    ways = "".join(
        f'<way id="1" version="{v}" visible="{str(there).lower()}">'
        + "".join(f'<tag k="{k}" v="{w}"/>' for k, w in tags.items())
        + "</way>"
        for v, tags, there in states
    )
    return write(path, f'<osm version="0.6">{ways}</osm>')


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        ([(3, WOOD, True)], None),
        ([(3, WOOD, True), (4, WATER, True)], ("accepted", "")),
        ([(4, WATER, True), (5, WOOD, True)], ("rejected", "")),
        ([(4, WATER, True), (5, MEADOW, True)], ("rejected", "")),
        ([(3, WOOD, True), (4, {}, False)], ("void", "")),
    ],
)
def test_a_history_shows_who_turned_back(
    states: Any, verdict: tuple[str, str] | None, asked: Asked, tmp_path: Path
) -> None:
    heard = read_answers(history(tmp_path / "h.osh", *states), asked, LEGEND)
    assert given(heard) == ({} if verdict is None else {IDS[0]: verdict})


def diff(kind: str, version: int, tags: dict[str, str]) -> str:
    inside = "".join(f'<tag k="{k}" v="{v}"/>' for k, v in tags.items())
    old = '<old><way id="1" version="3"><tag k="natural" v="wood"/></way></old>'
    new = f'<new><way id="1" version="{version}">{inside}</way></new>'
    return f'<osm version="0.6"><action type="{kind}">{old}{new}</action></osm>'


@pytest.mark.parametrize("name", ["day.adiff", "day.osm", "day.xml"])
def test_an_augmented_diff_says_before_and_after(name: str, asked: Asked, tmp_path: Path) -> None:
    heard = read_answers(write(tmp_path / name, diff("modify", 4, WATER)), asked, LEGEND)
    assert given(heard) == {IDS[0]: ("accepted", "")}
    gone = read_answers(write(tmp_path / name, diff("delete", 4, {})), asked, LEGEND)
    assert given(gone) == {IDS[0]: ("void", "")}


def test_an_osmchange_of_what_happened_is_read_too(asked: Asked, tmp_path: Path) -> None:
    text = '<osmChange version="0.6"><modify><way id="1" version="4"><tag k="natural" v="water"/>'
    path = write(tmp_path / "day.osc", f"{text}</way></modify></osmChange>")
    assert given(read_answers(path, asked, LEGEND)) == {IDS[0]: ("accepted", "")}


BOMB = '<!DOCTYPE osm [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE osm [<!ENTITY b SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize("head", [BOMB, OUTSIDE])
@pytest.mark.parametrize("name", ["x.osm", "x.osh", "x.adiff", "x.osc"])
def test_entities_are_refused(head: str, name: str, asked: Asked, tmp_path: Path) -> None:
    body = '<osm version="0.6"><way id="1" version="4"><tag k="natural" v="&b;"/></way></osm>'
    with pytest.raises((BadSourceError, SourceUnavailableError), match=r"entities|document type"):
        read_answers(write(tmp_path / name, head + body), asked, LEGEND)


# Forms ----------------------------------------------------------------------

ODK = (
    "SubmissionDate,grp-sample_id,grp-cover,KEY,SubmitterName,ReviewState\n"
    "2024-05-02T10:00:00Z,visit-1,water,uuid:b,Ann,\n"
    "2024-05-01T10:00:00Z,visit-1,grass,uuid:a,Ann,approved\n"
    "2024-05-01T11:00:00Z,visit-2,grass,uuid:c,Bob,hasIssues\n"
    "2024-05-01T12:00:00Z,visit-2,grass,uuid:d,Bob,rejected\n"
    f"2024-05-01T13:00:00Z,{IDS[0]},tree,uuid:e,Bob,\n"
    "2024-05-01T13:00:00Z,visit-9,tree,uuid:f,Bob,\n"
)


def test_odk_gives_anchors_and_answers(asked: Asked, tmp_path: Path) -> None:
    heard = read_answers(write(tmp_path / "odk.csv", ODK), asked, LEGEND)
    assert heard.channel == "odk"
    assert {one.sample_id: one.stated for one in heard.visits} == {
        "visit-1": "water",
        "visit-2": "",
    }
    assert given(heard) == {IDS[0]: ("told", "tree")}
    assert [what for what, _ in heard.unknown] == ["visit-9"]
    assert "1 submissions were rejected" in heard.notes[0]
    assert "1 submissions are older" in heard.notes[1]
    assert "Ann" not in repr(heard)


@pytest.mark.parametrize("uuid", ["first", "after an edit"])
def test_kobo_is_known_by_the_place_not_by_its_uuid(
    uuid: str, asked: Asked, tmp_path: Path
) -> None:
    row = {
        "_uuid": uuid,
        "group/sample_id": "visit-1",
        "group/cover": "Grass",
        "_submission_time": "2024-05-01T10:00:00",
        "_submitted_by": "ann",
        "_validation_status": {"uid": "validation_status_approved", "label": "Approved"},
    }
    path = write(tmp_path / "kobo.json", {"count": 1, "results": [row]})
    heard = read_answers(path, asked, LEGEND)
    assert heard.channel == "kobo"
    assert [(one.sample_id, one.stated) for one in heard.visits] == [("visit-1", "grass")]


def test_a_form_without_our_columns_says_what_it_lacks(asked: Asked, tmp_path: Path) -> None:
    path = write(tmp_path / "odk.csv", "KEY,cover\nuuid:a,grass\n")
    with pytest.raises(BadSourceError, match="sample_id"):
        read_answers(path, asked, LEGEND)
    path = write(tmp_path / "odk.csv", "KEY,sample_id,what_is_it\nuuid:a,visit-1,grass\n")
    with pytest.raises(BadSourceError, match="--class-column"):
        read_answers(path, asked, LEGEND)
    heard = read_answers(path, asked, LEGEND, class_column="what_is_it")
    assert heard.visits[0].stated == "grass"


# Tables ---------------------------------------------------------------------


def test_our_own_review_file(asked: Asked, tmp_path: Path) -> None:
    text = (
        "proposal,answer,stated\n"
        f"{IDS[0]},yes,\n{IDS[1]},no,crop\n{IDS[2]},,\n{IDS[3]},perhaps,\ng-000000000000,yes,\n"
    )
    heard = read_answers(write(tmp_path / "review.csv", text), asked, LEGEND)
    assert given(heard) == {IDS[0]: ("accepted", ""), IDS[1]: ("changed", "crop")}
    assert [what for what, _ in heard.unknown] == [IDS[3], "g-000000000000"]


def test_own_words_are_blind_only_where_nothing_was_shown(asked: Asked, tmp_path: Path) -> None:
    text = f"proposal,stated,shown\n{IDS[0]},water,\n{IDS[1]},water,yes\n{IDS[2]},water,no\n"
    heard = read_answers(write(tmp_path / "review.csv", text), asked, LEGEND)
    assert given(heard) == {
        IDS[0]: ("accepted", ""), IDS[1]: ("changed", "water"), IDS[2]: ("told", "water"),
    }  # fmt: skip


def test_a_review_file_of_another_run_names_both(asked: Asked, tmp_path: Path) -> None:
    text = f"run,proposal,answer\nthere-99,{IDS[0]},yes\n"
    with pytest.raises(BadSourceError, match=r"there-99.*here-0123456789"):
        read_answers(write(tmp_path / "review.csv", text), asked, LEGEND)


def test_a_geopackage_edited_in_qgis(asked: Asked, tmp_path: Path) -> None:
    table = asked.proposals.rename(columns={"proposal": "change_id"})
    table = table.assign(status=["accepted", "rejected", "superseded", "proposed"])
    path = tmp_path / "patches.gpkg"
    table.to_file(path, driver="GPKG", engine="pyogrio")
    heard = read_answers(path, asked, LEGEND)
    assert heard.channel == "layer"
    assert [one.verdict for one in heard.answers] == ["accepted", "rejected", "already_fixed"]


# Detection ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [("notes.txt", "hello"), ("a.geojson", '{"type": "FeatureCollection", "features": []}'),
     ("b.json", "[1, 2]"), ("c.csv", "a,b\n1,2\n"), ("d.json", "{}")],
)  # fmt: skip
def test_what_is_no_answer_is_refused_with_all_known_kinds(
    name: str, content: str, asked: Asked, tmp_path: Path
) -> None:
    with pytest.raises(BadSourceError) as caught:
        read_answers(write(tmp_path / name, content), asked, LEGEND)
    assert len(CHANNELS) == 8
    assert all(text in str(caught.value) for text in CHANNELS.values())


@pytest.mark.parametrize("name", ["x.osm.pbf", "x.geojson", "x.gpkg", "x.osc", "x.osh.pbf"])
def test_damaged_and_missing_files_say_so(name: str, asked: Asked, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="does not exist"):
        read_answers(tmp_path / name, asked, LEGEND)
    with pytest.raises(SourceUnavailableError, match=r"x\."):
        read_answers(write(tmp_path / name, "\x00\x01 rubbish"), asked, LEGEND)


def test_deep_json_is_refused(asked: Asked, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="JSON"):
        read_answers(write(tmp_path / "deep.json", "[" * 200_000), asked, LEGEND)


EXAMPLES = Path(__file__).parents[2] / "examples" / "answers"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("review.csv", "review"), ("maproulette_view.geojson", "maproulette"),
     ("odk_submissions.csv", "odk")],
)  # fmt: skip
def test_the_examples_are_what_they_say(name: str, kind: str, asked: Asked) -> None:
    assert read_answers(EXAMPLES / name, asked, LEGEND).channel == kind
