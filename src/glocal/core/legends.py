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
from numpy.typing import NDArray

from glocal.core.legend import ClassDef, Crosswalk, Legend
from glocal.errors import LegendMismatchError, SourceUnavailableError

__all__ = [
    "attribution",
    "code_symbols",
    "crosswalk",
    "crosswalk_from_csv",
    "crosswalk_from_hub_shares",
    "hub_crosswalk",
    "legend",
    "legend_from_csv",
    "legend_names",
    "licence",
    "raster_codes",
    "roots",
    "silent_codes",
]

HUB = "worldcover"


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
    >>> legend("igbp").index(0), len(legend("corine"))
    (0, 44)
    """
    classes = tuple(
        ClassDef(value=row["value"], name=row["name"], title=row["title"], color=row["color"])
        for row in _entry(name)["classes"]
    )
    return Legend(name=name, classes=classes)


def raster_codes(name: str) -> tuple[int, ...]:
    """Return the codes stored in rasters, in the order of the legend's classes.

    >>> raster_codes("igbp")[:3]
    (0, 1, 2)
    """
    return legend(name).values


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


def _shares(name: str) -> dict[str, dict[int | str, float]]:
    return {row["name"]: row["shares"] for row in _entry(name)["classes"]}


def _to_hub(name: str) -> Crosswalk:
    trust = {row["name"]: float(row["confidence"]) for row in _entry(name)["classes"]}
    return Crosswalk.from_shares(legend(HUB), _shares(name), confidence=trust)


def _renormalised(
    weights: NDArray[np.float64], trust: NDArray[np.float64], **fields: Any
) -> Crosswalk:
    """Return a crosswalk with these rows; a row of zeros becomes uniform with confidence 0."""
    total = weights.sum(axis=1, keepdims=True)
    known = total[:, 0] > 0
    uniform = np.full_like(weights, 1.0 / weights.shape[1])
    matrix = np.where(known[:, None], weights / np.where(total > 0, total, 1.0), uniform)
    return Crosswalk(matrix=matrix, confidence=np.where(known, trust, 0.0), **fields)


def hub_crosswalk(target: Legend) -> Crosswalk:
    """Return P(target class | WorldCover class).

    A target class is recognised by its name: a WorldCover name stands for itself; a name
    of the known legend that ``target`` comes from spreads by that legend's shares.
    """
    hub = legend(HUB)
    known = _shares(target.name) if target.name in _table() else {}
    weights = np.zeros((len(hub), len(target)))
    for column, name in enumerate(target.names):
        shares: Mapping[int | str, float] = known.get(name) or (
            {name: 1.0} if name in hub.names else {}
        )
        for hub_name, share in shares.items():
            weights[hub.index(hub_name), column] = share
    trust = np.full(len(hub), 1.0 if target.name == HUB else 0.8)
    return _renormalised(weights, trust, symbols=hub.names, target=target)


def _through_hub(source: Crosswalk, target: Legend) -> Crosswalk:
    """Return ``source`` (symbols to WorldCover) carried on to ``target``.

    The mass on WorldCover classes that ``target`` lacks is dropped, and the confidence
    falls by as much.
    """
    bridge = hub_crosswalk(target)
    lands = bridge.confidence > 0
    kept = source.matrix * lands
    trust = source.confidence * (kept @ bridge.confidence)
    weights = kept @ np.where(lands[:, None], bridge.matrix, 0.0)
    return _renormalised(weights, trust, symbols=source.symbols, target=target)


def crosswalk(source: str, target: Legend) -> Crosswalk:
    """Return the prior P(target class | class of the legend ``source``).

    Symbols are the class names of ``source``. Silent classes (cloud) and classes that
    ``target`` can't express get a uniform row with confidence 0.

    >>> one = crosswalk("igbp", legend("worldcover").subset(["tree", "grass", "crop"]))
    >>> one.matrix[one.symbols.index("cropland_mosaic")].round(2).tolist()
    [0.25, 0.25, 0.5]
    """
    if source == target.name:
        itself: dict[str, dict[int | str, float]] = {
            name: {name: 1.0} for name in legend(source).names
        }
        return Crosswalk.from_shares(target, itself, confidence=0.8)
    return _through_hub(_to_hub(source), target)


def crosswalk_from_hub_shares(
    target: Legend,
    rows: Mapping[str, Mapping[int | str, float]],
    confidence: Mapping[str, float],
) -> Crosswalk:
    """Return a crosswalk from {symbol: {WorldCover class name: share}} to any legend."""
    hub = Crosswalk.from_shares(legend(HUB), rows, confidence=confidence)
    return _through_hub(hub, target)


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
    return rows


def legend_from_csv(path: Path) -> Legend:
    """Read a legend from a CSV with the columns ``value,name,title,color``.

    Further columns are read by `crosswalk_from_csv`.
    """
    path = Path(path)
    try:
        classes = tuple(
            ClassDef(
                value=int(row["value"]),
                name=row["name"].strip(),
                title=row["title"].strip(),
                color=row["color"].strip().lstrip("#"),
            )
            for row in _csv_rows(path)
        )
        return Legend(name=path.stem, classes=classes)
    except ValueError as error:
        raise LegendMismatchError(f"legend {path}: {error}") from error


def crosswalk_from_csv(path: Path, target: Legend) -> Crosswalk:
    """Return the prior meaning of a CSV legend in ``target``.

    A column named like a class of ``target`` holds shares (empty is 0). A row without any
    share means itself where ``target`` has a class of that name, else it says nothing.
    """
    shares: dict[str, dict[int | str, float]] = {}
    for row in _csv_rows(Path(path)):
        name = row["name"].strip()
        given: dict[int | str, float] = {
            one: float(row[one]) for one in target.names if (row.get(one) or "").strip()
        }
        shares[name] = given or {name: 1.0}
    return Crosswalk.from_shares(target, shares, confidence=0.5)
