"""Proposals beside a newer map: the ones that it has left behind are named with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from shapely.affinity import translate
from typer.testing import CliRunner

from glocal.cli.main import app
from glocal.sources.osm.index import INDEX
from glocal.sources.osm.stale import stale_proposals, what_can_be_stale
from tests.sources.osm.osm_world import STEP, Relation, Way, written

WOOD = {"natural": "wood"}
WAYS = [Way(1, WOOD), Way(2, WOOD, version=5), Way(3, WOOD, visible=False), Way(4, WOOD)]
RELATIONS = [Relation(8, WOOD, (1,)), Relation(9, WOOD, (1, 77)), Relation(10, WOOD, (77,))]


def square(number: int) -> shapely.Polygon:
    """Return the place of way ``number``."""
    x, y = 9 + 2 * STEP * (number % 5), 47 + 2 * STEP * (number // 5)
    return shapely.box(x, y, x + STEP, y + STEP)


# record, fate, place, what must be said ("" where it still fits)
CASES = [
    ("way/1@3", "modify", 1, ""),
    ("way/2@3", "modify", 2, "way/2 is version 5 now, the proposal was made from version 3"),
    ("way/2@5", "survey", 2, ""),
    ("way/3@2", "modify", 3, "way/3 was deleted in version 3"),
    ("way/4@7", "flag", 4, "way/4 is version 3 in new.osm, which is older"),
    ("way/99@1", "flag", 9, "way/99 is not in new.osm: deleted, or outside the extract"),
    ("relation/8@2", "modify", 1, ""),
    ("relation/9@2", "modify", 1, "1 of its 2 members are not in new.osm, such as way/77"),
    ("relation/10@2", "flag", 1, ""),
    ("new/tree/1_1", "create", 4, "way/4 (version 3) is mapped on 100% of it now"),
    ("new/tree/2_2", "missing", 14, ""),
]
UNASKED = [("way/2@1", "later", 2), ("shift/osm", "survey", 2), ("geofabrik/3", "modify", 3)]


def index_of(rows: list[tuple[str, str, int]]) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {
            "proposal": [f"g-{i}" for i in range(len(rows))],
            "record": [record for record, _, _ in rows],
            "fate": [fate for _, fate, _ in rows],
        },
        geometry=[square(number) for _, _, number in rows],
        crs="EPSG:4326",
    ).to_crs("EPSG:32632")


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    return written(tmp_path / "new.osm", WAYS, RELATIONS)


def test_each_reason_is_told_and_nothing_else_is_refused(newer: Path) -> None:
    index = what_can_be_stale(index_of([case[:3] for case in CASES] + UNASKED))
    assert len(index) == len(CASES)
    why = stale_proposals(index, newer)
    for i, (record, fate, _, wanted) in enumerate(CASES):
        said = why.get(f"g-{i}", "")
        assert said.startswith(wanted), (record, fate, said)
        assert bool(said) == bool(wanted), (record, fate, said)


def test_an_area_is_missing_still_where_only_a_neighbour_touches_it(newer: Path) -> None:
    index = index_of([("new/tree/1_1", "create", 4)])
    beside = translate(square(4), STEP)
    index = index.set_geometry([beside], crs="EPSG:4326")
    assert stale_proposals(index, newer) == {}
    lapped = translate(square(4), STEP / 2)
    assert list(stale_proposals(index.set_geometry([lapped], crs="EPSG:4326"), newer)) == ["g-0"]


def folder_with(tmp_path: Path, rows: list[tuple[str, str, int]]) -> Path:
    room = tmp_path / "run" / "corrections" / "osm"
    room.mkdir(parents=True)
    index_of(rows).to_parquet(room / INDEX)
    return tmp_path / "run"


def test_the_command_refuses_and_names_the_version(tmp_path: Path, newer: Path) -> None:
    run = folder_with(tmp_path, [case[:3] for case in CASES] + UNASKED)
    result = CliRunner().invoke(app, ["check-proposals", str(run), str(newer)])
    assert result.exit_code == 3
    assert "way/2 is version 5 now, the proposal was made from version 3" in result.output
    assert "6 of 11 proposals are stale" in result.output
    done = CliRunner().invoke(app, ["check-proposals", str(run), str(newer), "--json"])
    found = json.loads(done.stdout)
    assert (found["checked"], found["unchecked"], len(found["stale"])) == (11, 2, 6)


def test_the_command_lets_fresh_ones_pass(tmp_path: Path, newer: Path) -> None:
    fresh = [case[:3] for case in CASES if not case[3]]
    run = folder_with(tmp_path, fresh)
    result = CliRunner().invoke(app, ["check-proposals", str(run), str(newer)])
    assert result.exit_code == 0, result.output
    assert f"All {len(fresh)} proposals fit new.osm." in result.output


@pytest.mark.parametrize(
    ("rows", "code", "word"),
    [
        (None, 4, "no proposals that a newer file can contradict"),
        ([UNASKED[2]], 3, "the run read a layer"),
    ],
)
def test_what_cant_be_checked_is_refused(tmp_path: Path, newer: Path, rows, code, word) -> None:
    run = folder_with(tmp_path, rows) if rows else tmp_path
    result = CliRunner().invoke(app, ["check-proposals", str(run), str(newer)])
    assert result.exit_code == code
    assert word in result.output
