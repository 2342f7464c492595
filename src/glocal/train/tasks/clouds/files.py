"""Clouds taken out of raster files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from glocal.core.chip import Chip
from glocal.errors import BadSourceError
from glocal.io.atomic import write_json
from glocal.io.raster import read_on, write_cog
from glocal.sources.chips.read import read_scl
from glocal.train.data.rasters import Rasters, holes
from glocal.train.tasks.clouds.choice import Choice, choose
from glocal.train.tasks.clouds.pairs import (
    BANDS,
    CLOUDY_SCL,
    Bools,
    Floats,
    Pairs,
    fit_sar_regression,
    simulate,
)
from glocal.train.tasks.clouds.removal import Restored, fit, load
from glocal.train.tasks.dense import Settings, tiles
from msgfm.encoder import Encoder

RADAR = ("VV", "VH")

CHECKED = "errors are those under simulated clouds over clear windows that were not learned"
UNCHECKED = "too little is clear to hold windows out: method and uncertainty are not checked"

SIDE, MARGIN = 128, 32
"""Pixels of a tile that a raster is restored by, and of the surroundings it is read with."""

Window = tuple[slice, slice]

WINDOW, STEP = 64, 32
"""Pixels of the clear windows that a scene is learned from, and from one to the next."""

HELD_OUT = 4
"""One in so many clear windows, that do not overlap each other, is not learned but scored."""

EXAMPLES = 64
"""Clouded windows that are learned from; the clear ones get several clouds to reach that."""


def run(
    images: Rasters,
    out: Path,
    *,
    cloud: Path | None = None,
    model: Path | None = None,
    weights: str | Path = "nano",
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Write a Sentinel-2 image without its clouds.

    The GeoTIFF holds the bands of the input as reflectance, and a last band
    ``uncertainty``: the standard uncertainty, mean over bands, 0 where the pixel was seen.
    Of the network and two simple rules the best one is used (`choice.choose`), measured under
    simulated clouds over windows that were not learned; a file ``.json`` beside says which.

    ``images`` holds ``s2`` and, much better with it, ``sar``; they must fit into memory. ``cloud``
    is a raster that is not 0 under cloud and shadow, else the product's own scene classification
    is used; ``model`` the folder of a network that was fitted before (`removal.save`), else one is
    fitted to the clear parts of this very image, under simulated clouds.

    Returns, JSON-ready, ``estimated`` (share of pixels), ``method`` that was used, ``mae`` (method
    -> mean absolute error, reflectance), ``note``.

    Raises
    ------
    BadSourceError
        No Sentinel-2 image, no cloud mask, or too little that is clear to learn from.
    """
    if images.s2 is None:
        raise BadSourceError("cloud removal needs a Sentinel-2 image: Rasters(s2=...)")
    grid = images.grid()
    hidden = _cloud_mask(images.s2, cloud, grid)
    chips = images.chips(grid)
    scene = _scene(chips, hidden)
    chosen = _chosen(scene, model, weights, settings or Settings())
    names = chips["s2"].band_names
    order = [BANDS.index(name) for name in names]
    image, error = _restored(chosen, scene)
    layers = np.concatenate([image[order], error[order].mean(0, keepdims=True)])
    write_cog(
        Path(out),
        layers.astype(np.float32),
        grid,
        nodata=float("nan"),
        band_names=(*names, "uncertainty"),
        categorical=False,
    )
    report = {
        "estimated": float(hidden.mean()),
        "method": chosen.method,
        "mae": chosen.errors,
        "note": CHECKED if chosen.errors else UNCHECKED,
    }
    write_json(Path(out).with_suffix(".json"), report)
    return report


def _cloud_mask(s2: Path, cloud: Path | None, grid: GeoBox) -> Bools:
    if cloud is not None:
        values, valid = read_on(Path(cloud), grid)
        return np.asarray(valid & (values != 0))
    scl = read_scl(Path(s2), grid)
    if scl is None:
        raise BadSourceError(
            f"{s2} has no scene classification (SCL), so its clouds are not known; "
            "give cloud=, a raster that is not 0 under cloud and shadow"
        )
    return np.isin(scl, CLOUDY_SCL)


def _scene(chips: Mapping[str, Chip], hidden: Bools) -> Pairs:
    """Return the place as one pair without truth."""
    cloudy = np.full((1, len(BANDS), *hidden.shape), np.nan, np.float32)
    cloudy[:, [BANDS.index(name) for name in chips["s2"].band_names]] = holes(chips["s2"])
    sar = np.full((1, 2, *hidden.shape), np.nan, np.float32)
    if "sar" in chips:
        sar[:, [RADAR.index(name) for name in chips["sar"].band_names]] = holes(chips["sar"])
    return Pairs(
        cloudy=cloudy,
        cloud=hidden[None],
        clear=np.full_like(cloudy, np.nan),
        sar=sar,
        day=np.array([chips["s2"].interval.day_of_year], np.float32),
    )


def _chosen(scene: Pairs, model: Path | None, weights: str | Path, settings: Settings) -> Choice:
    """Fit to clear windows of a place, under simulated clouds, and choose on others."""
    learned, held = _windows(scene)
    if not learned and model is None:
        raise BadSourceError(
            f"no window of {WINDOW} x {WINDOW} px is free of cloud, so nothing can be learned "
            "here; give model=, a network that was fitted to other images"
        )
    # a scene without clear windows still gives the radar's line an empty set to be fitted to
    train = _under_clouds(scene, learned, settings.seed) if learned else scene
    network = (
        load(model)
        if model is not None
        else fit(Encoder.from_pretrained(weights), train, settings=settings)
    )
    check = _under_clouds(scene, held, settings.seed + EXAMPLES) if held else None
    return choose(network, fit_sar_regression(train), check)


def _windows(scene: Pairs) -> tuple[list[Window], list[Window]]:
    """Return the clear windows to learn from and those to score on; none of both overlap."""
    height, width = scene.cloud.shape[1:]
    lost = scene.cloud[0] | ~np.isfinite(scene.cloudy[0]).any(0)
    every = [
        (slice(y, y + WINDOW), slice(x, x + WINDOW))
        for y in range(0, height - WINDOW + 1, STEP)
        for x in range(0, width - WINDOW + 1, STEP)
    ]
    clear = [part for part in every if not lost[part].any()]
    apart = [part for part in clear if not any(side.start % WINDOW for side in part)]
    held = apart[1::HELD_OUT]
    learned = [
        one
        for one in clear
        if not any(
            all(abs(a.start - b.start) < WINDOW for a, b in zip(one, other, strict=True))
            for other in held
        )
    ]
    return (learned, held) if learned else (clear, [])


def _under_clouds(scene: Pairs, parts: list[Window], seed: int) -> Pairs:
    """Return windows of a place under simulated clouds, each as often as gives `EXAMPLES`."""
    images = np.stack([scene.cloudy[0][:, *part] for part in parts])
    sar = np.stack([scene.sar[0][:, *part] for part in parts])
    day = np.repeat(scene.day, len(parts))
    draws = -(-EXAMPLES // len(parts))
    return Pairs.join(*(simulate(images, sar, day, seed=seed + i) for i in range(draws)))


def _restored(restore: Callable[[Pairs], Restored], scene: Pairs) -> tuple[Floats, Floats]:
    """Return image and uncertainty (C, H, W), by tiles that overlap and fade into each other.

    The fill under a cloud is the mean of its tile: without fading, borders of tiles would show.
    Pixels that are neither clear nor under a cloud stay NaN.
    """
    cloud, cloudy = scene.cloud[0], scene.cloudy[0]
    parts = {f.name: getattr(scene, f.name) for f in fields(scene) if f.name != "day"}
    sums, total = np.zeros((2, *cloudy.shape)), np.full(cloud.shape, 1e-12)
    for tile in tiles(cloud.shape, SIDE, MARGIN):
        if cloud[tile.read].any():
            cut = {name: values[..., *tile.read] for name, values in parts.items()}
            found = restore(Pairs(**cut, day=scene.day))
            # weights rise from both ends of a tile over the width of its overlap
            steps = [np.arange(part.stop - part.start) + 1.0 for part in tile.read]
            weight = np.outer(*(np.minimum(np.minimum(n, n[::-1]), 2 * MARGIN) for n in steps))
            sums[..., *tile.read] += weight * np.stack([found.image[0], found.uncertainty[0]])
            total[tile.read] += weight
    image, error = (sums / total).astype(np.float32)
    return np.where(cloud, image, cloudy), np.where(cloud, error, np.float32(0))
