"""Acceptance rates are learned where the truth is known, and are as declared elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from glocal.core.interval import Interval
from glocal.core.observation import Anchors, Observations
from glocal.core.provenance import Provenance
from glocal.sources.answers.store import Stored
from glocal.sources.kind import Reading
from glocal.sources.people.kind import People, ReviewConfig
from glocal.sources.people.rates import STRENGTH, learned, rates_of, tally
from glocal.sources.people.review import Bias, observe_review, table_of
from glocal.synthetic import world_named
from glocal.synthetic.ground import geobox_of, make_ground
from glocal.synthetic.source_points import Points, draw_anchors
from glocal.synthetic.world import CLASSES
from glocal.synthetic.write import LEGEND
from tests.sources.findings import window_of

BIAS = Bias()
NONE = np.zeros((3, 2))
RATE = st.floats(0.05, 0.95)
COUNT = st.integers(0, 200)
TALLY = st.tuples(*[st.tuples(COUNT, COUNT)] * 3).map(
    lambda rows: np.array([(min(row), max(row)) for row in rows], float)
)


@given(RATE, RATE, RATE, TALLY)
def test_rates_are_means_of_beta_distributions(a: float, b: float, own: float, mine) -> None:
    declared = Bias(accept_if_right=max(a, b), accept_if_wrong=min(a, b), right_if_blind=own)
    found = learned(declared, mine, NONE, classes=6)
    prior = (declared.accept_if_right, declared.accept_if_wrong)
    expected = [
        stats.beta(STRENGTH * rate + yes, STRENGTH * (1 - rate) + total - yes).mean()
        for rate, (yes, total) in zip(prior, mine, strict=False)
    ]
    if expected[1] < expected[0]:
        assert (found.accept_if_right, found.accept_if_wrong) == pytest.approx(tuple(expected))
    else:
        assert found.accept_if_right == found.accept_if_wrong
        low, high = sorted(expected)
        assert low - 1e-9 <= found.accept_if_right <= high + 1e-9


@given(RATE, RATE, RATE)
def test_without_known_truth_they_are_as_declared(a: float, b: float, own: float) -> None:
    declared = Bias(accept_if_right=max(a, b), accept_if_wrong=min(a, b), right_if_blind=own)
    found = learned(declared, NONE, NONE, classes=20)
    assert found.accept_if_right == pytest.approx(declared.accept_if_right)
    assert found.accept_if_wrong == pytest.approx(declared.accept_if_wrong)
    assert found.right_if_blind == pytest.approx(max(own, 1 / 20))


@given(TALLY, TALLY)
def test_nobody_means_the_opposite_and_others_are_heard_less(mine, others) -> None:
    found = learned(BIAS, mine, others, classes=6)
    assert found.accept_if_wrong <= found.accept_if_right
    assert found.right_if_blind >= 1 / 6
    # however many the others are, they are worth STRENGTH answers of one's own
    crowd = learned(BIAS, NONE, others * 1e9, classes=6)
    for name in ("accept_if_right", "accept_if_wrong"):
        assert 0 <= getattr(crowd, name) <= 1


def calibrated(answers: Observations, anchors: Anchors | None) -> Observations:
    """Return answers with the rates that reference points teach, as `BIAS` declares them."""
    one = Reading(
        kind=People(), config=ReviewConfig(name="review", kind="review", path=Path("answers")),
        window=window_of(answers.geobox, answers.legend, interval=answers.phenomenon_time),
        provenance=answers.provenance, statements=answers,
        answers=NOTHING.answered(str(answers.geobox.crs)),
    )  # fmt: skip
    return People().calibrated(one, [one], anchors).says


NAMES = ("proposal", "source", "kind", "record", "current", "proposed", "verdict", "stated")
NOTHING = Stored(
    run="r", visits=pd.DataFrame(), licence="CC0-1.0",
    proposals=gpd.GeoDataFrame({name: [] for name in NAMES}, geometry=[], crs="EPSG:32633"),
)  # fmt: skip


def asked(points: Points, shown: NDArray[np.integer], verdict: NDArray[np.str_]) -> Observations:
    """Return answers to whether each point's cell is of the class that was shown."""
    names = np.array(LEGEND.names)
    half = shapely.box(*np.column_stack((points.xy - 5, points.xy + 5)).T)
    n = len(points)
    table = pd.DataFrame(
        {
            "proposal": [f"g-{i:06d}" for i in range(n)], "source": "osm", "kind": "retag",
            "record": [f"way/{i}@1" for i in range(n)], "current": "", "probability": 0.9,
            "proposed": names[shown], "verdict": verdict,
            "stated": np.where(verdict == "told", names[points.said], ""),
        }
    )  # fmt: skip
    box = geobox_of(WORLD)
    stored = Stored(
        run="r", proposals=gpd.GeoDataFrame(table, geometry=half, crs=str(box.crs)),
        visits=pd.DataFrame(), licence="CC0-1.0",
    )  # fmt: skip
    return observe_review(
        stored.answered(str(box.crs)), box, LEGEND, run="r", source="review", bias=BIAS,
        interval=Interval.parse("2023"),
        licences=frozenset({"CC0-1.0"}),
    )  # fmt: skip


def known(points: Points) -> Anchors:
    n = len(points)
    return Anchors(
        x=points.xy[:, 0], y=points.xy[:, 1], shares=np.eye(len(CLASSES))[points.truth],
        weight=np.ones(n), record=np.array([f"a{i}" for i in range(n)]),
        provenance=Provenance(activity="a", agent="b"),
    )  # fmt: skip


WORLD = replace(world_named("standard", 96), anchors=1500)


def reviewed(acceptance: float, seed: int = 5) -> tuple[Points, NDArray[np.integer]]:
    """Return points whose class was asked by showing a suggestion, half of them wrong."""
    world = replace(WORLD, acceptance=acceptance)
    rng = np.random.default_rng(seed)
    ground = make_ground(world, rng)
    truth = ground.classes()
    wrong = (truth + rng.integers(1, len(CLASSES), truth.shape)) % len(CLASSES)
    suggestion = np.where(rng.random(truth.shape) < 0.5, wrong, truth).astype(np.uint8)
    points = draw_anchors(world, ground, suggestion, rng)
    return points, suggestion.ravel()[points.cell]


@pytest.mark.parametrize("acceptance", [0.1, 0.5, 0.8])
def test_the_acceptance_bias_of_simulated_reviewers_is_found(acceptance: float) -> None:
    points, shown = reviewed(acceptance)
    verdict = np.where(points.said == shown, "accepted", "rejected")
    found = rates_of([asked(points, shown, verdict)], known(points), {"review": BIAS})["review"]
    n = found.tally[1, 1]
    assert 600 < n < 900
    sd = np.sqrt(acceptance * (1 - acceptance) / n)
    pull = STRENGTH / n  # of what was declared
    assert abs(found.bias.accept_if_wrong - acceptance) < 3 * sd + pull
    assert found.bias.accept_if_right > 0.99
    few = np.zeros(len(points), bool)
    few[:20] = True
    little = rates_of(
        [asked(points, shown, verdict)],
        known(points).take(few),
        {"review": BIAS},
    )["review"]
    between = sorted((BIAS.accept_if_wrong, found.bias.accept_if_wrong))
    assert between[0] - 0.15 < little.bias.accept_if_wrong < between[1] + 0.15
    assert "accepted with" in str(found)


def information(table: NDArray[np.float64], question: int) -> float:
    """Return the bits that an answer to a question tells of six equally likely classes."""
    joint = table[question] / len(table[question])
    alone = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    return float((joint * np.log2(joint / alone)).sum())


def test_who_accepts_everything_says_nothing() -> None:
    points, shown = reviewed(0.0)
    answers = asked(points, shown, np.full(len(points), "accepted"))
    heard = calibrated(answers, known(points))
    honest = np.where(points.truth == shown, "accepted", "rejected")
    believed = calibrated(asked(points, shown, honest), known(points))
    for question in range(1, len(LEGEND) + 1):
        accepted = heard.declared[question, :, question - 1]
        assert accepted.max() / accepted.min() < 1.02
        assert information(heard.declared, question) < 0.01
        assert information(answers.declared, question) > 0.05
        assert information(believed.declared, question) > 0.3


def test_words_without_a_suggestion_are_right_as_often_as_seen() -> None:
    points, shown = reviewed(0.6)
    answers = asked(points, shown, np.full(len(points), "told"))
    found = tally(answers, known(points))
    assert found[:2].sum() == 0
    assert found[2].tolist() == [(points.said == points.truth).sum(), len(points)]


def test_only_answers_are_touched_and_only_where_truth_is_known() -> None:
    points, shown = reviewed(0.5)
    answers = asked(points, shown, np.full(len(points), "accepted"))
    assert (tally(answers, None) == 0).all()
    silent = replace(known(points), shares=np.zeros((len(points), len(CLASSES))))
    assert (tally(answers, silent) == 0).all()
    same = calibrated(answers, None)
    np.testing.assert_allclose(same.declared, table_of(len(LEGEND), BIAS), rtol=1e-12)
    assert rates_of([], known(points), {}) == {}
