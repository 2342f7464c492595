"""Field points: read them as one source among equals, or as anchors."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk, Legend
from glocal.core.observation import Anchors, Observations
from glocal.core.provenance import Provenance
from glocal.core.typing import Bools
from glocal.errors import BadSourceError, ConfigError, LegendMismatchError
from glocal.sources.points.table import PointTable, read_points
from glocal.sources.points.words import CONFIDENCES, Shares, meanings

log = logging.getLogger(__name__)

TRUST = {"high": 0.9, "med": 0.8, "low": 0.6, "": 0.8}
"""How far the prior of a symbol is believed before any data is seen; declared, not measured."""


def observe_points(
    path: Path,
    geobox: GeoBox,
    legend: Legend,
    *,
    source: str,
    root: str,
    columns: dict[str, str],
    crs: Any = None,
    interval: Interval | None = None,
    position_sd_m: float = 5.0,
    class_names: dict[str, int | str] | None = None,
    licence: str,
    attribution: str = "",
) -> Observations:
    """Return the statements of field observers inside ``geobox``.

    Symbols are the file's own words with confidence and second choice (``crop``,
    ``crop/med``, ``crop/low:grass``), so that doubtful points stay, as soft labels.
    Points whose class could not be told (cloud) and points outside are left out.

    Parameters
    ----------
    root
        Names the original acquisition: who shares it, may share errors.
    columns, crs, position_sd_m
        See :func:`glocal.sources.points.table.read_points`, for errors too.
    interval
        When the ground was as the points say; not given: from the ``date`` column, and
        ``ConfigError`` without one, as without a licence.
    class_names
        What a class text means (`words.meanings`): value or name in ``legend``, empty for "could
        not tell".
    """
    points, shares = _answers(path, geobox, legend, columns, crs, position_sd_m, class_names)
    when = interval or points.interval
    if when is None:
        raise ConfigError(
            f"{source}: when was the ground as {Path(path).name} says? give interval: "
            "2017-02-16, or name its date column in columns"
        )
    spoken = np.array([bool(shares[text]) for text in points.text.tolist()])
    points = points.take(spoken)
    if len(points) == 0:
        raise BadSourceError(f"{source}: no point in the area has a class")
    rows, trust, symbol = _alphabet(points, shares, legend)
    names, position = np.unique(symbol, return_inverse=True)
    prior = {name: rows[name] for name in names.tolist()}
    return Observations(
        source=source,
        support="points",
        geobox=geobox,
        symbols=(position + 1).astype(np.uint16),
        crosswalk=Crosswalk.from_shares(legend, prior, confidence=trust),
        phenomenon_time=when,
        provenance=_provenance(points, source, root, licence, attribution),
        geometry=np.asarray(shapely.points(points.x, points.y), dtype=object),
        record=points.record,
        position_sd_m=points.position_sd_m,
        columns={"class": points.text, "confidence": points.confidence, "second": points.second},
    )


def read_anchors(
    path: Path,
    geobox: GeoBox,
    legend: Legend,
    *,
    columns: dict[str, str],
    crs: Any = None,
    weight_column: str | None = None,
    class_names: dict[str, int | str] | None = None,
    licence: str,
    attribution: str = "",
) -> Anchors:
    """Return reference points of a probability sample, with soft labels.

    A high-confidence answer is one class; a doubtful one with a second choice is split
    between the two (med .84 / .16, low .63 / .37; declared, not measured). A point whose
    class could not be told stays, as a row of zeros: it is non-response, not a class. One whose
    class the legend does not have raises ``LegendMismatchError``: an anchor can't be left without.
    Other errors are those of :func:`observe_points`.
    """
    named = {**columns, "weight": weight_column} if weight_column else dict(columns)
    points, shares = _answers(path, geobox, legend, named, crs, 0.0, class_names)
    known = set(legend.names)
    lost = sorted(text for text, row in shares.items() if row and not set(row) & known)
    if lost:
        raise LegendMismatchError(
            f"{Path(path).name}: legend {legend.name} has no class for {lost}; add the class to "
            "the legend, or say with class_names what these anchors are"
        )
    soft = np.zeros((len(points), len(legend)))
    for i, (text, confidence, second) in enumerate(points.each("text", "confidence", "second")):
        doubt = shares[second] if shares[text] and second else {}
        for row, weight in zip((shares[text], doubt), CONFIDENCES[confidence], strict=True):
            for name in known & set(row):
                soft[i, legend.index(name)] += weight * row[name]
    total = soft.sum(axis=1, keepdims=True)
    name = f"anchors:{Path(path).stem}"
    return Anchors(
        x=points.x,
        y=points.y,
        shares=np.divide(soft, total, out=np.zeros_like(soft), where=total > 0),
        weight=points.weight,
        record=points.record,
        provenance=_provenance(points, name, f"insitu:{name}", licence, attribution),
    )


def in_part(record: NDArray[np.str_], part: str, seed: int) -> Bools:
    """Return which records fall into the ``first`` or ``second`` seeded random half.

    A record's half depends on its id and the seed only, so that two readers of one
    table always agree.
    """
    digests = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in record]
    side = np.array([one[0] & 1 for one in digests], bool)
    return ~side if part == "first" else side


def _answers(
    path: Path,
    geobox: GeoBox,
    legend: Legend,
    columns: Mapping[str, str],
    crs: Any,
    position_sd_m: float,
    class_names: Mapping[str, int | str] | None,
) -> tuple[PointTable, dict[str, Shares]]:
    """Return the points in the area, and what each of their class texts means."""
    points = read_points(path, geobox, columns=columns, crs=crs, position_sd_m=position_sd_m)
    texts = points.text.tolist()
    shares = meanings([*texts, *filter(None, points.second.tolist())], legend, class_names)
    silent = sum(not shares[one] for one in texts)
    if silent:
        log.info("%s: the class of %d points could not be told", Path(path).name, silent)
    return points, shares


def _alphabet(
    points: PointTable, shares: Mapping[str, Shares], legend: Legend
) -> tuple[dict[str, Shares], dict[str, float], list[str]]:
    """Return the prior shares and trust of every symbol, and the symbol of every point."""
    rows: dict[str, Shares] = {}
    trust: dict[str, float] = {}
    symbol = []
    for text, confidence, second in points.each("text", "confidence", "second"):
        main, other = CONFIDENCES[confidence]
        doubt = second if other > 0 and second != text else ""
        name = text + (f"/{confidence}" if confidence else "") + (f":{doubt}" if doubt else "")
        rows[name] = _prior(shares[text], shares[doubt] if doubt else {}, main, other, legend)
        trust[name] = TRUST[confidence]
        symbol.append(name)
    return rows, trust, symbol


def _prior(first: Shares, second: Shares, main: float, other: float, legend: Legend) -> Shares:
    """Mix main and second class; what is left goes to all classes alike.

    Without a main class in the legend there is nothing to state: the row stays empty.
    """
    if not set(first) & set(legend.names):
        return {}
    other = other if second else 0.0
    row = dict.fromkeys(legend.names, (1 - main - other) / len(legend))
    for shares, weight in ((first, main), (second, other)):
        for name, part in shares.items():
            row[name] = row.get(name, 0.0) + weight * part
    return row


def _provenance(
    points: PointTable, source: str, root: str, licence: str, attribution: str
) -> Provenance:
    if not licence:
        raise ConfigError(f"{source}: name the licence of the points (SPDX, as CC-BY-4.0)")
    return Provenance(
        activity="observe",
        agent=attribution or source,
        used=(points.digest,),
        licences=frozenset({licence}),
        roots=frozenset({root}),
        attribution=(attribution,) if attribution else (),
    )
