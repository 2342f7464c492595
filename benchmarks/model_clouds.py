"""Cloud removal at a place that was not learned from, beside its floors.

    python -m benchmarks.model_clouds --data ../shared/data [--weights nano]
        [--only cib|sen12mscr] [--seeds 0 1 2] [--steps 200] [--out out/clouds]
        [--save model_clouds]

Three cubes and one triplet: cases with their spread, never a ranking. SSIM is that of the whole
image, the other scores count the pixels under cloud only; "90 %" is how often the truth lies in
the stated 90 % interval. Between a cloudy date and its clear truth lie up to ten days, in
which fields change: the nearest clear date shares that handicap.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.model_segmentation import make_encoder
from benchmarks.stored import Column, Table, add_save, keep, means, pivot, slug
from glocal.io.atomic import write_json
from glocal.train.tasks.dense import Settings
from recipes.cloud_removal import METHODS, Fold, cib_folds, compare, sen12mscr_fold

SCORES = {
    "cloud_mae": Column(name="MAE ↓", digits=4, best="min"),
    "cloud_psnr": Column(name="PSNR ↑", digits=1, best="max"),
    "ssim": Column(name="SSIM ↑", digits=3, best="max"),
    "cloud_sam": Column(name="SAM ° ↓", digits=1, best="min"),
    "coverage90": Column(name="90 %", digits=2),
}

Rows = Sequence[dict[str, Any]]


def tables(rows: Rows) -> dict[str, Table]:
    """Return a table for every case, and for real and simulated clouds the error in each case.

    Smallest to largest are over seeds.
    """
    cases = list(dict.fromkeys(row["case"] for row in rows))
    found = {slug(case): _scores([row for row in rows if row["case"] == case]) for case in cases}
    for kind in ("real", "simulated"):
        mine = [case for case in cases if case.endswith(f" {kind}")]
        if mine:
            found[kind] = _errors(rows, mine)
    return found


def _scores(rows: Rows) -> Table:
    values = (
        (row["method"], column.name, row[key])
        for row in rows
        for key, column in SCORES.items()
        if row.get(key) is not None
    )
    return pivot("method", list(SCORES.values()), values)


def _errors(rows: Rows, cases: Sequence[str]) -> Table:
    values = [
        (row["method"], row["case"], row["cloud_mae"]) for row in rows if row["case"] in cases
    ]
    columns = [Column(name=name, digits=4, best="min") for name in (*cases, "mean")]
    return pivot("method", columns, [*values, *means(values)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="", help="name or folder; empty: random weights only")
    parser.add_argument("--only", choices=("cib", "sen12mscr"), default=None)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--methods", nargs="*", choices=tuple(METHODS), default=None)
    parser.add_argument("--out", type=Path, default=Path("out/clouds"))
    add_save(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Table] = {}
    offered = [m for m in METHODS if given.weights or "pretrained" not in m]
    for name in [given.only] if given.only else ["cib", "sen12mscr"]:
        cib = given.data / "worldcereal-cib"
        folds: list[Fold] = (
            cib_folds(cib) if name == "cib" else [sen12mscr_fold(cib, given.data / "sen12mscr-2")]
        )
        rows = []
        for row in compare(
            folds,
            lambda seed, pretrained: make_encoder(given.weights, seed, pretrained),
            methods=offered if given.methods is None else given.methods,
            seeds=given.seeds,
            settings=Settings(steps=given.steps),
        ):
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
        write_json(given.out / f"{name}.json", rows)
        found |= tables(rows)
    keep(given.save, found, given.seeds)


if __name__ == "__main__":
    main()
