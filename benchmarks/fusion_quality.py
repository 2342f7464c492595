"""The loop against baselines, on synthetic worlds whose truth is known.

Every world and seed is scored by itself and kept as one line of JSON, so that a run that
was stopped goes on where it was. Seeds 0-19 are for development, 100 and up for reports.

    python -m benchmarks.fusion_quality --seeds 100-109 --size 128 --jobs 2 --save fusion_quality
    python -m benchmarks.fusion_quality --seeds 0-3 --worlds correlated --methods majority
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.resumable import rows_of, seeds_of
from benchmarks.stored import Column, Table, add_save, keep, pivot, span
from glocal.core.setting import ENGINE
from glocal.fusion.fuse import fuse
from glocal.loop.area.area import Area, read_area
from glocal.loop.area.config import load
from glocal.loop.rounds.turns import turns
from glocal.loop.score.baselines import EVERY, baselines
from glocal.loop.score.known_truth import scores_of
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
    yield "loop", np.exp(turn.estimate.log_p)
    yield "loop, one round", np.exp(turns(area, 1)[1].estimate.log_p)
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


Scores = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]
"""World -> method -> scores of each seed."""


def by_world(rows: Sequence[dict[str, Any]]) -> Scores:
    """Return the scores of every method, most accurate in all worlds together first."""
    out: dict[str, dict[str, list[dict[str, float]]]] = {}
    means: dict[str, list[float]] = {}
    for row in rows:
        world = out.setdefault(row["world"], {})
        for name, one in row["methods"].items():
            world.setdefault(name, []).append(one)
            means.setdefault(name, []).append(one["accuracy"])
    order = sorted(means, key=lambda name: -np.mean(means[name]))
    return {
        world: {name: methods[name] for name in order if name in methods}
        for world, methods in out.items()
    }


def _mean(scores: Sequence[Mapping[str, float]], key: str) -> float:
    return float(np.mean([one[key] for one in scores]))


def ahead(scores: Scores) -> Iterator[tuple[str, str, float]]:
    """Yield by how much the loop is more accurate than each method: method, world, value."""
    for world, methods in scores.items():
        for name, mine in methods.items():
            pairs = zip(methods["loop"], mine, strict=True)
            differences = [a["accuracy"] - b["accuracy"] for a, b in pairs]
            yield from ((name, world, one) for one in differences if name != "loop")


def headline(scores: Scores) -> Table:
    """Return the loop beside the most accurate other method of each world."""
    columns = (
        Column(name="world"),
        Column(name="accuracy of the loop", digits=3),
        Column(name="best other method"),
        Column(name="its accuracy", digits=3),
        Column(name="loop is better by", digits=3, signed=True),
        Column(name="log-loss of the loop", digits=3),
        Column(name="of the other", digits=3),
        Column(name="calibration error of the loop", digits=3),
    )
    rows = []
    for world, methods in scores.items():
        loop, rivals = methods["loop"], [name for name in methods if name in EVERY]
        if rivals:
            name = max(rivals, key=lambda one: _mean(methods[one], "accuracy"))
            gain = span([by for *at, by in ahead(scores) if at == [name, world]])
            both = (loop, methods[name])
            accuracy, loss = ([_mean(one, key) for one in both] for key in ("accuracy", "log_loss"))
            rows.append((world, accuracy[0], name, accuracy[1], gain, *loss, _mean(loop, "ece")))
    return Table(columns=columns, rows=tuple(rows))


def tables(rows: Sequence[dict[str, Any]]) -> dict[str, Table]:
    """Return the headline, and each score of each method (rows) in each world (columns)."""
    scores = by_world(rows)

    def of(key: str, digits: int, best: str) -> Table:
        columns = [Column(name=one, digits=digits, best=best) for one in scores]
        each = (
            (name, world, _mean(mine, key))
            for world, methods in scores.items()
            for name, mine in methods.items()
        )
        return pivot("method", columns, each)

    gains = [Column(name=one, digits=3, signed=True) for one in scores]
    return {
        "headline": headline(scores),
        "accuracy": of("accuracy", 3, "max"),
        "macro-f1": of("macro_f1", 3, "max"),
        "log-loss": of("log_loss", 3, "min"),
        "calibration-error": of("ece", 3, "min"),
        "loop-is-better-by": pivot("method", gains, ahead(scores)),
        "cpu-seconds": of("cpu_s", 1, ""),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("100-109"))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS))
    parser.add_argument("--methods", nargs="+", choices=EVERY, default=list(EVERY))
    parser.add_argument("--json", type=Path, default=Path("out/fusion-quality.jsonl"))
    add_save(parser)
    given = parser.parse_args()
    jobs = [(world, seed, given.size) for seed in given.seeds for world in given.worlds]
    work = partial(score, methods=given.methods)
    rows = rows_of(work, jobs, ("world", "seed", "size"), given.json, given.jobs, _line)
    keep(given.save, tables(rows), given.seeds)


if __name__ == "__main__":
    main()
