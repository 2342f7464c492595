"""The demo area again and again: how much do its figures depend on the seed?

The seed deals the points into anchors and field source, the reference points into folds,
the cells into blocks, and draws the model's landmarks and soft labels.

    python benchmarks/demo_seeds.py [--data DIR] [--seeds 0 1 2 3 4] [--out out/demo-seeds]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from glocal.loop.area.config import with_options
from glocal.loop.demo import demo_config, demo_points, find_data
from glocal.loop.run import run_area


def figures(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the figures of one run that are compared between seeds."""
    estimate = metrics["estimate"]
    row = {f"loop {name}": estimate[name] for name in ("accuracy", "macro_f1", "log_loss", "ece")}
    for name, one in metrics["baselines"].items():
        row[f"{name}: accuracy"] = one["accuracy"]
        row[f"{name}: loop is better by"] = one["difference"]
    for name, one in metrics["sources"].items():
        if one["gain"] is not None:
            row[f"{name}: before"], row[f"{name}: after"] = one["before"], one["after"]
            row[f"{name}: gain"] = one["gain"]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("out/demo-seeds"))
    given = parser.parse_args()
    base = demo_config(find_data(given.data), demo_points())
    rows = []
    for seed in given.seeds:
        start = time.perf_counter()
        config = with_options(base, seed=seed)
        rows.append(
            figures(run_area(config, given.out / str(seed), progress=lambda what, share: None))
        )
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    print(f"\n| figure | mean | min | max | sd over {len(rows)} seeds |\n|---|---|---|---|---|")
    for name in rows[0]:
        values = [row[name] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(
            f"| {name} | {statistics.mean(values):.3f} | {min(values):.3f} | "
            f"{max(values):.3f} | {spread:.3f} |"
        )


if __name__ == "__main__":
    main()
