"""Baselines against other implementations, slow twins and what must hold of any of them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.loop.area.area import Area, read_area
from glocal.loop.area.config import load
from glocal.loop.score.baselines import EVERY, FEW, baselines
from glocal.loop.score.baselines.ballots import ballots_of
from glocal.loop.score.baselines.crowd import Votes, dawid_skene, ebcc, majority, one_coin
from glocal.loop.score.baselines.masters import is_suspect
from glocal.loop.score.known_truth import scores_of
from glocal.synthetic import Scene, simulate, world_named, write_scene

WORKERS, CLASSES = 7, 3


def crowd(seed: int, items: int = 60, rate: float = 0.7) -> tuple[Votes, np.ndarray]:
    """Workers of different skill who answer a part of the items; some err alike."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, items)
    right = rng.random((WORKERS, items)) < np.linspace(rate - 0.2, rate + 0.2, WORKERS)[:, None]
    label = np.where(right, truth, rng.integers(0, CLASSES, (WORKERS, items)))
    label[:, 0] = CLASSES - 1  # every label and every item occurs
    worker, item = np.nonzero((rng.random((WORKERS, items)) < 0.7) | (np.arange(items) == 0))
    item = np.append(item, np.arange(items))
    worker = np.append(worker, np.zeros(items, int))
    keep = np.unique(worker * items + item)
    worker, item = np.divmod(keep, items)
    return Votes.plain(item, worker, label[worker, item]), truth


def slow_dawid_skene(votes: Votes, sweeps: int) -> np.ndarray:
    """Loops over items, workers and classes, as the paper writes it."""
    said = {(i, w): m for i, w, m in zip(votes.item, votes.worker, votes.label, strict=True)}
    items = len(votes.count)
    q = np.zeros((items, CLASSES))
    for (i, _), m in said.items():
        q[i, m] += 1
    q /= q.sum(axis=1, keepdims=True)
    for _ in range(sweeps):
        share = q.sum(axis=0) / items
        table = np.full((WORKERS, CLASSES, CLASSES), 1e-300)
        for (i, w), m in said.items():
            table[w, :, m] += q[i]
        table = table / table.sum(axis=2, keepdims=True)
        new = np.zeros_like(q)
        for i in range(items):
            for k in range(CLASSES):
                new[i, k] = share[k] * np.prod(
                    [table[w, k, m] for (j, w), m in said.items() if j == i]
                )
        q = new / new.sum(axis=1, keepdims=True)
    return q


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 10_000))
def test_dawid_and_skene_agrees_with_its_slow_twin(seed: int) -> None:
    votes, _ = crowd(seed, items=15)
    fast = dawid_skene(votes, sweeps=3, tolerance=-np.inf)
    np.testing.assert_allclose(fast, slow_dawid_skene(votes, 3), atol=1e-6)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000))
def test_items_with_the_same_votes_may_be_one_item_that_counts_more(seed: int) -> None:
    votes, _ = crowd(seed, items=20)
    items = len(votes.count)
    twice = replace(
        votes,
        item=np.concatenate([votes.item, votes.item + items]),
        worker=np.tile(votes.worker, 2),
        label=np.tile(votes.label, 2),
        count=np.ones(2 * items),
        known=np.zeros((2 * items, CLASSES)),
    )
    heavy = replace(votes, count=np.full(items, 2.0))
    for method in (majority, dawid_skene, one_coin, lambda one: ebcc(one, subtypes=1)):
        q = method(twice)
        np.testing.assert_allclose(q[:items], q[items:], atol=1e-8)
        np.testing.assert_allclose(q[:items], method(heavy), atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["DawidSkene", "OneCoinDawidSkene", "MajorityVote"])
def test_crowd_kit_says_the_same(name: str) -> None:
    crowdkit = pytest.importorskip("crowdkit.aggregation")
    pandas = pytest.importorskip("pandas")
    votes, _ = crowd(3, items=200)
    table = pandas.DataFrame({"task": votes.item, "worker": votes.worker, "label": votes.label})
    if name == "MajorityVote":
        theirs, ours = crowdkit.MajorityVote().fit(table).probas_, majority(votes)
    else:
        kit = getattr(crowdkit, name)(n_iter=100, tol=-1)
        kit.fit(table)
        theirs = kit.probas_
        ours = one_coin(votes)
        if name == "DawidSkene":
            ours = dawid_skene(votes, sweeps=100, tolerance=-np.inf)
    theirs = theirs.sort_index()[sorted(theirs.columns)].to_numpy()
    if name == "OneCoinDawidSkene":  # theirs learns the classes' shares, ours takes them as alike
        assert (theirs.argmax(axis=1) == ours.argmax(axis=1)).mean() > 0.95
    else:
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000), st.sampled_from([dawid_skene, one_coin, ebcc]))
def test_a_known_item_stays_known_and_good_crowds_are_believed(seed: int, method: Any) -> None:
    votes, truth = crowd(seed, items=150, rate=0.78)
    known = np.zeros((150, CLASSES))
    known[:20] = np.eye(CLASSES)[truth[:20]]
    q = method(replace(votes, known=known))
    np.testing.assert_allclose(q.sum(axis=1), 1)
    np.testing.assert_array_equal(q[:20], known[:20])
    assert (q.argmax(axis=1) == truth).mean() > 0.85


def test_confident_learning_suspects_what_its_package_does() -> None:
    cleanlab = pytest.importorskip("cleanlab.filter")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 400)
    label = np.where(rng.random(400) < 0.2, rng.integers(0, 4, 400), truth)
    score = rng.normal(size=(400, 4)) + 2.0 * np.eye(4)[truth]
    p = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    theirs = cleanlab.find_label_issues(
        label, p, filter_by="confident_learning", min_examples_per_class=0, n_jobs=1
    )
    np.testing.assert_array_equal(is_suspect(p, label), theirs)
    found = is_suspect(p, label)
    assert (label != truth)[found].mean() > 0.6


@pytest.fixture(scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Area]:
    folder = tmp_path_factory.mktemp("world") / "world"
    scene = simulate(replace(world_named("standard", 64), anchors=60), 2)
    write_scene(scene, folder)
    return scene, read_area(load(folder / "area.yaml"), lambda what, share: None)


def test_each_baseline_says_probabilities_of_every_cell(small_world: tuple[Scene, Area]) -> None:
    scene, area = small_world
    truth = scene.ground.classes().astype(np.int64)
    scores = {}
    for name, p in baselines(area, EVERY):
        assert p.shape == (64, 64, 7)
        np.testing.assert_allclose(p.sum(axis=-1), 1, atol=1e-5, err_msg=name)
        scores[name] = scores_of(p, truth)
    assert set(scores) == set(EVERY)
    assert scores["stacked"]["log_loss"] < scores["majority"]["log_loss"]
    assert scores["majority"]["accuracy"] > scores["master_slave"]["accuracy"]
    assert scores["best_source"]["accuracy"] > 0.6


def test_what_an_area_lacks_is_left_out(small_world: tuple[Scene, Area]) -> None:
    _, area = small_world
    maps = {one.source for one in area.observations if one.support == "cells"}
    readings = tuple(one for one in area.readings if one.name in maps)
    poor = replace(area, readings=readings, anchors=None)
    made = dict(baselines(poor, FEW))
    assert set(made) == {"majority", "dawid_skene", "best_source"}
    for p in made.values():
        np.testing.assert_allclose(p.sum(axis=-1), 1)


def test_without_anchors_field_points_are_the_labels(small_world: tuple[Scene, Area]) -> None:
    _, area = small_world
    ballots = ballots_of(replace(area, anchors=None))
    points = sum(len(one) for one in area.observations if one.support == "points")
    assert ballots.judge.all()
    assert len(ballots.cell) == points
    with_anchors = ballots_of(area)
    assert with_anchors.judge.sum() == 60
    assert not with_anchors.judge[60:].any()


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_scores_of_the_truth_and_of_ignorance(seed: int) -> None:
    truth = np.random.default_rng(seed).integers(-1, 4, (9, 9))
    if (truth < 0).all():
        return
    perfect = scores_of(np.eye(4)[np.maximum(truth, 0)], truth)
    assert perfect == {"accuracy": 1.0, "macro_f1": 1.0, "log_loss": 0.0, "ece": 0.0}
    nothing = scores_of(np.full((9, 9, 4), 0.25), truth)
    assert nothing["log_loss"] == pytest.approx(np.log(4))
    assert nothing["ece"] == pytest.approx(abs(nothing["accuracy"] - 0.25))
