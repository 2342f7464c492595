"""Fourteen BigEarthNet patches (Sumbul et al. 2019, CDLA-Permissive-1.0) with several labels each.

A smoke test of classification with several labels, and no more: fourteen patches, some of them
neighbours, all of them in the pool that the shipped weights learned from (without labels). Every
patch is scored by a probe of the others. Labels of one patch can't be learned so and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from glocal.core.sensor import sensor
from glocal.errors import SourceUnavailableError
from glocal.train.tasks.classification import classify, probes
from glocal.train.tasks.classification.statistics import band_statistics
from msgfm import Encoder

__all__ = ["Patches", "bigearthnet", "read_patches"]

SIDE = 120
"""Pixels of 10 m; bands of 20 and 60 m are repeated onto them."""

BANDS = tuple(band.name for band in sensor("sentinel2-l2a").bands)
LEAST = 2
"""Patches that must have a label for it to be scored."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patches:
    """N patches of Sentinel-2 L2A in the order of their names."""

    names: tuple[str, ...]
    reflectance: NDArray[np.float32]
    """Shape (N, 12, 120, 120), bands in the order of L2A; stored zeros are NaN."""

    classes: tuple[str, ...]
    """All labels that occur, sorted."""

    labels: NDArray[np.bool_]
    """Shape (N, K)."""


def read_patches(data: Path) -> Patches:
    """Read the Sentinel-2 patches under a folder as BigEarthNet names them.

    Raises
    ------
    SourceUnavailableError
        No patch, a band missing or unreadable.
    """
    found = sorted(data.rglob("S2*_labels_metadata.json"))
    if not found:
        raise SourceUnavailableError(f"{data} holds no S2*_labels_metadata.json of BigEarthNet")
    given = [json.loads(path.read_text(encoding="utf-8"))["labels"] for path in found]
    classes = tuple(sorted({label for labels in given for label in labels}))
    return Patches(
        names=tuple(path.parent.name for path in found),
        reflectance=np.stack([_patch(path.parent) for path in found]),
        classes=classes,
        labels=np.array([[label in labels for label in classes] for labels in given]),
    )


def bigearthnet(data: Path, encoder: Encoder, *, seeds: int = 3) -> dict[str, Any]:
    """Return micro and macro average precision of the encoder and its floors, and what they mean.

    Floors: the share of the other patches that have the label, image statistics, and features of
    ``seeds`` random encoders of the same shape.
    """
    patches = read_patches(data)
    kept = patches.labels.sum(axis=0) >= LEAST
    labels = patches.labels[:, kept]
    arrays = {"s2": patches.reflectance}

    def scored(features: NDArray[np.float32]) -> dict[str, float]:
        return probes.average_precision(labels, probes.leave_one_out(features, labels))

    random = [classify.random_like(encoder, seed) for seed in range(seeds)]
    methods = {
        "share of the others": [scored(np.zeros((len(labels), 1), np.float32))],
        "statistics": [scored(band_statistics(patches.reflectance))],
        "random features": [scored(classify.embed_all(one, arrays)) for one in random],
        "encoder": [scored(classify.embed_all(encoder, arrays))],
    }
    return {
        "patches": len(labels),
        "labels": [name for name, keep in zip(patches.classes, kept, strict=True) if keep],
        "left_out": [name for name, keep in zip(patches.classes, kept, strict=True) if not keep],
        "methods": methods,
        "notes": [
            f"{len(labels)} patches prove nothing about the ranking of methods: this shows that "
            "several labels work from files to scores",
        ],
    }


def _patch(folder: Path) -> NDArray[np.float32]:
    """Read the bands of one patch onto the grid of 10 m, as reflectance."""
    return np.stack([_band(folder / f"{folder.name}_{band}.tif") for band in BANDS])


def _band(path: Path) -> NDArray[np.float32]:
    try:
        with rasterio.open(path) as file:
            stored = file.read(1)
    except rasterio.errors.RasterioIOError as error:
        raise SourceUnavailableError(f"a band of BigEarthNet can't be read: {error}") from error
    times = _times(stored.shape, path)
    fine = stored.repeat(times, axis=0).repeat(times, axis=1).astype(np.float32)
    return np.where(fine > 0, fine / 10_000, np.nan).astype(np.float32)


def _times(shape: Sequence[int], path: Path) -> int:
    if shape[0] != shape[1] or SIDE % shape[0]:
        raise SourceUnavailableError(
            f"a band of BigEarthNet has {SIDE}, 60 or 20 pixels a side, {path.name} has {shape}"
        )
    return SIDE // shape[0]
