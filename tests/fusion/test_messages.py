"""Messages against slow twins: enumeration of every possible world, and plain loops."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.core.setting import ENGINE
from glocal.fusion.estimate.messages import listen
from glocal.fusion.problem.terms import prepare
from glocal.fusion.reliability.confusion import Confusion
from glocal.testing import grid, legend_of, provenance_of

K, M = 3, 2
LEGEND = legend_of(K)
seeds = st.integers(0, 2**16)


def statements(geobox, support, geometry, symbols, **more):
    return Observations(
        source="it",
        support=support,
        geobox=geobox,
        symbols=np.array(symbols, np.uint8),
        crosswalk=Crosswalk(
            symbols=("a", "b"),
            target=LEGEND,
            matrix=np.full((M, K), 1 / K),
            confidence=np.full(M, 0.5),
        ),
        phenomenon_time=Interval.of_year(2020),
        provenance=provenance_of("it"),
        geometry=np.array(geometry, object),
        record=np.array([str(i) for i in range(len(geometry))]),
        **more,
    )


def heard(one, seed, *, apart, setting=ENGINE):
    """Return (message per cell, theta, prior, evidence per cell, Message), for random others.

    With ``apart`` every cell is a unit of its own, so that evidence may differ.
    """
    rng = np.random.default_rng(seed)
    geobox = one.geobox
    sources = [one]
    if apart:
        number = np.arange(1, np.prod(geobox.shape) + 1, dtype=np.uint8).reshape(geobox.shape)
        walk = Crosswalk(
            symbols=tuple(map(str, range(number.size))),
            target=LEGEND,
            matrix=np.full((number.size, K), 1 / K),
            confidence=np.zeros(number.size),
        )
        other = replace(
            one,
            source="other",
            support="cells",
            symbols=number,
            crosswalk=walk,
            geometry=np.empty(0, object),
            record=np.empty(0, "U1"),
            position_sd_m=np.empty(0),
        )
        sources.append(other)
    problem = prepare(sources, {}, setting)
    theta = rng.dirichlet(np.ones(M), K)
    prior = rng.dirichlet(np.full(K, 3.0))
    evidence = rng.normal(0, 1, (len(problem.units), K))
    confusion = Confusion(
        log_p=np.log(theta)[None], counts=np.zeros((1, K, M)), prior=theta, strength=1.0
    )
    told = listen(problem, problem.terms[0], confusion, np.log(prior), evidence)
    of_cell = problem.units.of_cell
    return told.log_p[of_cell], theta, prior, evidence[of_cell], told


def like(a, b):
    """Compare log-likelihoods, which mean the same up to a constant."""
    np.testing.assert_allclose(a - a[0], b - b[0], atol=1e-9)


def box_of(geobox, rows, columns):
    """Return the polygon over a slice of rows and columns."""
    b = geobox.boundingbox
    return shapely.box(
        b.left + columns[0] * 10,
        b.top - rows[1] * 10,
        b.left + columns[1] * 10,
        b.top - rows[0] * 10,
    )


@given(seeds)
@settings(max_examples=20)
def test_object_without_impurity_equals_enumeration(seed):
    """Where all cells surely share the class and speak independently, Bayes is exact."""
    geobox = grid(2, 3)
    one = statements(geobox, "objects", [box_of(geobox, (0, 2), (0, 2))], [2])
    pure = replace(ENGINE, purity=1.0, correlation=0.0)
    message, theta, prior, evidence, told = heard(one, seed, apart=True, setting=pure)
    inside = [0, 1, 3, 4]
    for cell in inside:
        others = [c for c in inside if c != cell]
        expected = np.array(
            [
                np.log(theta[k, 1]) + sum(norm(evidence[c], prior)[k] for c in others)
                for k in range(K)
            ]
        )
        like(message[cell], expected)
    np.testing.assert_array_equal(message[[2, 5]], 0)
    joint = prior * theta[:, 1] * np.exp(sum(evidence[c] for c in inside))
    np.testing.assert_allclose(told.statements[1], joint / joint.sum(), atol=1e-9)


def norm(evidence, prior):
    p = prior * np.exp(evidence)
    return np.log(p / p.sum()) - np.log(prior)


@given(seeds, st.booleans())
@settings(max_examples=20)
def test_object_equals_a_plain_loop(seed, apart):
    geobox = grid(3, 4)
    shapes = [
        box_of(geobox, (0, 2), (0, 3)),
        box_of(geobox, (1, 3), (2, 4)),
        box_of(geobox, (2, 3), (0, 1)),
    ]
    one = statements(geobox, "objects", shapes, [1, 2, 0])
    message, theta, prior, evidence, told = heard(one, seed, apart=apart)
    members = {1: [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)], 2: [(1, 2), (1, 3), (2, 2), (2, 3)]}
    expected = np.zeros_like(message)
    for number, cells in members.items():
        flat = [r * 4 + c for r, c in cells]
        damp = 1 / (1 + (len(flat) - 1) * ENGINE.correlation)
        for cell in flat:
            total = sum(norm(evidence[c], prior) for c in flat if c != cell)
            of_object = prior * np.exp(total * damp) * theta[:, number - 1]
            of_object /= of_object.sum()
            expected[cell] = np.log(ENGINE.purity * of_object / prior + 1 - ENGINE.purity)
        cavity = np.exp(sum(norm(evidence[c], prior) for c in flat) * damp) * prior
        np.testing.assert_allclose(np.exp(told.cavity[number]), cavity / cavity.sum(), atol=1e-9)
    np.testing.assert_allclose(message, expected, atol=1e-9)
    np.testing.assert_array_equal(told.statements[[0, 3]], 0)


@given(seeds)
@settings(max_examples=20)
def test_coarse_cell_equals_enumeration_of_an_urn(seed):
    """Shares ~ Dirichlet(4 pi); the coarse cell shows one draw, the fine cell another."""
    geobox = grid(2, 4)
    one = statements(geobox, "mixtures", [box_of(geobox, (0, 2), (0, 2))], [1])
    message, theta, prior, evidence, told = heard(one, seed, apart=True)
    expected = np.zeros(K)
    for drawn, fine in product(range(K), range(K)):
        second = (ENGINE.coarse_strength * prior[fine] + (drawn == fine)) / (
            ENGINE.coarse_strength + 1
        )
        expected[fine] += prior[drawn] * theta[drawn, 0] * second
    like(message[0], np.log(expected / prior))
    np.testing.assert_array_equal(message[[2, 3, 6, 7]], 0)
    inside = [prior * np.exp(evidence[c]) for c in (0, 1, 4, 5)]
    shares = np.mean([p / p.sum() for p in inside], axis=0)
    np.testing.assert_allclose(np.exp(told.cavity[1]), shares, atol=1e-9)


@given(seeds, st.floats(2, 12), st.floats(0, 30), st.floats(0, 20))
@settings(max_examples=20)
def test_point_equals_enumeration_of_all_worlds(seed, sd, x, y):
    geobox = grid(2, 3)
    b = geobox.boundingbox
    at = shapely.Point(b.left + min(x, 29.9), b.bottom + max(y, 0.1))
    one = statements(geobox, "points", [at], [1], position_sd_m=np.array([sd]))
    message, theta, prior, evidence, told = heard(one, seed, apart=True)
    cells = prepare([one], {}).terms[0].cells
    number = prepare([one], {}).units.of_cell
    weight = np.zeros(6)
    for unit, share in zip(cells.cell, cells.weight, strict=True):
        weight[np.flatnonzero(number == unit)] = share
    q = np.array([prior * np.exp(evidence[c]) for c in range(6)])
    q /= q.sum(axis=1, keepdims=True)
    likelihood = np.zeros((6, K))
    mass = np.zeros((6, K))
    for classes in product(range(K), repeat=6):
        chance = np.prod([q[c, classes[c]] for c in range(6)])
        said = sum(weight[c] * theta[classes[c], 0] for c in range(6))
        for c in range(6):
            likelihood[c, classes[c]] += chance * said
            mass[c, classes[c]] += chance
    for c in np.flatnonzero(weight):
        like(message[c], np.log(likelihood[c] / mass[c]))
    np.testing.assert_array_equal(message[weight == 0], 0)
    np.testing.assert_allclose(np.exp(told.cavity[1]), weight @ q, atol=1e-9)
