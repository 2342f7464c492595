"""The BigEarthNet recipe reads every patch and says how little it proves."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
import torch

from glocal.errors import SourceUnavailableError
from msgfm import Encoder, EncoderConfig
from recipes.bigearthnet import bigearthnet, read_patches

SMALL = EncoderConfig(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), window=4, experts=2)


def test_fourteen_patches_with_their_labels(shared):
    patches = read_patches(shared / "bigearthnet-15")
    assert patches.reflectance.shape == (14, 12, 120, 120)
    assert patches.labels.any(axis=1).all()
    first = patches.names.index("S2A_MSIL2A_20170613T101031_87_48")
    folder = shared / "bigearthnet-15" / "BigEarthNet-S2-Example" / patches.names[first]
    with rasterio.open(folder / f"{folder.name}_B05.tif") as file:
        stored = file.read(1)
    np.testing.assert_allclose(patches.reflectance[first, 4, ::2, ::2], stored / 1e4, rtol=1e-6)
    said = json.loads((folder / f"{folder.name}_labels_metadata.json").read_text())["labels"]
    found = {patches.classes[k] for k in np.flatnonzero(patches.labels[first])}
    assert found == set(said)


def test_scores_stand_beside_their_floors_and_claim_nothing(shared):
    torch.manual_seed(0)
    found = bigearthnet(shared / "bigearthnet-15", Encoder(SMALL), seeds=1)
    assert set(found["methods"]) == {
        "share of the others",
        "statistics",
        "random features",
        "encoder",
    }
    for runs in found["methods"].values():
        assert all(0 < one[which] <= 1 for one in runs for which in ("micro", "macro"))
    assert found["left_out"]
    assert "prove nothing" in found["notes"][0]


def test_a_folder_without_patches_is_refused(tmp_path):
    with pytest.raises(SourceUnavailableError, match="labels_metadata"):
        read_patches(tmp_path)
