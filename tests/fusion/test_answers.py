"""Answers in the engine: they speak of their place only, once, and given the question."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from glocal.core.interval import Interval
from glocal.core.legend import ClassDef, Crosswalk, Legend
from glocal.core.observation import Anchors, Observations
from glocal.core.provenance import Provenance
from glocal.fusion.fuse import fuse

GRID = GeoBox.from_bbox((0, 0, 240, 240), crs="EPSG:32633", resolution=10)
LEGEND = Legend(
    name="abc",
    classes=tuple(
        ClassDef(value=i + 1, name=n, title=n, color="000000") for i, n in enumerate("abc")
    ),
)
WHEN = Interval.parse("2020")
PLACE = shapely.box(40, 40, 120, 120)


def a_map(name: str, seed: int, error: float) -> Observations:
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.repeat(np.arange(9).reshape(3, 3) % 3, 8, 0), 8, 1)
    wrong = rng.random(truth.shape) < error
    said = np.where(wrong, rng.integers(0, 3, truth.shape), truth) + 1
    return Observations(
        source=name,
        support="cells",
        geobox=GRID,
        symbols=said.astype(np.uint8),
        crosswalk=Crosswalk.from_shares(LEGEND, {c: {c: 1.0} for c in "abc"}, confidence=0.7),
        phenomenon_time=WHEN,
        provenance=Provenance(activity="read", agent=name, roots=frozenset({name})),
    )


MAPS = [a_map("m1", 1, 0.3), a_map("m2", 2, 0.3)]


def answer(symbol: int, accept_if_right: float, accept_if_wrong: float) -> Observations:
    """One place; the question was "is it b?", symbol 1 is yes and 2 is no."""
    yes = np.where(np.array(LEGEND.names) == "b", accept_if_right, accept_if_wrong)
    return Observations(
        source="review",
        support="answers",
        geobox=GRID,
        symbols=np.array([symbol], np.uint8),
        crosswalk=Crosswalk.from_shares(LEGEND, {"yes": {"b": 1.0}, "no": {"a": 1.0, "c": 1.0}}),
        phenomenon_time=WHEN,
        provenance=Provenance(activity="ask", agent="people", roots=frozenset({"review"})),
        geometry=np.array([PLACE], object),
        record=np.array(["q1"]),
        declared=np.stack([yes, 1 - yes], axis=1)[None],
    )


def p_of(observations: list[Observations]) -> np.ndarray:
    return np.exp(fuse(observations).cells())


INSIDE = np.s_[12:20, 4:12]


@given(st.floats(0.5, 0.99), st.floats(0.01, 0.49))
def test_yes_raises_and_no_lowers_the_class_asked_about(right: float, wrong: float) -> None:
    without = p_of(MAPS)[INSIDE][..., 1]
    yes = p_of([*MAPS, answer(1, right, wrong)])[INSIDE][..., 1]
    no = p_of([*MAPS, answer(2, right, wrong)])[INSIDE][..., 1]
    assert (yes > without).all()
    assert (no < without).all()


def test_the_odds_move_by_no_more_than_one_answer_is_worth() -> None:
    fused = fuse([*MAPS, answer(1, 0.9, 0.3)])
    told = fused.fit.messages["review"].log_p
    spread = told.max(axis=1) - told.min(axis=1)
    assert spread.max() < np.log(0.9 / 0.3) + 0.1
    unit = fused.fit.problem.units.of_cell.reshape(24, 24)
    outside = np.setdiff1d(unit, unit[INSIDE])
    assert np.array_equal(told[outside], np.zeros_like(told[outside]))


def test_an_answer_that_is_the_same_whatever_is_true_changes_nothing() -> None:
    without, deaf = p_of(MAPS), p_of([*MAPS, answer(1, 0.5, 0.5)])
    np.testing.assert_allclose(deaf, without, atol=5e-3)


def test_answers_have_no_vote_on_how_frequent_classes_are() -> None:
    plain, asked = fuse(MAPS), fuse([*MAPS, answer(1, 0.9, 0.1)])
    np.testing.assert_array_equal(asked.fit.log_prior, plain.fit.log_prior)


def test_silent_answers_change_nothing_at_all() -> None:
    one = replace(answer(1, 0.9, 0.3), symbols=np.array([0], np.uint8))
    np.testing.assert_allclose(p_of([*MAPS, one]), p_of(MAPS), atol=1e-6)


def test_anchors_teach_the_table_before_not_again() -> None:
    """However many points say that b is there, "no" does not come to mean b."""
    row, column = (one.ravel() for one in np.indices((8, 8)))
    anchors = Anchors(
        x=45.0 + 10 * column,
        y=45.0 + 10 * row,
        shares=np.tile([0.0, 1.0, 0.0], (64, 1)),
        weight=np.ones(64),
        record=np.array([f"a{i}" for i in range(64)]),
        provenance=Provenance(activity="a", agent="b"),
    )
    fused = fuse([*MAPS, answer(2, 0.9, 0.3)], anchors)
    inside = fused.fit.problem.units.of_cell.reshape(24, 24)[INSIDE]
    message = fused.fit.messages["review"].log_p[inside]
    assert (message[..., 1] < message[..., [0, 2]].min(axis=-1)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"declared": None}, "declared goes with"),
        ({"declared": np.full((1, 3, 2), 0.4)}, "sum to 1"),
        ({"declared": np.full((1, 2, 2), 0.5)}, "shape"),
        ({"stratum": np.array([3], np.uint8)}, "shape"),
        ({"support": "objects"}, "declared goes with"),
    ],
)
def test_wrong_tables_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(answer(1, 0.9, 0.3), **change)
