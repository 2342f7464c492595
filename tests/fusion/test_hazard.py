"""Statements of different ages: neutral today, exact Bayes before, and what changes found again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import shapely

from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.core.setting import ENGINE
from glocal.fusion.fuse import fuse
from glocal.fusion.reliability.confusion import update
from glocal.fusion.reliability.hazard import (
    learned_rate,
    outdated,
    then_given_now,
    years_apart,
)
from glocal.testing import CELL, grid, legend_of, provenance_of

K, SIDE, BLOCK = 3, 150, 5
LEGEND, BOX = legend_of(K), grid(SIDE, SIDE)
TODAY = Interval(start=datetime(2023, 1, 1, tzinfo=UTC), stop=datetime(2024, 1, 1, tzinfo=UTC))
YEAR = 365.25 * 86400


def scene(seed, rate=(0.0, 0.02, 0.06), wrong=0.05, oldest=20):
    """Return (truth, a map, objects) where objects say what was there some years ago."""
    rng = np.random.default_rng(seed)
    n = SIDE // BLOCK
    now = rng.integers(0, K, (n, n))
    age = rng.integers(0, oldest + 1, (n, n))
    changed = rng.random((n, n)) < 1 - np.exp(-np.array(rate)[now] * age)
    other = (now + rng.integers(1, K, (n, n))) % K
    then = np.where(changed, other, now)
    said = np.where(rng.random((n, n)) < wrong, (then + rng.integers(1, K, (n, n))) % K, then)
    truth = now.repeat(BLOCK, 0).repeat(BLOCK, 1)
    seen = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, K, truth.shape), truth)
    row, column = np.indices((n, n)).reshape(2, -1)
    left, top = BOX.boundingbox.left, BOX.boundingbox.top
    step = BLOCK * CELL
    boxes = shapely.box(
        left + column * step, top - (row + 1) * step, left + (column + 1) * step, top - row * step
    )
    stamp = TODAY.start.timestamp() - age.ravel() * YEAR
    objects = Observations(
        source="objects",
        support="objects",
        symbols=(said.ravel() + 1).astype(np.uint8),
        geometry=boxes,
        record=np.array([f"way/{i}@1" for i in range(n * n)]),
        columns={"timestamp": stamp.astype("int64").astype("datetime64[s]")},
        **COMMON,
        provenance=provenance_of("objects"),
    )
    cells = Observations(
        source="map",
        support="cells",
        symbols=(seen + 1).astype(np.uint8),
        **COMMON,
        provenance=provenance_of("map"),
    )
    return truth, changed.ravel(), cells, objects


COMMON = {
    "geobox": BOX,
    "crosswalk": Crosswalk(
        symbols=LEGEND.names,
        target=LEGEND,
        matrix=0.8 * np.eye(K) + 0.2 / K,
        confidence=np.full(K, 0.5),
    ),
    "phenomenon_time": TODAY,
}


def same(a, b):
    assert np.array_equal(a.cells(), b.cells())
    for one, other in zip(a.reliabilities(), b.reliabilities(), strict=True):
        assert np.array_equal(one.confusion, other.confusion)
        assert one.exponent == other.exponent


def test_statements_of_today_are_untouched_to_the_last_bit():
    _, _, cells, objects = scene(0)
    today = np.full(len(objects), "2023-06-01", "datetime64[s]")
    objects = replace(objects, columns={"timestamp": today})
    same(fuse([cells, objects]), fuse([cells, objects], interval=TODAY))


def test_without_dates_or_with_one_date_nothing_changes():
    _, _, cells, objects = scene(1)
    unknown = np.full(len(objects), "NaT", "datetime64[s]")
    old = np.full(len(objects), "2010-06-01", "datetime64[s]")
    for stamps in (unknown, old):
        one = replace(objects, columns={"timestamp": stamps})
        same(fuse([cells, one]), fuse([cells, one], interval=TODAY))
    aged = replace(cells, phenomenon_time=Interval.of_year(2010))
    same(fuse([aged]), fuse([aged], interval=TODAY))


def test_the_young_are_untouched_beside_the_old():
    """P(symbol | class) of an age-0 statement is the confusion itself, whatever the rates."""
    _, _, cells, objects = scene(2)
    fit = fuse([cells, objects], interval=TODAY).fit
    one = fit.confusion["objects"]
    assert np.array_equal(one.now[0], one.log_p)
    assert not np.allclose(one.now[-1], one.log_p)
    assert np.allclose(np.exp(one.now).sum(axis=-1), 1)


def test_chances_of_change_are_those_of_the_exponential_law():
    rate, ages = np.array([0.0, 0.05, 0.2]), np.array([0.0, 1.0, 10.0])
    prior = np.array([0.5, 0.3, 0.2])
    then = then_given_now(rate, ages, prior)
    assert np.allclose(then.sum(axis=2), 1)
    assert np.array_equal(then[0], np.eye(3))
    assert np.array_equal(then[:, 0, 0], np.ones(3))
    assert then[2, 1, 1] == pytest.approx(np.exp(-0.5))
    # of what changed, the classes stand as in the prior
    assert then[2, 1, 0] / then[2, 1, 2] == pytest.approx(0.5 / 0.2)


def test_expected_counts_by_the_class_then_equal_a_slow_sum():
    rng = np.random.default_rng(3)
    _, _, cells, objects = scene(3)
    fit = fuse([cells, objects], interval=TODAY).fit
    one = fit.confusion["objects"]
    counts = rng.random((len(one.then), *one.log_p.shape))
    slow = np.zeros_like(one.log_p)
    for a, k, m in np.ndindex(len(one.then), K, K):
        chance = one.then[a, k] * np.exp(one.log_p[0, :, m])
        slow[0, :, m] += counts[a, 0, k, m] * chance / chance.sum()
    found = update(replace(one, strength=1e-12), counts.reshape(-1, K, K), ENGINE)
    assert np.allclose(found.counts, slow)
    assert found.counts.sum() == pytest.approx(counts.sum())


@pytest.mark.parametrize("seed", range(2))
def test_what_changes_more_is_known_to_and_the_outdated_are_found(seed):
    truth, changed, cells, objects = scene(seed)
    plain, fused = fuse([cells, objects]), fuse([cells, objects], interval=TODAY)
    term = next(one for one in fused.fit.problem.terms if one.name == "objects")
    then = fused.fit.confusion["objects"].then
    found = -np.log(np.einsum("akk->ak", then)[-1]) / term.ages[-1]
    # a few sweeps from a low start leave part of the change to the confusion
    assert found[0] < ENGINE.change_rate / 2 < ENGINE.change_rate < found[2]
    assert (np.argsort(found) == [0, 1, 2]).all()
    told = fused.fit.messages["objects"]
    p = outdated(term, fused.fit.confusion["objects"], told.cavity[1:])
    assert p[changed].mean() > 5 * p[~changed].mean()
    wrong = objects.symbols - 1 != truth[::BLOCK, ::BLOCK].ravel()
    age = term.ages[term.age[1:]]
    old = p[wrong & (age >= 15)].mean()
    assert old > 1.5 * p[wrong & (age <= 5)].mean()
    # knowing the ages makes the estimate better
    at = np.arange(truth.size), truth.ravel()
    loss = [-one.cells().reshape(-1, K)[at].mean() for one in (plain, fused)]
    assert loss[1] < loss[0]


def test_nobody_dated_leaves_the_prior_rate():
    _, _, cells, objects = scene(4)
    fit = fuse([cells, objects]).fit
    assert learned_rate(fit.problem, fit.confusion, {}) == pytest.approx(ENGINE.change_rate)
    term = next(one for one in fit.problem.terms if one.name == "objects")
    cavity = np.zeros((len(objects), K))
    assert not outdated(term, fit.confusion["objects"], cavity).any()


def test_years_are_counted_from_either_side():
    _, _, _, objects = scene(5)
    stamps = np.array(["2013-01-01", "2023-05-05", "2025-12-31", "NaT"], "datetime64[s]")
    few = replace(
        objects,
        symbols=objects.symbols[:4],
        geometry=objects.geometry[:4],
        record=objects.record[:4],
        columns={"timestamp": stamps},
    )
    assert years_apart(few, TODAY) == pytest.approx([10, 0, 2, 0], abs=0.01)
    undated = replace(few, columns={}, phenomenon_time=Interval.of_year(2020))
    assert years_apart(undated, TODAY) == pytest.approx([2, 2, 2, 2], abs=0.01)
