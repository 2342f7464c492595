"""What goes back to a model: what everybody else says, as labels to learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from glocal.core.result import relative_entropy
from glocal.loop.area.area import Area, cells_of
from glocal.loop.area.schema import PredictedSource
from glocal.loop.rounds.proposals import Gift, attribution_of, evidence_of, licence_of
from glocal.loop.rounds.teaching import worth
from glocal.loop.rounds.turns import Turn
from glocal.sources.models.write import encode_model

__all__ = ["labels_given", "to_model"]


GUARD = 2
"""Cells around a reference point that no label speaks of."""


def to_model(area: Area, turn: Turn, name: str, room: Path) -> Gift:
    """Write soft labels from everybody but the model itself."""
    probability, weight = labels_given(area, turn, name)
    source = area.config.source(name)
    _, provenance = evidence_of(area, turn, name)
    files = encode_model(
        room,
        probability=probability,
        weight=weight,
        geobox=area.geobox,
        legend=area.legend,
        interval=area.config.interval,
        images={one: area.images[one].chip for one in source.of}
        if isinstance(source, PredictedSource)
        else {},
        block=area.config.block,
        fold=area.fold,
        seed=area.config.seed,
        source=f"../../rounds/{turn.round:03d}/item.json",
        licence=licence_of(provenance.licences),
        attribution=attribution_of(provenance),
    )
    chips = len({one.name for one in files if one.name.startswith("chip_")})
    return Gift(
        files=tuple(one for one in files if not one.name.startswith("chip_")),
        count={"label_cells": int((weight > 0).sum()), "chips": chips},
        note="soft labels from everybody but the model itself, none within "
        f"{GUARD} cells of a reference point",
    )


def labels_given(
    area: Area, turn: Turn, name: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the soft labels (H, W, K) that a model receives, and their weights (H, W).

    A label weighs as much as it is certain, times what the labels of this area are worth to
    the model beside a reference point (`teaching.worth`); 0 where the model can't see and
    around reference points.
    """
    log_q = turn.fused.cells(frozenset({name}))
    probability = np.exp(log_q)
    certain = 1 - relative_entropy(log_q)
    seen = np.logical_and.reduce([image.clear for image in area.images_of(name)])
    use = seen & ~_guarded(area)
    weight = np.where(use, np.clip(certain, 0, 1), 0).astype(np.float32)
    if weight.any():
        weight *= np.float32(worth(area, name, probability, weight))
    return probability.astype(np.float32), weight


def _guarded(area: Area) -> NDArray[np.bool_]:
    """Return the cells at and around all reference points, shape (H, W)."""
    near = np.zeros(area.geobox.shape, bool)
    if area.reference is None:
        return near
    at = cells_of(area.reference, area.geobox)
    near.ravel()[at[at >= 0]] = True
    return np.asarray(ndimage.binary_dilation(near, np.ones((2 * GUARD + 1,) * 2, bool)))
