"""Pan-sharpening experiments: where the scenes come from, and what is trained on what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import rasterio
from numpy.typing import NDArray

from glocal.train.tasks.sharpening.network import FitConfig, run
from glocal.train.tasks.sharpening.scenes import BandPair, Task, wald, with_pan
from msgfm import Encoder

FINE = ("B02", "B03", "B04", "B08")
ALL = ("B05", "B06", "B07", "B8A", "B11", "B12")
KEMPEN = ("B8A", "B11")
"""The 20 m bands of the Kempen scene; its B09 is a 60 m band."""

PAN_WEIGHTS = (0.3, 0.4, 0.3)
"""Of red, green, blue in the SYNTHETIC panchromatic band; declared, not measured."""

GAP = 8
"""Coarse pixels left out between the training and the test half of a scene."""

Rows = list[dict[str, str | float]]
Floats = NDArray[np.float32]


def sentinel2(coarse: tuple[str, ...] = ALL, base: str = "hypersharpening") -> Task:
    """Return the task of sharpening 20 m bands with the four 10 m bands."""
    return Task(sensor="s2", fine=FINE, coarse=coarse, ratio=2, base=base)


def colour(base: str = "hypersharpening") -> Task:
    """Return the task of sharpening colour by 4 with a synthetic panchromatic band."""
    return Task(sensor="rgb", fine=("pan",), coarse=("R", "G", "B"), ratio=4, base=base)


def dsen2_tile(data: Path, coarse: tuple[str, ...] = ALL) -> BandPair:
    """Read the L1C tile that comes with DSen2 (Lanaras et al. 2018), degraded by Wald's protocol.

    Its 10 m bands lie in the order B04, B03, B02, B08.
    """
    with h5py.File(data / "s2-misc" / "dsen2_S2A_MSIL1C_20170527_T33UUB.mat") as file:
        fine, rest = (np.asarray(file[name], np.float32) / 10_000 for name in ("im10", "im20"))
    chosen = rest[[ALL.index(name) for name in coarse]]
    return wald("dsen2", fine[[2, 1, 0, 3]], chosen, ratio=2, gsd_m=10)


def kempen(data: Path) -> BandPair:
    """Read the Kempen scene; its 20 m bands were doubled to 10 m by repetition, undone here."""
    arrays = {name: _raster(data / "belgium" / f"kempen_S2_{name}.tif") for name in FINE + KEMPEN}
    for name in KEMPEN:
        doubled = np.kron(arrays[name][::2, ::2], np.ones((2, 2), np.float32))
        if not np.array_equal(doubled, arrays[name]):
            raise ValueError(f"{name} of Kempen is not made of doubled 20 m pixels")
    coarse = np.stack([arrays[name][::2, ::2] for name in KEMPEN])
    return wald("kempen", np.stack([arrays[n] for n in FINE]), coarse, ratio=2, gsd_m=10)


def bigearthnet(data: Path, coarse: tuple[str, ...] = ALL) -> list[BandPair]:
    """Read the L2A patches of BigEarthNet in their native pixel sizes."""
    scenes = []
    for folder in sorted((data / "bigearthnet-15" / "BigEarthNet-S2-Example").iterdir()):
        fine, rest = (
            np.stack([_raster(folder / f"{folder.name}_{name}.tif") for name in names])
            for names in (FINE, coarse)
        )
        scenes.append(wald(f"bigearthnet_{folder.name}", fine, rest, ratio=2, gsd_m=10))
    return scenes


def aerial(data: Path) -> list[BandPair]:
    """Read the twelve 15 cm aerial pictures; the panchromatic band is synthetic."""
    paths = sorted((data / "rgb-misc" / "usgs_hro15cm").glob("*.tif"))
    return [
        with_pan(f"aerial_{p.stem}", _picture(p), PAN_WEIGHTS, ratio=4, gsd_m=0.15) for p in paths
    ]


def naip(data: Path) -> list[BandPair]:
    """Read both dates of the 5 m NAIP scene (one place); the panchromatic band is synthetic."""
    paths = sorted((data / "rgb-misc" / "naip").glob("*.tif"))
    return [
        with_pan(f"naip_{p.stem}", _picture(p)[:3], PAN_WEIGHTS, ratio=4, gsd_m=5.0) for p in paths
    ]


def halves(scene: BandPair, ratio: int) -> tuple[BandPair, BandPair]:
    """Return the left and the right half of a scene, a gap between them."""
    rows, columns = scene.coarse.shape[1:]
    middle, whole = columns // 2, slice(0, rows)
    left = scene.window(whole, slice(0, middle - GAP // 2), ratio)
    return left, scene.window(whole, slice(middle + GAP // 2, columns), ratio)


def one_tile(
    data: Path, encoders: Mapping[str, Encoder], config: FitConfig, base: str = "hypersharpening"
) -> Rows:
    """Train on half a tile in Germany; test on its other half and on BigEarthNet's patches."""
    train, test = halves(dsen2_tile(data), 2)
    return run(encoders, sentinel2(base=base), [train], [test, *bigearthnet(data)], config)


def two_scenes(
    data: Path, encoders: Mapping[str, Encoder], config: FitConfig, base: str = "hypersharpening"
) -> Rows:
    """Train on half of Kempen (B8A and B11); test on its other half and on the DSen2 tile."""
    train, test = halves(kempen(data), 2)
    return run(encoders, sentinel2(KEMPEN, base), [train], [test, dsen2_tile(data, KEMPEN)], config)


def pictures(
    data: Path, encoders: Mapping[str, Encoder], config: FitConfig, base: str = "hypersharpening"
) -> Rows:
    """Train on every second aerial picture; test on the others and on NAIP."""
    scenes = aerial(data)
    return run(encoders, colour(base), scenes[::2], [*scenes[1::2], *naip(data)], config)


def _raster(path: Path) -> Floats:
    with rasterio.open(path) as file:
        stored = file.read(1, masked=True)
    return (stored.astype(np.float32) / 10_000).filled(np.nan)


def _picture(path: Path) -> Floats:
    with rasterio.open(path) as file:
        return (file.read(masked=True).astype(np.float32) / 255).filled(np.nan)
