"""Where objects and layers lie: what mappers are told, and outlines where the map has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.observation import Observations
from glocal.core.promise import LIKELIER_THAN_NOT
from glocal.core.result import SIGNIFICANT, Displacement
from glocal.core.typing import Table
from glocal.sources.answers.settled import settled
from glocal.sources.kind import needed
from glocal.sources.osm.rows import columns_of
from glocal.sources.telling import corrections_of

STEPS = 5
"""Iterations by which a field of shifts is undone; it is smooth, so few are enough."""

DECIMALS = 7
"""Of a degree; OSM stores no more."""

QUESTION: dict[str, Any] = {"fault": "displaced", "action": "flag", "fate": "flag", "proposed": ""}
"""Only the place may be wrong, and only a person can tell."""

MOVED = (
    "nobody moves a layer as a whole: check the offset of the imagery at several places, and "
    "move single objects by hand"
)
MOVED_ALONE = (
    "nodes are never moved by a machine: its place is known to some metres only, and its nodes may "
    "be those of its neighbours"
)


def displaced_objects(source: Observations, findings: Findings) -> Corrections:
    """Return questions about objects that lie off by themselves; they are never edits.

    Not about those about whose place somebody has answered.
    """
    found = needed(
        findings.misplaced, f"{source.source}: findings about objects carry their places"
    )
    done = settled(findings.answers, source.record, source.words, np.full(len(source), ""))
    rows = np.flatnonzero((found.probability > LIKELIER_THAN_NOT) & ~done)
    spread = np.sqrt(np.trace(found.covariance[rows], axis1=1, axis2=2) / 2)
    vector = np.column_stack([found.shift[rows], spread])
    return corrections_of(
        source,
        findings,
        **QUESTION,
        record=source.record[rows],
        current=source.words[rows],
        probability=found.probability[rows],
        support=source.geometry[rows],
        columns=columns_of(len(rows), MOVED_ALONE, vector=vector),
    )


def displaced_parts(source: Observations, findings: Findings) -> Corrections:
    """Return questions about the place of the layer, or of its parts; they are never edits."""
    shift = findings.shift
    parts = [] if shift is None or not shift.significant else list(_parts(source, shift))
    step = np.array([one[2] for one in parts], np.float64).reshape(-1, 2)
    spread = np.array([np.sqrt(np.trace(one[3]) / 2) for one in parts], np.float64)
    support = np.empty(len(parts), object)
    support[:] = [one[1] for one in parts]
    return corrections_of(
        source,
        findings,
        **QUESTION,
        record=np.array([f"shift/{source.source}{one[0]}" for one in parts], str),
        current="",
        probability=np.array([1 - np.exp(-_distance(*one[2:]) / 2) for one in parts], np.float64),
        support=support,
        columns=columns_of(len(parts), MOVED, vector=np.column_stack([step, spread])),
    )


def _parts(source: Observations, shift: Displacement) -> Iterator[tuple[str, Any, Table, Table]]:
    """Yield (name, outline, shift, covariance) of the layer, or of what a field tells apart."""
    extent, field = source.geobox.extent.boundingbox, shift.field
    if field is None:
        covariance = np.asarray(shift.covariance)[::-1, ::-1]  # of (dx, dy)
        yield "", shapely.box(*extent), np.array([shift.dx, shift.dy]), covariance
        return
    # the surroundings of each place of the field
    x = np.concatenate([[extent.left], (field.x[1:] + field.x[:-1]) / 2, [extent.right]])
    y = np.concatenate([[extent.bottom], (field.y[1:] + field.y[:-1]) / 2, [extent.top]])
    for row, column in np.ndindex(len(field.y), len(field.x)):
        step, covariance = field.shift[row, column], field.covariance[row, column]
        if _distance(step, covariance) > SIGNIFICANT:
            box = shapely.box(x[column], y[row], x[column + 1], y[row + 1])
            yield f"/{field.x[column]:.0f}_{field.y[row]:.0f}", box, step, covariance


def _distance(off: Table, covariance: Table) -> float:
    return float(off @ np.linalg.inv(covariance) @ off)


def as_mapped(told: Corrections, source: Observations, shift: Displacement) -> Corrections:
    """Return corrections with objects where the map has them.

    The loop moved each object as a whole onto the other sources; people look for it where it is
    drawn. Areas that nothing maps stay where they were seen.
    """
    known = np.isin(told.record, source.record)
    support = told.support.copy()
    support[known] = unmoved(support[known], shift)
    return replace(told, support=support)


def unmoved(shapes: NDArray[np.object_], shift: Displacement) -> NDArray[np.object_]:
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


def lonlat(shapes: Any, crs: str) -> Any:
    """Return shapes in longitude and latitude, 2D, outer rings counter-clockwise."""
    move = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    xy = shapely.get_coordinates(shapes)
    degrees = np.column_stack(move.transform(*xy.T)).round(DECIMALS)
    moved = shapely.set_coordinates(np.array(shapes, object), degrees)
    return np.asarray(shapely.orient_polygons(moved, exterior_cw=False), object)
