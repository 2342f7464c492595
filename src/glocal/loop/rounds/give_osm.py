"""Corrections of OpenStreetMap, as its mappers' tools read them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glocal.core.promise import sharpness_of
from glocal.core.result import Displacement
from glocal.fusion.place.misplaced import misplaced_objects
from glocal.loop.area import schema
from glocal.loop.area.area import Area
from glocal.loop.rounds.osm_shift import as_mapped, misplaced_rows, with_misplaced, with_shifts
from glocal.loop.rounds.proposals import MISSING_HA, Gift, propose
from glocal.loop.rounds.turns import Turn
from glocal.sources.osm.history import is_history
from glocal.sources.osm.write import encode_osm

__all__ = ["to_osm"]


def to_osm(
    for_osm: tuple[Area, Turn],
    name: str,
    shift: Displacement | None,
    room: Path,
    held_out: NDArray[np.float64] | None = None,
) -> Gift:
    """Write the corrections of one OpenStreetMap source into ``room``; uploads nothing.

    ``for_osm`` is the loop run on sources that OSM can accept. ``shift`` is how far the
    layer lies off as a whole, if that was measured. ``held_out`` (n, 2) holds what was
    stated of objects at reference points, made without them, and whether it was right.
    """
    area, turn = for_osm
    source = next(one for one in area.observations if one.source == name)
    config = area.config.source(name)
    if not isinstance(config, schema.OsmSource):
        raise TypeError(f"{name} must be an osm source, is {config.kind}")
    checked = np.empty((0, 2)) if held_out is None else held_out
    sharpness = sharpness_of(*checked.T)
    gift = propose(area, turn, source, sharpness=sharpness)
    if gift.corrections is None:
        return gift
    elements = bool(source.columns["has_metadata"].any())
    extract = config.path if elements and not is_history(config.path) else None
    found = misplaced_objects(turn.fused, source)
    rows = misplaced_rows(area, source, found)
    off = np.isin(gift.corrections.record, source.record[rows])
    told = gift.corrections.take(~off)
    gift = replace(gift, corrections=told)
    if shift is not None and shift.significant:
        told, source = as_mapped(told, source, shift) if shift.applied else (told, source)
    told = with_misplaced(told, source, found, rows)
    if shift is not None and shift.significant:
        told = with_shifts(area, told, shift)
    made = encode_osm(
        told,
        source,
        room,
        extract=extract,
        legend=area.legend,
        max_tasks=config.batch,
        min_area_ha=MISSING_HA,
        dates={name: image.chip.interval for name, image in area.images.items()},
        promise=_promise(gift, area.config.precision, checked, sharpness),
        in_place=shift is None or not shift.significant,
    )
    note = gift.note
    if not elements:
        note = (
            "no OsmChange: this layer has neither nodes nor versions, so edits go out as "
            f"MapRoulette tag fixes. {note}"
        ).strip()
    return replace(gift, files=made.files, note=note, count=made.count)


def _promise(gift: Gift, wanted: float, checked: NDArray[np.float64], sharpness: float) -> str:
    """Return the sentence that says how many of the edits should be right, and who says so."""
    points = int(np.isfinite(checked).all(axis=1).sum())
    number = int((gift.corrections.action == "modify").sum()) if gift.corrections else 0
    if gift.expected_precision is None:
        return f"No edit is sure enough for the wanted precision of {wanted:.2f}."
    return (
        f"Expected precision of {number} edits (some may be held back): "
        f"{gift.expected_precision:.2f}, wanted "
        f"{wanted:.2f}; only those of probability {gift.threshold:.2f} and more go out. Log-odds "
        f"are multiplied by {sharpness:.2f}, the cautious end of what {points} reference points "
        "in objects allow that the run did not see."
    )
