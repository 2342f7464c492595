"""Layers and objects that lie off: what mappers are told, and outlines where they are mapped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from glocal.core.correction import Corrections
from glocal.core.observation import Observations
from glocal.core.result import SIGNIFICANT, Displacement, ShiftField
from glocal.fusion.place.misplaced import Misplaced
from glocal.loop.area.area import Area
from glocal.loop.area.reviews import settled_of
from glocal.loop.rounds.proposals import LIKELIER_THAN_NOT, symbol_names
from glocal.sources.osm.edits import SHIFT

__all__ = ["as_mapped", "misplaced_rows", "with_misplaced", "with_shifts"]

STEPS = 5


def as_mapped(
    corrections: Corrections, source: Observations, shift: Displacement
) -> tuple[Corrections, Observations]:
    """Return corrections and source with objects where the map has them.

    The loop moved each object as a whole onto the other sources (`rounds.align`); people
    look for it where it is drawn. Areas that nothing maps stay where they were seen.
    """
    known = np.isin(corrections.record, source.record)
    support = corrections.support.copy()
    support[known] = _back(support[known], shift)
    return (
        replace(corrections, support=support),
        replace(source, geometry=_back(source.geometry, shift)),
    )


def _back(shapes: NDArray[np.object_], shift: Displacement) -> NDArray[np.object_]:
    """Return shapes moved back; a field is undone by iteration, since it is smooth."""
    middle = shapely.centroid(shapes)
    there = np.column_stack([shapely.get_x(middle), shapely.get_y(middle)])
    step = np.tile([shift.dx, shift.dy], (len(shapes), 1))
    if shift.field is not None:
        step = shift.field.at(there)
        for _ in range(STEPS):
            step = shift.field.at(there - step)
    xy, owner = shapely.get_coordinates(shapes, return_index=True)
    return np.asarray(shapely.set_coordinates(shapes.copy(), xy - step[owner]), object)


def with_shifts(area: Area, corrections: Corrections, shift: Displacement) -> Corrections:
    """Add questions about the place of the layer, or of its parts; they are never edits."""
    extent = shapely.box(*area.geobox.extent.boundingbox)
    covariance = np.asarray(shift.covariance)[::-1, ::-1]  # of (dx, dy)
    parts = [("", extent, np.array([shift.dx, shift.dy]), covariance)]
    if shift.field is not None:
        parts = [one for one in _parts(shift.field, extent) if _distance(*one[2:]) > SIGNIFICANT]
    n, more = len(corrections), len(parts)
    off = np.array([one[2] for one in parts]).reshape(more, 2)
    surely = [1 - np.exp(-_distance(*one[2:]) / 2) for one in parts]
    name = f"{SHIFT}{corrections.source}"

    def added(values: NDArray[Any], others: list[Any]) -> NDArray[Any]:
        return np.concatenate([values, np.array(others, values.dtype.kind)]) if others else values

    spread = np.array([np.sqrt(np.trace(one[3]) / 2) for one in parts])
    added_vectors = _vectors(np.column_stack([off, spread]), before=n)
    columns = {
        key: np.concatenate([corrections.columns.get(key, values[:n]), values[n:]])
        for key, values in added_vectors.items()
    }
    return replace(
        corrections,
        record=added(corrections.record, [f"{name}{one[0]}" for one in parts]),
        action=added(corrections.action, ["flag"] * more),
        current=added(corrections.current, [""] * more),
        proposed=added(corrections.proposed, [""] * more),
        probability=added(corrections.probability, surely),
        support=added(corrections.support, [one[1] for one in parts]),
        columns=columns,
    )


def _vectors(told: NDArray[np.float64], before: int) -> dict[str, NDArray[np.float64]]:
    """Return the columns of shifts (dx, dy, sd in metres), NaN for the rows ``before``."""
    rows = np.concatenate([np.full((before, 3), np.nan), told])
    return dict(zip(("dx", "dy", "sd"), rows.T.copy(), strict=True))


def misplaced_rows(area: Area, source: Observations, found: Misplaced) -> NDArray[np.int64]:
    """Return which objects people should be asked about, the surest first.

    Not those about whose place somebody has answered.
    """
    done = settled_of(
        area.reviews,
        source.source,
        source.record,
        symbol_names(source)[source.symbols],
        np.full(len(source), ""),
        source.geometry,
    )
    asked = np.flatnonzero((found.probability > LIKELIER_THAN_NOT) & ~done)
    return asked[np.argsort(-found.probability[asked], kind="stable")]


def with_misplaced(
    corrections: Corrections, source: Observations, found: Misplaced, rows: NDArray[np.int64]
) -> Corrections:
    """Add questions about the place of objects (``rows``), which take the place of other rows.

    What seems to be of another class lies beside its place, so nothing else is said of
    such an object. ``source`` has its objects where they are mapped.
    """
    told = corrections.take(~np.isin(corrections.record, source.record[rows]))
    n = len(rows)
    spread = np.sqrt(np.trace(found.covariance[rows], axis1=1, axis2=2) / 2)
    return replace(
        told,
        record=np.concatenate([told.record, source.record[rows]]),
        action=np.concatenate([told.action, np.full(n, "flag")]),
        current=np.concatenate([told.current, symbol_names(source)[source.symbols[rows]]]),
        proposed=np.concatenate([told.proposed, np.full(n, "")]),
        probability=np.concatenate([told.probability, found.probability[rows]]),
        support=np.concatenate([told.support, source.geometry[rows]]),
        columns=_vectors(np.column_stack([found.shift[rows], spread]), before=len(told)),
    )


def _distance(off: NDArray[np.float64], covariance: NDArray[np.float64]) -> float:
    return float(off @ np.linalg.inv(covariance) @ off)


def _parts(
    field: ShiftField, extent: Any
) -> Iterator[tuple[str, Any, NDArray[np.float64], NDArray[np.float64]]]:
    """Yield (name, box, shift, covariance) of the surroundings of each place of a field."""
    left, bottom, right, top = extent.bounds
    x = np.concatenate([[left], (field.x[1:] + field.x[:-1]) / 2, [right]])
    y = np.concatenate([[bottom], (field.y[1:] + field.y[:-1]) / 2, [top]])
    for row, column in np.ndindex(len(field.y), len(field.x)):
        box = shapely.box(x[column], y[row], x[column + 1], y[row + 1])
        place = f"/{field.x[column]:.0f}_{field.y[row]:.0f}"
        yield place, box, field.shift[row, column], field.covariance[row, column]
