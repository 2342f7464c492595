"""What every source gets out of the loop, and from whom, on worlds whose truth is known.

`gains`: whole runs; each source is read again with only its exported corrections applied.
`contributions`: how much less a source gains when another one is left out; what it gains
where a map speaks at random (a placebo); and what is left of its gain when the models that
help to correct it never heard it (the strict cavity). Read from the estimate, without files.

    python -m benchmarks.fusion_sources --seeds 100-109 --placebo-seeds 100-102 --jobs 2
        [--save fusion_sources]
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
from benchmarks.stored import Column, Table, add_save, keep, pivot, span
from glocal.loop.area.area import Area
from glocal.loop.area.config import load
from glocal.loop.rounds.turns import Turn, resumed_turn, turns
from glocal.loop.run import run_area
from glocal.loop.score.folds import before_and_after
from glocal.loop.score.known_truth import source_gains
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
            rest = tuple(other for other in area.readings if other.name != one.source)
            small = turns(replace(area, readings=rest), area.config.rounds)
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
    told = before_and_after(area, turn, np.arange(truth.size))
    out = {}
    for name, pair in told.items():
        before, after = np.array(pair["before"]), np.array(pair["after"])
        use = (before >= 0) & (after >= 0)
        out[name] = float(((after == truth)[use].astype(float) - (before == truth)[use]).mean())
    return out


def _shuffled(area: Area, seed: int) -> Area:
    """Return the area with one map's cells in random order: it says nothing of the ground."""
    rng = np.random.default_rng([seed, 41])
    (one,) = (row for row in area.observations if row.source == PLACEBO)
    symbols = rng.permutation(one.symbols.ravel()).reshape(one.symbols.shape)
    return area.saying([replace(one, symbols=symbols)])


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


def gained(rows: Sequence[dict[str, Any]], world: str) -> Table:
    """Return what every source gained over seeds, and how many worlds' intervals exclude 0."""
    mine = [one["rows"] for one in rows if one["kind"] == "gains" and one["world"] == world]
    table = []
    for name in mine[0]:
        told = [one[name] for one in mine if "before" in one.get(name, {})]
        if not told:
            continue
        before, after, low, high = (
            np.array([one[key] for one in told]) for key in ("before", "after", "low", "high")
        )
        gain = after - before
        half = None
        if len(gain) > 1:
            spread = gain.std(ddof=1) / np.sqrt(len(gain))
            half = float(student_t.ppf(0.975, len(gain) - 1) * spread)
        table.append(
            (
                *(name, float(before.mean()), float(after.mean()), span(gain.tolist())),
                *(half, int((low > 0).sum()), int((high < 0).sum()), len(told)),
                told[0]["metric"],
            )
        )
    columns = (
        Column(name="source"),
        Column(name="before", digits=3),
        Column(name="after", digits=3),
        Column(name="gain, smallest to largest world", digits=3, signed=True),
        Column(name="± 95 % of the mean", digits=3),
        Column(name="worlds with an interval above 0", digits=0),
        Column(name="below 0", digits=0),
        Column(name="worlds", digits=0),
        Column(name="counted"),
    )
    return Table(columns=columns, rows=tuple(table))


def left_out(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the mean gain of each source (columns) when another is left out (rows)."""
    mine = [one["rows"] for one in rows if one["kind"] == "contributions"]
    columns = [Column(name=name, digits=3, signed=True) for name in mine[0]["nothing"]]
    each = (
        (variant, name, float(np.mean([one[variant][name] for one in mine])))
        for variant, cells in mine[0].items()
        for name in cells
    )
    return pivot("left out", columns, each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("100-109"))
    parser.add_argument("--placebo-seeds", type=seeds_of, default=seeds_of("100-102"))
    parser.add_argument("--worlds", nargs="+", default=[WORLD])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("out/fusion-sources.jsonl"))
    add_save(parser)
    given = parser.parse_args()
    size = given.size
    jobs = [("contributions", WORLD, seed, size) for seed in given.placebo_seeds]
    jobs += [("gains", world, seed, size) for world in given.worlds for seed in given.seeds]
    rows = rows_of(job, jobs, ("kind", "world", "seed", "size"), given.json, given.jobs, _line)
    tables = {world: gained(rows, world) for world in given.worlds}
    if given.placebo_seeds:
        tables["left-out"] = left_out(rows)
    keep(given.save, tables, given.seeds)


if __name__ == "__main__":
    main()
