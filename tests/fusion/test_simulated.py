"""Where the truth is known: reliabilities are found again, chances are honest, and sources
that repeat each other's errors are not counted twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.core.setting import ENGINE
from glocal.fusion.estimate.posterior import estimate
from glocal.fusion.fuse import fuse
from glocal.fusion.problem.terms import locate
from glocal.fusion.reliability.dependence import Exponents
from glocal.testing import anchors_at, grid, legend_of, provenance_of

K, SIDE = 4, 700
LEGEND, BOX = legend_of(K), grid(SIDE, SIDE)
EYE = np.eye(K)


def truth_of(seed):
    """Return classes in blocks of 7 cells, some rarer than others."""
    rng = np.random.default_rng(seed)
    small = rng.choice(K, (SIDE // 7, SIDE // 7), p=[0.4, 0.3, 0.2, 0.1])
    return small.repeat(7, 0).repeat(7, 1)


def source(name, symbols, *roots, confidence=0.5):
    return Observations(
        source=name,
        support="cells",
        geobox=BOX,
        symbols=symbols.astype(np.uint8),
        crosswalk=Crosswalk(
            symbols=LEGEND.names,
            target=LEGEND,
            matrix=0.7 * EYE + 0.3 / K,
            confidence=np.full(K, confidence),
        ),
        phenomenon_time=Interval.of_year(2020),
        provenance=provenance_of(*(roots or (name,))),
    )


def confusion(right, seed):
    """Return a confusion matrix with the given rate of right answers and any errors."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.ones(K), K) * (1 - EYE)
    table = (1 - right) * table / table.sum(axis=1, keepdims=True)
    return table + right * EYE


def said(truth, table, rng):
    """Draw a symbol (1..K) per cell from the row of its class."""
    below = table.cumsum(axis=1)[truth]
    return (rng.random(truth.shape)[..., None] > below).sum(axis=-1).clip(0, K - 1) + 1


def related(truth, rng, share=0.8, right=0.75):
    """Return three maps; where they are wrong, they are wrong together in ``share`` of cases."""
    wrong_class = (truth + rng.integers(1, K, truth.shape)) % K
    together = rng.random(truth.shape) > right
    maps = []
    for _ in range(3):
        own = np.where(
            rng.random(truth.shape) < right, truth, (truth + rng.integers(1, K, truth.shape)) % K
        )
        common = np.where(together, wrong_class, truth)
        maps.append(np.where(rng.random(truth.shape) < share, common, own) + 1)
    return maps


def scored(log_q, truth):
    """Return (accuracy, log-loss, expected calibration error)."""
    log_q = log_q.reshape(-1, K).astype(float)
    truth = truth.ravel()
    right = log_q.argmax(axis=1) == truth
    top = np.exp(log_q.max(axis=1))
    bins = np.digitize(top, np.linspace(0, 1, 16))
    gaps = [abs((right - top)[bins == b].sum()) for b in np.unique(bins)]
    return right.mean(), -log_q[np.arange(len(truth)), truth].mean(), sum(gaps) / len(truth)


@pytest.mark.parametrize("seed", range(3))
def test_reliabilities_are_found_again(seed):
    """Dawid and Skene: three independent sources pin down their confusions, without a truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K, (SIDE, SIDE))  # the prior without anchors is uniform
    tables = [confusion(right, 10 * seed + i) for i, right in enumerate((0.8, 0.7, 0.65, 0.75))]
    sources = [
        source(f"s{i}", said(truth, table, rng), confidence=0.1) for i, table in enumerate(tables)
    ]
    fused = fuse(sources)
    free = Exponents(g={one.source: 1.0 for one in sources}, delta={})
    nobody = locate(None, np.empty(0, np.int64), fused.fit.problem)
    posed = replace(fused.fit.problem, setting=replace(ENGINE, sweeps=30))
    fit = estimate(posed, fused.fit.log_prior, free, nobody)
    for i, table in enumerate(tables):
        found = np.exp(fit.confusion[f"s{i}"].log_p[0])
        assert np.abs(found - table).max() < 0.06
        # tempering costs little
        assert np.abs(np.exp(fused.fit.confusion[f"s{i}"].log_p[0]) - table).max() < 0.12


@pytest.mark.parametrize("seed", range(3))
def test_stated_chances_are_honest(seed):
    rng = np.random.default_rng(seed)
    truth = truth_of(seed)
    sources = [
        source(f"s{i}", said(truth, confusion(right, 20 * seed + i), rng))
        for i, right in enumerate((0.75, 0.7, 0.6))
    ]
    fused = fuse(sources, anchors_at(BOX, truth, 200, LEGEND, seed=seed))
    accuracy, loss, gap = scored(fused.cells(), truth)
    assert gap < 0.05
    single = max((one.symbols == truth + 1).mean() for one in sources)
    assert accuracy > single + 0.05
    # what the held-out anchors say of the loss is about what it is
    assert fused.anchor_log_loss == pytest.approx(loss, abs=0.12)


@pytest.mark.parametrize("seed", range(4))
def test_shared_errors_are_not_counted_twice(seed):
    """Three maps of one family share 80 % of their errors; two other sources speak too."""
    rng = np.random.default_rng(100 + seed)
    truth = truth_of(seed)
    maps = [source(f"map{i}", one, "satellite") for i, one in enumerate(related(truth, rng))]
    tags = said(truth, confusion(0.7, seed), rng) * (rng.random(truth.shape) < 0.4)
    others = [
        source("image", said(truth, confusion(0.7, 50 + seed), rng)),
        source("tags", tags),
    ]
    anchors = anchors_at(BOX, truth, 200, LEGEND, seed=seed)
    fused = fuse([*maps, *others], anchors)
    problem = fused.fit.problem
    free = Exponents(g={one.source: 1.0 for one in (*maps, *others)}, delta={})
    located = located_of(anchors, problem)
    naive = estimate(problem, fused.fit.log_prior, free, located)
    of_cell = problem.units.of_cell
    ours, plain = scored(fused.units()[of_cell], truth), scored(naive.log_q()[of_cell], truth)
    votes = sum(
        EYE[one.symbols.astype(int) - 1] * (one.symbols > 0)[..., None] for one in (*maps, *others)
    )
    majority = (votes.argmax(axis=-1) == truth).mean()
    assert ours[1] < plain[1] - 0.2
    assert ours[2] < 0.06 < plain[2]
    assert plain[0] < majority < ours[0] - 0.01
    assert scored(fused.cells(), truth)[0] > majority + 0.1
    found = fused.fit.exponents
    assert sum(found.g[f"map{i}"] * 3 ** -found.delta[f"map{i}"] for i in range(3)) < 1.7


def located_of(anchors, problem):
    column, row = ~BOX.transform * (anchors.x, anchors.y)
    return locate(anchors, np.floor(row).astype(int) * SIDE + np.floor(column).astype(int), problem)


def test_independent_sources_lose_little_by_being_called_a_family():
    """Lineage is only where the anchors start from: they can undo it."""
    rng = np.random.default_rng(5)
    truth = truth_of(5)
    symbols = [said(truth, confusion(0.7, i), rng) for i in range(3)]
    anchors = anchors_at(BOX, truth, 400, LEGEND, seed=5)
    apart = fuse([source(f"s{i}", one) for i, one in enumerate(symbols)], anchors)
    tied = fuse([source(f"s{i}", one, "root") for i, one in enumerate(symbols)], anchors)
    a, b = (
        scored(apart.units()[apart.fit.problem.units.of_cell], truth),
        scored(tied.units()[tied.fit.problem.units.of_cell], truth),
    )
    assert b[0] > a[0] - 0.01
    assert b[1] < a[1] + 0.05


def test_a_placebo_earns_no_weight():
    """A source that knows nothing is found out by its reliability: it says the same of all."""
    rng = np.random.default_rng(6)
    truth = truth_of(6)
    good = [source(f"s{i}", said(truth, confusion(0.75, i), rng)) for i in range(2)]
    noise = source("noise", rng.integers(1, K + 1, truth.shape))
    anchors = anchors_at(BOX, truth, 200, LEGEND, seed=6)
    alone, with_noise = fuse(good, anchors), fuse([*good, noise], anchors)
    a, b = scored(alone.cells(), truth), scored(with_noise.cells(), truth)
    assert b[0] > a[0] - 0.01
    assert b[1] < a[1] + 0.03


def test_silence_in_half_of_the_area_does_not_spoil_the_rest():
    rng = np.random.default_rng(7)
    truth = truth_of(7)
    sources = [source(f"s{i}", said(truth, confusion(0.7, i), rng)) for i in range(3)]
    half = sources[2].symbols.copy()
    half[:, SIDE // 2 :] = 0
    anchors = anchors_at(BOX, truth, 200, LEGEND, seed=7)
    fused = fuse([*sources[:2], replace(sources[2], symbols=half)], anchors)
    right = fused.cells().argmax(axis=-1) == truth
    assert right[:, : SIDE // 2].mean() > right[:, SIDE // 2 :].mean()
