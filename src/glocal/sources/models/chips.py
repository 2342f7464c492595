"""Soft labels cut into chips that training tools read: image, mask, soft label and weight.

Every chip is one block of the grid, so it lies in one fold: chips of different folds share
no ground. Plain GeoTIFFs of one name in four folders, as torchgeo (read with 0.8.1) pairs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.chip import Chip
from glocal.core.legend import Legend
from glocal.core.typing import Bytes, Layers, Window
from glocal.io.raster import write_geotiff
from glocal.io.vector import write_csv

MOST_CHIPS = 64
"""Chips that are written at most, drawn at random; the whole-area rasters hold all labels."""

SCALE = 250
"""Stored label = round(probability * SCALE); a step of 0.004."""

UNKNOWN = 255
"""Stored label where there is no probability."""

NO_CLASS = 255
"""Value of a mask where there is no label to learn from."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredLabels:
    """Labels of an area as they are stored."""

    soft: Bytes
    """Shape (K, H, W), probabilities times `SCALE`, `UNKNOWN` where nothing is known."""

    weight: Layers
    """Shape (H, W); 0 keeps a cell out of training."""

    legend: Legend
    geobox: GeoBox

    @classmethod
    def of(
        cls, probability: Layers, weight: Layers, legend: Legend, geobox: GeoBox
    ) -> StoredLabels:
        """Return probabilities (H, W, K) and weights (H, W) as stored; refuse no distribution."""
        shape = tuple(geobox.shape)
        if probability.shape != (*shape, len(legend)) or weight.shape != shape:
            raise ValueError(
                f"probability must have shape {(*shape, len(legend))} and weight {shape}, got "
                f"{probability.shape} and {weight.shape}"
            )
        known = np.isfinite(probability).all(axis=2)
        total = probability[known].sum(axis=1)
        if (probability[known] < 0).any() or not np.allclose(total, 1, atol=1e-3):
            raise ValueError("probability must be >= 0 and sum to 1 over classes, or be NaN")
        if not (np.isfinite(weight[known]) & (weight[known] >= 0)).all():
            raise ValueError("weight must be finite and >= 0 where probabilities are known")
        use = known & (weight > 0)
        stored = np.where(use[..., None], np.round(np.nan_to_num(probability) * SCALE), UNKNOWN)
        return cls(
            soft=np.moveaxis(stored, -1, 0).astype(np.uint8),
            weight=np.where(use, weight, 0).astype(np.float32),
            legend=legend,
            geobox=geobox,
        )

    def part(self, cut: Window) -> StoredLabels:
        """Return the labels of a part of the area."""
        return replace(
            self, soft=self.soft[:, *cut], weight=self.weight[cut], geobox=self.geobox[cut]
        )

    @property
    def mask(self) -> Bytes:
        """Position of the likeliest class, shape (H, W), 255 where the weight is 0."""
        best = self.soft.argmax(axis=0).astype(np.uint8)
        return np.where(self.weight > 0, best, np.uint8(NO_CLASS))


def write_chips(
    folder: Path,
    labels: StoredLabels,
    images: Mapping[str, Chip],
    *,
    block: int,
    fold: Bytes,
    seed: int,
    copyright: str,
) -> list[Path]:
    """Write chips of ``block`` cells and their ``index.csv``; return the index and all chips.

    ``images/<image>/``, ``masks/``, ``soft/`` and ``weights/`` hold files of one name per
    chip. Blocks cut by the edge of the area, and those without any weight, are left out.
    """
    rows, columns = (n // block for n in labels.weight.shape)
    blocks = (labels.weight[: rows * block, : columns * block] > 0).reshape(
        rows, block, columns, -1
    )
    corners = np.argwhere(blocks.any(axis=(1, 3))) * block
    order = np.random.default_rng(seed).permutation(len(corners))[:MOST_CHIPS]
    table, files = [], []
    for top, left in corners[np.sort(order)].tolist():
        cut = (slice(top, top + block), slice(left, left + block))
        part, unknown = labels.part(cut), float("nan")
        layers: dict[str, tuple[NDArray[Any], tuple[str, ...], float]] = {}
        for name, chip in sorted(images.items()):
            values = np.where(chip.valid[:, *cut], chip.values[:, *cut], np.float32(np.nan))
            layers[f"images/{name}"] = (values, chip.band_names, unknown)
        layers["masks"] = (part.mask[None], ("class",), NO_CLASS)
        layers["soft"] = (part.soft, part.legend.names, UNKNOWN)
        layers["weights"] = (part.weight[None], ("weight",), unknown)
        file = f"chip_{top:05d}_{left:05d}.tif"
        for where, (values, names, nodata) in layers.items():
            files.append(folder / where / file)
            write_geotiff(
                files[-1], values, part.geobox, nodata=nodata, band_names=names, copyright=copyright
            )
        told = [float(part.weight.mean()), float((part.weight > 0).mean())]
        row = [file, top, left, block, int(fold[top, left]), *np.round(told, 4).tolist()]
        table.append([*row, *(f"{where}/{file}" for where in layers)])
    header = ["chip", "row", "column", "size", "fold", "mean_weight", "labelled_share"]
    header += [*(f"image_{name}" for name in sorted(images)), "mask", "soft", "weight"]
    return [write_csv(folder / "index.csv", header, table), *files]
