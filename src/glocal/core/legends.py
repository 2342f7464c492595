"""Known legends, and what their classes would mean in another legend.

``tables/maps.json`` holds one entry per map: classes with their raster codes and colours,
the codes that mean "nothing said", licence, attribution, and for each class its expected
shares of the WorldCover classes. WorldCover is the hub: a crosswalk between two legends
goes through its classes. The shares are priors read from the legends' own definitions
(methods: P(class | source class)); what a map's classes mean in an area is learned.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from glocal.core.concepts import CONCEPTS
from glocal.core.legend import ClassDef, Crosswalk, Legend
from glocal.core.typing import Table
from glocal.errors import LegendMismatchError, SourceUnavailableError

HUB = "worldcover"

SPREAD_TRUST = 0.8
"""Belief in a concept that no class of the target stands for alone; declared, not measured."""


@cache
def _table() -> dict[str, Any]:
    text = resources.files("glocal.core").joinpath("tables", "maps.json").read_text("utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def legend_names() -> tuple[str, ...]:
    """Return the names of all known legends."""
    return tuple(_table())


def _entry(name: str) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = _table()[name]
    except KeyError:
        raise LegendMismatchError(
            f"no legend {name!r} in the table; known: {', '.join(_table())}; "
            "give the classes of another map as a CSV (value,name,title,color)"
        ) from None
    return entry


@cache
def legend(name: str) -> Legend:
    """Return a known legend; its values are the codes stored in rasters.

    >>> legend("worldcover").names[:3]
    ('tree', 'shrub', 'grass')
    >>> legend("igbp").concepts[:7]
    ('water', 'tree', 'tree', 'tree', 'tree', 'tree', 'shrub')
    """
    fields = ("value", "name", "title", "color", "concept")
    classes = tuple(
        ClassDef(**{key: row[key] for key in fields}, shares=tuple(row["shares"].items()))
        for row in _entry(name)["classes"]
    )
    return Legend(name=name, classes=classes)


def silent_codes(name: str) -> tuple[int, ...]:
    """Return the raster codes that say nothing of the ground (no data, cloud)."""
    return tuple(_entry(name)["silent"])


def code_symbols(name: str) -> dict[int, int]:
    """Return {raster code: symbol}, symbols 1..M in class order and 0 for silent codes.

    A class may have several codes (MODIS water is 0 in MCD12C1 and 17 in MCD12Q1).

    >>> code_symbols("igbp")[17], code_symbols("igbp")[0], code_symbols("igbp")[255]
    (1, 1, 0)
    """
    symbols = {}
    for symbol, row in enumerate(_entry(name)["classes"], start=1):
        symbols.update(dict.fromkeys([row["value"], *row.get("also", ())], symbol))
    return symbols | dict.fromkeys(silent_codes(name), 0)


def licence(name: str) -> str:
    """Return the licence of the map that uses this legend."""
    return str(_entry(name)["licence"])


def attribution(name: str, year: int) -> str:
    """Return the sentence that outputs made with this map must repeat."""
    return str(_entry(name)["attribution"]).format(year=year)


def roots(name: str, year: int) -> frozenset[str]:
    """Return what a map of ``year`` was made from, as lineage roots."""
    return frozenset(one.format(year=year) for one in _entry(name)["roots"])


def _renormalised(weights: Table, trust: Table, **fields: Any) -> Crosswalk:
    """Return a crosswalk with these rows; a row of zeros becomes uniform with confidence 0."""
    total = weights.sum(axis=1, keepdims=True)
    known = total[:, 0] > 0
    uniform = np.full_like(weights, 1.0 / weights.shape[1])
    matrix = np.where(known[:, None], weights / np.where(total > 0, total, 1.0), uniform)
    return Crosswalk(matrix=matrix, confidence=np.where(known, trust, 0.0), **fields)


def crosswalk(source: str, target: Legend) -> Crosswalk:
    """Return the prior P(target class | class of the legend ``source``).

    Symbols are the class names of ``source``. Silent classes (cloud) and classes that
    ``target`` can't express get a uniform row with confidence 0.

    >>> one = crosswalk("igbp", legend("worldcover").subset(["tree", "grass", "crop"]))
    >>> one.matrix[one.symbols.index("cropland_mosaic")].round(2).tolist()
    [0.25, 0.25, 0.5]
    """
    said = {(one.name, one.shares): one.name for one in legend(source).classes}
    if all((one.name, one.shares) in said for one in target.classes):  # it speaks of our classes
        itself = {name: {name: 1.0} for name in said.values()}
        return Crosswalk.from_shares(target, itself, confidence=0.8)
    shares = {one.name: dict(one.shares) for one in legend(source).classes}
    trust = {row["name"]: float(row["confidence"]) for row in _entry(source)["classes"]}
    return crosswalk_from_concepts(target, shares, trust)


def crosswalk_from_concepts(
    target: Legend, rows: Mapping[str, Mapping[str, float]], confidence: Mapping[str, float]
) -> Crosswalk:
    """Return a crosswalk from {symbol: {concept: share}} to any legend.

    The mass on concepts that ``target`` lacks is dropped, and the confidence falls by as much.
    """
    hub = Crosswalk.from_shares(legend(HUB), rows, confidence=confidence)
    # A concept that is a class by itself is believed in full, one spread over classes less.
    meant = np.zeros((len(CONCEPTS), len(target)))
    for column, one in enumerate(target.classes):
        for concept, share in one.shares:
            meant[CONCEPTS.index(concept), column] = share
    pure = {one.concept for one in target.classes if one.shares == ((one.concept, 1.0),)}
    belief = np.array([1.0 if one in pure else SPREAD_TRUST for one in CONCEPTS])
    bridge = _renormalised(meant, belief, symbols=CONCEPTS, target=target)
    lands = bridge.confidence > 0
    kept = hub.matrix * lands
    trust = hub.confidence * (kept @ bridge.confidence)
    weights = kept @ np.where(lands[:, None], bridge.matrix, 0.0)
    return _renormalised(weights, trust, symbols=hub.symbols, target=target)


def _csv_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError) as error:
        raise SourceUnavailableError(f"can't read the legend {path}: {error}") from error
    missing = {"value", "name", "title", "color"} - set(rows[0] if rows else ())
    if missing:
        raise LegendMismatchError(
            f"legend {path} needs the columns value,name,title,color; it lacks {sorted(missing)}"
        )
    return [{key: (text or "").strip() for key, text in row.items() if key} for row in rows]


def legend_from_csv(path: Path) -> Legend:
    """Read a legend from a CSV with the columns ``value,name,title,color`` and maybe ``concept``.

    A class is about the concept that its row names (``none`` for none of them); else about what
    the known legend with most of the CSV's names says of that name; else about what the words
    of its name or title mean. Further columns are read by `crosswalk_from_csv`.

    Raises
    ------
    LegendMismatchError
        A column is missing, or a row breaks a rule of `ClassDef` or `Legend`.
    """
    path = Path(path)
    rows = _csv_rows(path)
    names = {row["name"] for row in rows}
    alike = sorted(legend_names(), key=lambda one: -len(names & set(legend(one).names)))
    known = {one.name: one for name in reversed(alike) for one in legend(name).classes}
    try:
        return Legend(name=path.stem, classes=tuple(_class_of(row, known) for row in rows))
    except ValueError as error:
        raise LegendMismatchError(f"legend {path}: {error}") from error


def _class_of(row: Mapping[str, str], known: Mapping[str, ClassDef]) -> ClassDef:
    said, like = row.get("concept", "").lower(), known.get(row["name"])
    meaning: dict[str, Any] = {}
    if said:
        meaning = {"concept": "" if said == "none" else said}
    elif like is not None:
        meaning = {"concept": like.concept, "shares": like.shares}
    return ClassDef(
        value=int(row["value"]),
        name=row["name"],
        title=row["title"],
        color=row["color"].lstrip("#"),
        **meaning,
    )


def crosswalk_from_csv(path: Path, target: Legend) -> Crosswalk:
    """Return the prior meaning of a CSV legend in ``target``.

    A column named like a class of ``target`` holds shares (empty is 0). A row without any
    share means itself where ``target`` has a class of that name, else it says nothing.
    """
    shares: dict[str, dict[int | str, float]] = {}
    for row in _csv_rows(Path(path)):
        given: dict[int | str, float] = {
            one: float(row[one]) for one in target.names if row.get(one)
        }
        shares[row["name"]] = given or {row["name"]: 1.0}
    return Crosswalk.from_shares(target, shares, confidence=0.5)
