"""What goes back to map makers: a corrected map, shares of coarse cells, meanings of rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glocal.core.accuracy import AccuracyReport, sample_accuracy
from glocal.core.correction import Corrections
from glocal.core.grid import cell_area_ha
from glocal.core.observation import Observations
from glocal.fusion.support import paint
from glocal.io.vector import write_csv
from glocal.run.area import Area, cells_of
from glocal.run.proposals import (
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
from glocal.run.rounds import Turn
from glocal.sources.map_out import encode_map, encode_shares

__all__ = ["to_coarse_map", "to_map", "to_rules"]

LIKELY = 0.5
"""A coarse map is refined where the others find a class likelier than all the rest together."""


def _accuracy(area: Area, classes: NDArray[np.int64]) -> tuple[AccuracyReport | None, str]:
    """Return the area-adjusted accuracy of a map, or why there is none."""
    if area.anchors is None:
        return None, "no anchors: accuracy needs a probability sample of reference points"
    at = cells_of(area.anchors, area.geobox)
    inside = (at >= 0) & (classes.ravel()[np.maximum(at, 0)] >= 0)
    if (inside & area.anchors.answered).sum() < 2:
        return None, "fewer than two answered anchors lie on the map"
    size = np.bincount(classes[classes >= 0], minlength=len(area.legend))
    return (
        sample_accuracy(
            classes.ravel()[at[inside]],
            area.anchors.shares[inside],
            np.asarray(size * cell_area_ha(area.geobox), np.float64),
            weight=area.anchors.weight[inside],
            names=area.legend.names,
        ),
        "",
    )


def to_map(area: Area, turn: Turn, source: Observations, room: Path) -> Gift:
    """Write a corrected copy of a map on the grid."""
    gift = propose(area, turn, source)
    original = said_class(source)[source.symbols]
    corrected = corrected_classes(area, source, gift)
    cavity = np.exp(turn.fused.cells(frozenset({source.source})))
    files = _write_map(area, turn, source, room, original, corrected, cavity, gift.corrections)
    return replace(gift, files=tuple(files))


def _write_map(
    area: Area,
    turn: Turn,
    source: Observations,
    room: Path,
    original: NDArray[np.int64],
    corrected: NDArray[np.int64],
    cavity: NDArray[np.float32],
    corrections: Corrections | None,
) -> list[Path]:
    values = np.array([*area.legend.values, 0], np.uint8)
    chosen = np.take_along_axis(cavity, np.maximum(corrected, 0)[..., None], axis=-1)[..., 0]
    accuracy, why = _accuracy(area, corrected)
    _, provenance = evidence_of(area, turn, "")
    return encode_map(
        room,
        corrected=values[corrected],
        original=values[original],
        probability=chosen,
        geobox=area.geobox,
        legend=area.legend,
        accuracy=accuracy,
        why_no_accuracy=why,
        corrections=corrections,
        licence=licence_of(provenance.licences),
        attribution=attribution_of(provenance),
        mmu_cells=MIN_PATCH_CELLS if source.support == "cells" else 100,
        design={
            "sampling": "as drawn for the anchors",
            "reference": area.anchors.provenance.agent if area.anchors else "none",
            "independent_of_training": False,
            "note": "the anchors set reliabilities of this run; see metrics.json for "
            "cross-fitted scores",
        },
    )


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
    files += _write_map(area, turn, source, room, original, local, cavity, None)
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
