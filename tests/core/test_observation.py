from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Anchors, Estimate, Observations, Reliability
from glocal.testing import anchors_at, grid, legend_of, observations, provenance_of

LEGEND, BOX = legend_of(3), grid(6, 7)


@given(observations(BOX, LEGEND))
@settings(max_examples=40)
def test_everything_drawn_is_read_only(one):
    arrays = [one.symbols, one.geometry, one.record, one.position_sd_m]
    arrays += [] if one.stratum is None else [one.stratum]
    assert not any(array.flags.writeable for array in arrays)
    assert one.legend is LEGEND
    assert len(one) == len(one.symbols)


@given(
    observations(BOX, LEGEND), st.sampled_from(["symbols", "stratum", "dtype", "beyond", "name"])
)
@settings(max_examples=40)
def test_what_does_not_fit_is_refused(one, what):
    wrong = {
        "symbols": {"symbols": np.zeros((2, 2, 2), np.uint8)},
        "stratum": {"stratum": np.zeros((2, 2, 2), np.uint8)},
        "dtype": {"symbols": one.symbols.astype(np.int16)},
        "beyond": {"symbols": np.full(one.symbols.shape, 200, np.uint8)},
        "name": {"source": ""},
    }[what]
    if what == "beyond" and not one.symbols.size:
        return
    with pytest.raises(ValueError, match="source"):
        replace(one, **wrong)


@given(observations(BOX, LEGEND, support="points"))
@settings(max_examples=20)
def test_points_need_a_place_and_its_accuracy(one):
    if not len(one):
        return
    for sd in (np.full(len(one), np.nan), np.full(len(one), -1.0), np.full(len(one), np.inf), []):
        with pytest.raises(ValueError, match="position_sd_m"):
            replace(one, position_sd_m=np.array(sd))
    lost = one.geometry.copy()
    for nowhere in (None, shapely.Point(), shapely.Point(np.inf, 0)):
        lost[0] = nowhere
        with pytest.raises(ValueError, match="finite coordinates"):
            replace(one, geometry=lost)


def test_columns_have_one_length():
    one = Observations(
        source="it",
        support="objects",
        geobox=BOX,
        symbols=np.zeros(2, np.uint8),
        crosswalk=Crosswalk.from_shares(LEGEND, {"a": {"c0": 1.0}}),
        phenomenon_time=Interval.of_year(2020),
        provenance=provenance_of("it"),
        geometry=np.array([shapely.box(0, 0, 1, 1)] * 2, object),
        record=np.array(["a", "b"]),
    )
    with pytest.raises(ValueError, match="tags"):
        replace(one, columns={"tags": np.zeros(3)})
    with pytest.raises(ValueError, match="one length"):
        replace(one, record=np.array(["a"]))
    with pytest.raises(ValueError, match="unique"):
        replace(one, record=np.array(["a", "a"]))


def test_anchors_are_checked_and_taken():
    truth = np.arange(42).reshape(6, 7) % 4 - 1
    anchors = anchors_at(BOX, truth, 30, LEGEND)
    assert anchors.answered.sum() < 30
    some = anchors.take(anchors.answered)
    assert some.answered.all()
    np.testing.assert_array_equal(some.record, anchors.record[anchors.answered])
    for wrong in (
        {"shares": anchors.shares * 0.5 + 0.1},
        {"shares": np.tile([1.5, -0.5, 0.0], (30, 1))},
        {"weight": np.zeros(30)},
        {"weight": np.full(30, np.inf)},
        {"x": anchors.x[:3]},
    ):
        with pytest.raises(ValueError, match="Anchors"):
            replace(anchors, **wrong)
    assert isinstance(anchors, Anchors)


def test_reliability_rows_are_distributions():
    good = {
        "source": "it",
        "legend": LEGEND,
        "symbols": ("a", "b"),
        "confusion": np.full((2, 3, 2), 0.5),
        "counts": np.zeros((2, 3, 2)),
        "exponent": 1.0,
        "family": ("it",),
    }
    assert not Reliability(**good).confusion.flags.writeable
    with pytest.raises(ValueError, match="sum to 1"):
        Reliability(**{**good, "confusion": np.full((2, 3, 2), 0.4)})
    with pytest.raises(ValueError, match="needs"):
        Reliability(**{**good, "counts": np.zeros((1, 3, 2))})


def test_an_estimate_names_the_most_probable_class():
    log_p = np.log(np.random.default_rng(0).dirichlet(np.ones(3), (6, 7)))
    common = {
        "geobox": BOX,
        "interval": Interval.of_year(2020),
        "legend": LEGEND,
        "disagreement": np.zeros((6, 7)),
        "weights": {"it": 1.0},
        "provenance": provenance_of("it"),
        "round": 1,
    }
    estimate = Estimate(log_p=log_p, **common)
    np.testing.assert_array_equal(estimate.classes, log_p.argmax(axis=-1))
    np.testing.assert_array_equal(estimate.p, np.exp(log_p))
    with pytest.raises(ValueError, match="shape"):
        Estimate(log_p=log_p[:5], **common)
    with pytest.raises(ValueError, match="shape"):
        Estimate(log_p=log_p, **{**common, "disagreement": np.zeros((6, 6))})
