"""The knobs of a synthetic world, and worlds that have a name.

Each knob stands for one way in which real sources err, and has a value that switches it
off. The ranges come from the literature: confusion 10-50 %, OpenStreetMap mapped 10-60 %,
outdated 3-15 %, offsets of 0-8 m.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

from glocal.errors import ConfigError

CLASSES = (10, 20, 30, 40, 50, 60, 80)
"""WorldCover values: tree, shrub, grass, crop, built, bare, water. Order of every class axis."""

CONFUSED = (1, 2, 3, 2, 5, 3, 0)
"""Position of the class with which each class is confused most."""

FAMILY = ("worldcover", "esri", "dynamicworld")
"""Maps made from the same satellites, which may share errors."""

MIN_SIZE, MAX_SIZE = 48, 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """How a synthetic world is made; lengths in metres, times in years, rates in 0..1."""

    name: str = "standard"

    size: int = 512
    """Side of the square area in cells of 10 m."""

    # The ground

    shares: tuple[float, ...] = (0.27, 0.08, 0.18, 0.26, 0.10, 0.04, 0.07)
    """Share of each class."""

    parcel_cells: int = 150
    """Mean size of a parcel in cells; built-up parcels are a fifth of it."""

    change: float = 1.0
    """Factor on the yearly hazard of change of each class. Off: 0."""

    # What all errors have in common

    class_spread: float = 1.0
    """How much error rates differ between classes. Off: 0 (all alike)."""

    region_spread: float = 0.4
    """How much error and mapping rates differ between the four regions. Off: 0."""

    structured: float = 0.7
    """Share of confusions that hit the most similar class. Off: 0 (any class alike)."""

    # Maps

    map_errors: tuple[float, ...] = (0.20, 0.24, 0.28)
    """Error rate of each map of ``FAMILY`` against the ground at its date. Off: 0."""

    shared_errors: float = 0.4
    """Chance that a cell's errors come from the family's common field: there a map of a
    higher rate errs wherever one of a lower rate does, with the same wrong class. Off: 0."""

    error_cells: float = 3.0
    """Width in cells of patches of error. Off: 0 (each cell by itself)."""

    map_age: float = 1.0
    """Years between the maps and the reference date. Off: 0."""

    mmu_cells: int = 1
    """Side of the square whose majority a map shows (minimum mapping unit). Off: 1."""

    merged_legend: bool = True
    """Whether the map ``esri`` has one class, rangeland, for shrub and grass. Off: False."""

    silent: float = 0.02
    """Share of the cells about which a map says nothing. Off: 0."""

    coarse_m: int = 250
    """Cell side of the coarse map ``modis``. Off: 0 (there is none)."""

    coarse_errors: float = 0.15
    """Error rate of the coarse map against the majority in its cell. Off: 0."""

    osm_map: bool = False
    """Whether there is a map that was learned from OpenStreetMap and the image."""

    echo_map: bool = False
    """Whether there is a map that was learned from our own previous output (the trap)."""

    # Errors that are not of confusion-table form

    edge_errors: float = 0.0
    """Excess of map errors along class boundaries: 2 means three times as many. Off: 0."""

    drift: float = 0.0
    """Map error rates rise by this share from the west edge to the east. Off: 0."""

    object_errors: float = 0.0
    """Share of the map errors that hit whole objects at once. Off: 0."""

    silent_when_wrong: float = 0.0
    """Chance that a map says nothing where it would err (missing, not at random). Off: 0."""

    # OpenStreetMap

    completeness: tuple[float, ...] = (0.45, 0.2, 0.25, 0.4, 0.7, 0.2, 0.85)
    """Share of the objects of each class that are mapped. Off: 1 for all."""

    omission_cells: float = 20.0
    """Width in cells of the patches that are well or badly mapped. Off: 0."""

    osm_min_cells: int = 4
    """Objects below this size are not mapped. Off: 1."""

    contributors: tuple[float, float, float, float] = (0.5, 0.42, 0.06, 0.02)
    """Shares of objects by experts, novices, people biased towards a class, vandals."""

    contributor_errors: tuple[float, float, float, float] = (0.04, 0.2, 0.4, 0.8)
    """Error rate of each kind. Off: 0 for all."""

    imports: int = 2
    """Bulk imports: one user, one tag for two classes, one offset. Off: 0."""

    osm_age: float = 8.0
    """Objects were last edited up to so many years ago. Off: 0."""

    land_use: float = 0.1
    """Share of the trees and grass beside settlements mapped by use: as residential. Off: 0."""

    osm_shift_m: tuple[float, float] = (0.0, 0.0)
    """Common displacement (east, north) of all objects. Off: (0, 0)."""

    trace_sd_m: float = 2.0
    """Standard deviation of the displacement of a group traced together. Off: 0."""

    object_sd_m: float = 1.0
    """Standard deviation of the displacement of single objects. Off: 0."""

    # Points

    field_points: int = 300
    field_errors: float = 0.05
    """Off: 0."""

    field_sd_m: float = 4.0
    """Standard deviation of the position per axis. Off: 0."""

    citizen_points: int = 400
    citizen_errors: float = 0.2
    """Off: 0."""

    citizen_sd_m: float = 12.0
    """Off: 0."""

    citizen_bias: float = 0.7
    """Share of the citizens' points that lie near a few settlements. Off: 0."""

    anchors: int = 200
    """Reference points. 0: there are none."""

    anchor_design: Literal["random", "region", "interior"] = "random"
    """``region``: all in one quarter; ``interior``: none near a class boundary. Off: random."""

    acceptance: float = 0.0
    """Chance that an anchor's reviewer accepts a wrong suggestion that was shown. Off: 0."""

    fatigue: float = 0.0
    """Relative rise of that chance from the first anchor to the last. Off: 0."""

    withheld_region: int = -1
    """Region whose community keeps its field points and objects to itself. Off: -1."""

    # Images

    image_ages: tuple[float, ...] = (0.0,)
    """One optical image per entry, so many years before the reference date."""

    ambiguity: float = 0.6
    """How far spectra move to the confused class where the maps' common field errs. Off: 0."""

    ambiguous: float = 0.24
    """Share of the cells that are so."""

    parcel_noise: float = 0.22
    """Spread of reflectance between parcels of a class, relative. Off: 0."""

    texture: float = 0.12
    """Spread inside a parcel, relative. Off: 0."""

    illumination: float = 0.1
    """Strength of shading by the terrain. Off: 0."""

    covariate_shift: float = 0.08
    """Spectra differ between regions by about so much. Off: 0."""

    sensor_change: float = 0.0
    """Gain of every image after the first differs by this. Off: 0."""

    psf_cells: float = 0.6
    """Width of the point spread, which mixes neighbours. Off: 0."""

    image_shift_m: tuple[float, float] = (0.0, 0.0)
    """Displacement (east, north) of the first optical image. Off: (0, 0)."""

    image_turn_m: float = 0.0
    """How far a turn of that image moves the middle of its edges. Off: 0."""

    clouds: float = 0.1
    """Share of the first optical image under cloud. Off: 0."""

    sar: bool = True
    """Whether a radar image exists."""

    dsm: bool = True
    """Whether a surface model exists."""

    rgb: bool = False
    """Whether a colour image exists."""

    def __post_init__(self) -> None:
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise ConfigError(f"size must be {MIN_SIZE}..{MAX_SIZE} cells, got {self.size}")
        for name in _RATES:
            value = getattr(self, name)
            if not all(0 <= one <= 1 for one in _numbers(value)):
                raise ConfigError(f"{name} must lie in 0..1, got {value}")
        for name in ("shares", "completeness"):
            if len(getattr(self, name)) != len(CLASSES):
                raise ConfigError(f"{name} needs {len(CLASSES)} numbers, one per class")
        if len(self.map_errors) > len(FAMILY) or not self.map_errors:
            raise ConfigError(f"map_errors needs 1..{len(FAMILY)} rates, one per map")
        if not self.image_ages:
            raise ConfigError("image_ages needs at least one image")
        points = max(self.field_points, self.citizen_points, self.anchors)
        if points > self.size**2 // 4:
            raise ConfigError(f"{points} points are too many for {self.size**2} cells")
        names = [one.name for one in fields(self)]
        negative = [one for one in names if min(_numbers(getattr(self, one)), default=0) < 0]
        if set(negative) - {"osm_shift_m", "image_shift_m", "withheld_region"}:
            raise ConfigError(f"{', '.join(negative)} must not be negative")


_RATES = (
    "shares", "structured", "map_errors", "shared_errors", "silent", "coarse_errors",
    "object_errors", "silent_when_wrong", "completeness", "contributors",
    "contributor_errors", "land_use", "field_errors", "citizen_errors", "citizen_bias",
    "acceptance", "ambiguity", "ambiguous", "clouds", "region_spread",
)  # fmt: skip


def _numbers(value: object) -> list[float]:
    """Return the numbers of a knob: none of a word, several of a tuple."""
    values = value if isinstance(value, tuple) else (value,)
    return [one for one in values if isinstance(one, int | float)]


_THIRD = tuple(round(one / 3, 3) for one in World().completeness)
_NAMED = (
    World(),
    World(
        name="perfect",  # every knob is off: each source says the truth
        change=0, class_spread=0, region_spread=0, structured=0,
        map_errors=(0, 0, 0), shared_errors=0, error_cells=0, map_age=0, merged_legend=False,
        silent=0, coarse_errors=0, completeness=(1,) * len(CLASSES), omission_cells=0,
        osm_min_cells=1, contributors=(1, 0, 0, 0), contributor_errors=(0, 0, 0, 0), imports=0,
        osm_age=0, land_use=0, trace_sd_m=0, object_sd_m=0, field_errors=0, field_sd_m=0,
        citizen_errors=0, citizen_sd_m=0, citizen_bias=0, ambiguity=0, ambiguous=0,
        parcel_noise=0, texture=0, illumination=0, covariate_shift=0, psf_cells=0, clouds=0,
    ),
    World(name="independent", shared_errors=0.0),
    World(name="correlated", shared_errors=0.8),
    World(name="sparse", completeness=_THIRD, imports=0),
    World(
        name="misspecified",  # errors that no confusion table describes: edges, drift, objects
        edge_errors=2.0, drift=0.8, object_errors=0.4, silent_when_wrong=0.2, land_use=0.3,
        mmu_cells=3,
    ),
    World(name="biased_anchors", anchor_design="region"),
    World(name="no_anchors", anchors=0),
    World(
        name="drifted",  # the ground changes, maps are four years old; with an image of then
        change=2.0, map_age=4.0, image_ages=(0.0, 4.0), sensor_change=0.05,
    ),
    World(
        name="shifted",  # OpenStreetMap lies 12 m off, the first image half of that
        osm_shift_m=(0.8 * 12, -0.6 * 12), trace_sd_m=4.0, object_sd_m=2.0,
        image_shift_m=(-0.3 * 12, 0.4 * 12), image_turn_m=0.3 * 12, field_sd_m=8.0,
    ),
    World(name="trap", osm_map=True, echo_map=True),
    World(name="mismatched", land_use=0.5, mmu_cells=5),
    World(name="reviewed", acceptance=0.4, fatigue=0.5),
    World(name="withheld", withheld_region=3),
)  # fmt: skip
WORLDS = {one.name: one for one in _NAMED}


def world_named(name: str, size: int | None = None) -> World:
    """Return the world of this name, of ``size`` cells a side where given.

    In a smaller area there are proportionally fewer points, but at least 40 of a kind.

    Raises
    ------
    ConfigError
        No world has this name, or the size is out of range.
    """
    if name not in WORLDS:
        raise ConfigError(f"no world is called {name!r}; known: {', '.join(WORLDS)}")
    world = WORLDS[name]
    if size is None:
        return world
    part = min((size / world.size) ** 2, 1.0)

    def fewer(count: int) -> int:
        return min(count, max(40, round(count * part)))

    return replace(
        world, size=size, field_points=fewer(world.field_points),
        citizen_points=fewer(world.citizen_points), anchors=min(world.anchors, size**2 // 60),
    )  # fmt: skip
