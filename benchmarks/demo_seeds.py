"""The demo area again and again: what it gives, and how much that depends on the seed.

The seed deals the points into anchors and field source, the reference points into folds,
the cells into blocks, and draws the model's landmarks and soft labels.

    python -m benchmarks.demo_seeds [--data DIR] [--seeds 0 1 2 3 4] [--save demo_seeds]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.stored import Column, Table, add_save, keep
from glocal.loop.area.config import with_options
from glocal.loop.demo import demo_config, demo_points, find_data
from glocal.loop.run import run_area
from glocal.loop.score.metrics import Metrics

GAIN = Column(name="gain, 95 % interval", digits=3, signed=True)
AHEAD = Column(name="loop is better by, 95 % interval", digits=3, signed=True)
POINTS = Column(name="points", digits=0)


def figures(metrics: Metrics) -> dict[str, float]:
    """Return the figures of one run that are compared between seeds."""
    found = metrics.estimate
    scores = ("accuracy", "macro_f1", "log_loss", "ece")
    row = {f"loop {name}": getattr(found, name) for name in scores}
    for name, one in (metrics.baselines or {}).items():
        row[f"{name}: accuracy"] = one.accuracy
        row[f"{name}: loop is better by"] = one.difference
    for name, one in (metrics.sources or {}).items():
        if one.gain is not None:
            row[f"{name}: before"], row[f"{name}: after"] = one.before, one.after
            row[f"{name}: gain"] = one.gain
    return row


def spread(runs: Sequence[Metrics]) -> Table:
    """Return each figure over all seeds."""
    every = [figures(one) for one in runs]
    rows = []
    for name in every[0]:
        values = [one[name] for one in every]
        sd = statistics.stdev(values) if len(values) > 1 else 0.0
        rows.append((name, statistics.mean(values), min(values), max(values), sd))
    names = ("mean", "smallest", "largest", "standard deviation")
    columns = (Column(name="figure"), *(Column(name=name, digits=3) for name in names))
    return Table(columns=columns, rows=tuple(rows))


def sources(metrics: Metrics) -> Table:
    """Return what every source gains in one run."""
    rows = []
    for name, one in sorted((metrics.sources or {}).items()):
        gain = None if one.gain is None else (one.gain, one.low, one.high)
        measure = "not measurable here" if gain is None else one.metric
        rows.append((name, one.before, one.after, gain, one.n if gain else None, measure))
    before, after = (Column(name=name, digits=3) for name in ("before", "after"))
    columns = (Column(name="source"), before, after, GAIN, POINTS, Column(name="measure"))
    return Table(columns=columns, rows=tuple(rows))


def rivals(metrics: Metrics) -> Table:
    """Return the map of one run beside simpler ways to make one."""
    loop = metrics.estimate
    rows = [("the loop", loop.accuracy, None, loop.n)]
    for name, one in (metrics.baselines or {}).items():
        rows.append((name, one.accuracy, (one.difference, one.low, one.high), one.n))
    columns = (Column(name="map"), Column(name="accuracy", digits=3), AHEAD, POINTS)
    return Table(columns=columns, rows=tuple(rows))


def fixes(runs: Sequence[Metrics]) -> Table:
    """Return the tag fixes that OpenStreetMap is offered in each run, and what points say of them.

    The last row adds up.
    """
    rows = []
    for run in runs:
        told = run.corrections["osm"]
        n, right = (told.measured.n, told.measured.right) if told.measured else (0, 0)
        sent = told.count.get("modify", 0)
        rows.append((f"seed {run.seed}", sent, told.expected_precision, n, right))
    total = [sum(row[i] for row in rows) for i in (1, 3, 4)]
    rows.append(("all seeds", total[0], None, total[1], total[2]))
    columns = (
        Column(name="run"),
        Column(name="tag fixes", digits=0),
        Column(name="expected share right", digits=2),
        Column(name="points in them", digits=0),
        Column(name="right afterwards", digits=0),
    )
    return Table(columns=columns, rows=tuple(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("out/demo-seeds"))
    add_save(parser)
    given = parser.parse_args()
    base = demo_config(find_data(given.data), demo_points())
    runs = []
    for seed in given.seeds:
        start = time.perf_counter()
        config = with_options(base, seed=seed)
        runs.append(run_area(config, given.out / str(seed), progress=lambda what, share: None))
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    tables = {
        "sources": sources(runs[0]),
        "maps": rivals(runs[0]),
        "fixes": fixes(runs),
        "seeds": spread(runs),
    }
    keep(given.save, tables, given.seeds)


if __name__ == "__main__":
    main()
