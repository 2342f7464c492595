"""The loop against baselines, on synthetic worlds whose truth is known.

Every world and seed is scored by itself and kept as one line of JSON, so that a run that
was stopped goes on where it was. Seeds 0-19 are for development, 100 and up for reports.

    python -m benchmarks.fusion_quality --seeds 100-109 --size 128 --jobs 2 --json out/quality.jsonl
    python -m benchmarks.fusion_quality --seeds 0-3 --worlds correlated --methods majority
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.resumable import rows_of, seeds_of
from glocal.fusion.fuse import fuse
from glocal.core.setting import ENGINE
from glocal.loop.area.area import Area, read_area
from glocal.loop.score.baselines import EVERY, baselines
from glocal.loop.area.config import load
from glocal.loop.score.known_truth import scores_of
from glocal.loop.rounds.turns import turns
from glocal.synthetic import Scene, World, simulate, world_named, write_scene

WORLDS = (
    "shared_0", "shared_40", "shared_80", "shared_95", "sparse", "biased_anchors",
    "misspecified", "no_anchors",
)  # fmt: skip
"""``shared_80`` is the standard world with 80 % shared errors, and so on."""

SCORES = ("accuracy", "macro_f1", "log_loss", "ece")


def world_of(name: str, size: int) -> World:
    """Return a world of the simulator, or the standard one with another share of errors."""
    if not name.startswith("shared_"):
        return world_named(name, size)
    share = int(name.removeprefix("shared_")) / 100
    return replace(world_named("standard", size), name=name, shared_errors=share)


def make(world: str, seed: int, size: int) -> tuple[Scene, Area]:
    """Draw a world, write its files, and read them as a run would."""
    scene = simulate(world_of(world, size), seed)
    with tempfile.TemporaryDirectory() as folder:
        write_scene(scene, Path(folder) / "world")
        area = read_area(load(Path(folder) / "world" / "area.yaml"), lambda what, share: None)
    return scene, area


def score(world: str, seed: int, size: int, methods: Iterable[str] = EVERY) -> dict[str, Any]:
    """Return the scores of the loop and of baselines on one world, with the seconds they took."""
    with threadpool_limits(1):
        scene, area = make(world, seed, size)
        truth = scene.ground.classes().astype(np.int64)
        rows = {}
        start = time.process_time()
        for name, p in chain(loops(area), baselines(area, methods)):
            rows[name] = _scored(p, truth, start)
            start = time.process_time()
    return {"world": world, "seed": seed, "size": size, "methods": rows}


def loops(area: Area) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the loop, its first round alone, and its last as if all sources were independent."""
    aligned, turn = turns(area, area.config.rounds)
    yield "loop", np.exp(turn.log_q)
    yield "loop, one round", np.exp(turns(area, 1)[1].log_q)
    alone = fuse(
        [*aligned.observations, *turn.models],
        aligned.anchors,
        similarity=aligned.similarity,
        seed=aligned.config.seed,
        setting=replace(ENGINE, exponents="one"),
    )
    yield "loop, exponents 1", np.exp(alone.cells())


def _scored(p: NDArray[Any], truth: NDArray[np.int64], start: float) -> dict[str, float]:
    return {**scores_of(p, truth), "cpu_s": round(time.process_time() - start, 2)}


def _line(row: dict[str, Any]) -> str:
    rivals = {name: one["accuracy"] for name, one in row["methods"].items() if name in EVERY}
    best = max(rivals, key=rivals.__getitem__, default="")
    rival = f", best baseline {best} {rivals[best]:.3f}" if best else ""
    return f"{row['world']} {row['seed']}: loop {row['methods']['loop']['accuracy']:.3f}{rival}"


def table(rows: Sequence[dict[str, Any]], world: str) -> str:
    """Return mean scores over seeds as Markdown, best accuracy first, with the spread."""
    mine = [row["methods"] for row in rows if row["world"] == world]
    names = [name for name in mine[0] if all(name in one for one in mine)]
    values = {
        name: np.array([[one[name][key] for key in SCORES] for one in mine]) for name in names
    }
    gain = {name: values["loop"][:, 0] - values[name][:, 0] for name in names}
    lines = [
        f"\n**{world}**, {len(mine)} seeds\n",
        "| method | accuracy | macro-F1 | log-loss | ECE | loop is better by (min..max) | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in sorted(names, key=lambda name: -values[name][:, 0].mean()):
        mean = " | ".join(f"{one:.3f}" for one in values[name].mean(axis=0))
        ahead = f"{gain[name].mean():+.3f} ({gain[name].min():+.3f}..{gain[name].max():+.3f})"
        cpu = np.mean([one[name]["cpu_s"] for one in mine])
        lines.append(f"| {name} | {mean} | {'' if name == 'loop' else ahead} | {cpu:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("100-109"))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS))
    parser.add_argument("--methods", nargs="+", choices=EVERY, default=list(EVERY))
    parser.add_argument("--json", type=Path, default=Path("out/fusion-quality.jsonl"))
    given = parser.parse_args()
    jobs = [(world, seed, given.size) for seed in given.seeds for world in given.worlds]
    work = partial(score, methods=given.methods)
    rows = rows_of(work, jobs, ("world", "seed", "size"), given.json, given.jobs, _line)
    for world in given.worlds:
        print(table(rows, world))


if __name__ == "__main__":
    main()
