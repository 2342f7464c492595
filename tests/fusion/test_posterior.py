"""The prior of the classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.fusion.estimate.posterior import class_prior
from glocal.fusion.fuse import fuse
from glocal.fusion.problem.terms import Located, Problem
from glocal.fusion.problem.units import Units
from glocal.testing import grid, legend_of


@given(st.integers(2, 5), st.integers(0, 2**16), st.integers(1, 80))
@settings(max_examples=25)
def test_the_prior_is_the_weighted_share_of_the_anchors(classes, seed, n):
    legend = legend_of(classes)
    nothing = np.empty(0, np.int64)
    units = Units(of_cell=nothing, columns=nothing.reshape(0, 0), count=np.empty(0))
    problem = Problem(geobox=grid(1, 1), legend=legend, units=units, terms=())
    rng = np.random.default_rng(seed)
    truth, weight = rng.integers(0, classes, n), rng.uniform(0.1, 5, n)
    located = Located(
        unit=np.zeros(n, np.int64),
        cell=np.zeros(n, np.int64),
        shares=np.eye(classes)[truth],
        weight=weight,
    )
    expected = np.array([weight[truth == k].sum() + 0.5 for k in range(classes)])
    prior = np.exp(class_prior(located, problem))
    np.testing.assert_allclose(prior, expected / expected.sum())
    assert prior.sum() == pytest.approx(1)


def test_without_anchors_the_families_vote_on_the_prior():
    box, rng = grid(8, 8), np.random.default_rng(0)
    common = np.where(rng.random((8, 8)) < 0.8, 1, 2).astype(np.uint8)
    maps = [source_on(box, name, common, "one satellite") for name in ("a", "b")]
    other = source_on(box, "c", np.full((8, 8), 3, np.uint8), "another")
    one, two = fuse([maps[0], other]), fuse([*maps, other])
    prior = np.exp(one.fit.log_prior)
    assert prior.sum() == pytest.approx(1)
    assert prior.argmax() in (0, 2)
    assert prior[3] == prior.min() > 0.1
    # a relative that says the same has no vote of its own
    np.testing.assert_allclose(np.exp(two.fit.log_prior), prior)


def source_on(box, name, symbols, root):
    return Observations(
        source=name,
        support="cells",
        geobox=box,
        symbols=symbols,
        crosswalk=Crosswalk(
            symbols=("c0", "c1", "c2", "c3"),
            target=legend_of(4),
            matrix=np.eye(4),
            confidence=np.full(4, 0.8),
        ),
        phenomenon_time=Interval.of_year(2020),
        provenance=Provenance(activity="read", agent="test", roots=frozenset({root})),
    )
