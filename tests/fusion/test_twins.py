"""The fast engine against a slow twin over cells, and against crowd-kit's Dawid and Skene."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.core.setting import DAWID_SKENE, ENGINE
from glocal.fusion.estimate.posterior import estimate
from glocal.fusion.fuse import fuse
from glocal.fusion.problem.terms import Located, prepare, regions
from glocal.fusion.reliability.dependence import Exponents, families_of, gammas
from glocal.testing import grid, legend_of, provenance_of
from tests.fusion.slow_twin import slow_posterior


def source(name, symbols, legend, matrix, confidence, root):
    return Observations(
        source=name,
        support="cells",
        geobox=grid(*symbols.shape),
        symbols=symbols.astype(np.uint8),
        crosswalk=Crosswalk(
            symbols=tuple(f"m{i}" for i in range(len(matrix))),
            target=legend,
            matrix=matrix,
            confidence=confidence,
        ),
        phenomenon_time=Interval.of_year(2020),
        provenance=provenance_of(root),
    )


@given(
    st.integers(0, 2**31),
    st.sampled_from([ENGINE, DAWID_SKENE, replace(ENGINE, cells_per_statement=20.0)]),
)
@settings(max_examples=12, deadline=None)
def test_the_fast_engine_equals_the_slow_twin(seed, setting):
    setting = replace(setting, sweeps=min(setting.sweeps, 5), largest_region=5, tolerance=0)
    rng = np.random.default_rng(seed)
    height, width, k = 7, 9, int(rng.integers(2, 5))
    legend = legend_of(k)
    truth = rng.integers(0, k, (height, width))
    sources = []
    for i in range(int(rng.integers(1, 5))):
        m = int(rng.integers(1, 6))
        meaning = rng.integers(0, m, k)[truth]
        said = np.where(rng.random(truth.shape) < 0.7, meaning, rng.integers(0, m, truth.shape))
        symbols = np.where(rng.random(truth.shape) < 0.8, said + 1, 0)
        table = rng.dirichlet(np.ones(k), m)
        trust = rng.uniform(0, 1, m)
        sources.append(source(f"s{i}", symbols, legend, table, trust, f"r{rng.integers(0, 2)}"))
    problem = prepare(sources, families_of(sources), setting)
    region = regions(problem.geobox, setting)
    assert region.max() == (3 if setting.parts else 0)
    exponents = Exponents(
        g={one.source: float(rng.uniform(0, 1)) for one in sources},
        delta={one.name: float(rng.uniform(0, 1)) for one in problem.terms if len(one.kin) > 1},
    )
    cell = rng.integers(0, height * width, 6)
    anchors = Located(
        unit=problem.units.of_cell[cell].astype(np.int64),
        cell=cell,
        shares=rng.dirichlet(np.ones(k), 6),
        weight=rng.uniform(0.5, 2, 6),
    )
    log_prior = np.log(rng.dirichlet(np.full(k, 3.0)))
    fast = estimate(problem, log_prior, exponents, anchors)
    power = gammas(problem, exponents)
    slow, tables = slow_posterior(
        np.stack([one.symbols.ravel() for one in sources]),
        [
            one.crosswalk.confidence[:, None] * one.crosswalk.matrix
            + (1 - one.crosswalk.confidence[:, None]) / k
            for one in sources
        ],
        [np.minimum(one.crosswalk.confidence, 0.99) for one in sources],
        region,
        log_prior,
        np.stack([_by_hand(one, sources, exponents, power) for one in sources]),
        list(zip(cell, anchors.shares, anchors.weight, strict=True)),
        sweeps=setting.sweeps,
        per_statement=setting.cells_per_statement,
        back_off=setting.back_off,
        votes=setting.start == "votes",
        free_prior=setting.prior == "posterior",
    )
    got = fast.log_q()[problem.units.of_cell]
    np.testing.assert_allclose(np.exp(got), np.exp(slow), rtol=0, atol=1e-6)
    for one, table in zip(sources, tables, strict=True):
        used = np.unique(region)
        np.testing.assert_allclose(
            np.exp(fast.confusion[one.source].log_p)[used], table[used], rtol=0, atol=1e-6
        )


def _by_hand(one, sources, exponents, power):
    """Return the exponent of a source in every cell: g * n ** -delta."""
    assert one.source in power
    kin = [other for other in sources if other.provenance.roots & one.provenance.roots]
    n = np.maximum(sum((other.symbols > 0).astype(float) for other in kin), 1).ravel()
    return exponents.g[one.source] * n ** -exponents.delta.get(one.source, 0.0)


def crowd(worker, task, label, gold=None):
    """Return one source per worker over a row of tasks."""
    labels, tasks = sorted(set(label)), sorted(set(task))
    legend = legend_of(len(labels))
    at = {name: i for i, name in enumerate(tasks)}
    number = {name: i + 1 for i, name in enumerate(labels)}
    k = len(labels)
    rows = {}
    for w, t, y in zip(worker, task, label, strict=True):
        rows.setdefault(w, np.zeros((1, len(tasks)), np.uint8))[0, at[t]] = number[y]
    return (
        [
            source(f"w{w:04d}", said, legend, np.eye(k), np.ones(k), f"w{w}")
            for w, said in rows.items()
        ],
        tasks,
        labels,
    )


def parity(worker, task, label):
    """Return the largest difference of posteriors and whether all labels are the same."""
    aggregation = pytest.importorskip("crowdkit.aggregation", reason="crowd-kit is not installed")
    pd = pytest.importorskip("pandas")
    sources, tasks, labels = crowd(worker, task, label)
    ours = np.exp(fuse(sources, setting=DAWID_SKENE).cells()[0])
    model = aggregation.DawidSkene(n_iter=DAWID_SKENE.sweeps)
    table = pd.DataFrame({"worker": worker, "task": task, "label": label})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # crowd-kit calls what pandas deprecates
        theirs = model.fit_predict_proba(table)
    theirs = theirs.loc[tasks, labels].to_numpy()
    return np.abs(ours - theirs).max(), (ours.argmax(1) == theirs.argmax(1)).all()


def test_the_setting_of_dawid_and_skene_equals_crowd_kit_on_a_simulated_crowd():
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 300, p=[0.5, 0.3, 0.2])
    worker, task = np.divmod(np.arange(8 * 300), 300)
    right = rng.uniform(0.6, 0.9, 8)[worker]
    said = np.where(rng.random(len(task)) < right, truth[task], rng.integers(0, 3, len(task)))
    keep = rng.random(len(task)) < 0.7
    gap, same = parity(worker[keep].tolist(), task[keep].tolist(), said[keep].tolist())
    assert same
    assert gap < 1e-3


@pytest.mark.parametrize("name", ["AdultContent2", "BarzanMozafari"])
def test_the_setting_of_dawid_and_skene_equals_crowd_kit_on_real_crowds(shared, name):
    pd = pytest.importorskip("pandas")
    folder = shared / "crowds" / name
    table, gold = pd.read_csv(folder / "labels.csv"), pd.read_csv(folder / "gold.csv")
    table = table[table.task.isin(gold.task)].drop_duplicates(["worker", "task"])
    gap, same = parity(table.worker.tolist(), table.task.tolist(), table.label.tolist())
    assert same
    assert gap < 1e-3
