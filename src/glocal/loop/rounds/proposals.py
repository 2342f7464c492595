"""What is wrong with each source, confidently enough to tell it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from glocal.core.correction import Corrections, Receiver
from glocal.core.observation import Observations
from glocal.core.promise import shrunk
from glocal.core.provenance import Provenance, osm_accepts
from glocal.fusion.problem.support import paint
from glocal.fusion.propose import (
    Doubts,
    cell_doubts,
    missing_areas,
    object_doubts,
    patches_of,
    point_doubts,
    threshold_for,
)
from glocal.loop.area.area import Area
from glocal.loop.area.reviews import settled_at, settled_of
from glocal.loop.rounds.confirmed import confirmed_classes
from glocal.loop.rounds.turns import Turn
from glocal.sources.osm.tags import retaggable

__all__ = [
    "DOUBTED",
    "MIN_PATCH_CELLS",
    "Gift",
    "attribution_of",
    "corrected_classes",
    "evidence_of",
    "licence_of",
    "propose",
    "recalibrated",
    "said_class",
    "symbol_names",
]

MISSING = ("tree", "water")
"""Concepts whose absence from OSM can be seen from above."""

MISSING_HA = 2.0
"""Smallest unmapped area that is worth somebody's look."""

MISSING_MOST = 50
LIKELIER_THAN_NOT = 0.5
DOUBTED = 0.1
"""An object or point is flagged when its class is right with less than this probability."""

MIN_PATCH_CELLS = 4

MIN_CORE = 0.25
"""Share of an object that must lie inside its edge before its tags are edited: of hedges
and shores nearly every cell is mixed, and a small offset puts them beside themselves."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gift:
    """What one source receives."""

    corrections: Corrections | None = None
    threshold: float | None = None
    expected_precision: float | None = None
    files: tuple[Path, ...] = ()
    note: str = ""
    count: dict[str, int] = field(default_factory=dict)


def licence_of(licences: frozenset[str]) -> str:
    """Return the licence of something made under all of ``licences``.

    Anything that OSM evidence entered is a derivative database, so ODbL; otherwise the
    names are joined, for a person to weigh.
    """
    return "ODbL-1.0" if "ODbL-1.0" in licences else " AND ".join(sorted(licences)) or "unknown"


def attribution_of(*provenance: Provenance) -> str:
    """Return the sentences that an output must repeat, joined."""
    return "; ".join(sorted({text for one in provenance for text in one.attribution}))


def evidence_of(area: Area, turn: Turn, source: str) -> tuple[tuple[str, ...], Provenance]:
    """Return who speaks for a correction of ``source`` (never itself), and the provenance.

    Who says nothing is no evidence, and puts no licence on it.
    """
    everybody = (*area.observations, *turn.models)
    others = [one for one in everybody if one.source != source and one.speaks]
    names = tuple(sorted(one.source for one in others))
    return names, Provenance.derive("fuse", [one.provenance for one in others], used=names)


def said_class(source: Observations) -> NDArray[np.int64]:
    """Return the class that each symbol 0..M stands for at its word, -1 for none."""
    best = source.crosswalk.matrix.argmax(axis=1)
    best = np.where(source.crosswalk.confidence > 0, best, -1)
    return np.concatenate([[-1], best]).astype(np.int64)


def symbol_names(source: Observations) -> NDArray[np.str_]:
    """Return the source's words by symbol, shape (M + 1,); empty for silence."""
    return np.array(["", *source.crosswalk.symbols])


def propose(area: Area, turn: Turn, source: Observations, *, sharpness: float = 1.0) -> Gift:
    """Return the corrections of one source that are confident enough to be exported.

    Probabilities of edits of objects are believed as far as ``sharpness`` says
    (`promise.shrunk`).
    """
    gift = _propose(area, turn, source, sharpness)
    nothing = gift.corrections is not None and not len(gift.corrections)
    if nothing and len({one.family for one in turn.fused.reliabilities()}) < 2:
        return replace(gift, note="all who speak here share its roots: nobody can check it")
    return gift


def _propose(area: Area, turn: Turn, source: Observations, sharpness: float) -> Gift:
    if source.support == "objects":
        return _propose_objects(area, turn, source, sharpness)
    if source.support == "points":
        return _propose_points(area, turn, source)
    if source.support == "cells":
        return _propose_cells(area, turn, source)
    if source.support == "answers":
        return Gift(note="answers are heard; nobody is asked to take theirs back")
    return Gift(note="one statement per coarse cell: it gets class shares, not new codes")


def _open(area: Area, source: Observations, doubts: Doubts) -> Doubts:
    """Return the doubts about objects or points without those that people have answered."""
    done = settled_of(
        area.reviews,
        source.source,
        source.record,
        symbol_names(source)[source.symbols],
        np.array(area.legend.names)[doubts.proposed],
        source.geometry,
    )
    return replace(doubts, supported=doubts.supported & ~done)


def _choose(
    area: Area, doubts: Doubts, may: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], float, float]:
    """Return which statements to edit, of those that ``may`` be, at the stated precision.

    The precision is a mean; no single edit goes out that is likelier wrong than right.
    """
    candidates = doubts.supported & may & (doubts.probability > LIKELIER_THAN_NOT)
    threshold, precision = threshold_for(doubts.probability[candidates], area.config.precision)
    return candidates & (doubts.probability >= threshold), threshold, precision


def _records(
    area: Area,
    turn: Turn,
    source: Observations,
    doubts: Doubts,
    edit: NDArray[np.bool_],
    receiver: Receiver,
) -> Corrections:
    """Return edits of records, and flags of those that are doubted without an edit."""
    doubted = ~edit & doubts.supported & (doubts.correct < DOUBTED) & (source.symbols > 0)
    rows = np.flatnonzero(edit | doubted)
    because, provenance = evidence_of(area, turn, source.source)
    # evidence that OSM can't accept may send somebody to look, never edit
    barred = receiver == "osm" and not osm_accepts(provenance.licences)
    return Corrections(
        source=source.source,
        receiver=receiver,
        record=source.record[rows],
        action=np.where(edit[rows], "flag" if barred else "modify", "flag"),
        current=symbol_names(source)[source.symbols[rows]],
        proposed=np.array(area.legend.names)[doubts.proposed[rows]],
        probability=np.where(edit, doubts.probability, 1 - doubts.correct)[rows],
        support=source.geometry[rows],
        crs=str(area.geobox.crs),
        because=because,
        round=turn.round,
        provenance=provenance,
    )


def _propose_objects(area: Area, turn: Turn, source: Observations, sharpness: float) -> Gift:
    doubts = _open(area, source, object_doubts(turn.fused, source))
    doubts = replace(doubts, probability=shrunk(doubts.probability, sharpness))
    concept = np.array(area.legend.concepts)[doubts.proposed].tolist()
    tags = [json.loads(text) for text in source.columns["tags"]]
    can = np.array([retaggable(*one) for one in zip(tags, concept, strict=True)], bool)
    can &= _core_share(area, source) >= MIN_CORE
    edit, threshold, precision = _choose(area, doubts, can & (source.symbols > 0))
    corrections = _records(area, turn, source, doubts, edit, "osm")
    return _gift(_with_missing(area, turn, source, corrections), threshold, precision)


def _core_share(area: Area, source: Observations) -> NDArray[np.float64]:
    """Return the share of each object that lies further than one cell inside its edge."""
    cell = abs(float(area.geobox.resolution.x))
    core = shapely.area(shapely.buffer(source.geometry, -cell))
    return np.asarray(core / np.maximum(shapely.area(source.geometry), 1e-9), np.float64)


def _with_missing(
    area: Area, turn: Turn, source: Observations, corrections: Corrections
) -> Corrections:
    """Add areas where the others agree and nothing is mapped.

    They are new areas if OSM can accept the evidence, else questions.
    """
    classes = np.flatnonzero(np.isin(area.legend.concepts, MISSING))
    found = missing_areas(
        turn.fused,
        source,
        classes,
        min_area_ha=MISSING_HA,
        min_probability=area.config.precision,
    )
    order = np.argsort(-found.probability * np.log1p(found.area_ha), kind="stable")
    order = order[:MISSING_MOST]
    names = np.array(area.legend.names)[found.label[order]]
    record = [
        f"new/{name}/{shape.representative_point().x:.0f}_{shape.representative_point().y:.0f}"
        for name, shape in zip(names, found.geometry[order], strict=True)
    ]
    action = "create" if osm_accepts(corrections.provenance.licences) else "flag"
    shapes, nothing = found.geometry[order], np.full(len(order), "")
    new = np.array(record, str)
    keep = ~settled_of(area.reviews, source.source, new, nothing, names, shapes)
    return replace(
        corrections,
        record=np.concatenate([corrections.record, new[keep]]),
        action=np.concatenate([corrections.action, np.full(int(keep.sum()), action)]),
        current=np.concatenate([corrections.current, nothing[keep]]),
        proposed=np.concatenate([corrections.proposed, names[keep]]),
        probability=np.concatenate([corrections.probability, found.probability[order][keep]]),
        support=np.concatenate([corrections.support, shapes[keep]]),
    )


def _propose_points(area: Area, turn: Turn, source: Observations) -> Gift:
    doubts = _open(area, source, point_doubts(turn.fused, source))
    edit, threshold, precision = _choose(area, doubts, source.symbols > 0)
    corrections = _records(area, turn, source, doubts, edit, "insitu")
    return _gift(corrections, threshold, precision)


def _propose_cells(area: Area, turn: Turn, source: Observations) -> Gift:
    doubts = cell_doubts(turn.fused, source)
    done = settled_at(area.reviews, source.source, doubts.proposed, area.geobox, area.legend)
    said = said_class(source)[source.symbols]
    done |= confirmed_classes(area, source.source, said) == doubts.proposed
    doubts = replace(doubts, supported=doubts.supported & ~done)
    edit, threshold, precision = _choose(area, doubts, source.symbols > 0)
    label = np.where(edit, doubts.proposed, -1)
    patches = patches_of(label, doubts.probability, source.symbols, turn.fused, MIN_PATCH_CELLS)
    record = [f"patch/{i:06d}" for i in range(len(patches.label))]
    because, provenance = evidence_of(area, turn, source.source)
    corrections = Corrections(
        source=source.source,
        receiver="landcover",
        record=np.array(record, str),
        action=np.full(len(record), "modify"),
        current=symbol_names(source)[patches.current],
        proposed=np.array(area.legend.names)[patches.label],
        probability=patches.probability,
        support=patches.geometry,
        crs=str(area.geobox.crs),
        because=because,
        round=turn.round,
        provenance=provenance,
    )
    return _gift(corrections, threshold, precision)


def _gift(corrections: Corrections, threshold: float, precision: float) -> Gift:
    actions, number = np.unique(corrections.action, return_counts=True)
    finite = np.isfinite(threshold)
    return Gift(
        corrections=corrections,
        threshold=float(threshold) if finite else None,
        expected_precision=float(precision) if finite else None,
        count=dict(zip(actions.tolist(), number.tolist(), strict=True)),
        note="" if len(corrections) else "nothing is wrong with enough confidence to say so",
    )


def corrected_classes(area: Area, source: Observations, gift: Gift) -> NDArray[np.int64]:
    """Return the class of every cell of a map with its exported corrections applied.

    So are patches that people confirmed after earlier runs, unless a new correction of the
    same place goes out.
    """
    said = said_class(source)[source.symbols]
    confirmed = confirmed_classes(area, source.source, said)
    classes = np.where(confirmed >= 0, confirmed, said)
    if gift.corrections is not None and len(gift.corrections):
        owner = paint(gift.corrections.support, area.geobox)
        index = {name: i for i, name in enumerate(area.legend.names)}
        new = np.array([-1, *(index[name] for name in gift.corrections.proposed)])
        classes = np.where((owner > 0) & (classes >= 0), new[owner], classes)
    return np.asarray(classes, np.int64)


def recalibrated(area: Area, turn: Turn, source: Observations) -> NDArray[np.float64]:
    """Return P(class | symbol) as the other sources find it here, shape (M + 1, K).

    The mean posterior, without the source itself, over the cells that carry the symbol;
    row 0 (silence) and symbols that are not used get the class prior.
    """
    problem = turn.fused.fit.problem
    q = np.exp(turn.fused.units(frozenset({source.source})))
    cells, units = len(source.crosswalk.symbols) + 1, len(q)
    pair = source.symbols.ravel().astype(np.int64) * units + problem.units.of_cell
    number, count = np.unique(pair, return_counts=True)
    symbol, unit = np.divmod(number, units)
    total = np.stack(
        [np.bincount(symbol, q[unit, k] * count, minlength=cells) for k in range(q.shape[1])], 1
    )
    prior = np.exp(turn.fused.fit.log_prior)
    used = total.sum(axis=1) > 0
    used[0] = False
    return np.where(used[:, None], total / np.maximum(total.sum(axis=1), 1)[:, None], prior)
