"""The exponents that anchors choose, against the loss written once more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.core.setting import ENGINE
from glocal.fusion.problem.terms import Located, prepare
from glocal.fusion.reliability.dependence import (
    conservative,
    families_of,
    learn,
    merge_copies,
)
from glocal.testing import worlds


def loss_of(problem, exponents, messages, prior, anchors):
    """Return the penalised loss, one anchor and one source at a time."""
    speaks = {term.name: term.speaks for term in problem.terms}
    start = conservative(problem)
    total = ENGINE.exponent_ridge * sum(
        (exponents.g[name] - start.g[name]) ** 2 for name in start.g
    )
    total += ENGINE.exponent_ridge * sum(
        (exponents.delta[kin] - start.delta[kin]) ** 2 for kin in start.delta
    )
    for a in range(len(anchors)):
        log_q = prior[a].copy()
        for term in problem.terms:
            n = max(sum(speaks[name][anchors.unit[a]] for name in term.family), 1)
            power = exponents.g[term.name] * n ** -exponents.delta.get(term.name, 0.0)
            log_q += power * messages[term.name][a]
        log_q -= np.log(np.exp(log_q).sum())
        total -= anchors.weight[a] * anchors.shares[a] @ log_q
    return total


@given(worlds(anchors=False), st.integers(0, 2**16))
@settings(max_examples=15)
def test_no_neighbour_of_the_learned_exponents_is_better(world, seed):
    kept, _ = merge_copies(world.sources)
    problem = prepare(kept, families_of(kept))
    rng = np.random.default_rng(seed)
    classes, n = len(problem.legend), 40
    anchors = Located(
        unit=rng.integers(0, len(problem.units), n),
        cell=np.zeros(n, np.int64),
        shares=np.eye(classes)[rng.integers(0, classes, n)],
        weight=rng.uniform(0.2, 2, n),
    )
    messages = {
        term.name: rng.normal(0, 1, (n, classes)) * term.speaks[anchors.unit][:, None]
        + rng.uniform(0, 1.5) * anchors.shares * term.speaks[anchors.unit][:, None]
        for term in problem.terms
    }
    prior = np.log(np.full((n, classes), 1 / classes))
    found = learn(problem, messages, prior, anchors)
    best = loss_of(problem, found, messages, prior, anchors)
    assert best <= loss_of(problem, conservative(problem), messages, prior, anchors) + 1e-9
    for part in (found.g, found.delta):
        for key, value in list(part.items()):
            assert 0 <= value <= 1
            for step in (-0.02, 0.02):
                part[key] = float(np.clip(value + step, 0, 1))
                assert loss_of(problem, found, messages, prior, anchors) >= best - 1e-7
            part[key] = value


@given(worlds(anchors=False))
@settings(max_examples=15)
def test_without_anchors_a_family_speaks_with_one_voice(world):
    kept, twin = merge_copies(world.sources)
    assert len(kept) + len(twin) == len(world.sources)
    problem = prepare(kept, families_of(kept))
    start = conservative(problem)
    assert set(start.g.values()) == {ENGINE.alone}
    assert all(value == pytest.approx(1) for value in start.delta.values())
    for term in problem.terms:
        assert term.name in term.family
        assert (term.name in start.delta) == (len(term.family) > 1)
