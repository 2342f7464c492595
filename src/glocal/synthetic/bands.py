"""Images of the ground: optical, radar, heights and colour, with what spoils them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from glocal.core.typing import Bools, Bytes, Layers
from glocal.synthetic.fields import REGION_TILT, normal, uniform
from glocal.synthetic.ground import CELL, Ground
from glocal.synthetic.source_maps import Shared
from glocal.synthetic.world import CONFUSED, World

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
SPECTRA = np.array([
    [0.025, 0.045, 0.030, 0.080, 0.220, 0.280, 0.300, 0.310, 0.140, 0.060],
    [0.035, 0.060, 0.050, 0.105, 0.220, 0.265, 0.285, 0.295, 0.200, 0.105],
    [0.040, 0.080, 0.060, 0.125, 0.270, 0.335, 0.360, 0.370, 0.240, 0.130],
    [0.060, 0.090, 0.105, 0.140, 0.210, 0.240, 0.260, 0.270, 0.300, 0.220],
    [0.100, 0.110, 0.120, 0.135, 0.155, 0.168, 0.180, 0.185, 0.200, 0.180],
    [0.120, 0.150, 0.190, 0.215, 0.235, 0.250, 0.260, 0.270, 0.340, 0.300],
    [0.050, 0.050, 0.030, 0.028, 0.024, 0.022, 0.020, 0.018, 0.010, 0.008],
], np.float32)  # fmt: skip
"""Surface reflectance of each class in ``BANDS``: typical summer values."""

CLOUD = np.array([0.46, 0.46, 0.47, 0.48, 0.50, 0.51, 0.52, 0.52, 0.38, 0.28], np.float32)
BACKSCATTER = np.array([
    [-8.5, -13.5], [-10.0, -16.0], [-12.0, -19.0], [-11.0, -18.0],
    [-5.0, -12.0], [-14.0, -22.0], [-20.0, -26.0],
], np.float32)  # fmt: skip
"""VV and VH of each class in dB."""

HEIGHT = np.array([18.0, 2.0, 0.2, 0.6, 7.0, 0.0, 0.0], np.float32)
"""Height of each class above the ground in metres."""

LOOKS = 10
PARCEL_DB = 1.8
"""Spread between parcels of a class in dB: moisture and roughness differ."""

RELIEF_M = 30.0
SHADOW_CELLS = (-12, 9)
"""Rows and columns from a cloud to its shadow: a morning sun in the south-east."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpticalImage:
    """One optical image."""

    values: Layers
    """Reflectance (10, H, W), clouds included."""

    ground: Layers
    """The same without clouds and shadows."""

    cloud: Bools
    shadow: Bools
    age: float


def render_optical(
    world: World,
    ground: Ground,
    shared: Shared,
    relief: Layers,
    streams: Sequence[np.random.Generator],
) -> list[OpticalImage]:
    """Return one image per entry of ``world.image_ages``, each from its own stream."""
    images = []
    for number, age in enumerate(world.image_ages):
        rng = streams[number]
        values = _reflectance(world, ground, shared, relief, age, rng)
        if number:
            values *= 1 + world.sensor_change
        else:
            values = _moved(values, world.image_shift_m, world.image_turn_m)
        cover = uniform(rng, world.size, world.size / 20) < (0 if number else world.clouds)
        # Shadows that enter at an edge stand for those of clouds outside the area.
        shadow = np.roll(cover, SHADOW_CELLS, axis=(0, 1)) & ~cover
        shaded = np.where(shadow, 0.45, 1).astype(np.float32) * values
        top = CLOUD[:, None, None] * np.exp(0.06 * normal(rng, world.size, 3))
        seen = np.where(cover, np.asarray(top, np.float32), shaded)
        images.append(OpticalImage(values=seen, ground=values, cloud=cover, shadow=shadow, age=age))
    return images


def _reflectance(
    world: World,
    ground: Ground,
    shared: Shared,
    relief: Layers,
    age: float,
    rng: np.random.Generator,
) -> Layers:
    """Return the reflectance (10, H, W) that the sensor sees without clouds."""
    truth = ground.classes(age)
    unclear = np.where(shared.level < world.ambiguous, world.ambiguity, 0)
    part = unclear.astype(np.float32)[..., None]
    value = (1 - part) * SPECTRA[truth] + part * SPECTRA[np.array(CONFUSED)[truth]]
    visible, infrared = np.arange(len(BANDS)) < 4, np.arange(len(BANDS)) >= 4
    tilt = REGION_TILT[:, None] * np.where(visible, 1.0, -1.0) * world.covariate_shift
    value = value * np.exp(tilt).astype(np.float32)[ground.region]
    # Parcels of a class differ in brightness and, more in the infrared, in greenness.
    bright, green = rng.standard_normal((2, len(ground.now), 1), np.float32)
    weight = np.linspace(-1, 1, len(BANDS), dtype=np.float32)
    factor = np.exp(world.parcel_noise * (bright + 0.8 * green * weight))
    value = value * np.asarray(factor[ground.objects], np.float32)
    for bands, scale in ((visible, 1.0), (infrared, 1.0), (visible | infrared, 0.5)):
        grain = 0.5 * normal(rng, world.size, 1.5) + 0.85 * normal(rng, world.size, 0)
        value[..., bands] *= np.exp(world.texture * scale * grain)[..., None]
    slope = np.gradient(relief, axis=1)
    value *= (1 + world.illumination * slope / max(float(slope.std()), 1e-6))[..., None]
    value *= np.exp(0.15 * world.texture * rng.standard_normal(value.shape, np.float32))
    planes = np.moveaxis(value, -1, 0)
    mixed = ndimage.gaussian_filter(planes, (0, world.psf_cells, world.psf_cells))
    return np.asarray(np.clip(mixed, 0.001, 1), np.float32)


def _moved(values: Layers, step_m: tuple[float, float], turn_m: float) -> Layers:
    """Return the image displaced by (east, north) metres and turned about its middle.

    ``turn_m`` is how far the turn moves the middle of an edge.
    """
    if not any(step_m) and not turn_m:
        return values
    middle = (np.array(values.shape[1:]) - 1) / 2
    angle = turn_m / CELL / middle[0]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    step = np.array([-step_m[1], step_m[0]]) / CELL
    offset = middle - turn @ (middle + step)
    planes = [
        ndimage.affine_transform(one, turn, offset, order=1, mode="nearest") for one in values
    ]
    return np.asarray(planes, np.float32)


def render_radar(world: World, ground: Ground, rng: np.random.Generator) -> Layers:
    """Return VV and VH in dB, shape (2, H, W), with speckle of ``LOOKS`` looks."""
    parcel = PARCEL_DB * rng.standard_normal((len(ground.now), 2), np.float32)
    value = (BACKSCATTER[ground.now] + parcel)[ground.objects]
    speckle = 10 * np.log10(rng.gamma(LOOKS, 1 / LOOKS, value.shape))
    return np.asarray(np.moveaxis(value + speckle, -1, 0), np.float32)


def relief_of(world: World, rng: np.random.Generator) -> Layers:
    """Return the height of the bare ground in metres, shape (H, W)."""
    return np.float32(RELIEF_M) * (normal(rng, world.size, world.size / 8) + 4)


def render_heights(
    world: World, ground: Ground, relief: Layers, rng: np.random.Generator
) -> Layers:
    """Return the surface in metres: relief, and what stands on it."""
    spread = np.exp(0.35 * rng.standard_normal(len(ground.now), np.float32))
    above = (HEIGHT[ground.now] * spread)[ground.objects]
    noise = 0.4 * rng.standard_normal(above.shape, np.float32)
    return np.asarray(relief + above + noise, np.float32)


def render_colour(image: OpticalImage, rng: np.random.Generator) -> Bytes:
    """Return a colour image (3, H, W) of 8 bits, without clouds, from another day."""
    rgb = image.ground[[2, 1, 0]] * np.exp(0.05 * rng.standard_normal((3, 1, 1)))
    return np.asarray(np.clip(np.sqrt(rgb / 0.35) * 255, 0, 255).round(), np.uint8)
