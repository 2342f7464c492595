"""What is really there: parcels with a class, and when they last changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import shapes

from glocal.core.burn import burn
from glocal.core.grid import area_geobox
from glocal.core.typing import Bytes, Codes, Table
from glocal.synthetic.fields import draw_wrong, normal, regions, voronoi
from glocal.synthetic.world import CLASSES, World

CRS, LEFT, TOP, CELL = "EPSG:32633", 400_000, 5_800_000, 10

WIDTH = (10.0, 5.0, 6.0, 12.0, 4.0, 4.0, 8.0)
"""Width in cells of patches of each class."""

BUILT = CLASSES.index(50)

HAZARD = np.array([0.004, 0.012, 0.012, 0.006, 0.02, 0.03, 0.002])
"""Chance per year that what is now of a class came to be so: towns and bare ground are young."""

STEPS = 12
"""Steps of the search for class shares."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ground:
    """The truth: n objects that fill the area."""

    objects: NDArray[np.int32]
    """Object 0..n-1 of every cell, shape (H, W)."""

    outline: NDArray[np.object_]
    """Shape (n,), polygons along cell edges in the grid's CRS."""

    now: Bytes
    """Shape (n,), position of the class in ``CLASSES`` at the reference date."""

    before: Bytes
    """Shape (n,), the class before the last change."""

    changed: Table
    """Shape (n,), years from the last change to the reference date; infinite for none."""

    region: Bytes
    """Region 0..3 of every cell, shape (H, W)."""

    def classes(self, age: float = 0.0) -> Bytes:
        """Return the class of every cell ``age`` years before the reference date."""
        return self.classes_of(np.float64(age))[self.objects]

    def classes_of(self, age: Table | np.float64) -> Bytes:
        """Return the class of every object ``age`` years (one or each its own) before."""
        return np.where(self.changed < age, self.before, self.now)

    def classes_of_some(self, number: Codes, age: Table) -> Bytes:
        """Return the class of objects ``number`` (m,), each ``age`` (m,) years before."""
        return np.where(self.changed[number] < age, self.before[number], self.now[number])

    @property
    def cells(self) -> Codes:
        """Shape (n,), number of cells of every object."""
        return np.bincount(self.objects.ravel(), minlength=len(self.now))

    @property
    def centre(self) -> Codes:
        """Shape (n, 2), row and column of a cell near the middle of every object."""
        count, size = self.cells, len(self.objects)
        flat = self.objects.ravel()
        axes = [index.ravel() for index in np.indices(self.objects.shape)]
        mean = [np.bincount(flat, weights=one) / np.maximum(count, 1) for one in axes]
        return np.clip(np.rint(np.column_stack(mean)), 0, size - 1).astype(np.int64)


def geobox_of(world: World) -> GeoBox:
    """Return the grid of a world."""
    side = world.size * CELL
    return area_geobox((LEFT, TOP - side, LEFT + side, TOP), CRS, CELL)


def make_ground(world: World, rng: np.random.Generator) -> Ground:
    """Return the truth of a world: patches of class, cut into parcels, some of which changed."""
    patch = _patches(world, rng)
    parcel = voronoi(rng, world.size, round(world.size**2 / world.parcel_cells))
    small = voronoi(rng, world.size, round(5 * world.size**2 / world.parcel_cells))
    labels = np.where(patch == BUILT, small + parcel.max() + 1, parcel) * len(CLASSES) + patch
    geobox = geobox_of(world)
    found = list(shapes(labels.astype(np.int32), connectivity=4, transform=geobox.transform))
    outline = np.empty(len(found), object)
    outline[:] = [shapely.geometry.shape(polygon) for polygon, _ in found]
    label = np.array([label for _, label in found], np.int64)
    objects = burn(outline, geobox) - 1
    now = (label % len(CLASSES)).astype(np.uint8)
    chance, wait = rng.random(len(now)), rng.standard_exponential(len(now))
    with np.errstate(divide="ignore"):
        changed = wait / (HAZARD[now] * world.change)
    return Ground(
        objects=objects,
        outline=outline,
        now=now,
        before=draw_wrong(now, chance, 0.7),
        changed=changed,
        region=regions(world.size),
    )


def _patches(world: World, rng: np.random.Generator) -> Bytes:
    """Return the highest of one smooth field per class, weighted until the shares fit."""
    height = np.stack([normal(rng, world.size, width) for width in WIDTH])
    wanted = np.array(world.shares) / sum(world.shares)
    for _ in range(STEPS):
        found = np.bincount(height.argmax(axis=0).ravel(), minlength=len(CLASSES)) / height[0].size
        step = 0.5 * np.log(np.maximum(wanted, 1e-4) / np.maximum(found, 1e-4))
        height += np.clip(step, -0.5, 0.5).astype(np.float32)[:, None, None]
    return np.asarray(height.argmax(axis=0), np.uint8)


def displaced(outline: NDArray[np.object_], step: Table) -> NDArray[np.object_]:
    """Return each geometry moved by its own (east, north) of ``step`` (n, 2), in metres."""
    xy, owner = shapely.get_coordinates(outline, return_index=True)
    return np.asarray(shapely.set_coordinates(outline.copy(), xy + step[owner]), object)
