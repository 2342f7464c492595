"""Bad input: sources that lie, repeat or know nothing, and anchors that show little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.fusion.fuse import fuse
from glocal.testing import anchors_at, grid, legend_of, provenance_of

K, SIDE = 3, 50
LEGEND, BOX = legend_of(K), grid(SIDE, SIDE)
RNG = np.random.default_rng(1)
TRUTH = RNG.integers(0, K, (SIDE, SIDE))
ANCHORS = anchors_at(BOX, TRUTH, 250, LEGEND, seed=3)


def source(name, symbols):
    return Observations(
        source=name,
        support="cells",
        geobox=BOX,
        symbols=symbols.astype(np.uint8),
        crosswalk=Crosswalk(
            symbols=LEGEND.names,
            target=LEGEND,
            matrix=0.8 * np.eye(K) + 0.2 / K,
            confidence=np.full(K, 0.5),
        ),
        phenomenon_time=Interval.of_year(2020),
        provenance=provenance_of(name),
    )


def right(share):
    """Return symbols of which about this share are right, the rest any other class."""
    wrong = (TRUTH + RNG.integers(1, K, TRUTH.shape)) % K
    return np.where(RNG.random(TRUTH.shape) < share, TRUTH, wrong) + 1


GOOD = [source("a", right(0.75)), source("b", right(0.7))]
ALONE = fuse(GOOD, ANCHORS)


def accuracy(fused):
    return (fused.cells().argmax(axis=-1) == TRUTH).mean()


@pytest.mark.parametrize(
    "symbols",
    [
        np.zeros(TRUTH.shape, int),
        np.full(TRUTH.shape, 2),
        RNG.integers(1, K + 1, TRUTH.shape),
    ],
    ids=["silent", "constant", "random"],
)
def test_a_source_that_knows_nothing_costs_next_to_nothing(symbols):
    fused = fuse([*GOOD, source("bad", symbols)], ANCHORS)
    assert accuracy(fused) > accuracy(ALONE) - 0.01
    assert fused.anchor_log_loss < ALONE.anchor_log_loss + 0.03


def test_a_liar_is_understood_where_anchors_show_it():
    """Who always names the next class is as good as who tells the truth."""
    liar = source("liar", (TRUTH + 1) % K + 1)
    fused = fuse([*GOOD, liar], ANCHORS)
    assert accuracy(fused) > accuracy(ALONE) + 0.1
    table = np.exp(fused.fit.confusion["liar"].log_p).mean(axis=0)
    assert (table.argmax(axis=1) == (np.arange(K) + 1) % K).all()


def test_a_relabelled_copy_is_found_and_gains_nothing():
    """A copy that hides behind other roots: a tie, and about the result without it."""
    copy = source("copy", GOOD[0].symbols)
    fused = fuse([*GOOD, copy], ANCHORS)
    assert [(tie.a, tie.b) for tie in fused.ties] == [("a", "copy")]
    assert fused.ties[0].correlation == pytest.approx(1)
    assert accuracy(fused) == pytest.approx(accuracy(ALONE), abs=0.01)


def test_a_class_that_nobody_saw_stays_near_its_prior():
    legend = legend_of(K + 1)
    wide = [
        replace(
            one,
            crosswalk=Crosswalk(
                symbols=LEGEND.names,
                target=legend,
                matrix=np.pad(one.crosswalk.matrix, ((0, 0), (0, 1))),
                confidence=np.full(K, 0.5),
            ),
        )
        for one in GOOD
    ]
    shares = np.pad(ANCHORS.shares, ((0, 0), (0, 1)))
    fused = fuse(wide, replace(ANCHORS, shares=shares))
    p = np.exp(fused.cells())
    assert np.isfinite(fused.cells()).all()
    assert 0 < p[..., K].mean() < 0.02
    assert (p.argmax(axis=-1) == TRUTH).mean() > accuracy(ALONE) - 0.01


def test_one_anchor_teaches_little_and_breaks_nothing():
    one = ANCHORS.take(np.arange(len(ANCHORS.x)) == 0)
    fused, without = fuse(GOOD, one), fuse(GOOD)
    assert fused.anchors == 1
    assert fused.anchor_log_loss is None
    assert fused.held_out is None
    assert accuracy(fused) > accuracy(without) - 0.05


def test_probabilities_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        replace(ANCHORS, shares=ANCHORS.shares * 0.7)
    with pytest.raises(ValueError, match="sum"):
        replace(GOOD[0].crosswalk, matrix=GOOD[0].crosswalk.matrix * 1.2)
