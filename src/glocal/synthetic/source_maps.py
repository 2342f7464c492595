"""Existing maps: a family that shares errors, a coarse one, and maps learned from others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from glocal.core.typing import Bools, Bytes, Layers
from glocal.synthetic.fields import REGION_TILT, draw_wrong, majority, uniform
from glocal.synthetic.ground import CELL, Ground
from glocal.synthetic.world import CLASSES, FAMILY, World

K = len(CLASSES)
SILENT = 255
"""Stands for a class where a map says nothing."""

DIFFICULTY = np.array([0.7, 1.8, 1.4, 0.9, 0.8, 1.6, 0.3])
"""Errors of each class relative to the mean; grass, shrub and bare ground are hard."""

EDGE_CELLS = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shared:
    """The hidden field where all satellites find the ground ambiguous, shape (H, W) each."""

    level: Layers
    """Even over 0..1: a map of error rate p that reads it errs where it is below p."""

    wrong: Layers
    """Decides between the wrong classes."""

    read: Bools
    """Where the maps take their errors from this field; elsewhere each errs by itself."""


def shared_field(world: World, rng: np.random.Generator) -> Shared:
    """Draw the field that links the family of maps, and the image to them."""
    level = uniform(rng, world.size, world.error_cells)
    wrong = uniform(rng, world.size, world.error_cells)
    read = uniform(rng, world.size, 2 * world.error_cells) < world.shared_errors
    return Shared(level=level, wrong=wrong, read=read)


def rates(world: World, ground: Ground, mean: float, age: float) -> Layers:
    """Return the chance of a map error in every cell, of this ``mean`` over the area.

    It depends on class and region; in misspecified worlds also on what no confusion
    table knows: the distance to a boundary and the place.
    """
    truth = ground.classes(age)
    factor = 1 + world.class_spread * (DIFFICULTY[truth] - 1)
    factor = factor * (1 + world.region_spread * REGION_TILT[ground.region])
    factor = factor * (1 + world.edge_errors * near_edge(truth))
    factor = factor * (1 + world.drift * np.linspace(-1, 1, world.size))
    factor = np.maximum(factor, 0.02)
    return np.asarray(np.minimum(mean * factor / factor.mean(), 0.95), np.float32)


def near_edge(truth: Bytes) -> Bools:
    """Return True for cells within ``EDGE_CELLS`` of another class."""
    side = 2 * EDGE_CELLS + 1
    low = ndimage.minimum_filter(truth, side)
    return np.asarray(low != ndimage.maximum_filter(truth, side))


def family_maps(
    world: World, ground: Ground, shared: Shared, rng: np.random.Generator
) -> dict[str, Bytes]:
    """Return each map's class positions (H, W), ``SILENT`` where it says nothing.

    A map errs where its field is below its rate. In the cells ``shared.read`` the field is
    the family's, so of two maps with rates a < b both err with chance a, and alike;
    elsewhere the fields are independent. At any two maps the joint error rate is
    s min(a, b) + (1 - s) a b for a shared rate s.
    """
    truth = ground.classes(world.map_age)
    maps = {}
    for name, mean in zip(FAMILY, world.map_errors, strict=False):
        own = uniform(rng, world.size, world.error_cells)
        alone = uniform(rng, world.size, world.error_cells)
        quiet = uniform(rng, world.size, world.error_cells) < world.silent
        whole = rng.random(len(ground.now), np.float32)[ground.objects]
        by_object = (rng.random(len(ground.now)) < world.object_errors)[ground.objects]
        level = np.where(by_object, whole, np.where(shared.read, shared.level, own))
        wrong = draw_wrong(truth, np.where(shared.read, shared.wrong, alone), world.structured)
        errs = level < rates(world, ground, mean, world.map_age)
        said = majority(np.where(errs, wrong, truth), world.mmu_cells)
        quiet |= errs & (rng.random(errs.shape, np.float32) < world.silent_when_wrong)
        maps[name] = np.where(quiet, SILENT, said).astype(np.uint8)
    return maps


def coarse_map(world: World, ground: Ground, rng: np.random.Generator) -> Bytes:
    """Return the majority class of every coarse cell, some wrong; rows from the north."""
    truth = ground.classes(world.map_age)
    side = max(round(world.coarse_m / CELL), 1)
    cells = -(-world.size // side)
    block = np.arange(world.size) // side
    index = block[:, None] * cells + block[None, :]
    count = np.stack(
        [np.bincount(index[truth == k], minlength=cells * cells) for k in range(K)]
    ).reshape(K, cells, cells)
    most = count.argmax(axis=0).astype(np.uint8)
    wrong = draw_wrong(most, rng.random(most.shape), world.structured)
    return np.where(rng.random(most.shape) < world.coarse_errors, wrong, most)


def learned_map(values: Layers, labels: Bytes, side: int = 3) -> Bytes:
    """Return a map that a linear discriminant makes of an image, from noisy labels.

    ``values`` has shape (B, H, W); ``labels`` (H, W) holds class positions, ``SILENT``
    where there is none. Errors of labels and image both come through, as in a real map
    that was trained on OpenStreetMap.
    """
    x = np.log(np.maximum(values, 1e-3)).reshape(len(values), -1)
    y = labels.ravel()
    present = [k for k in range(K) if (y == k).sum() > len(values)]
    if len(present) < 2:
        return labels.copy()
    mean = np.stack([x[:, y == k].mean(axis=1) for k in present])
    rest = np.concatenate([x[:, y == k] - mean[i][:, None] for i, k in enumerate(present)], axis=1)
    within = rest @ rest.T / rest.shape[1] + 1e-4 * np.eye(len(x))
    weight = np.linalg.solve(within, mean.T)
    score = weight.T @ x - 0.5 * (mean * weight.T).sum(axis=1)[:, None]
    best = np.array(present, np.uint8)[score.argmax(axis=0)].reshape(labels.shape)
    return majority(best, side)
