"""The loop and its rivals on real areas whose truth no source saw.

Anchors are drawn at random from the truth, everybody gets the area with them, and all are
scored at the points that were not drawn. The seed draws the anchors and deals the engine's folds.

    python -m benchmarks.real_areas --split development --seeds 0-4 [--save real_areas]

Numbers of anchors above half of the points become that half. One line of JSON is kept for each
draw in ``--json``, so that a run that was stopped goes on where it was: name another file for
another engine, and give the file of the old one to ``--against`` to see its loop beside the new.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from threadpoolctl import threadpool_limits

from benchmarks import stored
from benchmarks.real.areas import AREAS, DEVELOPMENT, REPORTING, make
from benchmarks.real.draws import Draw, deal, fewer
from benchmarks.real.figures import (
    classes_table,
    grouped,
    methods_table,
    overview,
    score,
    score_classes,
    sources_table,
)
from benchmarks.real.methods import loop, members, rivals
from benchmarks.resumable import rows_of, seeds_of
from benchmarks.stored import add_save, keep
from glocal.loop.area.area import Area
from glocal.loop.rounds.turns import Turn
from glocal.loop.score.folds import before_and_after
from glocal.loop.score.summary import summarise

ANCHORS = (0, 30, 100, 300)
SPLITS = {"development": DEVELOPMENT, "reporting": REPORTING}
FIELDS = ("area", "seed", "anchors", "hidden", "data")


@lru_cache(maxsize=1)
def _workplace() -> TemporaryDirectory[str]:
    """Return a folder of this process's own, gone with it: areas are written anew by each."""
    return TemporaryDirectory(prefix="real-areas-")


def one_draw(name: str, seed: int, anchors: int, hidden: str, data: str) -> dict[str, Any]:
    """Return all figures of one draw, as a row of ``FIELDS`` and results."""
    start = time.perf_counter()
    with threadpool_limits(1):
        folder = Path(_workplace().name)
        ground = make(name, Path(data), folder)
        draw = deal(ground, anchors, seed, folder / "anchors", hidden)
        said, aligned, turn = loop(draw.area, draw.cell)
        began = time.process_time()
        sources = told(draw, aligned, turn)
        telling = time.process_time() - began
        every = [said, *members(turn, draw.cell), *rivals(draw.area, draw.cell)]
    return {
        "area": name, "seed": seed, "anchors": anchors, "hidden": hidden, "data": data,
        "points": len(draw.cell), "round": turn.round,
        "wall": round(time.perf_counter() - start, 1), "telling": round(telling, 1),
        "methods": {one.method: _rounded(score(one, draw.truth)) for one in every},
        "classes": score_classes(draw, turn.estimate.classes.ravel()), "sources": sources,
    }  # fmt: skip


def told(draw: Draw, aligned: Area, turn: Turn) -> dict[str, dict[str, Any]]:
    """Return what every source gains at the unseen points, as the product counts it."""
    cell, unseen = draw.cell, draw.unseen
    fold = {
        "record": unseen.record.tolist(),
        "cell": cell.tolist(),
        "loop": turn.estimate.log_p.reshape(-1, len(aligned.legend))[cell].astype(float).tolist(),
        "sources": before_and_after(aligned, turn, cell),
        "baselines": {},
    }
    judged = summarise(replace(aligned, reference=unseen), [fold]).sources
    metric = {one.name: one.kind.metric for one in aligned.readings}
    return {
        name: {"metric": metric[name], **_rounded({"before": one.before, "after": one.after}),
               "n": one.n}
        for name, one in judged.items()
        if one.before is not None
    }  # fmt: skip


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(one, 5) for name, one in figures.items()}


def jobs_of(
    names: Sequence[str], anchors: Sequence[int], seeds: Sequence[int], hidden: str, data: Path
) -> list[tuple[str, int, int, str, str]]:
    """Return the arguments of all draws; numbers of anchors beyond half of the truth are cut."""
    out = []
    for name in names:
        ground = make(name, data, Path(_workplace().name))
        numbers = sorted({fewer(one, ground) for one in anchors})
        out += [(name, seed, one, hidden, str(data)) for seed in seeds for one in numbers]
    return out


def beside(rows: list[dict[str, Any]], older: Path) -> None:
    """Put the loop of an earlier run beside the methods of the same draws."""
    lines = map(json.loads, older.read_text("utf-8").splitlines())
    known = {tuple(row[key] for key in FIELDS[:4]): row["methods"]["loop"] for row in lines}
    for row in rows:
        before = known.get(tuple(row[key] for key in FIELDS[:4]))
        if before is not None:
            row["methods"][f"loop of {older.stem}"] = before


def tables(rows: Sequence[dict[str, Any]]) -> dict[str, stored.Table]:
    """Return the overview, and two tables for each area and number of anchors."""
    out = {"overview": overview(rows)}
    for (area, anchors), several in grouped(rows):
        name = stored.slug(f"{area} {anchors}")
        out[f"{name}-methods"] = methods_table(several)
        out[f"{name}-classes"] = classes_table(several)
        if any(row["sources"] for row in several):
            out[f"{name}-sources"] = sources_table(several)
    return out


def _done(row: dict[str, Any]) -> str:
    mine = row["methods"]["loop"]
    spent = f"{row['wall']:.0f} s, loop {mine['seconds']:.0f}, telling {row['telling']:.0f}"
    figures = f"accuracy {mine['accuracy']:.3f}, log-loss {mine['log_loss']:.3f}"
    return f"{row['area']}, {row['anchors']} anchors, seed {row['seed']}: {figures} ({spent})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--split", choices=SPLITS, help="instead of --areas")
    parser.add_argument("--areas", nargs="+", choices=AREAS, default=list(AREAS))
    parser.add_argument("--anchors", type=int, nargs="+", default=list(ANCHORS))
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("0-4"))
    parser.add_argument("--hide", default="", help="a class of which no anchor is drawn")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("out/real_areas.jsonl"))
    parser.add_argument("--against", type=Path, help="the --json of an earlier run")
    add_save(parser)
    given = parser.parse_args()
    names = SPLITS[given.split] if given.split else given.areas
    jobs = jobs_of(names, given.anchors, given.seeds, given.hide, given.data)
    rows = rows_of(one_draw, jobs, FIELDS, given.json, given.jobs, _done)
    if given.against:
        beside(rows, given.against)
    keep(given.save, tables(rows), given.seeds)


if __name__ == "__main__":
    main()
