"""The engine on real tables whose truth is known: nobody in them is master.

Two crowds, and EuroSAT patches where maps and surveyors speak too (see ``gold_tables``). Each
item is a cell of a grid of one row, each worker a source; items have no neighbours and no
regions, and each is a statement of its own. ``engine`` without gold keeps its conservative
exponents; with gold, its anchors are the gold of four fifths of the blocks and it is scored
on the rest, in turns; so is the stacked regression. `engine, Dawid-Skene` turns off what is
not in that model. Intervals draw blocks with replacement (a task; half a degree).

    python -m benchmarks.fusion_real --data ../shared/data [--save fusion_real]

crowd-kit and Snorkel take words for classes: a word without one likeliest class is left
out there. Snorkel is told the class shares of the majority vote.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks import stored
from benchmarks.gold_tables import FAITH, Table, crowd, eurosat
from benchmarks.stored import Column, add_save, keep
from glocal.core.setting import DAWID_SKENE, ENGINE, Setting
from glocal.fusion.fuse import fuse
from glocal.loop.score.baselines.crowd import dawid_skene, ebcc, majority, one_coin

try:
    import crowdkit.aggregation as crowdkit
except ImportError:  # an optional rival
    crowdkit = None
try:
    from snorkel.labeling.model import LabelModel
except ImportError:  # an optional rival
    LabelModel = None

FOLDS = 5
DRAWS = 2000
MOST_WORKERS = 200
"""Workers up to which gold and Snorkel are used: both compare all pairs of sources."""

FEW_WORKERS = 10
"""Workers up to which each is also scored alone."""

ALONE = replace(ENGINE, spatial=False, parts=0, cells_per_statement=1.0)
"""The engine for items that have no neighbours."""

KIT = {
    "MajorityVote": {},
    "DawidSkene": {"n_iter": 100},
    "OneCoinDawidSkene": {"n_iter": 100},
    "MACE": {"n_restarts": 3},
}
"""Wawa and ZeroBasedSkill of crowd-kit 1.4 stop with an error under scikit-learn 1.9."""

Shares = NDArray[np.float64]


def engine(table: Table, setting: Setting) -> Shares:
    """Return P(class) of every item (I, K) by the engine without any gold."""
    return np.exp(fuse(table.sources(), setting=setting).cells()[0].astype(np.float64))


def folds(table: Table, seed: int) -> NDArray[np.int64]:
    """Return the fold of all gold, whole blocks at a time."""
    names, number = np.unique(table.block, return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(names)) % FOLDS)[number]


def engine_with_gold(table: Table, seed: int) -> Shares:
    """Return P(class) at the gold by the engine that saw the other four fifths of the blocks."""
    fold, sources = folds(table, seed), table.sources()
    out = np.zeros((len(table), len(table.classes)))
    for f in range(FOLDS):
        fused = fuse(sources, table.anchors(fold != f), seed=seed, setting=ALONE)
        held = table.gold_item[fold == f]
        out[held] = np.exp(fused.cells()[0, held].astype(np.float64))
    return out


def stacked(table: Table, seed: int) -> Shares:
    """Return P(class) at the gold by a regression on all words, taught as the engine is."""
    votes, fold = table.votes, folds(table, seed)
    said = np.zeros((len(table), *votes.opinion.shape[:2]), np.float32)
    said[votes.item, votes.worker, votes.label] = 1
    words = said.reshape(len(table), -1)[table.gold_item]
    out = np.zeros((len(table), len(table.classes)))
    for f in range(FOLDS):
        model = LogisticRegression(max_iter=1000).fit(words[fold != f], table.gold[fold != f])
        held = table.gold_item[fold == f]
        out[held[:, None], model.classes_] = model.predict_proba(words[fold == f])
    return out


def alone(table: Table, worker: int) -> Shares:
    """Return one worker's word, believed as far as the engine does at first."""
    votes, classes = table.votes, len(table.classes)
    mine = votes.worker == worker
    opinion = votes.opinion[worker, votes.label[mine]]
    out = np.full((len(table), classes), 1 / classes)
    told = opinion.sum(axis=1) > 0
    out[votes.item[mine][told]] = FAITH * opinion[told] + (1 - FAITH) / classes
    return out


def as_classes(table: Table) -> pd.DataFrame:
    """Return the words that have one likeliest class: task, worker, label."""
    votes = table.votes
    opinion = votes.opinion[votes.worker, votes.label]
    top = opinion.max(axis=1, keepdims=True)
    clear = (top[:, 0] > 0) & ((opinion == top).sum(axis=1) == 1)
    found = {"task": votes.item, "worker": votes.worker, "label": opinion.argmax(axis=1)}
    return pd.DataFrame(found)[clear]


def kit(table: Table, name: str) -> Shares:
    """Return P(class) by a model of crowd-kit; items without a clear word: all alike."""
    model = getattr(crowdkit, name)(**KIT[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model.fit_predict_proba(as_classes(table))
    every = found.reindex(index=range(len(table)), columns=range(len(table.classes)))
    heard = every.notna().any(axis=1).to_numpy()
    return np.where(heard[:, None], every.fillna(0), 1 / len(table.classes))


def snorkel(table: Table) -> Shares:
    """Return P(class) by Snorkel's label model (Ratner et al. 2019)."""
    words = as_classes(table)
    said = np.full((len(table), len(table.workers)), -1)
    said[words.task, words.worker] = words.label
    model = LabelModel(cardinality=len(table.classes), verbose=False)
    balance = np.maximum(majority(table.votes).mean(axis=0), 1e-3)
    model.fit(said, class_balance=balance / balance.sum(), n_epochs=500, seed=0, progress_bar=False)
    return np.asarray(model.predict_proba(said))


def methods(table: Table, gold_seeds: range) -> dict[str, Callable[[], Shares]]:
    rows: dict[str, Callable[[], Shares]] = {
        "engine": lambda: engine(table, ALONE),
        "engine, Dawid-Skene": lambda: engine(table, DAWID_SKENE),
    }
    for seed in gold_seeds if len(table.workers) <= MOST_WORKERS else ():
        about = f"with gold, cross-fitted, seed {seed}"
        rows[f"engine {about}"] = lambda seed=seed: engine_with_gold(table, seed)
        rows[f"stacked regression {about}"] = lambda seed=seed: stacked(table, seed)
    for i, name in enumerate(table.workers if len(table.workers) <= FEW_WORKERS else ()):
        rows[f"{name} alone"] = lambda i=i: alone(table, i)
    rows |= {
        "majority": lambda: majority(table.votes),
        "Dawid-Skene": lambda: dawid_skene(table.votes),
        "one-coin": lambda: one_coin(table.votes),
        "IBCC": lambda: ebcc(table.votes, subtypes=1),
        "EBCC": lambda: ebcc(table.votes),
    }
    if crowdkit:
        rows |= {f"crowd-kit {name}": lambda name=name: kit(table, name) for name in KIT}
    if LabelModel and len(table.workers) <= MOST_WORKERS:
        rows["Snorkel label model"] = lambda: snorkel(table)
    return rows


def score(table: Table, p: Shares) -> tuple[NDArray[np.float64], float]:
    """Return how right each gold item is (a tie of n classes: 1/n), and the log-loss."""
    at = p[table.gold_item]
    of_gold = at[np.arange(len(at)), table.gold]
    top = np.isclose(at, at.max(axis=1, keepdims=True), rtol=0, atol=1e-9)
    right = top[np.arange(len(at)), table.gold] / top.sum(axis=1)
    return right, float(-np.log(np.maximum(of_gold, 1e-6)).mean())


def interval(values: NDArray[np.float64], block: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % interval of the mean when blocks are drawn with replacement."""
    number = np.unique(block, return_inverse=True)[1]
    total, size = np.bincount(number, values), np.bincount(number)
    each = np.full(len(size), 1 / len(size))
    drawn = np.random.default_rng(0).multinomial(len(size), each, DRAWS)
    low, high = np.quantile(drawn @ total / (drawn @ size), [0.025, 0.975])
    return float(low), float(high)


def scores(table: Table, gold_seeds: range) -> stored.Table:
    """Return how good each method is on one table, and how much better the engine."""
    rows: list[tuple[stored.Cell, ...]] = []
    first = None
    for method, made in methods(table, gold_seeds).items():
        start = time.process_time()
        right, loss = score(table, made())
        spent = time.process_time() - start
        first = right if first is None else first
        ahead = first - right
        better = None if first is right else (float(ahead.mean()), *interval(ahead, table.block))
        accuracy = (float(right.mean()), *interval(right, table.block))
        rows.append((method, accuracy, better, loss, spent))
        print(f"{table.name}, {method}: {accuracy[0]:.3f}", file=sys.stderr, flush=True)
    columns = (
        Column(name="method"),
        Column(name="accuracy, 95 % interval", digits=3, best="max"),
        Column(name="engine is better by, 95 % interval", digits=3, signed=True),
        Column(name="log-loss", digits=3, best="min"),
        Column(name="CPU s", digits=1),
    )
    return stored.Table(columns=columns, rows=tuple(rows))


def counts(tables: Sequence[Table]) -> stored.Table:
    """Return how large the tables are."""
    names = ("workers", "items", "with gold", "blocks of gold", "words")
    rows = tuple(
        (
            *(one.name, len(one.workers), len(one), len(one.gold)),
            *(len(np.unique(one.block)), len(one.votes.item)),
        )
        for one in tables
    )
    head = Column(name="table")
    return stored.Table(columns=(head, *(Column(name=one, digits=0) for one in names)), rows=rows)


TABLES: dict[str, Callable[[Path], Table]] = {
    "AdultContent2": lambda data: crowd(data / "crowds" / "AdultContent2"),
    "BarzanMozafari": lambda data: crowd(data / "crowds" / "BarzanMozafari"),
    "EuroSAT": lambda data: eurosat(data / "eurosat-rgb"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--gold-seeds", type=int, default=3)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    add_save(parser)
    given = parser.parse_args()
    every = [TABLES[name](given.data) for name in given.tables]
    seeds = range(given.gold_seeds)
    tables = {stored.slug(one.name): scores(one, seeds) for one in every}
    keep(given.save, {"counts": counts(every), **tables}, seeds)


if __name__ == "__main__":
    main()
