"""Transfer to a sensor that pretraining never saw: Landsat-8, added as a row of the table.

    python -m benchmarks.model_landsat --data ../shared/data [--weights nano]
        [--seeds 0 1 2] [--steps 100] [--out out/landsat]

Two sites and one scene: cases with their spread over seeds, never a ranking.
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
from glocal.train.tasks.dense import Settings
from msgfm import Encoder, nano
from recipes.landsat import land_cover, same_place


def encoders(weights: str, seed: int) -> dict[str, Encoder]:
    torch.manual_seed(seed)
    found = {"random encoder": Encoder(nano())}
    if weights:
        found["pretrained encoder"] = Encoder.from_pretrained(weights)
    return found


def table(rows: list[dict[str, Any]], keys: tuple[str, ...], names: tuple[str, ...]) -> str:
    """Return Markdown: mean over seeds, smallest and largest, of ``names`` per ``keys``."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[tuple(str(row[key]) for key in keys)].append(row)
    lines = [f"| {' | '.join((*keys, *names))} |", "|---" * (len(keys) + len(names)) + "|"]
    for group, found in groups.items():
        cells = [_spread([row[name] for row in found]) for name in names]
        lines.append(f"| {' | '.join((*group, *cells))} |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="", help="name or folder; empty: random weights only")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("out/landsat"))
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
    text = table(places, ("method", "chips"), ("top1", "top5"))
    text += "\n" + table(covers, ("test", "method"), ("accuracy", "miou"))
    write_text(given.out / "landsat.md", text)
    print(text)


if __name__ == "__main__":
    main()
