"""What goes back to map makers: a corrected map, shares of coarse cells, meanings of rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glocal.core.accuracy import AccuracyReport, sample_accuracy
from glocal.core.correction import Corrections
from glocal.core.grid import cell_area_ha
from glocal.core.observation import Anchors, Observations
from glocal.fusion.problem.support import paint
from glocal.io.vector import write_csv
from glocal.loop.area.area import Area, cells_of
from glocal.loop.area.reviews import settled_at
from glocal.loop.rounds.confirmed import confirmed_classes
from glocal.loop.rounds.proposals import (
    MIN_PATCH_CELLS,
    Gift,
    attribution_of,
    corrected_classes,
    evidence_of,
    licence_of,
    propose,
    recalibrated,
    said_class,
    symbol_names,
)
from glocal.loop.rounds.turns import Turn
from glocal.sources.maps.patches import Base, MapChange
from glocal.sources.maps.write import encode_map, encode_shares

__all__ = ["to_coarse_map", "to_map", "to_rules"]

LIKELY = 0.5
"""A coarse map is refined where the others find a class likelier than all the rest together."""

HELD_OUT = (
    "at each point the corrected map was made without that point; areas are those of the map "
    "with all of them"
)
SPENT = "the points set reliabilities of this run, so they are not independent of the corrections"


def _accuracy(
    area: Area, classes: NDArray[np.int64], points: Anchors | None, said: NDArray[np.int64] | None
) -> tuple[AccuracyReport | None, str]:
    """Return the area-adjusted accuracy of a map, or why there is none.

    ``said`` is the map's class at each point, where that is not ``classes`` itself.
    """
    if points is None:
        return None, "no anchors: accuracy needs a probability sample of reference points"
    at = cells_of(points, area.geobox)
    there = np.where(at >= 0, classes.ravel()[np.maximum(at, 0)], -1)
    there = there if said is None else np.where(there >= 0, said, -1)
    inside = there >= 0
    if (inside & points.answered).sum() < 2:
        return None, "fewer than two answered anchors lie on the map"
    size = np.bincount(classes[classes >= 0], minlength=len(area.legend))
    return (
        sample_accuracy(
            there[inside],
            points.shares[inside],
            np.asarray(size * cell_area_ha(area.geobox), np.float64),
            weight=points.weight[inside],
            names=area.legend.names,
        ),
        "",
    )


def to_map(
    area: Area,
    turn: Turn,
    source: Observations,
    room: Path,
    held_out: NDArray[np.int64] | None = None,
) -> Gift:
    """Write a corrected copy of a map on the grid.

    ``held_out`` is its corrected class at each reference point, made without that point.
    """
    gift = propose(area, turn, source)
    original = said_class(source)[source.symbols]
    corrected = corrected_classes(area, source, gift)
    cavity = np.exp(turn.fused.cells(frozenset({source.source})))
    change = Change(
        original=original,
        corrected=corrected,
        cavity=cavity,
        corrections=gift.corrections,
        confirmed=confirmed_classes(area, source.source, original),
        held_out=held_out,
    )
    return replace(gift, files=tuple(_write_map(area, turn, source, room, change)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Change:
    """A map before and after, as class positions (H, W), -1 where it says nothing."""

    original: NDArray[np.int64]
    corrected: NDArray[np.int64]
    cavity: NDArray[np.float32]
    """Shape (H, W, K), probabilities from everybody else."""

    confirmed: NDArray[np.int64]
    """What people confirmed (`confirmed_classes`)."""

    corrections: Corrections | None = None
    held_out: NDArray[np.int64] | None = None
    """See :func:`to_map`."""

    def probability(self, classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the others' probability of ``classes`` (H, W)."""
        at = np.maximum(classes, 0)[..., None]
        return np.asarray(np.take_along_axis(self.cavity, at, axis=-1)[..., 0])


def _write_map(
    area: Area, turn: Turn, source: Observations, room: Path, change: Change
) -> list[Path]:
    values = np.array([*area.legend.values, area.legend.nodata], np.uint8)
    honest = change.held_out is not None
    points = area.reference if honest else area.anchors
    accuracy, why = _accuracy(area, change.corrected, points, change.held_out)
    before, _ = _accuracy(area, change.original, points, None)
    _, provenance = evidence_of(area, turn, "")
    layers = MapChange(
        corrected=values[change.corrected],
        original=values[change.original],
        probability=change.probability(change.corrected),
        probability_before=change.probability(change.original),
        geobox=area.geobox,
        legend=area.legend,
        base=Base(
            name=source.source,
            version=", ".join(source.provenance.used),
            interval=source.phenomenon_time,
            now=area.config.interval,
        ),
        voices=_voices(turn, source, change),
        confirmed=(change.confirmed == change.corrected) & (change.confirmed >= 0),
    )
    return encode_map(
        room,
        layers,
        accuracy=accuracy,
        accuracy_before=before,
        why_no_accuracy=why,
        corrections=change.corrections,
        licence=licence_of(provenance.licences),
        attribution=attribution_of(provenance),
        mmu_cells=MIN_PATCH_CELLS if source.support == "cells" else 100,
        design={
            "sampling": "as drawn for the anchors, with their weights",
            "reference": points.provenance.agent if points else "none",
            "independent_of_corrections": honest,
            "note": HELD_OUT if honest else SPENT,
        },
    )


def _voices(turn: Turn, source: Observations, change: Change) -> dict[str, NDArray[np.float32]]:
    """Return how far each other source prefers the new class to the old one, nats, (H, W)."""
    twins, problem = turn.fused.twins, turn.fused.fit.problem
    both = (change.original >= 0) & (change.corrected >= 0)
    rows = np.flatnonzero((change.corrected != change.original) & both)
    new, old = change.corrected.ravel()[rows], change.original.ravel()[rows]
    unit, out = problem.units.of_cell[rows], dict[str, NDArray[np.float32]]()
    for name in sorted({*turn.fused.fit.messages, *twins} - {source.source}):
        message = turn.fused.fit.messages[twins.get(name, name)].log_p
        voice = np.zeros(change.corrected.size, np.float32)
        voice[rows] = message[unit, new] - message[unit, old]
        out[name] = voice.reshape(change.corrected.shape)
    return out


def to_coarse_map(area: Area, turn: Turn, source: Observations, room: Path) -> Gift:
    """Write shares of classes in coarse cells, and a finer map of them."""
    cavity = np.exp(turn.fused.cells(frozenset({source.source})))
    owner = paint(source.geometry, area.geobox)
    n, classes = len(source), len(area.legend)
    size = np.bincount(owner.ravel(), minlength=n + 1)[1:]
    there = size > 0
    flat = cavity.reshape(-1, classes).astype(np.float64)
    columns = [np.bincount(owner.ravel(), flat[:, k], minlength=n + 1)[1:] for k in range(classes)]
    total = np.stack(columns, axis=1)[there].astype(np.float64)
    total /= total.sum(axis=1, keepdims=True)
    # neighbouring cells repeat each other: about a thousand are one independent look
    spread = np.sqrt(total * (1 - total) / np.maximum(size[there] / 1000.0, 1.0)[:, None])
    _, provenance = evidence_of(area, turn, "")
    files = encode_shares(
        room,
        source.geometry[there],
        source.record[there],
        total,
        spread,
        area.legend,
        area.geobox,
        stated=symbol_names(source)[source.symbols[there]],
        licence=licence_of(provenance.licences),
        attribution=attribution_of(provenance),
    )
    symbol = np.concatenate([[0], source.symbols])[owner]
    original = said_class(source)[symbol]
    local = np.where(cavity.max(axis=-1) > LIKELY, cavity.argmax(axis=-1), original)
    local = np.where(symbol > 0, local, -1)
    confirmed = confirmed_classes(area, source.source, original)
    done = settled_at(area.reviews, source.source, local, area.geobox, area.legend)
    local = np.where(confirmed >= 0, confirmed, np.where(done & (local >= 0), original, local))
    change = Change(original=original, corrected=local, cavity=cavity, confirmed=confirmed)
    files += _write_map(area, turn, source, room, change)
    return Gift(
        files=tuple(files),
        count={"shares": int(there.sum())},
        note="a finer, local map of the same cells, with the share of each class; what the map "
        f"says stays where no class is likelier than {LIKELY}",
    )


def to_rules(area: Area, turn: Turn, source: Observations, room: Path) -> Gift:
    """Write what a rule's answers mean in this area."""
    table = recalibrated(area, turn, source)[1:]
    _, provenance = evidence_of(area, turn, source.source)
    credit = (licence_of(provenance.licences), attribution_of(provenance))
    rows = [
        [symbol, *np.round(row, 4).tolist(), *credit]
        for symbol, row in zip(source.crosswalk.symbols, table, strict=True)
    ]
    header = ["symbol", *area.legend.names, "licence", "attribution"]
    path = write_csv(room / "recalibrated_symbols.csv", header, rows)
    return Gift(
        files=(path,),
        count={"symbols": len(rows)},
        note="what each rule's answer means in this area: P(class | answer)",
    )
