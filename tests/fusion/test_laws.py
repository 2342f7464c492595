"""The laws of the engine, on small areas with every kind of source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from glocal.core.observation import Observations
from glocal.fusion.fuse import Fused, fuse
from glocal.fusion.problem.terms import prepare
from glocal.fusion.reliability.dependence import families_of
from glocal.testing import Panel, observations, provenance_of, worlds


def fused_of(world: Panel, *more: Observations) -> Fused:
    return fuse([*world.sources, *more], world.anchors)


def same(a: Fused, b: Fused) -> None:
    assert a.beta == b.beta
    np.testing.assert_allclose(a.cells(), b.cells(), rtol=0, atol=1e-5)
    if a.anchor_log_loss is not None:
        assert a.anchor_log_loss == pytest.approx(b.anchor_log_loss, abs=1e-6)


def renamed(one: Observations, name: str) -> Observations:
    return replace(one, source=name)


# Law 1


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_reordering_sources_changes_nothing_at_all(world, random):
    shuffled = list(world.sources)
    random.shuffle(shuffled)
    a, b = fused_of(world), fuse(shuffled, world.anchors)
    assert a.beta == b.beta
    np.testing.assert_array_equal(a.cells(), b.cells())


@given(worlds(), st.data())
@settings(max_examples=20)
def test_renaming_sources_changes_nothing(world, data: DataObject):
    names = data.draw(st.permutations([f"name{i}" for i in range(len(world.sources))]))
    other = [renamed(one, name) for one, name in zip(world.sources, names, strict=True)]
    a, b = fused_of(world), fuse(other, world.anchors)
    same(a, b)
    for one, name in zip(world.sources, names, strict=True):
        np.testing.assert_allclose(
            a.cells(frozenset({one.source})), b.cells(frozenset({name})), rtol=0, atol=1e-5
        )


# Law 2


@given(worlds(), st.data())
@settings(max_examples=25)
def test_a_source_that_says_nothing_changes_nothing(world, data: DataObject):
    first = world.sources[0]
    roots = data.draw(st.sampled_from([("own",), ("shared", "other"), ("r0", "r1", "shared")]))
    drawn = data.draw(observations(first.geobox, first.legend, source="silent", roots=roots))
    silent = replace(drawn, symbols=np.zeros_like(drawn.symbols))
    a, b = fused_of(world), fused_of(world, silent)
    same(a, b)
    np.testing.assert_allclose(a.disagreement(), b.disagreement(), atol=1e-5)
    assert {one.source for one in b.reliabilities()} == {
        "silent",
        *(one.source for one in world.sources),
    }


@given(worlds(), st.data())
@settings(max_examples=20)
def test_an_exact_copy_changes_nothing_whatever_its_name(world, data: DataObject):
    one = data.draw(st.sampled_from(world.sources))
    name = data.draw(st.sampled_from(["a copy", "the copy"]))  # sorts before and after
    a, b = fused_of(world), fused_of(world, renamed(one, name))
    same(a, b)
    assert len(b.twins) == len(a.twins) + 1
    alone = frozenset({one.source})
    np.testing.assert_allclose(a.cells(alone), b.cells(alone), rtol=0, atol=1e-5)


@given(worlds(anchors=False, sources=(1, 3)))
@settings(max_examples=20)
def test_a_copy_with_other_codes_changes_nothing_where_no_anchor_is(world):
    # not word for word the same, so only the family's budget can hold it back
    alone = replace(world.sources[0], provenance=provenance_of("its own"))
    turned = recoded(alone)
    others = [replace(one, provenance=provenance_of(one.source)) for one in world.sources[1:]]
    a, b = fuse([alone, *others]), fuse([alone, turned, *others])
    assert not b.twins
    if alone.support != "points":  # two points in one place still share the budget there
        np.testing.assert_allclose(
            a.units()[a.fit.problem.units.of_cell],
            b.units()[b.fit.problem.units.of_cell],
            atol=1e-6,
        )


def recoded(one: Observations) -> Observations:
    """Return the same statements with the alphabet in reverse order."""
    m = len(one.crosswalk.symbols)
    symbols = np.where(one.symbols > 0, m + 1 - one.symbols.astype(int), 0).astype(np.uint8)
    walk = one.crosswalk
    return replace(
        one,
        source="recoded",
        symbols=symbols,
        crosswalk=replace(
            walk,
            symbols=tuple(f"t{i}" for i in range(m)),
            matrix=walk.matrix[::-1],
            confidence=walk.confidence[::-1],
        ),
    )


@given(worlds(anchors=False), st.integers(0, 2**16))
@settings(max_examples=20)
def test_a_family_never_outbids_its_boldest_member(world, seed):
    """Without anchors, a family's log-odds lie between those of its members alone."""
    first = world.sources[0]
    rng = np.random.default_rng(seed)
    kin = []
    for i, one in enumerate(o for o in world.sources if o.support == "cells"):
        noise = rng.integers(0, len(one.crosswalk.symbols) + 1, one.symbols.shape)
        changed = np.where(rng.random(one.symbols.shape) < 0.2, noise, one.symbols)
        kin += [
            replace(
                one,
                source=f"{one.source}/{i}{j}",
                symbols=symbols.astype(np.uint8),
                provenance=provenance_of("one root"),
            )
            for j, symbols in enumerate((one.symbols, changed))
        ]
    if not kin:
        return
    fused = fuse(kin)
    fit, k = fused.fit, len(first.legend)
    odds = fit.log_q() - fit.log_q()[:, :1]
    alone = []
    for one in kin:
        rest = frozenset(other.source for other in kin) - {one.source}
        rest = frozenset(
            name
            for name in rest
            if fused.twins.get(name) != one.source and fused.twins.get(one.source) != name
        )
        log_q = fused.units(rest)
        alone.append(log_q - log_q[:, :1])
    bound = np.abs(np.array(alone)).max(axis=0)
    assert odds.shape[1] == k
    assert (np.abs(odds) <= bound + 1e-6).all()


# Law 3


@given(worlds(anchors=False), st.data())
@settings(max_examples=25)
def test_the_cavity_does_not_hear_its_target(world, data: DataObject):
    target = data.draw(st.sampled_from(world.sources))
    fused = fused_of(world)
    lies = data.draw(st.integers(0, len(target.crosswalk.symbols)))
    changed = replace(target, symbols=np.full_like(target.symbols, lies))
    told = [changed if one is target else one for one in world.sources]
    other = prepare(sorted(told, key=lambda one: one.source), families_of(world.sources))
    fit = replace(fused.fit, problem=other, messages={})
    if fused.twins:
        return
    name = frozenset({target.source})
    np.testing.assert_allclose(
        fused.units(name)[fused.fit.problem.units.of_cell],
        fit.log_q(name)[other.units.of_cell],
        rtol=0,
        atol=1e-9,
    )


@given(worlds())
@settings(max_examples=10)
def test_without_any_source_only_the_prior_is_left(world):
    fused = fused_of(world)
    everyone = frozenset(one.source for one in world.sources)
    expected = np.broadcast_to(fused.fit.log_prior, fused.units(everyone).shape)
    np.testing.assert_allclose(fused.units(everyone), expected, atol=1e-12)


# Law 5


@given(worlds(), st.integers(1, 9), st.sampled_from([0.0, 0.35, 1.0]), st.booleans())
@settings(max_examples=25)
def test_decoding_in_tiles_equals_decoding_at_once(world, size, beta, edges):
    height, width = world.sources[0].geobox.shape
    rng = np.random.default_rng(size)
    ties = (
        rng.random((height, width - 1), np.float32),
        rng.random((height - 1, width), np.float32),
    )
    fused = fused_of(world)
    fused = replace(
        fused,
        decoder=replace(fused.decoder, beta=beta),
        similarity=ties if edges else None,
    )
    whole = fused.cells()
    seen = np.full_like(whole, np.nan)
    for inner, log_q in fused.tiles(size):
        seen[inner] = log_q
    np.testing.assert_array_equal(seen, whole)


# The state


@given(worlds())
@settings(max_examples=25)
def test_an_estimate_is_a_distribution_everywhere(world):
    fused = fused_of(world)
    log_q = fused.cells()
    assert np.isfinite(log_q).all()
    np.testing.assert_allclose(np.exp(log_q).sum(axis=-1), 1, atol=1e-4)
    disagreement = fused.disagreement()
    assert ((disagreement >= 0) & (disagreement <= 1)).all()
    for one in fused.reliabilities():
        np.testing.assert_allclose(one.confusion.sum(axis=2), 1)
        assert (one.counts >= 0).all()
        assert 0 <= one.exponent <= 1


@given(worlds(anchors=True))
@settings(max_examples=5)
def test_the_same_seed_gives_the_same_bits(world):
    a, b = fused_of(world), fused_of(world)
    np.testing.assert_array_equal(a.cells(), b.cells())
    assert a.anchor_log_loss == b.anchor_log_loss
