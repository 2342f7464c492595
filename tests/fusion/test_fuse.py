"""Edges of the engine: sources that say little, grids of one cell, input that is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Anchors, Observations
from glocal.core.setting import ENGINE
from glocal.errors import GridMismatchError, LegendMismatchError
from glocal.fusion.fuse import fuse
from glocal.fusion.propose import cell_doubts
from glocal.fusion.reliability.dependence import families_of, gammas
from glocal.testing import anchors_at, grid, legend_of, provenance_of


def map_of(source, symbols, classes=3, *, geobox=None, confidence=0.7, roots=(), **more):
    symbols = np.asarray(symbols, np.uint8)
    legend = legend_of(classes)
    matrix = np.full((classes, classes), 0.2 / max(classes - 1, 1))
    np.fill_diagonal(matrix, 0.8)
    return Observations(
        source=source,
        support="cells",
        geobox=geobox or grid(*symbols.shape),
        symbols=symbols,
        crosswalk=Crosswalk(
            symbols=legend.names,
            target=legend,
            matrix=matrix,
            confidence=np.full(classes, confidence),
        ),
        phenomenon_time=Interval.of_year(2020),
        provenance=provenance_of(*(roots or (source,))),
        **more,
    )


def noisy(truth, right, seed, classes=3):
    rng = np.random.default_rng(seed)
    other = (truth + rng.integers(1, classes, truth.shape)) % classes
    return np.where(rng.random(truth.shape) < right, truth, other) + 1


def world(side=20, classes=3, sources=3):
    truth = np.random.default_rng(0).integers(0, classes, (side, side))
    return truth, [
        map_of(f"m{i}", noisy(truth, 0.8, i + 1, classes), classes) for i in range(sources)
    ]


def test_a_single_source_is_believed_as_far_as_its_prior():
    fused = fuse([map_of("m", [[1, 2, 3, 0]])])
    p = np.exp(fused.cells())[0]
    assert p[:3].argmax(axis=1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(p[3], 1 / 3, atol=1e-6)
    np.testing.assert_array_equal(fused.disagreement(), 0)


@pytest.mark.parametrize("confidence", [0.0, 0.7, 1.0])
def test_a_source_silent_everywhere_has_a_reliability_all_the_same(confidence):
    fused = fuse([map_of("m", np.zeros((3, 4)), confidence=confidence)])
    np.testing.assert_allclose(np.exp(fused.cells()), 1 / 3, atol=1e-6)
    (one,) = fused.reliabilities()
    np.testing.assert_allclose(one.confusion.sum(axis=2), 1)


@pytest.mark.parametrize("support", ["objects", "points", "mixtures"])
@pytest.mark.parametrize("symbols", [0, 2])
def test_a_layer_without_records_changes_nothing(support, symbols):
    legend = legend_of(3)
    empty = Observations(
        source="empty",
        support=support,
        geobox=grid(2, 2),
        symbols=np.empty(0, np.uint8),
        crosswalk=Crosswalk(
            symbols=("a", "b")[:symbols],
            target=legend,
            matrix=np.full((symbols, 3), 1 / 3),
            confidence=np.full(symbols, 0.5),
        ),
        phenomenon_time=Interval.of_year(2020),
        provenance=provenance_of("empty"),
    )
    one = map_of("m", [[1, 2], [3, 0]])
    fused = fuse([one, empty])
    np.testing.assert_allclose(fused.cells(), fuse([one]).cells(), atol=1e-6)
    assert fused.reliabilities()[0].confusion.shape == (1, 3, symbols)


def test_one_cell_and_two_classes():
    fused = fuse([map_of("a", [[1]], 2), map_of("b", [[1]], 2), map_of("c", [[2]], 2)])
    p = np.exp(fused.cells())
    assert p.shape == (1, 1, 2)
    assert p[0, 0, 0] > 0.5
    np.testing.assert_array_equal(next(iter(fused.tiles(4)))[1], fused.cells())


def test_anchors_without_an_answer_are_no_anchors():
    truth, sources = world()
    silent = anchors_at(sources[0].geobox, np.full_like(truth, -1), 100, sources[0].legend)
    fused = fuse(sources, silent)
    assert (fused.anchors, fused.anchor_log_loss, fused.beta) == (0, None, 0.0)
    np.testing.assert_array_equal(fused.cells(), fuse(sources).cells())


def test_anchors_outside_the_area_are_no_anchors():
    truth, sources = world()
    anchors = anchors_at(sources[0].geobox, truth, 100, sources[0].legend)
    away = replace(anchors, x=anchors.x + 1e5)
    np.testing.assert_array_equal(fuse(sources, away).cells(), fuse(sources).cells())


def test_anchors_all_in_one_class_leave_the_others_possible():
    truth, sources = world()
    anchors = anchors_at(sources[0].geobox, np.zeros_like(truth), 100, sources[0].legend)
    log_q = fuse(sources, anchors).cells()
    assert np.isfinite(log_q).all()
    np.testing.assert_allclose(np.exp(log_q).sum(axis=-1), 1, atol=1e-4)


def test_few_anchors_set_the_prior_but_no_exponent():
    truth, sources = world()
    anchors = anchors_at(sources[0].geobox, truth, ENGINE.min_sample - 1, sources[0].legend)
    fused = fuse(sources, anchors)
    assert not fused.fit.exponents.learned
    assert (fused.anchor_log_loss, fused.beta) == (None, 0.0)


def test_only_the_ratio_of_anchor_weights_counts():
    truth, sources = world()
    anchors = anchors_at(sources[0].geobox, truth, 60, sources[0].legend)
    a, b = fuse(sources, anchors), fuse(sources, replace(anchors, weight=anchors.weight * 7))
    np.testing.assert_allclose(a.cells(), b.cells(), atol=1e-5)


def test_regions_have_reliabilities_of_their_own():
    """Two regions and two strata: what a cell says is read in its own context everywhere."""
    _, sources = world(side=12)
    stratum = (np.arange(144).reshape(12, 12) % 2).astype(np.uint8)
    sources[0] = replace(sources[0], stratum=stratum)
    fused = fuse(sources, setting=replace(ENGINE, context=False, largest_region=5))
    fit = fused.fit
    assert fit.confusion["m0"].log_p.shape[0] == 2 * 9
    of_cell = fit.problem.units.of_cell
    doubts = cell_doubts(fused, sources[0])
    log_q = fit.log_prior + sum(
        gammas(fit.problem, fit.exponents)[name][:, None] * told.log_p
        for name, told in fit.messages.items()
    )
    p = np.exp(log_q - np.logaddexp.reduce(log_q, axis=1, keepdims=True))[of_cell]
    said = sources[0].symbols.ravel().astype(int) - 1
    np.testing.assert_allclose(doubts.correct.ravel(), p[np.arange(144), said], atol=1e-5)


def test_families_join_over_shared_roots():
    truth, _ = world()
    a, b, c, d = (
        map_of(name, truth + 1, roots=roots)
        for name, roots in [("a", ("1",)), ("b", ("1", "2")), ("c", ("2",)), ("d", ("3",))]
    )
    found = families_of([d, c, b, a])
    assert found["a"] == found["b"] == found["c"] == ("a", "b", "c")
    assert found["d"] == ("d",)
    silent = replace(b, symbols=np.zeros_like(b.symbols))
    assert families_of([a, silent, c])["a"] == ("a",)


def test_a_relative_that_is_silent_here_costs_nothing_here():
    a = map_of("a", [[1, 1]], roots=("r",))
    b = map_of("b", [[2, 0]], roots=("r",))
    fused = fuse([a, b])
    power = gammas(fused.fit.problem, fused.fit.exponents)["a"][fused.fit.problem.units.of_cell]
    assert power[0] == pytest.approx(power[1] / 2)
    alone = gammas(fused.fit.problem.without({"b"}), fused.fit.exponents)["a"]
    np.testing.assert_allclose(alone, power[1])


def test_bad_input_is_refused():
    _, sources = world()
    a, b = sources[:2]
    with pytest.raises(ValueError, match="at least one source"):
        fuse([])
    with pytest.raises(ValueError, match="own name"):
        fuse([a, a])
    other = map_of("other", np.ones((20, 19)))
    with pytest.raises(GridMismatchError, match="other"):
        fuse([a, other])
    moved = map_of("moved", a.symbols, geobox=a.geobox.translate_pix(1, 0))
    with pytest.raises(GridMismatchError, match="moved"):
        fuse([a, b, moved])
    with pytest.raises(LegendMismatchError, match="four"):
        fuse([a, map_of("four", a.symbols, 4)])
    ties = np.ones((20, 19), np.float32), np.full((19, 20), np.nan, np.float32)
    with pytest.raises(ValueError, match="similarity"):
        fuse([a, b], similarity=ties)


def test_anchors_of_another_legend_are_refused():
    truth, sources = world()
    wrong = anchors_at(sources[0].geobox, truth, 50, legend_of(4))
    with pytest.raises(LegendMismatchError, match="anchors"):
        fuse(sources, wrong)


@pytest.mark.parametrize("field", ["x", "y", "shares", "weight"])
def test_anchors_with_nan_are_refused(field):
    truth, sources = world()
    good = anchors_at(sources[0].geobox, truth, 5, sources[0].legend)
    values = getattr(good, field).copy()
    values[0] = np.nan
    with pytest.raises(ValueError, match="Anchors"):
        replace(good, **{field: values})


def test_anchors_are_read_only():
    truth, sources = world()
    good = anchors_at(sources[0].geobox, truth, 5, sources[0].legend)
    assert isinstance(good, Anchors)
    for field in ("x", "y", "shares", "weight", "record"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(good, field)[0] = getattr(good, field)[0]
