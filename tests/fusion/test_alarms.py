"""Echo-chamber alarms and the audit of sources: silent when all is well, loud when not."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.fusion.alarms import Sight, alarms, audits, fallen, sight
from glocal.fusion.fuse import HeldOut, fuse
from glocal.testing import anchors_at, grid, legend_of, provenance_of

K, SIDE = 3, 40
LEGEND, BOX = legend_of(K), grid(SIDE, SIDE)


def a_map(name, truth, right, rng):
    wrong = (truth + rng.integers(1, K, truth.shape)) % K
    return Observations(
        source=name,
        support="cells",
        geobox=BOX,
        symbols=(np.where(rng.random(truth.shape) < right, truth, wrong) + 1).astype(np.uint8),
        crosswalk=Crosswalk(
            symbols=LEGEND.names,
            target=LEGEND,
            matrix=0.8 * np.eye(K) + 0.2 / K,
            confidence=np.full(K, 0.5),
        ),
        phenomenon_time=Interval.of_year(2020),
        provenance=provenance_of(name),
    )


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, K, (SIDE, SIDE))
    maps = [a_map(f"s{i}", truth, p, rng) for i, p in enumerate((0.8, 0.75, 0.7))]
    fused = fuse(maps, anchors_at(BOX, truth, 300, LEGEND, seed=1))
    share = np.exp(fused.cells()).mean(axis=(0, 1))
    return fused, share, maps


def seen(scene, agreement=None, **changes) -> Sight:
    fused, share, _ = scene
    return replace(sight(fused, share, agreement), **changes)


def rung(*rounds):
    return {one.name: one for one in alarms(rounds) if one.rings}


def test_a_good_round_rings_nothing(scene):
    found = alarms([seen(scene)])
    assert len(found) == 4
    assert not any(one.rings for one in found)
    assert all(np.isfinite([one.value, one.limit]).all() for one in found)


def test_audits_compare_each_source_with_the_estimate(scene):
    fused, _, maps = scene
    found = {one.source: one for one in audits(fused)}
    assert sorted(found) == ["s0", "s1", "s2"]
    at = fused.held_out.anchors
    truth = at.shares.argmax(axis=1)
    for one in maps:
        audit = found[one.source]
        assert audit.before == pytest.approx((one.symbols.ravel()[at.cell] - 1 == truth).mean())
        assert audit.after > audit.before
        assert not audit.loses
        assert audit.n == 300


def test_overconfidence_rings(scene):
    held = scene[0].held_out
    boast = np.log(np.eye(K)[held.log_q.argmax(axis=1)] * 0.99 + 0.01 / K)
    found = rung(seen(scene, held_out=HeldOut(anchors=held.anchors, log_q=boast)))
    assert list(found) == ["confidence above accuracy"]


def test_a_vanished_class_rings(scene):
    found = rung(seen(scene, share=np.array([0.5, 0.5, 0.0])))
    assert [name.split(",")[0] for name in found] == ["class share off its estimate from anchors"]


def test_all_that_is_found_can_be_written_as_json(scene):
    rounds = [seen(scene, agreement=0.5), seen(scene, agreement=0.6)] * 2
    found = [asdict(one) for one in (*alarms(rounds), *audits(scene[0]))]
    assert len(found) == 7 + 3
    assert json.loads(json.dumps(found)) == found


def test_an_echo_rings_only_without_a_gain(scene):
    before, now = seen(scene, agreement=0.7), seen(scene, agreement=0.9)
    assert [name.split()[2] for name in rung(before, now)] == ["agreement"]
    held = scene[0].held_out
    gain = HeldOut(anchors=held.anchors, log_q=held.log_q * 0.9)
    assert gain.log_loss < held.log_loss
    assert not rung(before, seen(scene, agreement=0.9, held_out=gain))


def test_a_family_that_grows_without_data_rings(scene):
    now = seen(scene)
    more = {name: value + 0.4 for name, value in now.weights.items()}
    assert list(rung(now, replace(now, weights=more))) == [
        "rise of a family's weight without new data"
    ]


def test_a_class_that_shrinks_round_after_round_rings(scene):
    shares = [np.array([0.3, 0.3 + 0.4 * (1 - s), 0.4 * s]) for s in (1, 0.95, 0.85, 0.75)]
    # without anchors the drift of shares is all that can be seen
    rounds = [seen(scene, held_out=None, audits=(), share=one, spread=None) for one in shares]
    found = alarms(rounds)
    assert [one.rings for one in found] == [False, True]
    assert found[1].value == pytest.approx(0.75)


def test_a_source_that_would_lose_is_named(scene):
    fused, share, maps = scene
    held = fused.held_out
    # an estimate that contradicts the best source where that is right
    truth = held.anchors.shares.argmax(axis=1)
    wrong = np.log(np.eye(K)[(truth + 1) % K] * 0.5 + 0.5 / K)
    worse = replace(fused, held_out=HeldOut(anchors=held.anchors, log_q=wrong))
    assert all(one.loses for one in audits(worse))
    advice = rung(sight(worse, share, None))["least gain of a source at held-out anchors"].advice
    assert all(one.source in advice for one in maps)


def test_a_round_that_harms_one_source_is_seen(scene):
    fused = scene[0]
    held = fused.held_out
    half = np.arange(len(held.log_q)) < len(held.log_q) // 2
    term = fused.fit.problem.terms[0]
    silent = replace(term, of_unit=np.zeros_like(term.of_unit))
    assert fallen(fused, fused) == ()
    flat = np.where(half[:, None], np.log(1 / K), held.log_q)
    worse = replace(fused, held_out=HeldOut(anchors=held.anchors, log_q=flat))
    assert fallen(worse, fused) == ("s0", "s1", "s2")
    assert fallen(fused, worse) == ()
    problem = replace(fused.fit.problem, terms=(silent, *fused.fit.problem.terms[1:]))
    quiet = replace(fused, fit=replace(fused.fit, problem=problem))
    assert fallen(worse, quiet) == ("s1", "s2")
    assert fallen(replace(worse, held_out=None), fused) == ()


def test_anchors_in_one_corner_ring(scene):
    _, _, maps = scene
    truth = np.random.default_rng(0).integers(0, K, (SIDE, SIDE))
    corner = anchors_at(BOX, truth, 200, LEGEND, seed=2)
    box = BOX.boundingbox
    half = replace(
        corner, x=box.left + (corner.x - box.left) / 2, y=box.top - (box.top - corner.y) / 2
    )
    share = np.full(K, 1 / K)
    assert any("distance" in name for name in rung(sight(fuse(maps, half), share, None)))
    assert not any("distance" in name for name in rung(sight(fuse(maps, corner), share, None)))
