"""What the tables of real crowds and patches rest on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.fusion_real import (
    ALONE,
    alone,
    as_classes,
    engine,
    engine_with_gold,
    folds,
    interval,
    score,
    stacked,
)
from benchmarks.gold_tables import CORINE, LUCAS, _opinions, crowd
from glocal.core.legends import legend
from glocal.loop.score.baselines.crowd import majority


@pytest.fixture
def table(tmp_path: Path):
    """Sixty tasks of three classes; five workers, of whom two guess."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    with (tmp_path / "labels.csv").open("w") as file:
        file.write("worker,task,label\n")
        for worker in range(5):
            right = rng.random(60) < (0.9 if worker < 3 else 0.34)
            said = np.where(right, truth, rng.integers(0, 3, 60))
            file.writelines(f"w{worker},t{i},{'abc'[said[i]]}\n" for i in range(60))
    lines = [f"t{i},{'abc'[truth[i]]}\n" for i in range(40)]
    (tmp_path / "gold.csv").write_text("task,label\n" + "".join(lines))
    return crowd(tmp_path)


def test_every_method_beats_a_guesser_and_sums_to_one(table):
    guesser = score(table, alone(table, 4))[0].mean()
    for p in (engine(table, ALONE), majority(table.votes)):
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
        assert score(table, p)[0].mean() > guesser + 0.2
    for p in (engine_with_gold(table, 0), stacked(table, 0)):
        np.testing.assert_allclose(p[table.gold_item].sum(axis=1), 1, atol=1e-5)
        assert score(table, p)[0].mean() > guesser + 0.2


def test_gold_that_is_scored_was_not_seen(table):
    """The answers to one fold are turned; what the engine says there must stay."""
    fold = folds(table, 0)
    assert set(fold) == {0, 1, 2, 3, 4}
    before = engine_with_gold(table, 0)[table.gold_item[fold == 0]]
    table.gold[fold == 0] = (table.gold[fold == 0] + 1) % 3
    after = engine_with_gold(table, 0)[table.gold_item[fold == 0]]
    np.testing.assert_array_equal(before, after)


def test_ties_count_in_parts_and_silence_is_chance(table):
    even = np.full((60, 3), 1 / 3)
    right, loss = score(table, even)
    np.testing.assert_allclose(right, 1 / 3)
    assert loss == pytest.approx(np.log(3))


def test_an_interval_is_as_wide_as_the_blocks_are_few():
    values = (np.arange(400) % 2).astype(float)
    low, high = interval(values, np.arange(400))
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.1)
    whole = interval(np.repeat(values[:20], 20), np.repeat(np.arange(20), 20))
    assert whole[1] - whole[0] == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(20), rel=0.1)
    assert interval(np.ones(9), np.arange(9)) == (1, 1)


def test_words_of_maps_are_shares_of_classes():
    classes = tuple(CORINE)
    opinion = _opinions(classes)
    silent = {"331", "332", "334", "335"}
    for symbol, one in enumerate(legend("corine").classes):
        expected = 0 if one.title[:3] in silent else 1
        assert opinion[0, symbol].sum() == pytest.approx(expected), one.title
    for word, shares in enumerate(LUCAS.values()):
        assert set(shares) <= set(classes)
        assert opinion[1, word].sum() == pytest.approx(float(bool(shares)))
    river = opinion[0, legend("corine").index("clc511")]
    assert classes[river.argmax()] == "River"
    np.testing.assert_array_equal(opinion[2, :10], np.eye(10))


def test_only_clear_words_are_handed_to_rivals(table):
    assert len(as_classes(table)) == 300
    table.votes.opinion[0, 0] = 0.5, 0.5, 0
    table.votes.opinion[1, 1] = 0
    left = as_classes(table)
    dropped = sum(((table.votes.worker == i) & (table.votes.label == i)).sum() for i in (0, 1))
    assert len(left) == 300 - dropped
