"""Patches that map makers accept stay in the next corrected map; each map has its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio

from glocal.core.burn import burn
from glocal.io.vector import read_table
from glocal.loop.answers import take_answers, with_answers
from glocal.loop.area.area import Area, read_area
from glocal.loop.area.config import load
from glocal.loop.rounds.findings import findings_of, told
from glocal.loop.rounds.turns import Turn, turns
from glocal.sources.answers.asked import read_asked
from glocal.sources.maps.kind import Maps, confirmed_classes
from tests.loop.places import quiet, reading_of

MAP = "worldcover"


@pytest.fixture(scope="module")
def answered(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[gpd.GeoDataFrame, Path]:
    """Return the patches of one map with the answers to them, and the folder of the run.

    Most are accepted, one is rejected, and for one another class is named.
    """
    first = tmp_path_factory.mktemp("patches") / "run"
    shutil.copytree(run, first)
    patches = read_table(first / "corrections" / MAP / "patches.parquet")
    assert len(patches) > 5
    answer = np.where(np.arange(len(patches)) == 0, "rejected", "accepted")
    stated = np.full(len(patches), "", object)
    stated[1] = (
        "bare" if "bare" not in patches[["class_from", "class_to"]].to_numpy()[1] else "crop"
    )
    patches = patches.assign(answer=answer, stated=stated)
    path = first.parent / "review.csv"
    pd.DataFrame(patches[["change_id", "answer", "stated"]]).to_csv(path, index=False)
    take_answers(first, [path])
    return patches, first


@pytest.fixture(scope="module")
def after(run: Path, answered: tuple[gpd.GeoDataFrame, Path]) -> tuple[Area, Turn, Path]:
    """Return the next run, which has heard the answers, and its corrected map."""
    _, first = answered
    config = with_answers(load(run.parent / "world" / "area.yaml"), [first / "answers"])
    area, turn = turns(read_area(config, quiet), 1)
    room = first.parent / "next"
    one = reading_of(area, MAP)
    findings = findings_of(area, turn, one)
    one.kind.write(one, findings, told(one, findings), room)
    return area, turn, room


def classes(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read(1)


def test_accepted_patches_stay_though_the_map_is_as_it_was(answered, after) -> None:
    patches, first = answered
    area, _, room = after
    code = dict(zip(area.legend.names, area.legend.values, strict=True))
    table = classes(room / "corrected_map.tif")
    owner = burn(patches.geometry.to_numpy(), area.geobox)
    for i, one in enumerate(patches.itertuples(), 1):
        wanted = one.stated or one.class_to
        here = table[owner == i]
        if one.answer == "accepted":
            assert (here == code[wanted]).mean() > 0.9, one
        else:
            assert (here == code[one.class_to]).mean() < 0.1, one
    before = classes(first / "corrections" / MAP / "corrected_map.tif")
    kept = owner > 0
    assert (table[kept] == before[kept]).mean() > 0.8


def test_they_are_listed_as_accepted_and_not_asked_again(answered, after) -> None:
    patches, _ = answered
    _, _, room = after
    confirmed = gpd.read_file(room / "confirmed.gpkg")
    assert set(confirmed["status"]) == {"accepted"}
    yes = patches[patches["answer"] == "accepted"]
    assert confirmed.union_all().intersection(yes.union_all()).area > 0.9 * yes.area.sum()
    asked = gpd.read_parquet(room / "patches.parquet")
    assert set(asked["status"]) <= {"proposed"}
    told = gpd.overlay(
        patches[["class_to", "geometry"]], asked[["class_to", "geometry"]], how="intersection"
    )
    assert not (told["class_to_1"] == told["class_to_2"]).any()


def test_a_map_that_was_updated_has_its_own_way(after) -> None:
    area, _, _ = after
    one = reading_of(area, MAP)
    answers = tuple(row.about(MAP) for row in area.answers)
    said = one.says.said_class()
    confirmed = confirmed_classes(answers, said, one)
    there = confirmed >= 0
    assert there.any()
    assert (confirmed[there] != said[there]).all()
    updated = np.where(there, confirmed, said)
    assert (confirmed_classes(answers, updated, one) == -1).all()
    other = np.where(there, -1, said)
    assert (confirmed_classes(answers, other, one) == -1).all()


def test_accepting_a_patch_of_one_map_changes_no_other(after) -> None:
    area, _, _ = after
    others = [one for one in area.readings if isinstance(one.kind, Maps) and one.name != MAP]
    assert others
    for one in others:
        answers = tuple(row.about(one.name) for row in area.answers)
        assert (confirmed_classes(answers, one.says.said_class(), one) == -1).all()
    nothing = np.zeros(area.geobox.shape, np.int64)
    assert (confirmed_classes((), nothing, reading_of(area, MAP)) == -1).all()


def test_each_map_is_asked_about_its_own_patch(run: Path, tmp_path: Path) -> None:
    here = tmp_path / "run"
    shutil.copytree(run, here)
    crs = "EPSG:32633"
    asked = read_asked(here, crs).proposals
    number = {
        path.parent.name: len(read_table(path))
        for path in (here / "corrections").glob("*/patches.parquet")
    }
    patches = asked[asked["kind"] == "patch"]
    assert patches.groupby("source").size().to_dict() == {k: n for k, n in number.items() if n}
    assert patches["proposal"].str.split("-").str[0].tolist() == patches["source"].tolist()
