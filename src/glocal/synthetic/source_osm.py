"""OpenStreetMap: objects that are missing, mistagged, outdated, displaced or imported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

from glocal.core.burn import burn
from glocal.core.typing import Bools, Bytes, Codes, Table
from glocal.synthetic.fields import REGION_TILT, draw_wrong, uniform, voronoi
from glocal.synthetic.ground import BUILT, CELL, Ground, displaced
from glocal.synthetic.source_maps import SILENT
from glocal.synthetic.world import CLASSES, CONFUSED, World

KINDS = ("expert", "novice", "biased", "vandal")
PEOPLE = (12, 40, 4, 3)
"""How many contributors there are of each kind; a few of them do most of the work."""

TAGS = (
    ("natural=wood", "landuse=forest"),
    ("natural=scrub", "natural=heath"),
    ("landuse=meadow", "landuse=grass", "natural=grassland"),
    ("landuse=farmland",),
    ("landuse=residential", "landuse=industrial"),
    ("natural=sand", "landuse=quarry"),
    ("natural=water",),
)
"""Tags in use for each class."""

USE_TAG = "landuse=residential"
"""What gardens and groves beside settlements are tagged as by people who map uses."""

FAVOURITES = (0, 3, 4, 3)
"""Class positions towards which the biased contributors lean, one each."""

IMPORTED = (3, 0, 2, 6)
"""Class that import i tags everything as; it covers this class and the most similar one."""

TRACE_GROUPS = 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mapped:
    """The m objects of an extract and, in the same order, what is wrong with them."""

    object: Codes
    """Shape (m,), the object of the ground."""

    outline: NDArray[np.object_]
    """Shape (m,), as drawn, in the grid's CRS."""

    said: Bytes
    """Shape (m,), class position that the tag stands for."""

    tag: NDArray[np.str_]
    """Shape (m,), ``key=value``."""

    version: Codes
    age: Table
    """Shape (m,), years from the last edit to the reference date."""

    person: Codes
    kind: Codes
    """Shape (m,), position in ``KINDS``."""

    imported: Codes
    """Shape (m,), number of the import, -1 for none."""

    by_use: Bools
    """Shape (m,), tagged by use and not by cover."""

    step: Table
    """Shape (m, 2), displacement (east, north) in metres."""

    def __len__(self) -> int:
        return len(self.said)


def draw_osm(world: World, ground: Ground, rng: np.random.Generator) -> Mapped:
    """Draw what an extract says of the ground."""
    n = len(ground.now)
    chance = {name: rng.random(n) for name in ("errs", "wrong", "age", "tag", "use", "who")}
    kind = np.searchsorted(np.cumsum(world.contributors), rng.random(n), side="right")
    kind = np.minimum(kind, len(KINDS) - 1)
    group = voronoi(rng, world.size, TRACE_GROUPS)[tuple(ground.centre.T)]
    # Displaced alike: all objects, those traced together, each by itself.
    # Displaced alike: all objects, those traced together, each by itself.
    of_group = rng.normal(0, 1, (TRACE_GROUPS, 2)) * world.trace_sd_m
    of_itself = rng.normal(0, 1, (n, 2)) * world.object_sd_m
    step = np.array(world.osm_shift_m) + of_group[group] + of_itself
    exists = _exists(world, ground, rng)
    imported = _imports(world, ground, rng)
    by_hand = imported < 0
    age = np.where(by_hand, chance["age"] * world.osm_age, 0.75 * world.osm_age)
    then = ground.classes_of(age)
    person, said, by_use = _said(world, ground, kind, then, chance)
    by_use &= by_hand
    said = np.where(by_use, BUILT, np.where(by_hand, said, np.array(IMPORTED)[imported]))
    tags = np.array([[tags[i % len(tags)] for i in range(6)] for tags in TAGS])
    tag = np.where(by_use, USE_TAG, tags[said, (chance["tag"] * 6).astype(np.int64)])
    kept = np.flatnonzero(exists | ~by_hand)
    return Mapped(
        object=kept,
        outline=displaced(ground.outline[kept], step[kept]),
        said=said[kept].astype(np.uint8),
        tag=tag[kept],
        version=(1 + rng.poisson(1.5, n))[kept],
        age=age[kept],
        person=np.where(by_hand, person, 900 + imported)[kept],
        kind=kind[kept],
        imported=imported[kept],
        by_use=by_use[kept],
        step=step[kept],
    )


def _exists(world: World, ground: Ground, rng: np.random.Generator) -> Bools:
    """Return which objects were mapped: by class and region, and in clusters."""
    centre = tuple(ground.centre.T)
    effort = uniform(rng, world.size, world.omission_cells)[centre]
    chance = np.where(rng.random(len(effort)) < 0.5, effort, rng.random(len(effort)))
    region = ground.region[centre]
    part = np.array(world.completeness)[ground.now]
    part = part * (1 - world.region_spread * REGION_TILT[region])
    found = (chance < part) & (ground.cells >= world.osm_min_cells)
    return np.asarray(found & (region != world.withheld_region))


def _imports(world: World, ground: Ground, rng: np.random.Generator) -> Codes:
    """Return the import that brought each object, -1 for none: discs of two classes each."""
    imported = np.full(len(ground.now), -1, np.int64)
    middle = rng.uniform(0.2, 0.8, (len(IMPORTED), 2)) * world.size
    for number in range(min(world.imports, len(IMPORTED))):
        near = np.hypot(*(ground.centre - middle[number]).T) < world.size / 8
        one = IMPORTED[number]
        kind = (ground.now == one) | (ground.now == CONFUSED[one])
        imported[near & kind & (ground.cells >= world.osm_min_cells)] = number
    region = ground.region[tuple(ground.centre.T)]
    return np.where(region == world.withheld_region, -1, imported)


def _said(
    world: World, ground: Ground, kind: Codes, then: Bytes, chance: dict[str, Table]
) -> tuple[Codes, NDArray[np.integer], Bools]:
    """Return who mapped each object, and the class they saw ``then``, with errors of their kind.

    And which objects they tagged by use: trees and grass within about 50 m of a settlement.
    """
    # A contributor is 100 * kind + rank; activity falls as one over the rank (Zipf).
    person = np.zeros(len(kind), np.int64)
    for number, people in enumerate(PEOPLE):
        activity = np.cumsum(1 / np.arange(1, people + 1))
        rank = np.searchsorted(activity / activity[-1], chance["who"][kind == number])
        person[kind == number] = 100 * (number + 1) + rank
    errs = chance["errs"] < np.array(world.contributor_errors)[kind]
    wrong = draw_wrong(then, chance["wrong"], world.structured)
    wrong = np.where(KINDS.index("biased") == kind, favourite(person), wrong)
    built = (ground.classes() == BUILT).astype(np.float32)
    near = ndimage.uniform_filter(built, 100 // CELL + 1)[tuple(ground.centre.T)] > 0
    green = np.isin(then, (CLASSES.index(10), CLASSES.index(30)))
    by_use = near & green & (chance["use"] < world.land_use)
    return person, np.where(errs, wrong, then), by_use


def favourite(person: Codes) -> Codes:
    """Return the class position towards which a contributor leans, if biased."""
    return np.asarray(np.array(FAVOURITES)[person % len(FAVOURITES)])


def painted(mapped: Mapped, geobox: GeoBox) -> Bytes:
    """Return the class position that the extract shows in every cell, ``SILENT`` for none."""
    number = burn(mapped.outline, geobox)
    return np.append(np.uint8(SILENT), mapped.said)[number]
