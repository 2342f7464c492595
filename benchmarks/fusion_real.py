"""The engine on real crowds whose truth is known: people label tasks, nobody is master.

Each task is a cell of a grid of one row, each worker a source. `engine` without gold keeps
its conservative exponents; with gold, its anchors are four fifths of the gold tasks and it
is scored on the rest, in turns. `engine, Dawid-Skene` turns off what is not in that model.

    python -m benchmarks.fusion_real --data ../shared/data/crowds
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.interval import Interval
from glocal.core.legend import ClassDef, Crosswalk, Legend
from glocal.core.observation import Anchors, Observations
from glocal.core.provenance import Provenance
from glocal.fusion.fuse import fuse
from glocal.fusion.setting import DAWID_SKENE, ENGINE, Setting
from glocal.run.baselines.crowd import Votes, dawid_skene, ebcc, majority, one_coin

try:
    import crowdkit.aggregation as crowdkit
except ImportError:  # an optional rival
    crowdkit = None

CROWDS = ("AdultContent2", "BarzanMozafari")
FOLDS = 5
MOST_WORKERS = 200
"""Workers up to which gold is used: each is a source, and all pairs of sources are compared."""

ALONE = replace(ENGINE, spatial=False)
"""The engine for tasks that have no neighbours."""
FAITH = 0.7
"""How far a worker's word is believed before any data is seen."""

Codes = NDArray[np.int64]


class Crowd:
    """Labels and gold of one crowd, with tasks, workers and classes as numbers."""

    def __init__(self, folder: Path) -> None:
        labels = pd.read_csv(folder / "labels.csv")
        gold = pd.read_csv(folder / "gold.csv")
        labels = labels.drop_duplicates(["worker", "task"], keep="last")
        self.classes = sorted({*labels.label.unique()})
        self.item, tasks = pd.factorize(labels.task)
        self.worker, _ = pd.factorize(labels.worker)
        self.label = np.searchsorted(self.classes, labels.label)
        known = gold[gold.task.isin(tasks) & gold.label.isin(self.classes)]
        self.gold_item = pd.Index(tasks).get_indexer(known.task)
        self.gold = np.searchsorted(self.classes, known.label)
        self.votes = Votes.plain(self.item, self.worker, self.label)

    def sources(self) -> list[Observations]:
        """Return every worker as a source that speaks of the cells of its tasks."""
        tasks = len(self.votes.count)
        grid = GeoBox.from_bbox((0, 0, 10 * tasks, 10), crs="EPSG:32633", shape=(1, tasks))
        k = len(self.classes)
        legend = Legend(
            name="crowd",
            classes=tuple(
                ClassDef(value=i + 1, name=f"class{i}", title=str(one), color="808080")
                for i, one in enumerate(self.classes)
            ),
        )
        plain = Crosswalk(
            symbols=legend.names, target=legend, matrix=np.eye(k), confidence=np.full(k, FAITH)
        )
        when = Interval.parse("2010")
        said = np.zeros((int(self.worker.max()) + 1, 1, tasks), np.uint8)
        said[self.worker, 0, self.item] = self.label + 1
        return [
            Observations(
                source=f"worker{i:04d}",
                support="cells",
                geobox=grid,
                symbols=symbols,
                crosswalk=plain,
                phenomenon_time=when,
                provenance=_by(f"worker{i:04d}"),
            )
            for i, symbols in enumerate(said)
        ]

    def anchors(self, use: NDArray[np.bool_]) -> Anchors:
        """Return some gold tasks as reference points."""
        item, k = self.gold_item[use], len(self.classes)
        return Anchors(
            x=item * 10.0 + 5,
            y=np.full(len(item), 5.0),
            shares=np.eye(k)[self.gold[use]],
            weight=np.ones(len(item)),
            record=np.array([f"gold{i}" for i in item]),
            provenance=_by("gold"),
        )


def _by(who: str) -> Provenance:
    return Provenance(
        activity="label", agent=who, licences=frozenset({"Apache-2.0"}), roots=frozenset({who})
    )


def engine(crowd: Crowd, setting: Setting) -> NDArray[np.float64]:
    """Return P(class) of every task (I, K) by the engine without any gold."""
    fused = fuse(crowd.sources(), setting=setting)
    return np.exp(fused.cells()[0].astype(np.float64))


def engine_with_gold(crowd: Crowd, seed: int) -> NDArray[np.float64]:
    """Return P(class) at the gold tasks by the engine that saw the other four fifths of them."""
    fold = np.random.default_rng(seed).permutation(len(crowd.gold)) % FOLDS
    out = np.zeros((len(crowd.votes.count), len(crowd.classes)))
    sources = crowd.sources()
    for f in range(FOLDS):
        fused = fuse(sources, crowd.anchors(fold != f), seed=seed, setting=ALONE)
        held = crowd.gold_item[fold == f]
        out[held] = np.exp(fused.cells()[0, held].astype(np.float64))
    return out


def kit(crowd: Crowd, name: str) -> NDArray[np.float64]:
    """Return P(class) by a model of crowd-kit."""
    table = pd.DataFrame({"task": crowd.item, "worker": crowd.worker, "label": crowd.label})
    model = (
        crowdkit.MajorityVote() if name == "MajorityVote" else getattr(crowdkit, name)(n_iter=100)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model.fit(table)
    columns = sorted(model.probas_.columns)
    return model.probas_.sort_index()[columns].to_numpy()


def methods(crowd: Crowd, gold_seeds: range) -> dict[str, Callable[[], NDArray[np.float64]]]:
    rows: dict[str, Callable[[], NDArray[np.float64]]] = {
        "engine": lambda: engine(crowd, ALONE),
        "engine, Dawid-Skene": lambda: engine(crowd, DAWID_SKENE),
    }
    for seed in gold_seeds if len(crowd.sources()) <= MOST_WORKERS else ():
        rows[f"engine with gold, cross-fitted, seed {seed}"] = lambda seed=seed: engine_with_gold(
            crowd, seed
        )
    rows |= {
        "majority": lambda: majority(crowd.votes),
        "Dawid-Skene": lambda: dawid_skene(crowd.votes),
        "one-coin": lambda: one_coin(crowd.votes),
        "IBCC": lambda: ebcc(crowd.votes, subtypes=1),
        "EBCC": lambda: ebcc(crowd.votes),
    }
    if crowdkit:
        for name in ("MajorityVote", "DawidSkene", "OneCoinDawidSkene"):
            rows[f"crowd-kit {name}"] = lambda name=name: kit(crowd, name)
    return rows


def score(crowd: Crowd, p: NDArray[np.float64]) -> tuple[float, float]:
    """Return accuracy and log-loss at the gold tasks."""
    at = p[crowd.gold_item]
    of_gold = at[np.arange(len(at)), crowd.gold]
    right = at.argmax(axis=1) == crowd.gold
    return float(right.mean()), float(-np.log(np.maximum(of_gold, 1e-6)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/crowds"))
    parser.add_argument("--gold-seeds", type=int, default=3)
    parser.add_argument("--crowds", nargs="+", choices=CROWDS, default=list(CROWDS))
    given = parser.parse_args()
    for name in given.crowds:
        crowd = Crowd(given.data / name)
        workers, tasks = crowd.worker.max() + 1, len(crowd.votes.count)
        print(f"\n**{name}**: {workers} workers, {tasks} tasks, {len(crowd.gold)} with gold\n")
        print("| method | accuracy | log-loss | CPU s |\n|---|---|---|---|")
        for method, made in methods(crowd, range(given.gold_seeds)).items():
            start = time.process_time()
            accuracy, loss = score(crowd, made())
            spent = time.process_time() - start
            print(f"| {method} | {accuracy:.3f} | {loss:.3f} | {spent:.2f} |", flush=True)


if __name__ == "__main__":
    main()
