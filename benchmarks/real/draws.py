"""Read an area, and deal anchors from its truth; the rest of the truth is never read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.real.ground import Ground
from glocal.core.grid import cells_of_points
from glocal.core.typing import Bools, Codes
from glocal.loop.area.area import Area, read_area
from glocal.loop.area.config import with_options
from glocal.sources.points.read import read_anchors

__all__ = ["Draw", "deal", "fewer", "read"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """An area with some anchors, and the truth that is left."""

    area: Area
    cell: Codes
    """Shape (n,), flat cells of the points that were not drawn."""

    truth: Codes
    """Shape (n,), their class positions."""


def read(ground: Ground, seed: int) -> Area:
    """Return the area without anchors; ``seed`` is also that of folds and landmarks."""
    return read_area(with_options(ground.config, seed=seed), progress=lambda what, share: None)


def fewer(wanted: int, ground: Ground) -> int:
    """Return how many anchors are drawn: as many as wanted, at most half of what there is."""
    return min(wanted, len(ground.truth) // 2)


def deal(ground: Ground, area: Area, anchors: int, seed: int, folder: Path) -> Draw:
    """Draw anchors at random, write their table into ``folder`` and let the area read it.

    Only points inside the area count; no kind of source here looks at anchors when it is read, so
    that an area is read once for all numbers of anchors (a test compares both ways).
    """
    drawn = chosen(len(ground.truth), anchors, seed)
    if anchors:
        folder.mkdir(parents=True, exist_ok=True)
        ground.truth[drawn].to_csv(folder / "anchors.csv", index=False)
        area = anchored(area, folder / "anchors.csv", ground)
    left = ground.truth[~drawn]
    cell = cells_of_points(area.geobox, left["x"].to_numpy(), left["y"].to_numpy())
    truth = np.array([area.legend.index(name) for name in left["class"]])
    return Draw(area=area, cell=cell[cell >= 0], truth=truth[cell >= 0])


def chosen(points: int, anchors: int, seed: int) -> Bools:
    """Return which points are drawn, shape (points,)."""
    drawn = np.zeros(points, bool)
    drawn[np.random.default_rng([seed, 7]).permutation(points)[:anchors]] = True
    return drawn


def table_of(path: Path, ground: Ground) -> dict[str, object]:
    """Return ``anchors:`` of area.yaml for a table of drawn points."""
    return {"path": path, "crs": ground.config.grid.crs, "licence": ground.licence}


def anchored(area: Area, path: Path, ground: Ground) -> Area:
    """Return the area as it would be read with this table of anchors."""
    config = with_options(area.config, anchors=table_of(path.absolute(), ground))
    given = read_anchors(
        path, area.geobox, area.legend, columns={}, crs=ground.config.grid.crs,
        licence=ground.licence,
    )  # fmt: skip
    return replace(area, config=config, anchors=given, own_anchors=given, reference=given)
