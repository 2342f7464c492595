"""What every source gets out of the loop, and from whom, on worlds whose truth is known.

`gains`: whole runs; each source is read again with only its exported corrections applied.
`contributions`: how much less a source gains when another one is left out; what it gains
where a map speaks at random (a placebo); and what is left of its gain when the models that
help to correct it never heard it (the strict cavity). Read from the estimate, without files.

    python -m benchmarks.fusion_sources --seeds 100-109 --placebo-seeds 100-102 --jobs 2
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t
from threadpoolctl import threadpool_limits

from benchmarks.fusion_quality import make, world_of
from benchmarks.resumable import rows_of, seeds_of
from glocal.loop.area.area import Area
from glocal.loop.area.config import load
from glocal.loop.score.folds import before_and_after
from glocal.loop.score.known_truth import source_gains
from glocal.loop.run import run_area
from glocal.loop.rounds.turns import Turn, for_osm, resumed_turn, turns
from glocal.synthetic import simulate, write_scene

WORLD = "shared_40"
"""The standard world."""

PLACEBO = "worldcover"
"""The source that is shuffled."""

SHUFFLED = f"{PLACEBO}, its cells shuffled instead"
STRICT = "the source itself, while models were taught"


def gains(world: str, seed: int, size: int) -> dict[str, Any]:
    """Return what every source gained in a whole run."""
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        room = Path(folder)
        write_scene(simulate(world_of(world, size), seed), room / "world")
        run_area(load(room / "world" / "area.yaml"), room / "out", progress=_quiet)
        return source_gains(room / "out", room / "world" / "truth")


def contributions(world: str, seed: int, size: int) -> dict[str, dict[str, float]]:
    """Return the gain of every source in each variant of the area: {variant: {source: gain}}."""
    with threadpool_limits(1):
        scene, area = make(world, seed, size)
        truth = scene.ground.classes().astype(np.int64).ravel()
        whole = turns(area, area.config.rounds)
        rows = {"nothing": _gain(*whole, truth)}
        strict = {}
        for one in area.observations:
            rest = tuple(other for other in area.observations if other is not one)
            small = turns(replace(area, observations=rest), area.config.rounds)
            rows[one.source] = _gain(*small, truth)
            # its models never heard the source that they are now used to correct
            heard = resumed_turn(whole[0], small[1].models, 1, whole[1])
            strict |= {
                name: gain
                for name, gain in _gain(whole[0], heard, truth).items()
                if name == one.source
            }
        alone, first = turns(area, 1)
        rows["model"] = _gain(alone, first, truth)
        rows[SHUFFLED] = _gain(*turns(_shuffled(area, seed), area.config.rounds), truth)
        rows[STRICT] = strict
    return rows


def _gain(area: Area, turn: Turn, truth: NDArray[np.int64]) -> dict[str, float]:
    told = before_and_after(area, turn, for_osm(area, turn), np.arange(truth.size))
    out = {}
    for name, pair in told.items():
        before, after = np.array(pair["before"]), np.array(pair["after"])
        use = (before >= 0) & (after >= 0)
        out[name] = float(((after == truth)[use].astype(float) - (before == truth)[use]).mean())
    return out


def _shuffled(area: Area, seed: int) -> Area:
    """Return the area with one map's cells in random order: it says nothing of the ground."""
    rng = np.random.default_rng([seed, 41])
    return replace(
        area,
        observations=tuple(
            replace(one, symbols=rng.permutation(one.symbols.ravel()).reshape(one.symbols.shape))
            if one.source == PLACEBO
            else one
            for one in area.observations
        ),
    )


def _quiet(what: str, share: float) -> None:
    """Take progress and say nothing."""


def job(kind: str, world: str, seed: int, size: int) -> dict[str, Any]:
    """Do one part of the benchmark and return it as a row."""
    made = gains if kind == "gains" else contributions
    return {
        "kind": kind,
        "world": world,
        "seed": seed,
        "size": size,
        "rows": made(world, seed, size),
    }


def _line(row: dict[str, Any]) -> str:
    return f"{row['kind']} {row['world']} {row['seed']} done"


def table_of_gains(rows: Sequence[dict[str, Any]], world: str) -> str:
    """Return means over seeds as Markdown, with how many worlds' intervals exclude 0."""
    mine = [one["rows"] for one in rows if one["kind"] == "gains" and one["world"] == world]
    lines = [
        f"\n**{world}**: what every source gained, {len(mine)} seeds\n",
        "| source | before | after | gain (95 % over worlds; min..max) "
        "| interval > 0 | < 0 | counted |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in mine[0]:
        told = [one[name] for one in mine if "before" in one.get(name, {})]
        if not told:
            continue
        before, after, low, high = (
            np.array([one[key] for one in told]) for key in ("before", "after", "low", "high")
        )
        gain = after - before
        spread = student_t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
        lines.append(
            f"| {name} | {before.mean():.3f} | {after.mean():.3f} | {gain.mean():+.3f} "
            f"(± {spread:.3f}; {gain.min():+.3f}..{gain.max():+.3f}) "
            f"| {(low > 0).sum()} of {len(told)} | {(high < 0).sum()} | {told[0]['metric']} |"
        )
    return "\n".join(lines)


def table_of_contributions(rows: Sequence[dict[str, Any]], world: str) -> str:
    """Return the mean gain of each source (columns) when another is left out (rows)."""
    mine = [one["rows"] for one in rows if one["kind"] == "contributions"]
    sources = list(mine[0]["nothing"])
    lines = [
        f"\n**{world}**: mean gain of a source (column) when another (row) is left out, "
        f"{len(mine)} seeds; in cells\n",
        "| left out | " + " | ".join(sources) + " |",
        "|---" * (len(sources) + 1) + "|",
    ]
    for variant in mine[0]:
        cells = []
        for name in sources:
            values = [one[variant][name] for one in mine if name in one[variant]]
            cells.append(f"{np.mean(values):+.3f}" if values else "")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("100-109"))
    parser.add_argument("--placebo-seeds", type=seeds_of, default=seeds_of("100-102"))
    parser.add_argument("--worlds", nargs="+", default=[WORLD])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("out/fusion-sources.jsonl"))
    given = parser.parse_args()
    size = given.size
    jobs = [("contributions", WORLD, seed, size) for seed in given.placebo_seeds]
    jobs += [("gains", world, seed, size) for world in given.worlds for seed in given.seeds]
    rows = rows_of(job, jobs, ("kind", "world", "seed", "size"), given.json, given.jobs, _line)
    for world in given.worlds:
        print(table_of_gains(rows, world))
    if given.placebo_seeds:
        print(table_of_contributions(rows, WORLD))


if __name__ == "__main__":
    main()
