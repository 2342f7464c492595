"""What mappers are told, as `Osm.receive` decides it from findings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest

from glocal.core.answer import Answered
from glocal.core.correction import Corrections
from glocal.core.findings import Findings, Misplaced
from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.core.legends import legend
from glocal.core.promise import shrunk
from glocal.sources.kind import Reading
from glocal.sources.osm.index import INDEX
from glocal.sources.osm.kind import Osm, OsmConfig
from tests.sources.findings import free_square, in_place, window_of
from tests.sources.osm.giving import found
from tests.sources.osm.osm_world import Way, written

LEGEND = legend("worldcover")
BOX = area_geobox((499_500, 5_204_500, 503_500, 5_208_500), "EPSG:32632", 10)
YEAR = Interval.of_year(2021)
FARM, MEADOW, USE = {"landuse": "farmland"}, {"landuse": "meadow"}, {"landuse": "residential"}
WAYS = [Way(i, FARM if i < 4 else MEADOW if i < 6 else USE) for i in range(8)]
ROWS = {
    0: ("modify", "grass", 0.98), 1: ("modify", "tree", 0.95), 2: ("modify", "grass", 0.9),
    4: ("flag", "crop", 0.97), 6: ("modify", "tree", 0.93),
}  # fmt: skip


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    """Return a small map as its kind reads it, way k at position k."""
    path = written(tmp_path_factory.mktemp("map") / "map.osm", WAYS)
    config = OsmConfig(name="osm", kind="osm", path=path, date="2021")
    one = Osm().read(config, window_of(BOX, LEGEND, interval=YEAR))
    return replace(one, statements=one.says.take(np.argsort(one.says.columns["osm_id"])))


def received(reading: Reading, findings: Findings, **config: int) -> Corrections:
    one = replace(reading, config=reading.config.model_copy(update=config))
    return Osm().receive(one, findings)


def test_each_doubt_gets_a_fault_a_fate_and_a_reason(reading: Reading) -> None:
    told = received(reading, found(reading.says, ROWS))
    rows = zip(told.record.tolist(), told.fault, told.action, told.fate, strict=True)
    assert {record: tuple(map(str, row)) for record, *row in rows} == {
        "way/0@3": ("retag", "modify", "modify"), "way/1@3": ("retag", "modify", "modify"),
        "way/2@3": ("retag", "modify", "modify"), "way/4@3": ("doubt", "flag", "flag"),
        "way/6@3": ("doubt", "flag", "flag"),
    }  # fmt: skip
    why = dict(zip(told.record.tolist(), told.columns["why"], strict=True))
    assert "not likely enough" not in why["way/6@3"]
    assert "a use" in why["way/6@3"]
    assert "no other class is likely enough" in why["way/4@3"]
    assert (told.threshold, told.expected_precision) == pytest.approx((0.9, 2.83 / 3))
    assert told.terms is not None


def test_probabilities_are_believed_as_far_as_points_allow(reading: Reading) -> None:
    told = received(reading, found(reading.says, ROWS, sharpness=0.6))
    edits = told.take(told.action == "modify")
    stated = [ROWS[int(one[4])][2] for one in edits.record.tolist()]
    assert edits.probability == pytest.approx(shrunk(np.array(stated), 0.6))
    assert edits.expected_precision >= 0.8
    few = received(reading, found(reading.says, ROWS, sharpness=0.3))
    assert (few.action == "modify").sum() < len(edits)
    assert not (few.action == "modify").any() or few.expected_precision >= 0.8


def test_what_is_held_back_is_not_read_as_corrected(reading: Reading, tmp_path: Path) -> None:
    findings = found(reading.says, ROWS)
    told = received(reading, findings, batch=1)
    assert told.counts() == {"modify": 1, "later": 2, "flag": 2}
    after = Osm().corrected(reading, findings, told)
    assert np.flatnonzero(after.words != reading.says.words).tolist() == [0]
    given = Osm().write(reading, findings, told, tmp_path)
    assert {k: n for k, n in given.count.items() if n} == told.counts()
    assert given.corrections.record.tolist() == told.record.tolist()
    index = gpd.read_parquet(tmp_path / INDEX)
    assert index["fate"].tolist() == told.fate.tolist()
    assert index["probability"].tolist() == told.probability.tolist()
    assert "held back" in (tmp_path / "PROPOSAL_README.md").read_text("utf-8")


def answered(told: Corrections, verdict: str) -> Answered:
    n = len(told)
    return Answered(
        source=np.full(n, told.source), proposal=np.array(told.ids), record=told.record,
        fault=told.fault, current=told.current, proposed=told.proposed,
        verdict=np.full(n, verdict), stated=np.full(n, ""), geometry=told.support,
    )  # fmt: skip


@pytest.mark.parametrize("verdict", ["accepted", "rejected", "already_fixed", "disputed"])
def test_what_was_answered_is_not_told_again(reading: Reading, verdict: str) -> None:
    """Edits, doubts, places and missing areas alike, though the engine finds the same."""
    off = in_place(reading.says)
    off = Misplaced(
        probability=np.where(np.arange(8) == 5, 0.9, off.probability),
        shift=off.shift + 30, covariance=off.covariance,
    )  # fmt: skip
    places = [("tree", 0.9, free_square(reading.says, 20)),
              ("water", 0.85, free_square(reading.says, 20, 40))]  # fmt: skip
    fields = {"misplaced": off, "unmapped": places}
    told = received(reading, found(reading.says, ROWS, **fields))
    assert sorted(set(told.fault.tolist())) == ["displaced", "doubt", "missing", "retag"]
    assert (told.fault == "missing").sum() == 2
    heard = (answered(told, verdict),)
    assert not len(received(reading, found(reading.says, ROWS, answers=heard, **fields)))
    some = told.fault == "retag"
    heard = (answered(told.take(some), verdict),)
    again = received(reading, found(reading.says, ROWS, answers=heard, **fields))
    assert set(again.record) == set(told.record[~some])
    nobody = (answered(told, "skipped"),)
    same = received(reading, found(reading.says, ROWS, answers=nobody, **fields))
    assert same.record.tolist() == told.record.tolist()
