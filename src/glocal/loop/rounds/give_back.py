"""Corrections written for every source, each in its community's own format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from glocal.core.result import Displacement
from glocal.loop.area.area import Area
from glocal.loop.rounds.give_field import to_field
from glocal.loop.rounds.give_image import to_image
from glocal.loop.rounds.give_map import to_coarse_map, to_map, to_rules
from glocal.loop.rounds.give_model import to_model
from glocal.loop.rounds.give_osm import to_osm
from glocal.loop.rounds.give_review import to_reviewers
from glocal.loop.rounds.proposals import Gift
from glocal.loop.rounds.turns import Turn

__all__ = ["give_back"]


def give_back(
    area: Area,
    turn: Turn,
    for_osm: tuple[Area, Turn],
    shifts: Mapping[str, Displacement],
    folder: Path,
    held_out: Mapping[str, NDArray[Any]],
) -> dict[str, Gift]:
    """Write corrections for every source into ``folder/<source>/``; uploads nothing.

    ``for_osm`` is the loop run on sources that OSM can accept: its evidence alone
    enters what goes to OpenStreetMap. ``held_out`` is what was said of each source at the
    reference points without using them (`summary.held_out`): for honest figures.
    """
    gifts: dict[str, Gift] = {}
    for one in area.observations:
        room = folder / one.source
        kind = area.config.source(one.source).kind
        if kind == "osm":
            honest = held_out.get(one.source)
            gifts[one.source] = to_osm(for_osm, one.source, shifts.get(one.source), room, honest)
        elif kind == "rules":
            gifts[one.source] = to_rules(area, turn, one, room)
        elif one.support == "answers":
            gifts[one.source] = to_reviewers(area, turn, one, room)
        elif one.support == "points":
            gifts[one.source] = to_field(area, turn, one, room)
        elif one.support == "mixtures":
            gifts[one.source] = to_coarse_map(area, turn, one, room)
        else:
            gifts[one.source] = to_map(area, turn, one, room, held_out.get(one.source))
    for name in area.images:
        gifts[name] = to_image(area, turn, name, folder / name)
    for name in area.seen:
        gifts[name] = to_model(area, turn, name, folder / name)
    return gifts
