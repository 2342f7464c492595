"""Sharpening of files: coarse bands of one image at the pixels of its fine bands.

A network is fitted to the image itself, degraded by Wald's protocol, beside the classical methods.
All are scored on parts of the degraded image that the network did not see, and the best one
sharpens the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from glocal.errors import BadSourceError
from glocal.io.atomic import write_json
from glocal.io.raster import RasterInfo, info, native_grid, read_on, write_cog
from glocal.sources.chips.read import read_image
from glocal.sources.chips.sentinel2 import band_of_name, open_product
from glocal.train.data.captures import AT_SOME_TIME, gsd_m
from glocal.train.data.rasters import holes
from glocal.train.tasks.dense import tiles
from glocal.train.tasks.sharpening.floors import FLOORS, Bools, Floats
from glocal.train.tasks.sharpening.network import (
    FitConfig,
    Sharpener,
    compared,
    fit,
    load,
    predict,
)
from glocal.train.tasks.sharpening.scenes import BandPair, Task, wald
from msgfm import Encoder

NETWORK = "network"

HELD_OUT = 4
"""One in so many blocks of the degraded image is not learned but scored."""

LEAST, SIDE = 16, 128
"""Pixels of a block of the degraded image: at least, and about, where the image is large."""

Block = tuple[slice, slice]
Scores = dict[str, dict[str, float]]


def sharpen_image(
    fine: Path,
    coarse: Path,
    out: Path,
    *,
    weights: str | Path = "nano",
    model: Path | None = None,
    bands: Sequence[str] | None = None,
    fine_bands: Sequence[str] | None = None,
    unit: str | None = None,
    offset: float | None = None,
    config: FitConfig | None = None,
) -> dict[str, Any]:
    """Write the coarse bands of an image at the pixel size of its fine ones.

    The GeoTIFF holds the coarse bands in physical units, sharpened by the method with the least
    relative error (ERGAS) on held-out blocks of the degraded image; a file ``.json`` beside it
    says which one, with all scores. So where the network is worse than a classical method, the
    result is the classical one.

    Parameters
    ----------
    fine
        Sentinel-2 bands of small pixels (folder, SAFE or stacked raster), or a raster of one
        panchromatic band.
    coarse
        The bands to be sharpened: Sentinel-2 (may be the same folder), or red, green and blue
        of 8 bits. Of bands of several pixel sizes the finest that are coarser than ``fine``.
        Both must fit into memory.
    weights, model
        Name or folder of the encoder with which a network is fitted to this image, or folder of
        a network that was fitted before (`network.save`) to the same bands.
    bands, fine_bands, unit, offset
        Names of the bands of ``coarse`` and ``fine``, where the file has none, and how numbers of
        Sentinel-2 are stored, as in `glocal.sources.chips.read.read_image`.

    Returns
    -------
    dict
        JSON-ready: ``method`` that was written, ``scores`` (method -> score, all on the same
        held-out pixels), ``note``, ``bands``, ``ratio``, ``held_out`` (share of pixels).

    Raises
    ------
    BadSourceError
        Bands can't be told apart, pixel sizes that do not divide, too small an image, or a
        ``model`` for other bands.
    """
    stored = {"unit": unit, "offset": offset}
    task, scene, grid = _read(
        Path(fine), Path(coarse), {**stored, "bands": fine_bands}, {**stored, "bands": bands}
    )
    degraded = wald(scene.name, scene.fine, scene.coarse, ratio=task.ratio, gsd_m=scene.gsd_m)
    learned, held_out = _parted(degraded, task.ratio)
    network = _network(task, degraded, learned, weights, model, config)
    images = {n: f(degraded.fine, degraded.coarse, task.ratio) for n, f in FLOORS.items()}
    images[NETWORK] = predict(network, degraded)
    found = compared(images, degraded, task.ratio, held_out)
    if np.isnan(found[NETWORK]["mae"]):
        raise BadSourceError(f"{scene.name}: no held-out pixel has data in all bands to score")
    method = min(found, key=lambda name: found[name]["ergas"])
    if method == NETWORK:
        sharpened = predict(network, scene)
    else:
        sharpened = FLOORS[method](scene.fine, scene.coarse, task.ratio).astype(np.float32)
    write_cog(
        Path(out),
        sharpened,
        grid,
        nodata=float("nan"),
        band_names=task.coarse,
        categorical=False,
    )
    report = {
        "bands": list(task.coarse),
        "held_out": float(held_out.mean()),
        "method": method,
        "note": _note(found, method),
        "ratio": task.ratio,
        "scores": found,
    }
    write_json(Path(out).with_suffix(".json"), report)
    return report


def _read(
    fine: Path, coarse: Path, of_fine: dict[str, Any], of_coarse: dict[str, Any]
) -> tuple[Task, BandPair, GeoBox]:
    """Return the task, the image without truth, and the grid of the result."""
    # a panchromatic band is the one band of a raster that no name calls a Sentinel-2 band, and a
    # colour image has three of 8 bits
    high_plain, low_plain = _plain(fine, of_fine["bands"]), _plain(coarse, of_coarse["bands"])
    pan = high_plain is not None and len(high_plain.dtypes) == 1 and not band_of_name(fine.stem)
    colour = low_plain is not None and low_plain.dtypes == ("uint8",) * 3
    high_grids = {"pan": native_grid(fine)} if pan else _band_grids(fine, of_fine["bands"])
    size = min(map(_size, high_grids.values()))
    low_grids = (
        dict.fromkeys("RGB", native_grid(coarse))
        if colour
        else _band_grids(coarse, of_coarse["bands"])
    )
    ratio, names = _chosen(low_grids, size, coarse)
    grid = low_grids[names[0]]
    large = grid.zoom_to((grid.shape.y * ratio, grid.shape.x * ratio))
    low = _layers(coarse, grid, names, None if colour else of_coarse)
    sharp = tuple(name for name, one in high_grids.items() if _size(one) == size)
    high = _pan(fine, large) if pan else _layers(fine, large, sharp, of_fine)
    task = Task(sensor="rgb" if colour else "s2", fine=sharp, coarse=names, ratio=ratio)
    scene = BandPair(name=coarse.name, fine=high, coarse=low, gsd_m=gsd_m(large))
    return task, scene, large


def _plain(path: Path, bands: Sequence[str] | None) -> RasterInfo | None:
    """Return the header of a raster without names of bands, None for anything else."""
    if bands or path.is_dir() or not path.exists():
        return None
    header = info(path)
    return None if any(map(band_of_name, header.descriptions)) else header


def _band_grids(path: Path, bands: Sequence[str] | None) -> dict[str, GeoBox]:
    product = open_product(path, tuple(bands) if bands else None)
    return {name: native_grid(file) for name, (file, _) in product.bands.items()}


def _size(grid: GeoBox) -> float:
    return round(abs(float(grid.resolution.x)), 9)


def _chosen(grids: dict[str, GeoBox], size: float, path: Path) -> tuple[int, tuple[str, ...]]:
    """Return the ratio and the bands of the finest pixels that are coarser than ``size``."""
    coarser = [one for one in map(_size, grids.values()) if one > 1.01 * size]
    if not coarser:
        raise BadSourceError(
            f"{path} has no band of larger pixels than the fine image, {size:g}; give the bands "
            "that are to be sharpened at their own pixel size"
        )
    ratio = min(coarser) / size
    if abs(ratio - round(ratio)) > 0.01 or round(ratio) < 2:
        raise BadSourceError(
            f"coarse pixels must be a whole number of fine ones, got {min(coarser):g} and "
            f"{size:g}; both images must have the same CRS, resample one of them"
        )
    return round(ratio), tuple(name for name, g in grids.items() if _size(g) == min(coarser))


def _layers(
    path: Path, grid: GeoBox, names: Sequence[str], stored: dict[str, Any] | None
) -> Floats:
    """Return the named bands (C, H, W) of an image on a grid, NaN where invalid.

    ``stored`` says how Sentinel-2 is stored; None is a colour image.
    """
    kind = "rgb" if stored is None else "sentinel2"
    chip = read_image(path, kind, grid, interval=AT_SOME_TIME, source=path.name, **(stored or {}))
    return holes(chip)[[chip.band_names.index(name) for name in names]]


def _pan(path: Path, grid: GeoBox) -> Floats:
    """Return a panchromatic band (1, H, W) as stored: every method fits its scale."""
    values, valid = read_on(path, grid, resampling="bilinear")
    if not valid.any():
        raise BadSourceError(f"{path} has no valid pixel where the coarse bands are")
    return np.where(valid, values, np.float32(np.nan))[None].astype(np.float32)


def _parted(scene: BandPair, ratio: int) -> tuple[list[Block], Bools]:
    """Return the blocks to learn, in coarse pixels, and where (H, W) to score."""
    rows, columns = scene.coarse.shape[1:]
    side = min(SIDE // ratio, min(rows, columns) // 2)
    if side * ratio < LEAST:
        least = 2 * LEAST
        raise BadSourceError(
            f"{scene.name}: coarse bands of {rows * ratio} x {columns * ratio} pixels are too "
            f"small to learn and score on; at least {least} x {least} are needed"
        )
    # a coarse pixel counts where all fine ones of it have data
    full = np.isfinite(scene.fine).all(axis=0).reshape(rows, ratio, columns, ratio)
    known = np.asarray(np.isfinite(scene.coarse).all(axis=0) & full.all(axis=(1, 3)))
    whole = tiles((rows // side * side, columns // side * side), side, 0)
    blocks = [one.write for one in whole if known[one.write].mean() > 0.5]
    if len(blocks) < HELD_OUT:
        raise BadSourceError(
            f"{scene.name}: {HELD_OUT} blocks of {side * ratio} coarse pixels with data are needed "
            f"to learn and score on, found {len(blocks)}; give a larger image"
        )
    held = blocks[HELD_OUT // 2 :: HELD_OUT]
    scored = np.zeros((rows * ratio, columns * ratio), bool)
    for block in held:
        scored[tuple(slice(s.start * ratio, s.stop * ratio) for s in block)] = True
    return [block for block in blocks if block not in held], scored


def _network(
    task: Task,
    scene: BandPair,
    blocks: Sequence[Block],
    weights: str | Path,
    model: Path | None,
    config: FitConfig | None,
) -> Sharpener:
    if model is not None:
        found = load(model)
        same = (found.task.sensor, found.task.fine, found.task.coarse, found.task.ratio)
        if same != (task.sensor, task.fine, task.coarse, task.ratio):
            raise BadSourceError(f"{model} sharpens {found.task}, these images are {task}")
        return found
    given = config or FitConfig()
    parts = [scene.window(*block, task.ratio) for block in blocks]
    chip = min(given.chip, *(n for part in parts for n in part.fine.shape[1:]))
    return fit(Encoder.from_pretrained(weights), task, parts, replace(given, chip=chip))


def _note(found: Scores, method: str) -> str:
    best = min((name for name in found if name != NETWORK), key=lambda n: found[n]["ergas"])
    own, other = (found[name]["ergas"] for name in (NETWORK, best))
    compared = f"ERGAS {own:.3g} against {other:.3g} of {best}, the best classical method"
    if method == NETWORK:
        return f"the network was the best on held-out blocks: {compared}"
    return f"the network was worse on held-out blocks, so {best} was used: {compared}"
