"""Read an area, and deal anchors from its truth; the rest of the truth is never read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.real.ground import Ground
from glocal.core.grid import cells_of_points
from glocal.core.observation import Anchors
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

    unseen: Anchors
    """The same points as reference points; only scores may look at them."""


def read(ground: Ground, seed: int) -> Area:
    """Return the area without anchors; ``seed`` is also that of folds and landmarks."""
    return read_area(with_options(ground.config, seed=seed), progress=lambda what, share: None)


def fewer(wanted: int, ground: Ground) -> int:
    """Return how many anchors are drawn: as many as wanted, at most half of what there is."""
    return min(wanted, len(ground.truth) // 2)


def deal(
    ground: Ground, area: Area, anchors: int, seed: int, folder: Path, hidden: str = ""
) -> Draw:
    """Draw anchors at random, write their table into ``folder`` and let the area read it.

    Those of the class ``hidden`` are taken away again, as if the sample had missed it.

    No kind of source here looks at anchors when it is read, so that an area is read once for all
    numbers of them (a test compares both ways).
    """
    drawn = chosen(len(ground.truth), anchors, seed)
    folder.mkdir(parents=True, exist_ok=True)
    ground.truth[~drawn].to_csv(folder / "unseen.csv", index=False)
    unseen = points_of(folder / "unseen.csv", area, ground)
    if anchors:
        path = folder.absolute() / "anchors.csv"
        ground.truth[drawn & (ground.truth["class"] != hidden)].to_csv(path, index=False)
        mine = points_of(path, area, ground)
        config = with_options(area.config, anchors=table_of(path, ground))
        area = replace(area, config=config).asking(mine)
    cell = cells_of_points(area.geobox, unseen.x, unseen.y)
    return Draw(area=area, cell=cell, truth=unseen.shares.argmax(axis=1), unseen=unseen)


def chosen(points: int, anchors: int, seed: int) -> Bools:
    """Return which points are drawn, shape (points,)."""
    drawn = np.zeros(points, bool)
    drawn[np.random.default_rng([seed, 7]).permutation(points)[:anchors]] = True
    return drawn


def table_of(path: Path, ground: Ground) -> dict[str, object]:
    """Return ``anchors:`` of area.yaml for a table of drawn points."""
    return {"path": path, "crs": ground.config.grid.crs, "licence": ground.licence}


def points_of(path: Path, area: Area, ground: Ground) -> Anchors:
    """Return a table of points as reference points."""
    crs, licence = ground.config.grid.crs, ground.licence
    return read_anchors(path, area.geobox, area.legend, columns={}, crs=crs, licence=licence)
