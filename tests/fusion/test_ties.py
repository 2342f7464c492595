"""Dependence that nobody declared is found on anchors, and independent sources are left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glocal.core.grid import cells_of_points
from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.core.setting import ENGINE, Setting
from glocal.fusion.fuse import fuse
from glocal.fusion.problem.terms import locate, prepare
from glocal.fusion.reliability.dependence import families_of
from glocal.fusion.reliability.ties import Tie, _holm, hidden_ties, joined
from glocal.testing import anchors_at, grid, legend_of, provenance_of

K, SIDE = 4, 50
LEGEND, BOX = legend_of(K), grid(SIDE, SIDE)


def source(name, symbols, *roots):
    return Observations(
        source=name,
        support="cells",
        geobox=BOX,
        symbols=symbols.astype(np.uint8),
        crosswalk=Crosswalk(
            symbols=LEGEND.names,
            target=LEGEND,
            matrix=0.9 * np.eye(K) + 0.1 / K,
            confidence=np.full(K, 0.5),
        ),
        phenomenon_time=Interval.of_year(2020),
        provenance=provenance_of(*(roots or (name,))),
    )


def wrong_where(truth, errs, rng):
    """Return symbols of any other class where ``errs``."""
    return np.where(errs, (truth + rng.integers(1, K, truth.shape)) % K, truth) + 1


def world(seed, shared, sources=4, anchors=150):
    """Return sources that err alike in a ``shared`` part of the cells, and the anchors."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(K, (SIDE, SIDE), p=[0.5, 0.3, 0.15, 0.05])
    hard = np.array([0.1, 0.2, 0.4, 0.5])[truth]  # a class that is hard for all is no dependence
    common = wrong_where(truth, rng.random(truth.shape) < hard, rng)
    told = [
        np.where(
            rng.random(truth.shape) < shared,
            common,
            wrong_where(truth, rng.random(truth.shape) < hard, rng),
        )
        for _ in range(sources)
    ]
    named = [source(f"s{i}", one) for i, one in enumerate(told)]
    return named, anchors_at(BOX, truth, anchors, LEGEND, seed=seed)


def ties_of(sources, anchors, seed=0):
    problem = prepare(sources, families_of(sources))
    located = locate(anchors, cells_of_points(BOX, anchors.x, anchors.y), problem)
    return hidden_ties(problem, located, seed=seed), problem


def test_independent_sources_rarely_raise_an_alarm():
    """Among six pairs, one false alarm or more in 5 % of the worlds (here: at most 5 of 40)."""
    alarms = sum(bool(ties_of(*world(seed, 0.0))[0]) for seed in range(40))
    assert alarms <= 5


@pytest.mark.parametrize("seed", range(4))
def test_shared_errors_are_found_and_measured(seed):
    ties, _ = ties_of(*world(seed, 0.8))
    assert {(one.a, one.b) for one in ties} == {
        (f"s{i}", f"s{j}") for i in range(4) for j in range(i + 1, 4)
    }
    # two sources read the common errors in .8 x .8 of the cells
    assert np.mean([one.correlation for one in ties]) == pytest.approx(0.64, abs=0.12)


def test_only_the_pair_that_shares_errors_is_named():
    sources, anchors = world(3, 0.0)
    rng = np.random.default_rng(3)
    copied = np.where(rng.random((SIDE, SIDE)) < 0.9, sources[0].symbols, sources[1].symbols)
    ties, problem = ties_of([sources[0], source("s1", copied), *sources[2:]], anchors)
    assert [(one.a, one.b) for one in ties] == [("s0", "s1")]
    kin = {term.name: term.kin for term in joined(problem, ties).terms}
    assert kin == {"s0": ("s0", "s1"), "s1": ("s0", "s1"), "s2": ("s2",), "s3": ("s3",)}
    assert all(term.family == (term.name,) for term in joined(problem, ties).terms)


def test_a_declared_family_is_not_tested():
    sources, anchors = world(4, 0.8, sources=2)
    tied = [replace(one, provenance=provenance_of("root")) for one in sources]
    assert ties_of(tied, anchors)[0] == ()


def test_the_order_and_names_of_sources_do_not_matter():
    sources, anchors = world(5, 0.35)
    forward, _ = ties_of(sources, anchors)
    backward, _ = ties_of(sources[::-1], anchors)
    assert forward
    assert {(frozenset((t.a, t.b)), t.p, round(t.correlation, 12)) for t in forward} == {
        (frozenset((t.a, t.b)), t.p, round(t.correlation, 12)) for t in backward
    }


def test_silence_is_no_agreement():
    """Sources that are silent at the same cells, and else independent, are not tied."""
    sources, anchors = world(6, 0.0)
    half = np.arange(SIDE)[:, None] < SIDE * 0.6
    quiet = [replace(one, symbols=np.where(half, one.symbols, 0)) for one in sources]
    assert ties_of(quiet, anchors)[0] == ()


def test_few_anchors_show_nothing():
    assert ties_of(*world(7, 0.95, anchors=25))[0] == ()


def test_holm_counts_all_pairs():
    found = _holm([Tie(a=a, b="z", correlation=0.1, p=p, anchors=50) for a, p in
                   (("a", 0.01), ("b", 0.03), ("c", 0.02), ("d", 0.9))])  # fmt: skip
    assert [(one.a, round(one.p, 6)) for one in found] == [
        ("a", 0.04), ("c", 0.06), ("b", 0.06), ("d", 0.9)
    ]  # fmt: skip


def test_a_tie_makes_a_shared_budget_in_the_fusion():
    sources, anchors = world(8, 0.9, sources=3)
    fused = fuse(sources, anchors)
    assert {(one.a, one.b) for one in fused.ties} == {("s0", "s1"), ("s0", "s2"), ("s1", "s2")}
    assert all(one.p <= 3 / (2 * ENGINE.tie_shuffles + 1) for one in fused.ties)
    assert set(fused.fit.exponents.delta) == {"s0", "s1", "s2"}
    naive = fuse(sources, anchors, setting=Setting(exponents="one"))
    assert naive.ties == fused.ties
    assert set(naive.fit.exponents.g.values()) == {1.0}
    assert fused.anchor_log_loss < naive.anchor_log_loss
