"""Answers as evidence for the next round: what they say, given what was asked.

An answer to a shown suggestion is no gold: people accept wrong suggestions (methods: two
randomised studies, 2,784 and 410 people). So P(answer | class) depends on the question,
and who is asked what follows from our own evidence, hence only the answer given the
question is evidence (support ``answers``). Points of the sampling plan that come back are
anchors, with their inclusion weights.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.burn import burn
from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk, Legend
from glocal.core.observation import Anchors, Observations
from glocal.core.provenance import Provenance
from glocal.errors import LegendMismatchError
from glocal.sources.osm.answers_edits import covers, meant_by_symbol
from glocal.sources.people.asked import element_of, version_of
from glocal.sources.people.store import Stored
from glocal.sources.people.verdict import SETTLED, SPEAKS

__all__ = [
    "Bias", "joined", "muted", "observe_review", "reference_visits", "settled", "settled_cells",
    "too_hard",
]  # fmt: skip

REFUSAL_TELLS = 0.3
"""Share of those who do not accept a suggestion that say what is there instead."""

NOT_OF_COVER = ("displaced",)
"""Kinds of proposals whose answers say nothing of the class of the ground."""

LEAST = 1e-6
"""Probability of an answer that does not fit its question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bias:
    """How people answer; declared, not measured, until `glocal.sources.people.rates` learns it."""

    accept_if_right: float = 0.9
    accept_if_wrong: float = 0.4
    """Acceptance bias: how often a wrong suggestion is accepted because it was shown."""

    right_if_blind: float = 0.85
    """How often a class that somebody names without a suggestion is right."""

    def __post_init__(self) -> None:
        for name in ("accept_if_right", "accept_if_wrong", "right_if_blind"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if self.accept_if_wrong > self.accept_if_right:
            raise ValueError(
                "accept_if_wrong must not be above accept_if_right, else an acceptance says the "
                f"opposite; got {self.accept_if_wrong} and {self.accept_if_right}"
            )


def table_of(classes: int, bias: Bias) -> NDArray[np.float64]:
    """Return P(answer | class, question), shape (K + 1, K, 3 K).

    Question 0 is "what is there?", question 1 + c "is it c?". Answers: accepted class
    0..K-1, rejected class, stated class.
    """
    out = np.full((classes + 1, classes, 3 * classes), LEAST)
    own = np.full((classes, classes), (1 - bias.right_if_blind) / max(classes - 1, 1))
    np.fill_diagonal(own, bias.right_if_blind)
    out[0, :, 2 * classes :] += own
    truth = np.arange(classes)
    for c in range(classes):
        yes = np.where(truth == c, bias.accept_if_right, bias.accept_if_wrong)
        other = own.copy()
        other[:, c] = 0.0
        other /= other.sum(axis=1, keepdims=True)
        out[1 + c, :, c] += yes
        out[1 + c, :, classes + c] += (1 - yes) * (1 - REFUSAL_TELLS)
        out[1 + c, :, 2 * classes :] += ((1 - yes) * REFUSAL_TELLS)[:, None] * other
    return np.asarray(out / out.sum(axis=2, keepdims=True))


def _crosswalk(legend: Legend) -> Crosswalk:
    """Return what the answers mean at their word; the declared table says how far."""
    names = legend.names
    rows: dict[str, dict[int | str, float]] = {f"accepted:{one}": {one: 1.0} for one in names}
    for one in names:
        rows[f"rejected:{one}"] = {k: 1.0 for k in names if k != one}
    rows.update({f"stated:{one}": {one: 1.0} for one in names})
    return Crosswalk.from_shares(legend, rows, confidence=0.5)


def observe_review(
    stored: Stored,
    geobox: GeoBox,
    legend: Legend,
    *,
    source: str,
    bias: Bias,
    interval: Interval,
    licences: frozenset[str],
    known: Collection[str] = (),
    attribution: str = "",
) -> Observations:
    """Return what people's answers say about the places that they were asked about.

    Symbols are ``accepted:CLASS``, ``rejected:CLASS`` and ``stated:CLASS``; the stratum is
    the question: 0 without a suggestion, else 1 + the position of the class shown. Answers
    to the proposals in ``known`` were heard already, and are left out.

    Raises
    ------
    LegendMismatchError
        An answer is about a class that the legend does not have.
    """
    table = _spoken(stored.proposals.to_crs(str(geobox.crs)), geobox, known)
    classes, names = len(legend), legend.names
    about = np.where(table["stated"] != "", table["stated"], table["proposed"])
    lost = sorted({*about.tolist(), *table["proposed"]} - set(names))
    if lost:
        raise LegendMismatchError(
            f"{source}: answers of run {stored.run} are about {', '.join(lost)}, which legend "
            f"{legend.name} does not have; use the classes of that run"
        )
    place = {name: k for k, name in enumerate(names)}
    verdict = table["verdict"].to_numpy(str)
    own = np.isin(verdict, ("told", "changed"))
    offset = np.where(own, 2, np.where(verdict == "rejected", 1, 0))
    at = np.array([place[one] for one in about], np.int64)
    shown = np.array([place[one] for one in table["proposed"]], np.int64)
    return Observations(
        source=source,
        support="answers",
        geobox=geobox,
        symbols=(1 + offset * classes + at).astype(np.uint16),
        crosswalk=_crosswalk(legend),
        phenomenon_time=interval,
        provenance=Provenance(
            activity="answer",
            agent="people who answered proposals",
            used=(f"answers to {stored.run}",),
            licences=licences,
            roots=frozenset({"review"}),
            attribution=(attribution,) if attribution else (),
        ),
        geometry=table.geometry.to_numpy(),
        record=table["proposal"].to_numpy(str),
        stratum=np.where(verdict == "told", 0, 1 + shown).astype(np.uint16),
        columns={"verdict": verdict},
        declared=table_of(classes, bias),
    )


def _spoken(table: gpd.GeoDataFrame, geobox: GeoBox, known: Collection[str]) -> gpd.GeoDataFrame:
    """Return the answers that say something of the ground, those to ``known`` left out."""
    use = table["verdict"].isin(SPEAKS) & ~table["proposal"].isin(list(known))
    return _in_area(table[use.to_numpy()], geobox)


def too_hard(stored: Stored, geobox: GeoBox) -> list[shapely.Geometry]:
    """Return the places in the area of which people could not tell what they are.

    In the grid's CRS, the larger first; a point stands for the square of one cell.
    """
    table = stored.proposals.to_crs(str(geobox.crs))
    return list(_in_area(table[table["verdict"] == "too_hard"], geobox).geometry)


def _in_area(table: gpd.GeoDataFrame, geobox: GeoBox) -> gpd.GeoDataFrame:
    """Return the proposals about the ground in the area as polygons, the larger first.

    A point stands for the square of one cell around it.
    """
    shape = table.geometry.to_numpy()
    use = ~table["kind"].isin(NOT_OF_COVER)
    use &= ~(shapely.is_missing(shape) | shapely.is_empty(shape))
    table = table[use.to_numpy()]
    half = abs(float(geobox.resolution.x)) / 2
    shape = table.geometry.to_numpy()
    square = shapely.buffer(shapely.centroid(shape), half, cap_style="square")
    shape = np.where(shapely.area(shape) > 0, shape, square)
    order = np.lexsort((table["proposal"].to_numpy(str), -shapely.area(shape)))
    table = table.assign(geometry=shape).set_geometry("geometry").iloc[order]
    inside = shapely.intersects(table.geometry.to_numpy(), geobox.extent.geom)
    return table[inside]


def muted(source: Observations, stored: Stored) -> Observations:
    """Return an OSM source without the words that came from our own proposals.

    Where an element was proposed a class, has a newer version, and says that class, its tag
    is our echo: it gets no voice, and the answer of the person who looked has one. So too
    for an object drawn where something was proposed as missing. Elements that people found
    right already (``already_fixed``) keep theirs. Somebody may have made the same edit
    without us: then a little evidence is lost, which is the safer side.
    """
    table = stored.proposals[stored.proposals["verdict"] != "already_fixed"]
    asked = _asked_of(table, source.source)
    rows = zip(source.record.tolist(), source.symbols.tolist(), strict=True)
    echo = np.zeros(len(source), bool)
    for i, (record, symbol) in enumerate(rows):
        base = asked.get(element_of(record), {})
        if symbol and base:
            said = meant_by_symbol(source.crosswalk.symbols[symbol - 1], source.legend)
            echo[i] = any(version_of(record) > base[one] for one in said if one in base)
    echo |= _drawn_by_us(source, table)
    return replace(source, symbols=np.where(echo, 0, source.symbols).astype(source.symbols.dtype))


def _asked_of(table: pd.DataFrame, source: str) -> dict[str, dict[str, int]]:
    """Return by element the classes that it was proposed, each with the base version."""
    out: dict[str, dict[str, int]] = {}
    mine = table[table["source"] == source]
    for record, proposed in zip(mine["record"].tolist(), mine["proposed"].tolist(), strict=True):
        if version_of(record):
            out.setdefault(element_of(record), {})[proposed] = version_of(record)
    return out


def _drawn_by_us(source: Observations, table: gpd.GeoDataFrame) -> NDArray[np.bool_]:
    """Return which objects lie where something of their class was proposed as missing."""
    echo = np.zeros(len(source), bool)
    mine = table[(table["source"] == source.source) & (table["kind"] == "missing")]
    if not len(mine) or not len(source):
        return echo
    mine = mine.to_crs(str(source.geobox.crs))
    tree = shapely.STRtree(source.geometry)
    for place, proposed in zip(mine.geometry, mine["proposed"], strict=True):
        for at in tree.query(place, predicate="intersects").tolist():
            symbol = int(source.symbols[at])
            said = source.crosswalk.symbols[symbol - 1] if symbol else ""
            if proposed in meant_by_symbol(said, source.legend):
                echo[at] |= covers(source.geometry[at], place)
    return echo


def settled(
    stored: Stored,
    source: str,
    record: NDArray[np.str_],
    current: NDArray[np.str_],
    proposed: NDArray[np.str_],
    geometry: NDArray[np.object_],
) -> NDArray[np.bool_]:
    """Return which proposals to ``source`` were answered already, shape (n,).

    The same class for the same element that still says the same; for areas that nothing
    maps, the same class on at least half of the area. ``geometry`` is in the CRS of
    ``stored.proposals``.
    """
    table = stored.proposals
    table = table[(table["source"] == source) & table["verdict"].isin(SETTLED)]
    rows = zip(table["record"], table["current"], table["proposed"], strict=True)
    done = {(element_of(one), now, new) for one, now, new in rows}
    asked = zip(record.tolist(), current.tolist(), proposed.tolist(), strict=True)
    out = np.array([(element_of(one), now, new) in done for one, now, new in asked], bool)
    places = table[table["kind"] == "missing"]
    for i in np.flatnonzero(np.char.startswith(record.astype(str), "new/")):
        same = places[places["proposed"] == proposed[i]].geometry.to_numpy()
        out[i] |= bool(len(same)) and covers(shapely.union_all(same), geometry[i])
    return out


def settled_cells(stored: Stored, source: str, geobox: GeoBox, legend: Legend) -> NDArray[np.int64]:
    """Return the class position that was proposed and answered per cell, -1 for none, (H, W)."""
    table = stored.proposals
    table = table[(table["source"] == source) & table["verdict"].isin(SETTLED)]
    table = table[table["proposed"].isin(legend.names)].to_crs(str(geobox.crs))
    owner = burn(table.geometry.to_numpy(), geobox)
    at = [legend.index(one) for one in table["proposed"].tolist()]
    return np.asarray(np.array([-1, *at], np.int64)[owner])


def reference_visits(stored: Stored, legend: Legend) -> Anchors | None:
    """Return the visited places of the sampling plan as anchors; None without any.

    Their weight is the inverse of the inclusion probability. A visit that could not tell is
    non-response. Classes that the legend lacks are refused when answers are taken.
    """
    visits = stored.visits
    if not len(visits):
        return None
    shares = np.zeros((len(visits), len(legend)))
    for i, name in enumerate(visits["class"].tolist()):
        if name:
            shares[i, legend.index(name)] = 1.0
    return Anchors(
        x=visits["x"].to_numpy(float),
        y=visits["y"].to_numpy(float),
        shares=shares,
        weight=1.0 / visits["inclusion_probability"].to_numpy(float),
        record=visits["sample_id"].to_numpy(str),
        provenance=Provenance(
            activity="visit",
            agent="people in the field",
            used=(f"visits of {stored.run}",),
            licences=frozenset({stored.licence}),
            roots=frozenset({"visits"}),
        ),
    )


def joined(samples: Collection[Anchors]) -> Anchors:
    """Return several probability samples of one area as one, no place twice.

    Each sample's weights are scaled to sum to its effective size (sum w)^2 / sum w^2 (Kish
    1965), so that shares of classes are the mean of the samples' estimates, weighted by how
    much each of them knows.
    """
    parts = list(samples)
    weight = [one.weight * one.weight.sum() / (one.weight**2).sum() for one in parts]
    record = np.concatenate([one.record for one in parts])
    first = np.sort(np.unique(record, return_index=True)[1])
    return Anchors(
        x=np.concatenate([one.x for one in parts])[first],
        y=np.concatenate([one.y for one in parts])[first],
        shares=np.concatenate([one.shares for one in parts])[first],
        weight=np.concatenate(weight)[first],
        record=record[first],
        provenance=Provenance.derive("join samples", [one.provenance for one in parts]),
    )
