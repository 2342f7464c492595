"""Transfer to a sensor that pretraining never saw: Landsat-8, added as a row of the table.

    python -m benchmarks.model_landsat --data ../shared/data [--weights nano]
        [--seeds 0 1 2] [--steps 100] [--out out/landsat] [--save model_landsat]

Two sites and one scene: cases with their spread over seeds, never a ranking.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.stored import Column, Table, add_save, keep, means, pivot
from glocal.io.atomic import write_json
from glocal.train.tasks.dense import Settings
from msgfm import Encoder, nano
from recipes.landsat import land_cover, same_place


def encoders(weights: str, seed: int) -> dict[str, Encoder]:
    torch.manual_seed(seed)
    found = {"random encoder": Encoder(nano())}
    if weights:
        found["pretrained encoder"] = Encoder.from_pretrained(weights)
    return found


TOPS = {
    "top1": Column(name="top-1 ↑", digits=2, best="max"),
    "top5": Column(name="top-5 ↑", digits=2, best="max"),
}

Rows = Sequence[dict[str, Any]]


def tables(places: Rows, covers: Rows) -> dict[str, Table]:
    """Return how often the same place is found, and scores of land cover by tested site.

    Smallest to largest are over seeds.
    """
    found = ((row["method"], one.name, row[key]) for row in places for key, one in TOPS.items())
    tables = {"same-place": pivot("method", list(TOPS.values()), found)}
    sites = dict.fromkeys(row["test"] for row in covers)
    columns = [Column(name=name, digits=2, best="max") for name in (*sites, "mean")]
    for score in ("accuracy", "miou"):
        values = [(row["method"], row["test"], row[score]) for row in covers]
        tables[score] = pivot("method", columns, [*values, *means(values)])
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="", help="name or folder; empty: random weights only")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("out/landsat"))
    add_save(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    places: list[dict[str, Any]] = []
    covers: list[dict[str, Any]] = []
    for seed in given.seeds:
        some = encoders(given.weights, seed)
        places += [{"seed": seed, **row} for row in same_place(given.data, some)]
        settings = Settings(steps=given.steps, batch=4, encoder_rate=1e-3, seed=seed)
        for row in land_cover(given.data, some, settings):
            covers.append({"seed": seed, **row})
            print(row["test"], row["method"], row["accuracy"], file=sys.stderr, flush=True)
        write_json(given.out / "landsat.json", {"same_place": places, "land_cover": covers})
    keep(given.save, tables(places, covers), given.seeds)


if __name__ == "__main__":
    main()
