"""What goes back to the model: soft labels to learn from, and how much each one weighs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from glocal.core.chip import Chip
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.typing import Bytes, Layers
from glocal.io.atomic import write_json
from glocal.io.raster import write_cog
from glocal.io.stac import MEDIA_TYPES, grid_fields, stac_item
from glocal.sources.models.chips import SCALE, UNKNOWN, StoredLabels, write_chips

EXTENSIONS = ("label/v1.0.1", "projection/v2.0.0")

MEANING = (
    "Probabilities of each class from all sources but the model itself. Weights say how much a "
    "cell counts: 1 where the class is certain, 0 where nothing is known, where the images show no "
    "ground, and around reference points."
)


def encode_model(
    folder: Path,
    *,
    probability: Layers,
    weight: Layers,
    geobox: GeoBox,
    legend: Legend,
    interval: Interval,
    images: Mapping[str, Chip] | None = None,
    block: int = 64,
    fold: Bytes | None = None,
    seed: int = 0,
    source: str = "",
    licence: str,
    attribution: str,
) -> list[Path]:
    """Write soft labels to learn from, for the whole area and as chips.

    ``soft_labels.tif`` (one band per class), ``label_weight.tif``, ``labels.json`` (a STAC
    item with the label extension), and chips with ``index.csv`` where ``images`` are given
    (see :func:`glocal.sources.models.chips.write_chips`).

    Parameters
    ----------
    probability
        Shape (H, W, K), sums to 1 over classes; NaN where nothing is known.
    weight
        Shape (H, W), >= 0; 0 keeps a cell out of training.
    images, block, fold, seed
        What the model reads, side of a block in cells, fold of each cell; draws the chips.
    source
        Relative path of the item that the labels come from.
    """
    labels = StoredLabels.of(probability, weight, legend, geobox)
    names = ("soft_labels.tif", "label_weight.tif", "labels.json")
    soft, weights, about = (folder / name for name in names)
    copyright = f"{attribution}; licence {licence}"
    write = partial(write_cog, geobox=geobox, copyright=copyright, categorical=False)
    text = f"probability = value / {SCALE}; {UNKNOWN} not known; legend {legend.name}"
    write(soft, labels.soft, nodata=UNKNOWN, band_names=legend.names, description=text)
    text = "weight of a cell's label in training; 0 keeps it out"
    write(weights, labels.weight, band_names=("weight",), description=text)
    chips: list[Path] = []
    if images:
        parts = fold if fold is not None else np.zeros(weight.shape, np.uint8)
        chips = write_chips(
            folder, labels, images, block=block, fold=parts, seed=seed, copyright=copyright
        )
    write_json(about, _item(labels, interval, bool(chips), source, licence, attribution))
    return [soft, weights, about, *chips]


def _item(
    labels: StoredLabels,
    interval: Interval,
    chips: bool,
    source: str,
    licence: str,
    attribution: str,
) -> dict[str, Any]:
    """Return the labels as a STAC 1.1 item with the label extension 1.0.1."""
    legend, tif = labels.legend, MEDIA_TYPES[".tif"]
    band = {"data_type": "uint8", "nodata": UNKNOWN, "raster:scale": 1 / SCALE}
    assets: dict[str, Any] = {
        "labels": {
            "href": "./soft_labels.tif",
            "type": tif,
            "roles": ["labels", "data"],
            "bands": [{"name": name, **band} for name in legend.names],
        },
        "weight": {"href": "./label_weight.tif", "type": tif, "roles": ["weights"]},
    }
    if chips:
        assets["chips"] = {"href": "./index.csv", "type": "text/csv", "roles": ["index"]}
    properties = {
        "attribution": attribution,
        "label:type": "raster",
        "label:properties": None,
        "label:tasks": ["segmentation"],
        "label:methods": ["automated"],
        "label:classes": [{"name": None, "classes": list(legend.names)}],
        "label:description": MEANING,
        **grid_fields(labels.geobox),
        "glocal:legend": legend.name,
        "glocal:licence": licence,
        "glocal:classes": [
            {"value": c.value, "name": c.name, "description": c.title, "band": i + 1, "mask": i}
            for i, c in enumerate(legend.classes)
        ],
    }
    links = [{"rel": "source", "href": source, "type": "application/geo+json"}] if source else []
    given = (EXTENSIONS, labels.geobox, interval, licence, properties)
    return stac_item("soft-labels", *given, links=links, assets=assets)
