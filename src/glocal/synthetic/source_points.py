"""Field points, citizens' points and anchors, with errors of class, place and choice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glocal.core.grid import points_at
from glocal.core.typing import Bools, Bytes, Codes, Table
from glocal.synthetic.fields import draw_wrong
from glocal.synthetic.ground import BUILT, CELL, Ground, geobox_of
from glocal.synthetic.source_maps import SILENT, near_edge
from glocal.synthetic.world import World

CENTRES = 6
"""Settlements around which citizens go."""

SPREAD = 1 / 12
"""How far they go, as a share of the side of the area."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points:
    """n points: what is reported, and what was so."""

    cell: Codes
    """Shape (n,), flat index of the cell where the observer really stood."""

    truth: Bytes
    """Shape (n,), class position there."""

    said: Bytes
    """Shape (n,), class position that is reported."""

    xy: Table
    """Shape (n, 2), reported place in the grid's CRS."""

    step: Table
    """Shape (n, 2), error of the reported place (east, north) in metres."""

    def __len__(self) -> int:
        return len(self.cell)


def draw_field(world: World, ground: Ground, rng: np.random.Generator) -> Points:
    """Draw a surveyors' sample: anywhere, few errors, positions of a handheld receiver."""
    cell = _anywhere(_open_to(world, ground), world.field_points, rng)
    return _reported(world, ground, cell, world.field_errors, world.field_sd_m, rng)


def draw_citizens(world: World, ground: Ground, rng: np.random.Generator) -> Points:
    """Draw points of citizens: near a few settlements, more errors, positions of phones."""
    allowed = _open_to(world, ground)
    built = np.flatnonzero((ground.classes() == BUILT).ravel())
    centre = np.column_stack(np.divmod(rng.choice(built, CENTRES), world.size))
    n = world.citizen_points
    near = centre[rng.integers(0, CENTRES, n)] + rng.normal(0, SPREAD * world.size, (n, 2))
    inside = np.clip(np.rint(near), 0, world.size - 1).astype(np.int64)
    clustered = inside[:, 0] * world.size + inside[:, 1]
    even = _anywhere(allowed, n, rng)
    biased = (rng.random(n) < world.citizen_bias) & allowed[clustered]
    cell = np.where(biased, clustered, even)
    return _reported(world, ground, cell, world.citizen_errors, world.citizen_sd_m, rng)


def draw_anchors(
    world: World, ground: Ground, suggestion: Bytes, rng: np.random.Generator
) -> Points:
    """Draw reference points by the design of the world.

    With ``acceptance`` their class was asked by showing ``suggestion`` (H, W), the
    majority of the other sources, and a wrong one is accepted that often.
    """
    allowed = np.ones(ground.objects.size, bool)
    if world.anchor_design == "region":
        allowed = ground.region.ravel() == 0
    elif world.anchor_design == "interior":
        allowed = ~near_edge(ground.classes()).ravel()
    if allowed.sum() < world.anchors:
        allowed = np.ones(allowed.size, bool)
    cell = _anywhere(allowed, world.anchors, rng)
    points = _reported(world, ground, cell, 0.0, 0.0, rng)
    shown = suggestion.ravel()[cell]
    tired = world.acceptance * (1 + world.fatigue * np.linspace(0, 1, len(cell)))
    accepted = (shown != SILENT) & (rng.random(len(cell)) < tired)
    return Points(
        cell=cell,
        truth=points.truth,
        said=np.where(accepted, shown, points.truth).astype(np.uint8),
        xy=points.xy,
        step=points.step,
    )


def _open_to(world: World, ground: Ground) -> Bools:
    return np.asarray(ground.region.ravel() != world.withheld_region)


def _anywhere(allowed: Bools, count: int, rng: np.random.Generator) -> Codes:
    return np.sort(rng.choice(np.flatnonzero(allowed), count, replace=False))


def _reported(
    world: World, ground: Ground, cell: Codes, errors: float, sd_m: float, rng: np.random.Generator
) -> Points:
    """Return points whose class errs at a rate and whose place errs by ``sd_m`` per axis."""
    truth = ground.classes().ravel()[cell]
    wrong = draw_wrong(truth, rng.random(len(cell)), world.structured)
    step = rng.normal(0, 1, (len(cell), 2)) * sd_m
    geobox = geobox_of(world)
    row, column = np.divmod(cell, geobox.shape[1])
    centre = np.column_stack(points_at(geobox, row + 0.5, column + 0.5))
    # No place outside the area, or on its very edge.
    left, bottom, right, top = geobox.extent.boundingbox.bbox
    edge = CELL / 10
    xy = np.clip(centre + step, (left + edge, bottom + edge), (right - edge, top - edge))
    return Points(
        cell=cell,
        truth=truth,
        said=np.where(rng.random(len(cell)) < errors, wrong, truth).astype(np.uint8),
        xy=xy,
        step=xy - centre,
    )
