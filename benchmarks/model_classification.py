"""What are the encoder's features worth for scene classification, beside what is free?

EuroSAT RGB split by geographic blocks; linear probe, neighbours and short fine-tuning against
image statistics, random features of the same encoder, a small network from scratch, and the
commonest class.

    python -m benchmarks.model_classification --data ../shared/data/eurosat-rgb
        [--model nano|DIR|random] [--seeds 3] [--limit N] [--learned] [--out out/eurosat.json]
        [--save model_classification]

Without --learned only frozen features are compared, in minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.stored import Cell, Column, Table, add_save, keep
from glocal.io.atomic import write_json
from glocal.train.tasks.classification.classify import random_like
from msgfm import Encoder, nano
from recipes.eurosat import eurosat


def percent(value: float, ends: Any) -> Cell:
    """Return a share and its interval, if there is one, in percent."""
    return 100 * value if ends is None else (100 * value, 100 * ends[0], 100 * ends[1])


def tables(found: dict[str, Any]) -> dict[str, Table]:
    """Return accuracies in percent, differences in points, and how many pictures there were."""
    methods = [
        (
            name,
            percent(one["accuracy"], one["interval"]),
            None if one["spread"] is None else 100 * one["spread"],
            100 * one["balanced_accuracy"],
        )
        for name, one in found["methods"].items()
    ]
    differences = [
        (f"{one['better']} − {one['than']}", percent(one["by"], one["interval"]))
        for one in found["differences"]
    ]
    counts = [(part, one["pictures"], one["blocks"]) for part, one in found["counts"].items()]
    return {
        "methods": Table(
            columns=(
                Column(name="method"),
                Column(name="accuracy %, 95 % over test blocks", digits=1, best="max"),
                Column(name="sd over runs", digits=1),
                Column(name="balanced %", digits=1, best="max"),
            ),
            rows=tuple(methods),
        ),
        "differences": Table(
            columns=(
                Column(name="difference"),
                Column(name="points, 95 % over test blocks", digits=1, signed=True),
            ),
            rows=tuple(differences),
        ),
        "counts": Table(
            columns=(
                Column(name="part"),
                Column(name="pictures", digits=0),
                Column(name="blocks", digits=0),
            ),
            rows=tuple(counts),
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=None, help="pictures per class")
    parser.add_argument("--learned", action="store_true", help="learn networks too; slow")
    parser.add_argument("--out", type=Path, default=Path("out/eurosat.json"))
    add_save(parser)
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
    keep(given.save, tables(found), range(given.seeds))


if __name__ == "__main__":
    main()
