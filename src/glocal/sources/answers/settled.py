"""What answers settle: what was answered is not asked again, and what they say of the ground."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.answer import SETTLED, Answered
from glocal.core.burn import burn
from glocal.core.grid import cells_of_points
from glocal.core.legend import Legend
from glocal.core.observation import Anchors
from glocal.core.typing import Bools, Codes
from glocal.sources.record import element_of

COVERED = 0.5
"""Share of a place from which something lies on it."""

NOT_OF_COVER = ("displaced",)
"""Faults whose answers say nothing of the class of the ground."""


def covers(part: shapely.Geometry, place: shapely.Geometry) -> bool:
    """Return True when ``part`` lies on at least half of ``place``."""
    return bool(shapely.area(shapely.intersection(part, place)) >= COVERED * shapely.area(place))


def settled(
    answers: Iterable[Answered],
    record: NDArray[np.str_],
    current: NDArray[np.str_],
    proposed: NDArray[np.str_],
    missing: NDArray[np.object_] | None = None,
) -> Bools:
    """Return which corrections of one source were answered in an earlier run, shape (n,).

    The same class for the same element that still says the same. With ``missing`` (n,), the
    outlines of areas that nothing maps: the same class on at least half of the area.
    ``answers`` are those about the source.
    """
    out = np.zeros(len(record), bool)
    for one in answers:
        done = one.take(np.isin(one.verdict, list(SETTLED)))
        if missing is None:
            parts = zip(done.record.tolist(), done.current, done.proposed, strict=True)
            known = {(element_of(a), b, c) for a, b, c in parts}
            asked = zip(record.tolist(), current.tolist(), proposed.tolist(), strict=True)
            out |= np.array([(element_of(a), b, c) in known for a, b, c in asked], bool)
            continue
        places = done.take(done.fault == "missing")
        for i, name in enumerate(proposed.tolist()):
            same = places.geometry[places.proposed == name]
            out[i] |= bool(len(same)) and covers(shapely.union_all(same), missing[i])
    return out


def settled_cells(
    answers: Iterable[Answered], proposed: Codes, geobox: GeoBox, legend: Legend
) -> Bools:
    """Return the cells (H, W) whose proposed class was answered in an earlier run.

    ``proposed`` (H, W) holds class positions; ``answers`` are those about the source.
    """
    out = np.zeros(proposed.shape, bool)
    for one in answers:
        done = one.take(np.isin(one.verdict, list(SETTLED)) & np.isin(one.proposed, legend.names))
        at = [legend.index(name) for name in done.proposed.tolist()]
        out |= np.array([-1, *at], np.int64)[burn(done.geometry, geobox)] == proposed
    return out


def on_the_ground(answers: Answered, geobox: GeoBox) -> Answered:
    """Return the answers about the ground in the area, with polygons, the larger first.

    A point stands for the square of one cell around it.
    """
    shape = answers.geometry
    use = ~np.isin(answers.fault, NOT_OF_COVER)
    use &= ~(shapely.is_missing(shape) | shapely.is_empty(shape))
    answers = answers.take(use)
    half = abs(float(geobox.resolution.x)) / 2
    square = shapely.buffer(shapely.centroid(answers.geometry), half, cap_style="square")
    shape = np.where(shapely.area(answers.geometry) > 0, answers.geometry, square)
    order = np.lexsort((answers.proposal, -shapely.area(shape)))
    answers = replace(answers, geometry=shape).take(order)
    return answers.take(shapely.intersects(answers.geometry, geobox.extent.geom))


def too_hard_places(
    answers: Iterable[Answered], reference: Anchors | None, geobox: GeoBox
) -> NDArray[np.int32]:
    """Return which cells (H, W) belong to which place that nobody could judge, 0 for none.

    Somebody should go there, unless a reference point tells already what is there.
    """
    hard = [on_the_ground(one.take(one.verdict == "too_hard"), geobox) for one in answers]
    shapes = np.concatenate([np.empty(0, object), *(one.geometry for one in hard)])
    place = burn(shapes, geobox)
    if reference is not None:
        at = cells_of_points(geobox, reference.x, reference.y)
        seen = place.ravel()[at[(at >= 0) & reference.answered]]
        place = np.where(np.isin(place, seen), np.int32(0), place)
    return place
