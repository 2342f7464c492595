"""What are the encoder's features worth for scene classification, beside what is free?

EuroSAT RGB split by geographic blocks; linear probe, neighbours and short fine-tuning against
image statistics, random features of the same encoder, a small network from scratch, and the
commonest class. Prints a Markdown table and writes JSON.

    python benchmarks/model_classification.py --data ../shared/data/eurosat-rgb
        [--model nano|DIR|random] [--seeds 3] [--limit N] [--learned] [--out out/eurosat.json]

Without --learned only frozen features are compared, in minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from glocal.io.atomic import write_json
from glocal.train.tasks.classification.classify import random_like
from msgfm import Encoder, nano
from recipes.eurosat import eurosat


def interval(found: Any, scale: float = 100) -> str:
    return "–" if found is None else f"{scale * found[0]:.1f} to {scale * found[1]:.1f}"


def table(found: dict[str, Any]) -> str:
    """Return both tables as Markdown; accuracies in percent, differences in points."""
    lines = [
        "| method | accuracy % | 95 % over test blocks | sd over runs | balanced % |",
        "|---|---|---|---|---|",
    ]
    for name, one in found["methods"].items():
        spread = "–" if one["spread"] is None else f"{100 * one['spread']:.1f}"
        lines.append(
            f"| {name} | {100 * one['accuracy']:.1f} | {interval(one['interval'])} | {spread} | "
            f"{100 * one['balanced_accuracy']:.1f} |"
        )
    lines += ["", "| difference | points | 95 % over test blocks |", "|---|---|---|"]
    for one in found["differences"]:
        lines.append(
            f"| {one['better']} − {one['than']} | {100 * one['by']:+.1f} | "
            f"{interval(one['interval'])} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=None, help="pictures per class")
    parser.add_argument("--learned", action="store_true", help="learn networks too; slow")
    parser.add_argument("--out", type=Path, default=Path("out/eurosat.json"))
    given = parser.parse_args()
    start = time.perf_counter()
    # A random encoder in place of the model shows what the comparison says about nothing.
    encoder = (
        random_like(Encoder(nano()), 1000)
        if given.model == "random"
        else Encoder.from_pretrained(given.model)
    )
    found = eurosat(
        given.data,
        encoder,
        seeds=given.seeds,
        limit=given.limit,
        learned=given.learned,
        note=lambda text: print(f"{time.perf_counter() - start:5.0f} s  {text}", flush=True),
    )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, {"model": given.model, **found})
    counts = ", ".join(f"{k} {v['pictures']} in {v['blocks']}" for k, v in found["counts"].items())
    print(f"\nPictures and blocks: {counts}\n\n{table(found)}")


if __name__ == "__main__":
    main()
