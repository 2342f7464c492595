"""Read an area, and deal anchors from its truth; the rest of the truth is never read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.real.ground import Ground
from glocal.core.grid import cells_of_points
from glocal.core.observation import Anchors
from glocal.core.typing import Bools, Codes
from glocal.loop.area.area import Area, read_area
from glocal.loop.area.config import with_options
from glocal.sources.points.read import read_anchors

__all__ = ["Draw", "deal", "fewer"]


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


def fewer(wanted: int, ground: Ground) -> int:
    """Return how many anchors are drawn: as many as wanted, at most half of what there is."""
    return min(wanted, len(ground.truth) // 2)


def deal(ground: Ground, anchors: int, seed: int, folder: Path, hidden: str = "") -> Draw:
    """Draw anchors at random, write their table into ``folder`` and read the area with it.

    Those of the class ``hidden`` are taken away again, as if the sample had missed it. ``seed``
    is also that of the engine. Blocks and folds depend on the anchors, so each draw is read anew.
    """
    drawn = chosen(len(ground.truth), anchors, seed)
    folder.mkdir(parents=True, exist_ok=True)
    config = with_options(ground.config, seed=seed)
    if anchors:
        path = folder.absolute() / "anchors.csv"
        ground.truth[drawn & (ground.truth["class"] != hidden)].to_csv(path, index=False)
        table = {"path": path, "crs": config.grid.crs, "licence": ground.licence}
        config = with_options(config, anchors=table)
    area = read_area(config, progress=lambda what, share: None)
    ground.truth[~drawn].to_csv(folder / "unseen.csv", index=False)
    unseen = read_anchors(
        folder / "unseen.csv", area.geobox, area.legend, columns={}, crs=config.grid.crs,
        licence=ground.licence,
    )  # fmt: skip
    cell = cells_of_points(area.geobox, unseen.x, unseen.y)
    return Draw(area=area, cell=cell, truth=unseen.shares.argmax(axis=1), unseen=unseen)


def chosen(points: int, anchors: int, seed: int) -> Bools:
    """Return which points are drawn, shape (points,)."""
    drawn = np.zeros(points, bool)
    drawn[np.random.default_rng([seed, 7]).permutation(points)[:anchors]] = True
    return drawn
