"""The EuroSAT recipe on a few real pictures: the split, not the scores."""

from __future__ import annotations

import numpy as np
import torch

from glocal.train.tasks.classification.classify import divide
from glocal.train.tasks.classification.scenes import read_scenes
from msgfm import Encoder, EncoderConfig
from recipes.eurosat import eurosat

SMALL = EncoderConfig(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), window=4, experts=2)


def test_blocks_are_never_shared_between_parts(shared):
    data = shared / "eurosat-rgb"
    scenes = read_scenes(data / "eurosat_rgb_open.zip", limit=40)
    assert len(scenes.classes) == 10
    assert scenes.images.shape == (400, 3, 64, 64)
    division = divide(scenes.names, data / "eurosat_lonlat.csv")
    parts = [set(division.block[division.part == part]) for part in range(3)]
    assert len(parts[0] | parts[1] | parts[2]) == sum(len(part) for part in parts)
    # A picture's part does not depend on which others are read.
    few = divide(scenes.names[::3], data / "eurosat_lonlat.csv")
    np.testing.assert_array_equal(few.part, division.part[::3])


def test_a_small_run_beats_the_commonest_class(shared):
    torch.manual_seed(0)
    found = eurosat(shared / "eurosat-rgb", Encoder(SMALL), seeds=2, limit=40)
    floor = found["methods"]["commonest class"]["accuracy"]
    assert found["methods"]["statistics, linear"]["accuracy"] > floor + 0.1
    assert found["methods"]["encoder, linear"]["accuracy"] > floor + 0.1
    assert found["notes"] == []
