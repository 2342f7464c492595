"""Corrections written for every source, each in its community's own format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from glocal.core.result import Displacement
from glocal.run import schema
from glocal.run.area import Area
from glocal.run.give_field import to_field
from glocal.run.give_image import to_image
from glocal.run.give_map import to_coarse_map, to_map, to_rules
from glocal.run.give_model import to_model
from glocal.run.proposals import Gift, propose
from glocal.run.rounds import Turn
from glocal.sources.osm_edits import decide
from glocal.sources.osm_tasks import encode_osm

__all__ = ["give_back"]


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
            gifts[one.source] = to_rules(area, turn, one, room)
        elif one.support == "points":
            gifts[one.source] = to_field(area, turn, one, room)
        elif one.support == "mixtures":
            gifts[one.source] = to_coarse_map(area, turn, one, room)
        else:
            gifts[one.source] = to_map(area, turn, one, room)
    for name in area.images:
        gifts[name] = to_image(area, name, shifts, folder / name)
    for name in area.seen:
        gifts[name] = to_model(area, turn, name, folder / name)
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
