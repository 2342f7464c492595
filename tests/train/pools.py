"""Pools and recipes of tests: a tiny model on generated chips."""

from __future__ import annotations

import numpy as np

from glocal.train.pretraining.recipe import PretrainConfig, Recipe
from msgfm import EncoderConfig, ObjectiveConfig
from msgfm.sensors import bands_of

ENCODER = EncoderConfig(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), window=4, experts=2)


class Generated:
    """Chips of plausible values; a tenth of the pixels of every chip is invalid."""

    def __init__(self, side=32, **counts):
        self.side = side
        self.groups = {tuple(name.split("_")): n for name, n in counts.items()}

    def draw(self, sensors, n, rng):
        arrays = {}
        for name in sensors:
            bands = bands_of(name)
            mean = np.array([band.mean for band in bands])[:, None, None]
            std = np.array([band.std for band in bands])[:, None, None]
            noise = rng.standard_normal((n, len(bands), self.side, self.side)).clip(-2, 2)
            values = np.maximum(mean + 0.3 * std * noise, -50 if name in ("sar", "dsm") else 0)
            # chips differ in how much is missing, so that processes differ in their pixels
            holes = rng.random((n, 1, self.side, self.side)) < rng.random((n, 1, 1, 1)) * 0.5
            arrays[name] = np.where(holes, np.nan, values).astype(np.float32)
        return {"arrays": arrays}


def pool():
    return Generated(rgb=40, s2_sar=20)


def recipe(encoder=ENCODER, objective=None, **training):
    values = {"steps": 8, "batch": 4, "warmup": 2, "precision": "32-true", "base_rate": 1e-2}
    return Recipe(
        encoder=encoder,
        objective=objective or ObjectiveConfig(),
        training=PretrainConfig(**{**values, **training}),
    )
