"""What goes back to the model: soft labels to learn from, and how much each one weighs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.legend import Legend
from glocal.io.atomic import write_json
from glocal.io.raster import write_cog

__all__ = ["SCALE", "UNKNOWN", "encode_model"]

SCALE = 250
"""Stored label = round(probability * SCALE); a step of 0.004."""

UNKNOWN = 255
"""Stored label where there is no probability."""


def encode_model(
    folder: Path,
    *,
    probability: NDArray[np.float32],
    weight: NDArray[np.float32],
    geobox: GeoBox,
    legend: Legend,
    licence: str,
    attribution: str,
) -> list[Path]:
    """Write ``soft_labels.tif`` (one band per class), ``label_weight.tif``, ``labels.json``.

    Parameters
    ----------
    probability
        Shape (H, W, K), sums to 1 over classes; NaN where nothing is known.
    weight
        Shape (H, W), >= 0; 0 keeps a cell out of training.
    """
    known = _check(probability, weight, geobox, legend)
    stored = np.where(known[..., None], np.round(np.nan_to_num(probability) * SCALE), UNKNOWN)
    used = np.where(known, weight, 0).astype(np.float32)
    folder = Path(folder)
    copyright = f"{attribution}; licence {licence}"
    write_cog(
        folder / "soft_labels.tif",
        np.moveaxis(stored, -1, 0).astype(np.uint8),
        geobox,
        nodata=UNKNOWN,
        band_names=legend.names,
        copyright=copyright,
        description=f"probability = value / {SCALE}; {UNKNOWN} not known; legend {legend.name}",
        categorical=False,
    )
    write_cog(
        folder / "label_weight.tif",
        used,
        geobox,
        band_names=("weight",),
        copyright=copyright,
        description="weight of a cell's label in training; 0 keeps it out",
        categorical=False,
    )
    write_json(folder / "labels.json", _description(legend, geobox, licence, attribution))
    return [folder / name for name in ("soft_labels.tif", "label_weight.tif", "labels.json")]


def _check(
    probability: NDArray[np.float32], weight: NDArray[np.float32], geobox: GeoBox, legend: Legend
) -> NDArray[np.bool_]:
    """Return which cells are known, shape (H, W); refuse what is no distribution."""
    shape = tuple(geobox.shape)
    if probability.shape != (*shape, len(legend)) or weight.shape != shape:
        raise ValueError(
            f"probability must have shape {(*shape, len(legend))} and weight {shape}, got "
            f"{probability.shape} and {weight.shape}"
        )
    known = np.asarray(np.isfinite(probability).all(axis=2))
    total = probability[known].sum(axis=1)
    if (probability[known] < 0).any() or not np.allclose(total, 1, atol=1e-3):
        raise ValueError("probability must be >= 0 and sum to 1 over classes, or be NaN")
    if not (np.isfinite(weight[known]) & (weight[known] >= 0)).all():
        raise ValueError("weight must be finite and >= 0 where probabilities are known")
    return known


def _description(legend: Legend, geobox: GeoBox, licence: str, attribution: str) -> dict[str, Any]:
    """Return the labels in the words of the STAC label extension 1.0.1."""
    return {
        "type": "glocal-soft-labels",
        "version": "1.0",
        "label:type": "raster",
        "label:properties": None,
        "label:tasks": ["segmentation"],
        "label:methods": ["automated"],
        "label:classes": [{"name": None, "classes": list(legend.names)}],
        "label:description": "Probabilities of each class from all sources but the model itself; "
        "weights say how much a cell counts in training.",
        "legend": legend.name,
        "classes": [
            {"value": c.value, "name": c.name, "description": c.title, "band": i + 1}
            for i, c in enumerate(legend.classes)
        ],
        "assets": {
            "labels": {"href": "./soft_labels.tif", "scale": 1 / SCALE, "nodata": UNKNOWN},
            "weight": {"href": "./label_weight.tif"},
        },
        "proj:code": str(geobox.crs),
        "proj:shape": list(geobox.shape),
        "proj:transform": [float(v) for v in tuple(geobox.transform)[:6]],
        "license": licence,
        "attribution": attribution,
        "status": "proposed, not reviewed",
    }
