"""What the image model sees of a scene, as features of its cells; needs the extra ``model``.

Import this file only after asking for it: ``pip install -e packages/msgfm -e '.[model]'``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from odc.geo.geobox import GeoBox
from sklearn.decomposition import PCA

from glocal.core.chip import Chip
from glocal.core.grid import tiles
from glocal.core.provenance import Provenance
from glocal.core.typing import Bools, Layers
from glocal.errors import MissingExtraError, UnknownSensorError, install_line

try:
    import torch
    from torch.nn import functional

    from msgfm.batch import Batch, batch_of
    from msgfm.checkpoint import find
    from msgfm.encoder import Encoder
    from msgfm.sensors import bands_of
except ImportError as error:
    raise MissingExtraError(
        "features: msgfm needs PyTorch and the encoder; in the folder of the source code run: "
        f"{install_line('model')}, or write features: bands"
    ) from error

WEIGHTS = "nano"
"""Packaged weights that scenes are read with."""

SIDE, HALO = 256, 64
"""Cells of a tile that goes through the encoder, and of its surroundings; multiples of 32."""

STRIDES = (4, 8, 16, 32)

COMPONENTS = 8
"""Principal components that are kept of each map."""


def scene_components(
    chips: Sequence[Chip],
    clear: Bools,
    *,
    encoder: Encoder | None = None,
    components: int = COMPONENTS,
) -> list[tuple[str, Layers]]:
    """Return names and layers (H, W): the leading components of each image's feature maps.

    Each image goes through the encoder alone, tile by tile, with its pixel size and date; cells
    that are not ``clear`` (H, W) are unknown to it. Each map, at strides of 4 to 32 cells, is
    reduced to its principal components over the scene, then enlarged bilinearly. Images of
    sensors that the encoder was not made for are left out.

    Raises
    ------
    UnknownSensorError
        The encoder knows the sensor of none of the images.
    """
    encoder = encoder or Encoder.from_pretrained(WEIGHTS)
    height, width = clear.shape
    out: list[tuple[str, Layers]] = []
    for number, chip in enumerate(chips):
        shorts = [
            one
            for one in encoder.config.sensors
            if set(chip.band_names) <= {band.name for band in bands_of(one)}
        ]
        if not shorts:
            continue
        short = shorts[0]
        batch = batch_of(
            {short: np.where(chip.valid & clear, chip.values, np.float32(np.nan))[None]},
            bands={short: chip.band_names},
            gsd_m={short: abs(float(chip.geobox.resolution.x))},
            day={short: chip.interval.day_of_year},
        )
        maps = _maps(batch, chip.geobox, encoder)
        for stride, (values, known) in zip(STRIDES, maps, strict=True):
            layers = _components(values, known, components, stride)[:, :height, :width]
            out += [(f"{number}:map {stride} {i}", layer) for i, layer in enumerate(layers)]
    if not out:
        raise UnknownSensorError(
            "features: msgfm knows none of the images' sensors; it has "
            f"{', '.join(encoder.config.sensors)}. Write features: bands"
        )
    return out


def weights_provenance() -> Provenance:
    """Return where the packaged weights come from, as their model card says.

    Roots are the origins of the images that taught them (no labels did), under the
    licence that the weights are given out with.
    """
    card = json.loads((find(WEIGHTS) / "manifest.json").read_text("utf-8"))["card"]
    return Provenance(
        activity="pretrain without labels",
        agent="glocal",
        used=(card["name"],),
        licences=frozenset({card["licence"]}),
        roots=frozenset(row["origin"] for row in card["data"]),
        attribution=tuple(row["credit"] for row in card["data"]),
    )


def _maps(batch: Batch, geobox: GeoBox, encoder: Encoder) -> list[tuple[Layers, Bools]]:
    """Return each level's map (h, w, D) of a batch of one, and where it is known (h, w)."""
    shapes = [tuple(-(-n // stride) for n in batch.shape_yx) for stride in STRIDES]
    values = [
        np.zeros((*s, d), np.float32) for s, d in zip(shapes, encoder.config.widths, strict=True)
    ]
    known = [np.zeros(shape, bool) for shape in shapes]
    for inner, outer in tiles(geobox.shape, SIDE, HALO):
        # In 32 bits everywhere, so that results do not depend on the processor
        with torch.no_grad():
            seen = encoder(batch.window(*outer))
        for level, stride in enumerate(STRIDES):
            # The tokens that a tile decides, counted in the scene and in the tile.
            whole = tuple(slice(one.start // stride, -(-one.stop // stride)) for one in inner)
            first = [one.start // stride for one in outer]
            part = tuple(slice(w.start - f, w.stop - f) for w, f in zip(whole, first, strict=True))
            values[level][whole] = seen.maps[level][0].numpy()[part]
            known[level][whole] = seen.known[level][0].numpy()[part]
    return list(zip(values, known, strict=True))


def _components(values: Layers, known: Bools, count: int, stride: int) -> Layers:
    """Return the leading principal components of a map (h, w, D) as cells; 0 is the mean.

    Shape (count, h * stride, w * stride), bilinear between the centres of tokens.
    """
    rows = values[known].astype(np.float64)
    scores = np.zeros((min(count, rows.shape[1]), *known.shape))
    if len(rows) > 1:
        # a map that is the same everywhere has no variance to share out: 0 / 0, which nobody reads
        with np.errstate(invalid="ignore"):
            axes = PCA(min(count, *rows.shape), svd_solver="covariance_eigh")
            found = axes.fit_transform(rows)
        scores[: axes.n_components_, known] = found.T
    large = functional.interpolate(
        torch.from_numpy(np.asarray(scores, np.float32))[None],
        scale_factor=stride,
        mode="bilinear",
        align_corners=False,
    )
    return np.asarray(large[0].numpy())
