"""Answers as evidence: declared tables, echoes, settled questions, samples joined."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from glocal.core.answer import Answered
from glocal.core.burn import burn
from glocal.core.interval import Interval
from glocal.core.legends import legend
from glocal.core.observation import Anchors, joined
from glocal.core.provenance import Provenance
from glocal.errors import LegendMismatchError
from glocal.sources.answers.settled import on_the_ground, settled, settled_cells, too_hard_places
from glocal.sources.answers.store import Stored
from glocal.sources.osm.echo import muted
from glocal.sources.osm.read import observe_osm
from glocal.sources.people.review import Bias, observe_review, reference_visits, table_of
from tests.sources.osm.osm_world import Way, written

LEGEND = legend("worldcover").subset((10, 30, 40, 80))
CRS = "EPSG:32632"
WHEN = Interval.parse("2023")
CENTRE = gpd.GeoSeries([shapely.box(9, 47, 9.006, 47.002)], crs="EPSG:4326").to_crs(CRS)
GRID = GeoBox.from_bbox(tuple(CENTRE.total_bounds), crs=CRS, resolution=10)


def place(number: int) -> shapely.Geometry:
    """Return where way ``number`` lies."""
    x, y = 9 + 0.004 * (number % 5), 47 + 0.004 * (number // 5)
    square = shapely.box(x, y, x + 0.002, y + 0.002)
    return gpd.GeoSeries([square], crs="EPSG:4326").to_crs(CRS).iloc[0]


def answered(*rows: tuple[str, str, str, str, str], kind: str = "retag", at: int = 0) -> Answered:
    """Rows are (record, current, proposed, verdict, stated)."""
    return stored(*rows, kind=kind, at=at).answered(CRS)


def stored(*rows: tuple[str, str, str, str, str], kind: str = "retag", at: int = 0) -> Stored:
    """Return the folder that holds these rows."""
    table = pd.DataFrame(rows, columns=["record", "current", "proposed", "verdict", "stated"])
    table = table.assign(
        proposal=[f"g-{i}" for i in range(len(table))], source="osm", kind=kind, probability=0.9
    )
    shape = [place(at)] * len(table)
    return Stored(
        run="r",
        proposals=gpd.GeoDataFrame(table, geometry=shape, crs=CRS),
        visits=pd.DataFrame(columns=["sample_id", "x", "y", "class", "inclusion_probability"]),
        licence="CC0-1.0",
    )


def review(answers: Answered, known: tuple[str, ...] = ()):
    return observe_review(
        answers, GRID, LEGEND, source="review", run="r", bias=Bias(), interval=WHEN,
        licences=frozenset({"ODbL-1.0"}), known=known,
    )  # fmt: skip


RATES = st.floats(0.05, 0.95)


@given(RATES, RATES, RATES, st.integers(2, 11))
def test_declared_tables_are_probabilities_given_the_question(
    right: float, wrong: float, blind: float, classes: int
) -> None:
    if wrong > right:
        with pytest.raises(ValueError, match="accept_if_wrong"):
            Bias(accept_if_right=right, accept_if_wrong=wrong, right_if_blind=blind)
        return
    bias = Bias(accept_if_right=right, accept_if_wrong=wrong, right_if_blind=blind)
    table = table_of(classes, bias)
    np.testing.assert_allclose(table.sum(axis=2), 1)
    for c in range(classes):
        odds = table[1 + c, :, c] / table[1 + c, c, c]
        np.testing.assert_allclose(np.delete(odds, c), wrong / right, rtol=1e-3)
        refusals = table[1 + c, :, classes:].sum(axis=1)
        assert refusals[c] <= np.delete(refusals, c).min() + 1e-9


def test_symbols_and_questions() -> None:
    seen = review(
        answered(
            ("way/0@3", "natural=wood", "water", "accepted", ""),
            ("way/0@3", "natural=wood", "crop", "rejected", ""),
            ("way/0@3", "natural=wood", "grass", "changed", "crop"),
            ("way/0@3", "natural=wood", "grass", "told", "tree"),
            ("way/0@3", "natural=wood", "grass", "already_fixed", ""),
            ("way/0@3", "natural=wood", "grass", "skipped", ""),
            ("way/0@3", "natural=wood", "grass", "", ""),
        )
    )
    said = {
        r: (seen.crosswalk.symbols[s - 1], int(q))
        for r, s, q in zip(seen.record.tolist(), seen.symbols, seen.stratum, strict=True)
    }
    names = LEGEND.names
    assert said == {
        "g-0": ("accepted:water", 1 + names.index("water")),
        "g-1": ("rejected:crop", 1 + names.index("crop")),
        "g-2": ("stated:crop", 1 + names.index("grass")),
        "g-3": ("stated:tree", 0),
        "g-4": ("accepted:grass", 1 + names.index("grass")),
    }


def test_an_answer_that_was_heard_already_is_left_out() -> None:
    answers = answered(("way/0@3", "natural=wood", "water", "accepted", ""))
    assert len(review(answers)) == 1
    assert len(review(answers, known=("g-0",))) == 0


def test_classes_of_another_legend_are_refused() -> None:
    with pytest.raises(LegendMismatchError, match="built"):
        review(answered(("way/0@3", "natural=wood", "built", "accepted", "")))


@pytest.mark.parametrize(
    ("tags", "version", "verdict", "silent"),
    [
        ({"natural": "water"}, 4, "accepted", True),
        ({"natural": "water"}, 4, "", True),
        ({"natural": "water"}, 6, "skipped", True),
        ({"natural": "water"}, 4, "already_fixed", False),
        ({"natural": "water"}, 3, "accepted", False),
        ({"natural": "wood"}, 4, "accepted", False),
        ({"landuse": "meadow"}, 4, "changed", False),
    ],
)
def test_only_the_echo_of_a_proposal_is_muted(
    tags: dict[str, str], version: int, verdict: str, silent: bool, tmp_path: Path
) -> None:
    path = written(
        tmp_path / "new.osm", [Way(0, tags, version=version), Way(1, {"natural": "wood"})]
    )
    osm = observe_osm(path, GRID, LEGEND, interval=WHEN)
    heard = muted(osm, answered(("way/0@3", "natural=wood", "water", verdict, "")).about("osm"))
    quiet = dict(zip(heard.record.tolist(), (heard.symbols == 0).tolist(), strict=True))
    assert quiet == {f"way/0@{version}": silent, "way/1@3": False}


def test_what_was_drawn_where_we_missed_something_is_our_echo(tmp_path: Path) -> None:
    path = written(tmp_path / "new.osm", [Way(0, {"natural": "wood"}, version=1)])
    osm = observe_osm(path, GRID, LEGEND, interval=WHEN)
    asked = answered(("new/tree/1_1", "", "tree", "", ""), kind="missing")
    assert (muted(osm, asked).symbols == 0).all()
    elsewhere = answered(("new/tree/1_1", "", "tree", "", ""), kind="missing", at=1)
    assert (muted(osm, elsewhere).symbols > 0).all()


def done(
    answers: Answered, record: str, current: str, proposed: str, missing: bool = False
) -> bool:
    found = settled(
        [answers], np.array([record]), np.array([current]), np.array([proposed]),
        np.array([place(0)], object) if missing else None,
    )  # fmt: skip
    return bool(found[0])


@pytest.mark.parametrize(
    "verdict", ["accepted", "rejected", "changed", "already_fixed", "disputed"]
)
def test_answered_questions_are_settled_while_the_element_says_the_same(verdict: str) -> None:
    answers = answered(("way/0@3", "natural=wood", "water", verdict, ""))
    assert done(answers, "way/0@3", "natural=wood", "water")
    assert done(answers, "way/0@5", "natural=wood", "water")
    assert not done(answers, "way/0@5", "natural=scrub", "water")
    assert not done(answers, "way/0@3", "natural=wood", "crop")
    assert not done(answers, "way/1@3", "natural=wood", "water")


@pytest.mark.parametrize("verdict", ["skipped", "too_hard", "void", "moved_on", ""])
def test_open_questions_may_be_asked_again(verdict: str) -> None:
    answers = answered(("way/0@3", "natural=wood", "water", verdict, ""))
    assert not done(answers, "way/0@3", "natural=wood", "water")


def reference(x: float, y: float, shares: tuple[float, ...]) -> Anchors:
    return Anchors(
        x=np.array([x]), y=np.array([y]), shares=np.array([shares]), weight=np.ones(1),
        record=np.array(["a"]), provenance=Provenance(activity="a", agent="b"),
    )  # fmt: skip


def test_places_that_were_too_hard_ask_for_a_visit_until_somebody_was_there() -> None:
    answers = answered(
        ("way/0@3", "natural=wood", "water", "too_hard", ""),
        ("way/1@3", "natural=wood", "grass", "skipped", ""),
        at=0,
    )
    place_of = too_hard_places([answers], None, GRID)
    inside = burn(np.array([place(0)], object), GRID) > 0
    assert (place_of > 0).tolist() == inside.tolist()
    middle = place(0).centroid
    told, cloudy = (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)
    seen = too_hard_places([answers], reference(middle.x, middle.y, told), GRID)
    assert not seen.any()
    hidden = too_hard_places([answers], reference(middle.x, middle.y, cloudy), GRID)
    assert (hidden == place_of).all()
    off = (GRID.extent.boundingbox.right - 5, GRID.extent.boundingbox.top - 5)
    assert (too_hard_places([answers], reference(*off, told), GRID) == place_of).all()


def test_only_questions_about_the_ground_send_somebody_there() -> None:
    row = ("way/0@3", "natural=wood", "water", "too_hard", "")
    assert len(on_the_ground(answered(row), GRID)) == 1
    assert too_hard_places([answered(row)], None, GRID).any()
    for nowhere in (answered(row, kind="displaced"), answered(row, at=20)):
        assert not len(on_the_ground(nowhere, GRID))
        assert not too_hard_places([nowhere], None, GRID).any()
    assert not too_hard_places([], None, GRID).any()


def test_missing_areas_are_settled_by_place() -> None:
    answers = answered(("new/tree/1_1", "", "tree", "rejected", ""), kind="missing")
    assert done(answers, "new/tree/2_2", "", "tree", missing=True)
    assert not done(answers, "new/water/2_2", "", "water", missing=True)
    elsewhere = answered(("new/tree/1_1", "", "tree", "rejected", ""), kind="missing", at=1)
    assert not done(elsewhere, "new/tree/2_2", "", "tree", missing=True)


def test_cells_of_answered_patches_are_settled() -> None:
    answers = answered(("crop-tree-1", "crop", "tree", "rejected", ""), kind="patch")
    tree, grass = (np.full(GRID.shape, LEGEND.index(name)) for name in ("tree", "grass"))
    found = settled_cells([answers.about("osm")], tree, GRID, LEGEND)
    assert found.tolist() == (burn(np.array([place(0)], object), GRID) > 0).tolist()
    share = found.mean()
    assert 0.2 < share < 0.6
    assert not settled_cells([answers.about("osm")], grass, GRID, LEGEND).any()
    assert not settled_cells([answers.about("other")], tree, GRID, LEGEND).any()


def sample(name: str, weight: list[float], classes: list[int]) -> Anchors:
    n = len(weight)
    return Anchors(
        x=np.arange(n, dtype=float), y=np.zeros(n), shares=np.eye(2)[classes],
        weight=np.array(weight), record=np.array([f"{name}{i}" for i in range(n)]),
        provenance=Provenance(activity="a", agent="b", licences=frozenset({name})),
    )  # fmt: skip


def test_joined_samples_weigh_as_much_as_they_know() -> None:
    """The scale of a sample's weights is arbitrary, so it must not matter."""
    a, b = sample("a", [1, 1, 1, 1], [0, 0, 0, 1]), sample("b", [500, 500], [1, 1])
    both = joined([a, b])
    share = (both.weight[:, None] * both.shares).sum(axis=0) / both.weight.sum()
    np.testing.assert_allclose(share, [3 / 6, 3 / 6])
    uneven = joined([a, sample("b", [1, 1e9], [1, 1])])
    assert uneven.weight[4:].sum() == pytest.approx(1.0)
    assert both.provenance.licences == {"a", "b"}


def test_visits_become_anchors_with_inverse_inclusion_probability() -> None:
    visits = pd.DataFrame(
        {"sample_id": ["v1", "v2"], "x": [1.0, 2.0], "y": [3.0, 4.0], "class": ["tree", ""],
         "inclusion_probability": [0.5, 0.01]}
    )  # fmt: skip
    answers = stored()
    none = reference_visits(answers, LEGEND)
    assert none is None
    found = reference_visits(
        Stored(run="r", proposals=answers.proposals, visits=visits, licence="CC0-1.0"), LEGEND
    )
    assert found.weight.tolist() == [2.0, 100.0]
    assert found.answered.tolist() == [True, False]
