"""Is the promised precision of fixes for OpenStreetMap kept where the truth is known?

In each synthetic world the loop runs, its held-out reference points bound how far its
probabilities are believed (`glocal.core.promise`), and fixes are chosen for a wanted
precision, as a run does. The truth of every object then tells how many are right, with the
bound and without it. The bound was chosen on seeds 0-5: give others. One line of JSON is
kept per world and seed, so that a run that was stopped goes on where it was.

    python -m benchmarks.osm_precision --seeds 20-29 --size 128 --save osm_precision
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom
from threadpoolctl import threadpool_limits

from benchmarks.fusion_quality import make
from benchmarks.resumable import rows_of, seeds_of
from benchmarks.stored import Column, Table, add_save, keep
from glocal.core.promise import sharpness_of
from glocal.loop.area.area import Area
from glocal.loop.rounds.findings import findings_of, told
from glocal.loop.rounds.turns import Turn, turns, under
from glocal.loop.score.folds import score_fold
from glocal.loop.score.summary import held_out
from glocal.synthetic import Scene
from glocal.synthetic.osm_xml import record_of
from glocal.synthetic.world import CLASSES

WANTED = (0.8, 0.9, 0.95)
SURE = 0.05
"""A promise is clearly broken where so few fixes are right by this chance or less."""


def score(world: str, seed: int, size: int) -> dict[str, Any]:
    """Return how many fixes each wanted precision sends, how many are right, and promised."""
    with threadpool_limits(1):
        scene, area = make(world, seed, size)
        aligned, turn = turns(area, area.config.rounds)
        folds = [score_fold(area, fold) for fold in range(area.config.folds)]
        checked = held_out(area, folds)["osm"]
        sharpness = sharpness_of(*checked.T)
        (osm,) = (one for one in aligned.readings if one.name == "osm")
        safe = under(aligned, turn, osm.kind.terms)
    return {
        "world": world, "seed": seed, "size": size, "sharpness": round(sharpness, 3),
        "points": int(np.isfinite(checked).all(axis=1).sum()),
        "bound": [_sent(*safe, scene, wanted, sharpness) for wanted in WANTED],
        "no bound": [_sent(*safe, scene, wanted, 1.0) for wanted in WANTED],
    }  # fmt: skip


def _sent(area: Area, turn: Turn, scene: Scene, wanted: float, sharpness: float) -> dict[str, Any]:
    (reading,) = (one for one in area.readings if one.name == "osm")
    reading = replace(reading, window=replace(reading.window, precision=wanted))
    corrections = told(reading, findings_of(area, turn, reading, sharpness=sharpness))
    if corrections is None or corrections.expected_precision is None:
        return {"wanted": wanted, "n": 0, "right": 0, "promised": None}
    edits = corrections.take(corrections.action == "modify")
    truth = _truth(scene)
    values = [area.legend.values[area.legend.index(name)] for name in edits.proposed.tolist()]
    rows = zip(edits.record.tolist(), values, strict=True)
    right = sum(truth[record] == value for record, value in rows)
    return {
        "wanted": wanted, "n": len(edits), "right": right,
        "promised": round(corrections.expected_precision, 4),
    }  # fmt: skip


def _truth(scene: Scene) -> dict[str, int]:
    """Return the class value that each object of the extract really has."""
    rows = zip(scene.osm.outline, scene.osm.version.tolist(), scene.osm.object, strict=True)
    return {
        record_of(i, shape, version): CLASSES[scene.ground.now[at]]
        for i, (shape, version, at) in enumerate(rows)
    }


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the promises and what came of them."""
    columns = (
        Column(name="believed"),
        Column(name="wanted"),
        Column(name="promised, mean", digits=3),
        Column(name="right, all together", digits=3),
        Column(name="worst world", digits=2),
        Column(name="best world", digits=2),
        Column(name="worlds that sent any", digits=0),
        Column(name="worlds below", digits=0),
        Column(name="clearly below", digits=0),
        Column(name="fixes", digits=0),
    )
    out = []
    for key in ("bound", "no bound"):
        for i, wanted in enumerate(WANTED):
            sent = [row[key][i] for row in rows if row[key][i]["n"]]
            out.append((key, str(wanted), *_kept(sent, wanted)))
    return Table(columns=columns, rows=tuple(out))


def _kept(sent: Sequence[dict[str, Any]], wanted: float) -> tuple[float | None, ...]:
    if not sent:
        return (None, None, None, None, 0, 0, 0, 0)
    n, right = (np.array([one[key] for one in sent]) for key in ("n", "right"))
    share = right / n
    promised = (np.array([one["promised"] for one in sent]) * n).sum() / n.sum()
    clearly = (binom.cdf(right, n, wanted) <= SURE).sum()
    shares = (promised, right.sum() / n.sum(), share.min(), share.max())
    counts = (len(sent), (share < wanted).sum(), clearly, n.sum())
    return (*map(float, shares), *map(int, counts))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("20-29"))
    parser.add_argument("--world", default="standard")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("out/osm_precision.jsonl"))
    add_save(parser)
    given = parser.parse_args()
    jobs = [(given.world, seed, given.size) for seed in given.seeds]
    fields = ("world", "seed", "size")
    rows = rows_of(score, jobs, fields, given.json, given.jobs, _done)
    keep(given.save, {"promise": table(rows)}, given.seeds)


def _done(row: dict[str, Any]) -> str:
    return f"{row['world']} {row['seed']} done"


if __name__ == "__main__":
    main()
