"""Pan-sharpening beside its floors: Sentinel-2 20 to 10 m, and colour by a SYNTHETIC pan band.

    python -m benchmarks.model_sharpening --data ../shared/data [--weights nano]
        [--only tile|kempen|pictures] [--seeds 0 1 2] [--steps 150] [--out out/sharpening]
        [--save model_sharpening]

Scores by Wald's protocol: the native coarse bands are the truth, everything is learned and tested
one octave (colour: two) below. PSNR and SSIM for a data range of 1. Self-supervised pretraining
may have seen the test images, without anything that tells coarse from fine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.stored import Column, Table, add_save, keep, pivot, slug
from glocal.io.atomic import write_json
from glocal.train.tasks.sharpening.network import FitConfig
from msgfm import Encoder, nano
from recipes.sharpen import one_tile, pictures, two_scenes

EXPERIMENTS: dict[str, Callable[..., list[dict[str, Any]]]] = {
    "tile": one_tile,
    "kempen": two_scenes,
    "pictures": pictures,
}
SCORES = {
    "psnr": Column(name="PSNR dB ↑", digits=2, best="max"),
    "ssim": Column(name="SSIM ↑", digits=3, best="max"),
    "sam": Column(name="SAM ° ↓", digits=2, best="min"),
    "ergas": Column(name="ERGAS ↓", digits=2, best="min"),
}


def encoders(weights: str, seed: int) -> dict[str, Encoder]:
    torch.manual_seed(seed)
    found = {"random encoder": Encoder(nano())}
    if weights:
        found["pretrained encoder"] = Encoder.from_pretrained(weights)
    return found


def tables(rows: Sequence[dict[str, Any]]) -> dict[str, Table]:
    """Return, by group of scenes, the mean scores of each method over them.

    Smallest to largest are over seeds.
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["scene"].split("_")[0]].append(row)
    found = {}
    for group, mine in groups.items():
        runs: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
        for row in mine:
            runs[row["method"], row["seed"]].append(row)
        values = (
            (method, column.name, statistics.mean(row[key] for row in scenes))
            for (method, _), scenes in runs.items()
            for key, column in SCORES.items()
        )
        found[slug(group)] = pivot("method", list(SCORES.values()), values)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="", help="name or folder; empty: random weights only")
    parser.add_argument("--only", choices=tuple(EXPERIMENTS), default=None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--encoder-rate", type=float, default=0.0, help="0 freezes the encoder")
    parser.add_argument("--base", default="hypersharpening", help="what the networks correct")
    parser.add_argument("--out", type=Path, default=Path("out/sharpening"))
    add_save(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Table] = {}
    config = FitConfig(steps=given.steps, encoder_rate=given.encoder_rate)
    for name in [given.only] if given.only else EXPERIMENTS:
        rows: list[dict[str, Any]] = []
        for seed in given.seeds:
            some = EXPERIMENTS[name](
                given.data, encoders(given.weights, seed), replace(config, seed=seed), given.base
            )
            rows += [{"seed": seed, **row} for row in some]
            print(f"{name}: seed {seed} done", file=sys.stderr, flush=True)
            write_json(given.out / f"{name}.json", rows)
        done = tables(rows)
        found |= done if given.only else {f"{name}-{key}": one for key, one in done.items()}
    keep(given.save, found, given.seeds)


if __name__ == "__main__":
    main()
