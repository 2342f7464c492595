"""Cloud removal at a place that was not learned from, beside its floors.

    python -m benchmarks.model_clouds --data ../shared/data [--weights nano]
        [--only cib|sen12mscr] [--seeds 0 1 2] [--steps 200] [--out out/clouds]

Three cubes and one triplet: cases with their spread, never a ranking. "cloud" columns count
the pixels under cloud only. Between a cloudy date and its clear truth lie up to ten days, in
which fields change: the nearest clear date shares that handicap.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.model_segmentation import make_encoder
from glocal.io.atomic import write_json, write_text
from glocal.train.tasks.dense import Settings
from recipes.cloud_removal import METHODS, Fold, cib_folds, compare, sen12mscr_fold

COLUMNS = {
    "cloud_mae": 4,
    "cloud_psnr": 1,
    "cloud_sam": 1,
    "mae": 4,
    "psnr": 1,
    "ssim": 3,
    "sam": 1,
    "coverage90": 2,
}
"""Score -> decimals shown."""


def table(rows: list[dict[str, Any]]) -> str:
    """Return Markdown: the mean over seeds, and smallest to largest of the first score."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["case"], row["method"]].append(row)
    lines = [
        f"| case | images | method | seeds | {' | '.join(COLUMNS)} |",
        "|---" * (4 + len(COLUMNS)) + "|",
    ]
    for (case, method), found in groups.items():
        cells = [_cell([row.get(name) for row in found], n) for name, n in COLUMNS.items()]
        first = [row["cloud_mae"] for row in found]
        if len(found) > 1:
            cells[0] += f" ({min(first):.4f}-{max(first):.4f})"
        lines.append(
            f"| {case} | {found[0]['images']} | {method} | {len(found)} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def _cell(values: list[float | None], decimals: int) -> str:
    known = [one for one in values if one is not None]
    return f"{statistics.mean(known):.{decimals}f}" if known else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="", help="name or folder; empty: random weights only")
    parser.add_argument("--only", choices=("cib", "sen12mscr"), default=None)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--methods", nargs="*", choices=tuple(METHODS), default=None)
    parser.add_argument("--out", type=Path, default=Path("out/clouds"))
    given = parser.parse_args()
    torch.set_num_threads(1)
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
        write_text(given.out / f"{name}.md", table(rows))
        print(table(rows))


if __name__ == "__main__":
    main()
