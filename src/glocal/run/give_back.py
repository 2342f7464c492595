"""Corrections written for every source, each in its community's own format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glocal.core.accuracy import AccuracyReport, sample_accuracy
from glocal.core.correction import Corrections
from glocal.core.grid import cell_area_ha
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.result import Displacement
from glocal.fusion.propose import Doubts, point_doubts
from glocal.fusion.support import paint
from glocal.io.vector import write_csv
from glocal.run import schema
from glocal.run.area import Area, cells_of
from glocal.run.proposals import (
    DOUBTED,
    MIN_PATCH_CELLS,
    Gift,
    corrected_classes,
    evidence_of,
    licence_of,
    propose,
    recalibrated,
    said_class,
    symbol_names,
)
from glocal.run.rounds import Turn
from glocal.sources.image_out import encode_image
from glocal.sources.insitu import encode_insitu
from glocal.sources.map_out import encode_map, encode_shares
from glocal.sources.model_out import encode_model
from glocal.sources.osm_edits import decide
from glocal.sources.osm_tasks import encode_osm
from glocal.sources.sampling import plan_visits, write_visits

__all__ = ["give_back"]

LIKELY = 0.5
"""A coarse map is refined where the others find a class likelier than all the rest together."""

VISITS = 30


def give_back(
    area: Area,
    turn: Turn,
    for_osm: tuple[Area, Turn],
    shifts: Mapping[str, Displacement],
    folder: Path,
) -> dict[str, Gift]:
    """Write corrections for every source into ``folder/<source>/``; uploads nothing.

    ``for_osm`` is the loop run on sources that OSM can accept: its evidence alone
    enters what goes to OpenStreetMap.
    """
    gifts: dict[str, Gift] = {}
    for one in area.observations:
        room = folder / one.source
        kind = area.config.source(one.source).kind
        if kind == "osm":
            gifts[one.source] = _to_osm(for_osm, one.source, room)
        elif kind == "rules":
            gifts[one.source] = _to_rules(area, turn, one, room)
        elif one.support == "points":
            gifts[one.source] = _to_field(area, turn, one, room)
        elif one.support == "mixtures":
            gifts[one.source] = _to_coarse_map(area, turn, one, room)
        else:
            gifts[one.source] = _to_map(area, turn, one, room)
    for name in area.images:
        gifts[name] = _to_image(area, name, shifts, folder / name)
    for name in area.seen:
        gifts[name] = _to_model(area, turn, name, folder / name)
    return gifts


def _to_osm(for_osm: tuple[Area, Turn], name: str, room: Path) -> Gift:
    area, turn = for_osm
    source = next(one for one in area.observations if one.source == name)
    config = area.config.source(name)
    if not isinstance(config, schema.OsmSource):
        raise TypeError(f"{name} must be an osm source, is {config.kind}")
    gift = propose(area, turn, source)
    if gift.corrections is None:
        return gift
    elements = bool(source.columns["has_metadata"].any())
    files = encode_osm(
        gift.corrections,
        source,
        room,
        extract=config.path if elements else None,
        legend=area.legend,
        dates={name: image.chip.interval for name, image in area.images.items()},
    )
    decided = decide(gift.corrections, source, area.legend)
    missing = int(np.char.startswith(gift.corrections.record.astype(str), "new/").sum())
    count = {
        "modify": len(decided.edit),
        "survey": len(decided.survey),
        "missing": missing,
        "flag": len(decided.flag) - missing,
    }
    note = gift.note
    if not elements:
        note = (
            "no OsmChange: this layer has neither nodes nor versions, so edits go out as "
            f"MapRoulette tag fixes. {note}"
        ).strip()
    return replace(gift, files=tuple(files), note=note, count=count)


def _attribution(*provenance: Provenance) -> str:
    return "; ".join(sorted({text for one in provenance for text in one.attribution}))


def _to_field(area: Area, turn: Turn, source: Observations, room: Path) -> Gift:
    config = area.config.source(source.source)
    if not isinstance(config, schema.InsituSource):
        raise TypeError(f"{source.source} must be an insitu source, is {config.kind}")
    gift = propose(area, turn, source)
    doubts = point_doubts(turn.fused, source)
    _, provenance = evidence_of(area, turn, "")
    credit = {
        "licence": licence_of(provenance.licences),
        "attribution": _attribution(provenance),
    }
    files = encode_insitu(
        gift.corrections,
        source,
        doubts.correct,
        _qartod(doubts),
        np.where(doubts.supported, np.array(area.legend.names)[doubts.proposed], ""),
        config.path,
        {str(key): name for key, name in config.columns.items()},
        room,
        crs=config.crs,
        **credit,
    )
    entropy = _entropy(turn)
    number = min(VISITS, entropy.size)
    visits = plan_visits(
        entropy * (0.25 + turn.fused.disagreement()),
        area.geobox,
        number,
        seed=area.config.seed,
        min_distance_m=_apart(entropy.shape, number) * abs(float(area.geobox.resolution.x)),
        legend=area.legend,
        classes=np.array(area.legend.values)[turn.log_q.argmax(axis=-1)],
        entropy=entropy,
        reason="sources disagree or say little",
    )
    files += write_visits(visits, room, **credit)
    count = {**gift.count, "visit": len(visits)}
    return replace(gift, files=tuple(files), count=count)


def _apart(shape: tuple[int, ...], number: int) -> int:
    """Return how many cells lie between visits: ten, or fewer where they would not fit.

    >>> _apart((768, 1536), 30), _apart((48, 48), 30), _apart((8, 8), 30)
    (10, 8, 1)
    """
    height, width = shape
    return next(step for step in range(10, 0, -1) if (height // step) * (width // step) >= number)


def _qartod(doubts: Doubts) -> NDArray[np.uint8]:
    """Return QARTOD flags: 1 good, 3 suspect, 4 fail."""
    suspect = doubts.supported & (doubts.correct < 0.5)
    fail = doubts.supported & (doubts.correct < DOUBTED)
    return np.where(fail, 4, np.where(suspect, 3, 1)).astype(np.uint8)


def _entropy(turn: Turn) -> NDArray[np.float64]:
    """Return the entropy of every cell over that of knowing nothing, shape (H, W), 0..1."""
    p = np.exp(turn.log_q)
    total = -(p * turn.log_q).sum(axis=-1) / np.log(turn.log_q.shape[-1])
    return np.asarray(np.clip(total, 0, 1), np.float64)


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


def _to_map(area: Area, turn: Turn, source: Observations, room: Path) -> Gift:
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
        attribution=_attribution(provenance),
        mmu_cells=MIN_PATCH_CELLS if source.support == "cells" else 100,
        design={
            "sampling": "as drawn for the anchors",
            "reference": area.anchors.provenance.agent if area.anchors else "none",
            "independent_of_training": False,
            "note": "the anchors set reliabilities of this run; see metrics.json for "
            "cross-fitted scores",
        },
    )


def _to_coarse_map(area: Area, turn: Turn, source: Observations, room: Path) -> Gift:
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
        attribution=_attribution(provenance),
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


def _to_rules(area: Area, turn: Turn, source: Observations, room: Path) -> Gift:
    table = recalibrated(area, turn, source)[1:]
    _, provenance = evidence_of(area, turn, source.source)
    credit = (licence_of(provenance.licences), _attribution(provenance))
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


def _to_image(area: Area, name: str, shifts: Mapping[str, Displacement], room: Path) -> Gift:
    image = area.images[name]
    shift, why = None, "no layer of objects to compare with"
    if shifts:
        other = sorted(shifts)[0]
        one = shifts[other]
        shift = replace(one, dy=-one.dy, dx=-one.dx, gauge=f"relative to {other}")
        why = ""
    provenance = image.chip.provenance
    files = encode_image(
        room,
        displacement=shift,
        cloud_kind=image.kind,
        geobox=area.geobox,
        interval=image.chip.interval,
        scene=", ".join(sorted(provenance.roots)),
        why_no_displacement=why,
        licence=licence_of(provenance.licences),
        attribution=_attribution(provenance),
    )
    hidden = int(((image.kind == 1) | (image.kind == 2)).sum())
    return Gift(files=tuple(files), count={"cloud_cells": hidden})


def _to_model(area: Area, turn: Turn, name: str, room: Path) -> Gift:
    log_q = turn.fused.cells(frozenset({name}))
    probability = np.exp(log_q)
    certain = 1 + (probability * log_q).sum(axis=-1) / np.log(len(area.legend))
    _, provenance = evidence_of(area, turn, name)
    files = encode_model(
        room,
        probability=probability.astype(np.float32),
        weight=np.clip(certain, 0, 1).astype(np.float32),
        geobox=area.geobox,
        legend=area.legend,
        licence=licence_of(provenance.licences),
        attribution=_attribution(provenance),
    )
    return Gift(
        files=tuple(files),
        count={"label_cells": int(probability.shape[0] * probability.shape[1])},
        note="soft labels from everybody but the model itself",
    )
