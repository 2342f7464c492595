"""Do mappers later change what the history of the map says is doubtful?

OpenStreetMap of a year A ranks its own objects, and places where objects may be missing,
by how they came to be: age, versions, contributors, kind. The same map years later tells
which were retagged, removed or added. A model is trained on one country and tested on
another. There is no imagery here: this tests the history prior, not the fusion.

    python -m benchmarks.osm_future --data ../shared/data/osm [--save osm_future]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import shapely
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.stored import Cell, Column, Table, add_save, keep
from glocal.sources.osm.file import Elements, read_areas
from glocal.sources.osm.history import ages_at, read_versions, slice_history
from glocal.sources.osm.tags import classify, level_of

BLOCK_M = 2000.0
CELL_M = 500.0
RESAMPLES = 500
YEAR_S = 365.25 * 24 * 3600
SHARE = 0.1
"""Precision is that of the tenth that ranks highest."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One map at two dates."""

    name: str
    before: datetime
    old: Elements
    new: Elements
    contributors: NDArray[np.float64] | None = None
    """Of each old element, where a full history tells."""

    retags: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Things to rank, and what became of them."""

    features: Floats
    """Shape (n, F)."""

    age: Floats
    """Years since the last edit."""

    event: Bools
    block: NDArray[np.int64]


def places(data: Path) -> list[Place]:
    """Return the places; elements of both dates bear the same ids in all of them."""
    out = []
    for name, old, new, day in (
        ("Liechtenstein 2015 to 2021", "liechtenstein-20150727", "liechtenstein-20210504",
         datetime(2015, 7, 27, tzinfo=UTC)),
        ("Monaco 2015 to 2021", "monaco-20150428", "monaco-20210418",
         datetime(2015, 4, 28, tzinfo=UTC)),
    ):  # fmt: skip
        files = (data / f"{one}.osm.pbf" for one in (old, new))
        before, after = (read_areas(one) for one in files)
        out.append(Place(name=name, before=day, old=before, new=after))
    return [*out, _andorra(data / "history" / "andorra-8cbb0a.osh.pbf")]


def _andorra(path: Path) -> Place:
    days = datetime(2013, 6, 1, tzinfo=UTC), datetime(2017, 1, 1, tzinfo=UTC)
    with TemporaryDirectory() as folder:
        old, new = (
            read_areas(slice_history(path, day, Path(folder) / f"{day.year}.osm.pbf"))
            for day in days
        )
    versions = read_versions(path)
    ages = ages_at(versions, days[0])
    at = {
        (str(versions.osm_type[row]), int(versions.osm_id[row])): i
        for i, row in enumerate(ages.row.tolist())
    }
    row = np.array([at[key] for key in _keys(old)])
    return Place(
        name="Andorra 2013 to 2017",
        before=days[0],
        old=old,
        new=new,
        contributors=ages.contributors[row].astype(float),
        retags=ages.retags[row].astype(float),
    )


def _keys(elements: Elements) -> list[tuple[str, int]]:
    return list(zip(elements.osm_type.tolist(), elements.osm_id.tolist(), strict=True))


def _meanings(elements: Elements) -> list[tuple[str, int]]:
    """Return (tag, level) of each element, ("", -1) for none of cover or use."""
    lines = elements.is_line.tolist()
    rows = [classify(tags, is_line=line) for tags, line in zip(elements.tags, lines, strict=True)]
    return [(row.base, level_of(row)) if row and row.shares else ("", -1) for row in rows]


def _metres(elements: Elements) -> Floats:
    """Return a point inside each element, (n, 2), in metres of a local plane."""
    xy = shapely.get_coordinates(shapely.point_on_surface(elements.geometry))
    return xy * 111_320 * np.array([np.cos(np.deg2rad(xy[:, 1].mean())), 1.0])


def _blocks(xy: Floats, side: float) -> NDArray[np.int64]:
    cells = np.floor(xy / side).astype(np.int64)
    return np.asarray(np.unique(cells, axis=0, return_inverse=True)[1]).ravel()


def _age(place: Place) -> Floats:
    moment = np.datetime64(place.before.replace(tzinfo=None), "s")
    return (moment - place.old.timestamp).astype(float) / YEAR_S


def objects(place: Place, *, event: str, with_people: bool = False) -> Task:
    """Return the mapped objects but buildings, and which were ``retagged`` or ``removed``."""
    said = _meanings(place.old)
    later = dict(zip(_keys(place.new), _meanings(place.new), strict=True))
    use = np.array([bool(name) and not name.startswith("building") for name, _ in said])
    keys = _keys(place.old)
    gone = np.array([key not in later for key in keys])
    other = np.array(
        [key in later and later[key][0] != mine[0] for key, mine in zip(keys, said, strict=True)]
    )
    level = np.array([one[1] for one in said])
    natural = np.array([name.startswith(("natural", "landuse=forest")) for name, _ in said])
    size = np.log10(np.maximum(shapely.area(place.old.geometry) * 111_320.0**2, 1))
    columns = [
        np.log1p(_age(place)), np.log(np.maximum(place.old.version, 1)), level == 0,
        level == 2, natural, size, np.log1p([len(tags) for tags in place.old.tags]),
        place.old.osm_type == "relation",
    ]  # fmt: skip
    if with_people and place.contributors is not None and place.retags is not None:
        columns += [np.log(place.contributors), np.minimum(place.retags, 3)]
    xy = _metres(place.old)
    return Task(
        features=np.column_stack(columns).astype(float)[use],
        age=_age(place)[use],
        event=(gone if event == "removed" else other)[use],
        block=_blocks(xy, BLOCK_M)[use],
    )


def gaps(place: Place) -> Task:
    """Return squares of 500 m, and in which of them an object of cover or use was added."""
    said, later = _meanings(place.old), _meanings(place.new)
    known = set(_keys(place.old))
    add = np.array(
        [
            bool(name) and not name.startswith("building") and key not in known
            for key, (name, _) in zip(_keys(place.new), later, strict=True)
        ]
    )
    centre = shapely.get_coordinates(shapely.point_on_surface(place.old.geometry))[:, 1].mean()
    scale = 111_320 * np.array([np.cos(np.deg2rad(centre)), 1.0])
    old, new = (
        shapely.get_coordinates(shapely.point_on_surface(one.geometry)) * scale
        for one in (place.old, place.new)
    )
    cells = np.floor(np.concatenate([old, new[add]]) / CELL_M).astype(np.int64)
    square, number = np.unique(cells, axis=0, return_inverse=True)
    of_old, of_new = np.split(np.ravel(number), [len(old)])
    n = len(square)
    count = np.bincount(of_old, minlength=n)
    built = np.array([name.startswith("building") for name, _ in said])
    buildings = np.bincount(of_old, built, n)
    age = np.bincount(of_old, _age(place), n) / np.maximum(count, 1)
    newest = np.full(n, 20.0)
    np.minimum.at(newest, of_old, _age(place))
    versions = np.bincount(of_old, place.old.version, n) / np.maximum(count, 1)
    use = count > 0  # an empty square has no history to rank it by
    columns = [np.log1p(count - buildings), np.log1p(buildings), np.log1p(age),
               np.log1p(newest), np.log1p(versions)]  # fmt: skip
    event = np.bincount(of_new, minlength=n) > 0
    return Task(
        features=np.column_stack(columns)[use],
        age=age[use],
        event=event[use],
        block=_blocks(square * CELL_M + 1, BLOCK_M)[use],
    )


def learned(task: Task) -> Pipeline:
    """Return a logistic model of the event."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0)).fit(task.features, task.event)


def by_blocks(task: Task, folds: int = 5) -> Floats:
    """Return scores of a model that never saw the block that it scores."""
    deal = np.random.default_rng(0).permutation(int(task.block.max()) + 1) % folds
    fold, out = deal[task.block], np.zeros(len(task.event))
    for f in range(folds):
        train, test = fold != f, fold == f
        part = Task(
            features=task.features[train], age=task.age[train], event=task.event[train],
            block=task.block[train],
        )  # fmt: skip
        out[test] = learned(part).predict_proba(task.features[test])[:, 1]
    return out


def figures(score: Floats, event: Bools, weight: Floats) -> tuple[Floats, Floats]:
    """Return AUC and the precision of the top tenth under each row of weights, (R, n)."""
    _, tie = np.unique(-score, return_inverse=True)
    order = np.argsort(tie, kind="stable")
    last = np.append(np.diff(tie[order]) > 0, True)
    hit, miss = (np.cumsum((weight * one)[:, order], axis=1)[:, last] for one in (event, ~event))
    zero = np.zeros((len(weight), 1))
    hits, misses = np.diff(hit, prepend=zero), np.diff(miss, prepend=zero)
    # a pair counts 1 when the event ranks higher, and half when they tie
    won = (hits * (miss[:, -1:] - miss + misses / 2)).sum(axis=1)
    auc = won / np.maximum(hit[:, -1] * miss[:, -1], 1)
    total = np.cumsum(weight[:, order], axis=1)
    top = total <= np.maximum(SHARE * total[:, -1:], 1)
    chosen = (weight[:, order] * top).sum(axis=1)
    return auc, ((weight * event)[:, order] * top).sum(axis=1) / np.maximum(chosen, 1)


COLUMNS = (
    Column(name="tested on"),
    Column(name="ranked by"),
    Column(name="AUC", digits=2),
    Column(name="precision in the top tenth", digits=2),
    Column(name="random", digits=2),
    Column(name="n", digits=0),
    Column(name="events", digits=0),
)


def line(test: str, way: str, score: Floats, task: Task) -> tuple[Cell, ...]:
    """Return a row of the table; intervals by resampling whole blocks."""
    n = int(task.block.max()) + 1
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    (auc,), (top,) = figures(score, task.event, np.ones((1, len(score))))
    low, high = np.nanpercentile(
        figures(score, task.event, drawn[:, task.block].astype(float)), [2.5, 97.5], axis=1
    )
    spans = [(float(v), float(a), float(b)) for v, a, b in zip((auc, top), low, high, strict=True)]
    return (test, way, *spans, float(task.event.mean()), len(task.event), int(task.event.sum()))


def compare(tasks: dict[str, Task]) -> list[tuple[Cell, ...]]:
    """Return rows for one kind of event: each place tested by models of the others."""
    rows = []
    for test, task in tasks.items():
        if task.event.sum() < 5:
            continue
        ways = {"oldest first": task.age}  # newest first is its mirror image
        for train, other in tasks.items():
            if train != test and other.event.sum() >= 20:
                model = learned(other)
                ways[f"trained on {train.split()[0]}"] = model.predict_proba(task.features)[:, 1]
        rows += [line(test, way, score, task) for way, score in ways.items()]
    return rows


def by_itself(place: Place, kind: str) -> list[tuple[Cell, ...]]:
    """Return rows for a place with a full history, each block told by the others."""
    rows = []
    for people in (False, True):
        task = objects(place, event=kind, with_people=people)
        way = f"itself, other blocks, {'with' if people else 'without'} contributors"
        rows.append(line(place.name, way, by_blocks(task), task))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/osm"))
    add_save(parser)
    given = parser.parse_args()
    every = places(given.data)
    tables = {}
    for kind in ("retagged", "removed"):
        rows = compare({one.name: objects(one, event=kind) for one in every})
        for one in every:
            if one.contributors is not None:
                rows += by_itself(one, kind)
        tables[kind] = Table(columns=COLUMNS, rows=tuple(rows))
    rows = compare({one.name: gaps(one) for one in every})
    tables["added"] = Table(columns=COLUMNS, rows=tuple(rows))
    keep(given.save, tables, [0])


if __name__ == "__main__":
    main()
