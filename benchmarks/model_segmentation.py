"""Land cover per pixel at places that were not learned from, beside its floors.

    python -m benchmarks.model_segmentation --data ../shared/data [--weights nano]
        [--only terramind|cib] [--folds quadrant] [--sensors s2]
        [--seeds 0 1 2] [--steps 150] [--out out/segmentation]

Two sites each: cases with their spread, never a ranking. "at most" is the share of the test
pixels whose class occurs in training: TerraMind's two sites share one class, so that across
them hardly anything can be learned, and only the quadrants tell methods apart.
Galileo-nano is no row here: its weights can be had, but no installable package holds the code
that runs them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from glocal.io.atomic import write_json, write_text
from glocal.train.tasks.dense import Settings, seeded
from msgfm import Encoder, nano
from recipes.landcover import METHODS, Fold, cib_folds, compare, terramind_folds

SENSORS = {
    "terramind": (("s2",), ("s2", "sar"), ("s2", "sar", "dsm")),
    "cib": (("s2",), ("sar",), ("s2", "sar")),
}


def make_encoder(weights: str, seed: int, pretrained: bool) -> Encoder:
    if pretrained:
        return Encoder.from_pretrained(weights)
    with seeded(seed):
        return Encoder(nano())


def table(rows: list[dict[str, Any]]) -> str:
    """Return Markdown: mean over seeds (and quadrants), smallest and largest."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        fold = "quadrants" if row["fold"].startswith("quadrant") else row["fold"]
        groups[fold, row["sensors"], row["method"]].append(row)
    lines = [
        "| case | at most | sensors | method | runs | accuracy (min-max) | mIoU (min-max) "
        "| IoU per class |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (fold, sensors, method), found in groups.items():
        spread = [_spread([row[name] for row in found]) for name in ("accuracy", "miou")]
        classes = {name: None for row in found for name in row["iou"]}
        iou = ", ".join(
            f"{name} {statistics.mean(r['iou'][name] for r in found if name in r['iou']):.2f}"
            for name in classes
        )
        most = statistics.mean(row["reachable"] for row in found)
        cells = [fold, f"{most:.3f}", sensors, method, str(len(found)), *spread, iou]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="", help="name or folder; empty: random weights only")
    parser.add_argument("--only", choices=("terramind", "cib"), default=None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=None)
    parser.add_argument("--folds", default="", help="only folds whose name contains this")
    parser.add_argument("--sensors", nargs="+", default=None, help="such as s2 s2+sar")
    parser.add_argument("--out", type=Path, default=Path("out/segmentation"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    methods = given.methods or [m for m in METHODS if given.weights or "pretrained" not in m]
    for name in [given.only] if given.only else ["terramind", "cib"]:
        folds: list[Fold] = (
            terramind_folds(given.data / "terramind-5sites")
            if name == "terramind"
            else cib_folds(given.data / "worldcereal-cib")
        )
        rows = []
        chosen = [tuple(one.split("+")) for one in given.sensors or ()]
        for row in compare(
            [fold for fold in folds if given.folds in fold.name],
            lambda seed, pretrained: make_encoder(given.weights, seed, pretrained),
            sensors=chosen or SENSORS[name],
            methods=methods,
            seeds=given.seeds,
            settings=Settings(steps=given.steps),
        ):
            rows.append(row)
            print({k: v for k, v in row.items() if k != "iou"}, file=sys.stderr, flush=True)
        write_json(given.out / f"{name}.json", rows)
        write_text(given.out / f"{name}.md", table(rows))
        print(table(rows))


if __name__ == "__main__":
    main()
