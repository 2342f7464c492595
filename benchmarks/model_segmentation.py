"""Land cover per pixel at places that were not learned from, beside its floors.

    python -m benchmarks.model_segmentation --data ../shared/data [--weights nano]
        [--only terramind|cib] [--folds quadrant] [--sensors s2]
        [--seeds 0 1 2] [--steps 150] [--out out/segmentation] [--save model_segmentation]

Two sites each: cases with their spread, never a ranking. "at most" is the share of the test
pixels whose class occurs in training: TerraMind's two sites share one class, so that across
them hardly anything can be learned, and only the quadrants tell methods apart.
Galileo-nano is no row here: its weights can be had, but no installable package holds the code
that runs them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.stored import Column, Table, add_save, keep, means, pivot, slug
from glocal.io.atomic import write_json
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


Rows = Sequence[dict[str, Any]]


def tables(rows: Rows) -> dict[str, Table]:
    """Return, by choice of sensors, each score of each method in each fold.

    Smallest to largest are over seeds, "mean" is over folds and seeds.
    """
    found = {"at-most": _at_most(rows)}
    for sensors in dict.fromkeys(row["sensors"] for row in rows):
        mine = [row for row in rows if row["sensors"] == sensors]
        for score in ("miou", "accuracy"):
            found[f"{score}-{slug(sensors)}"] = _by_fold(mine, score)
        found[f"classes-{slug(sensors)}"] = _by_class(mine)
    return found


def _at_most(rows: Rows) -> Table:
    values = {row["fold"]: row["reachable"] for row in rows}
    return Table(
        columns=(Column(name="fold"), Column(name="at most", digits=3)),
        rows=tuple(values.items()),
    )


def _by_fold(rows: Rows, score: str) -> Table:
    values = [(row["method"], row["fold"], row[score]) for row in rows]
    folds = (*dict.fromkeys(row["fold"] for row in rows), "mean")
    columns = [Column(name=name, digits=3, best="max") for name in folds]
    return pivot("method", columns, [*values, *means(values)])


def _by_class(rows: Rows) -> Table:
    values = [(row["method"], name, iou) for row in rows for name, iou in row["iou"].items()]
    names = dict.fromkeys(name for _, name, _ in values)
    return pivot("method", [Column(name=name, digits=2, best="max") for name in names], values)


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
    add_save(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Table] = {}
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
        done = tables(rows)
        found |= done if given.only else {f"{name}-{key}": one for key, one in done.items()}
    keep(given.save, found, given.seeds)


if __name__ == "__main__":
    main()
