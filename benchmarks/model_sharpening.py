"""Pan-sharpening beside its floors: Sentinel-2 20 to 10 m, and colour by a SYNTHETIC pan band.

    python -m benchmarks.model_sharpening --data ../shared/data [--weights nano]
        [--only tile|kempen|pictures] [--seeds 0 1 2] [--steps 150] [--out out/sharpening]

Scores by Wald's protocol: the native coarse bands are the truth, everything is learned and tested
one octave (colour: two) below. PSNR and SSIM for a data range of 1. Self-supervised pretraining
may have seen the test images, without anything that tells coarse from fine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from glocal.io.atomic import write_json, write_text
from glocal.train.tasks.sharpening.network import FitConfig
from msgfm import Encoder, nano
from recipes.sharpen import one_tile, pictures, two_scenes

EXPERIMENTS: dict[str, Callable[..., list[dict[str, Any]]]] = {
    "tile": one_tile,
    "kempen": two_scenes,
    "pictures": pictures,
}
SCORES = ("psnr", "ssim", "sam", "ergas")


def encoders(weights: str, seed: int) -> dict[str, Encoder]:
    torch.manual_seed(seed)
    found = {"random encoder": Encoder(nano())}
    if weights:
        found["pretrained encoder"] = Encoder.from_pretrained(weights)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Return Markdown: per group of scenes and method the mean over scenes, min-max over seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["scene"].split("_")[0], row["method"]].append(row)
    lines = [
        "| test scenes | method | scenes | PSNR dB | SSIM | SAM deg | ERGAS |",
        "|---|---|---|---|---|---|---|",
    ]
    for (scenes, method), found in groups.items():
        cells = [_spread(found, name) for name in SCORES]
        count = len({row["scene"] for row in found})
        lines.append(f"| {scenes} | {method} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(rows: list[dict[str, Any]], name: str) -> str:
    by_seed: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        by_seed[row["seed"]].append(row[name])
    means = [statistics.mean(values) for values in by_seed.values()]
    return f"{statistics.mean(means):.3f} ({min(means):.3f}-{max(means):.3f})"


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
    given = parser.parse_args()
    torch.set_num_threads(1)
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
        write_text(given.out / f"{name}.md", table(rows))
        print(table(rows))


if __name__ == "__main__":
    main()
