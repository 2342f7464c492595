"""A whole world drawn from one seed: the ground first, then each source by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox

from glocal.core.typing import Bytes, Layers
from glocal.synthetic.bands import (
    OpticalImage,
    relief_of,
    render_colour,
    render_heights,
    render_optical,
    render_radar,
)
from glocal.synthetic.ground import Ground, geobox_of, make_ground
from glocal.synthetic.source_maps import SILENT, coarse_map, family_maps, learned_map, shared_field
from glocal.synthetic.source_osm import Mapped, draw_osm, painted
from glocal.synthetic.source_points import Points, draw_anchors, draw_citizens, draw_field
from glocal.synthetic.world import CLASSES, World

STREAMS = (
    "ground", "shared", "maps", "coarse", "osm", "field", "citizen", "anchors", "relief",
    "image", "radar", "heights", "colour",
)  # fmt: skip
"""One random stream each, so that a knob of one source leaves the others as they were.
New ones are added at the end."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """A world: the truth and all that sources say of it."""

    world: World
    seed: int
    geobox: GeoBox
    ground: Ground
    maps: dict[str, Bytes]
    """Class positions (H, W) of each map on the grid, ``SILENT`` where it says nothing."""

    coarse: Bytes | None
    """Class positions of the coarse map on its own grid."""

    osm: Mapped
    points: dict[str, Points]
    """``field``, ``citizen`` and, unless there are none, ``anchors``."""

    images: list[OpticalImage]
    radar: Layers | None
    heights: Layers | None
    colour: Bytes | None

    @property
    def truth(self) -> Bytes:
        """Class value of every cell at the reference date, shape (H, W)."""
        return np.array(CLASSES, np.uint8)[self.ground.classes()]


def simulate(world: World, seed: int) -> Scene:
    """Draw a world; the same world and seed always give the same scene.

    Methods: every source has its own stream of the seed (``SeedSequence.spawn``); what
    sources have in common is a field drawn once (`source_maps.shared_field`).
    """
    spawned = np.random.SeedSequence(seed).spawn(len(STREAMS))
    rng = {name: np.random.default_rng(one) for name, one in zip(STREAMS, spawned, strict=True)}
    ground = make_ground(world, rng["ground"])
    shared = shared_field(world, rng["shared"])
    maps = family_maps(world, ground, shared, rng["maps"])
    osm = draw_osm(world, ground, rng["osm"])
    relief = relief_of(world, rng["relief"])
    streams = rng["image"].spawn(len(world.image_ages))
    images = render_optical(world, ground, shared, relief, streams)
    said = painted(osm, geobox_of(world))
    before = _vote([*maps.values(), said])
    if world.osm_map:
        maps["learned"] = learned_map(images[0].ground, said)
    if world.echo_map:
        maps["echo"] = learned_map(images[0].ground, before)
    points = {
        "field": draw_field(world, ground, rng["field"]),
        "citizen": draw_citizens(world, ground, rng["citizen"]),
        "anchors": draw_anchors(world, ground, before, rng["anchors"]),
    }
    return Scene(
        world=world,
        seed=seed,
        geobox=geobox_of(world),
        ground=ground,
        maps=maps,
        coarse=coarse_map(world, ground, rng["coarse"]) if world.coarse_m else None,
        osm=osm,
        points={name: one for name, one in points.items() if len(one)},
        images=images,
        radar=render_radar(world, ground, rng["radar"]) if world.sar else None,
        heights=render_heights(world, ground, relief, rng["heights"]) if world.dsm else None,
        colour=render_colour(images[0], rng["colour"]) if world.rgb else None,
    )


def _vote(layers: list[Bytes]) -> Bytes:
    """Return what most layers say in each cell, ``SILENT`` where none speaks.

    Stands for what a naive earlier run would have given.
    """
    votes = np.stack(
        [sum((one == k).astype(np.uint8) for one in layers) for k in range(len(CLASSES))]
    )
    return np.where(votes.max(axis=0) > 0, votes.argmax(axis=0), SILENT).astype(np.uint8)
