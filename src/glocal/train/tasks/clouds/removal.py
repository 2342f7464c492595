"""What would be seen without the cloud: Sentinel-1 and a clouded Sentinel-2 image to a clear one.

The encoder sees the clear pixels and the radar together; clouded pixels are invalid to it. A
head corrects a simple fill, with the pixels themselves beside the encoder's maps. Pixels that
were seen stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from torch import Tensor, nn

from glocal.core.chip import Chip
from glocal.errors import BadSourceError, CheckpointError
from glocal.io.raster import read_on, write_cog
from glocal.model.batch import Batch
from glocal.model.checkpoint import fill as fill_module
from glocal.model.checkpoint import read, write
from glocal.model.encoder import Encoder, config_of
from glocal.model.heads import ImageHead
from glocal.sources.imagery import read_scl
from glocal.train.data.captures import day_of
from glocal.train.data.rasters import Images, holes
from glocal.train.tasks.clouds.pairs import (
    BANDS,
    CLOUDY_SCL,
    MEAN,
    SAR_MEAN,
    SAR_STD,
    STD,
    Bools,
    Floats,
    Pairs,
    filled,
    observed,
    simulate,
    spectrum,
)
from glocal.train.tasks.dense import Settings, maps_of, minimise, seeded, tiles
from glocal.train.tasks.unet import UNet

__all__ = [
    "CloudRemover",
    "Restored",
    "fit",
    "load",
    "restore",
    "run",
    "save",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Restored:
    """Images without cloud."""

    image: Floats
    """(B, C, H, W) reflectance: as observed where clear, estimated under cloud."""

    uncertainty: Floats
    """(B, C, H, W) standard uncertainty of the estimate; 0 where observed."""


def batch(pairs: Pairs) -> Batch:
    """Return what the encoder may see: clear pixels, and the radar where there is any."""
    seen, radar = observed(pairs), np.isfinite(pairs.sar)
    values = {"s2": np.where(seen, pairs.cloudy, 0), "sar": np.where(radar, pairs.sar, 0)}
    gsd = torch.full((len(pairs),), 10.0)
    day = torch.from_numpy(pairs.day.astype(np.float32))
    return Batch(
        values={name: torch.from_numpy(v.astype(np.float32)) for name, v in values.items()},
        valid={"s2": torch.from_numpy(seen), "sar": torch.from_numpy(radar)},
        gsd_m={"s2": gsd, "sar": gsd},
        day={"s2": day, "sar": day},
    )


def pixels(pairs: Pairs, prior: Floats) -> Tensor:
    """Return fill, clouded image, radar (all normalised) and masks: (B, 2 C + 4, H, W).

    The clouded image is given as it is: thin cloud and shadow show what lies below.
    """
    column = (slice(None), None, None)
    fill = (filled(pairs, prior) - MEAN[column]) / STD[column]
    raw = np.nan_to_num((pairs.cloudy - MEAN[column]) / STD[column]).clip(-3, 8)
    radar = np.nan_to_num((pairs.sar - SAR_MEAN) / SAR_STD).clip(-4, 4)
    heard = np.isfinite(pairs.sar).any(1, keepdims=True)
    stack = np.concatenate([fill, raw, radar, heard, pairs.cloud[:, None]], 1)
    return torch.from_numpy(stack.astype(np.float32))


PIXELS = 2 * len(BANDS) + 4
"""Channels of :func:`pixels`."""


class CloudRemover(nn.Module):
    """Encoder and image head; without an encoder, a U-Net on the same pixels."""

    prior: Tensor

    def __init__(self, encoder: Encoder | None, *, width: int = 48) -> None:
        super().__init__()
        outputs = 2 * len(BANDS)
        self.encoder = encoder
        self.width = width
        self.net = (
            UNet(PIXELS, outputs)
            if encoder is None
            else ImageHead(encoder.config.widths, PIXELS, outputs, width=width)
        )
        # an untrained network leaves the fill as it is
        nn.init.zeros_(self.net.out.weight)
        self.register_buffer("prior", torch.from_numpy(MEAN.copy()))

    def maps(self, pairs: Pairs) -> list[Tensor]:
        """Return the encoder's maps, without gradients."""
        return maps_of(self.encoder, batch(pairs)) if self.encoder else []

    def forward(self, maps: list[Tensor], given: Tensor) -> tuple[Tensor, Tensor]:
        """Return the correction of the fill and the logarithm of its scale.

        Both (B, C, H, W), in units of the bands' usual spread.
        """
        out = self.net(maps, given) if self.encoder else self.net(given)
        change, scale = out.chunk(2, 1)
        return change, scale.clamp(-6, 3)


def fit(
    encoder: Encoder | None,
    pairs: Pairs,
    *,
    frozen: bool = True,
    settings: Settings | None = None,
) -> CloudRemover:
    """Fit a head (``encoder=None``: a U-Net) to pairs.

    The loss is the absolute error where cloud hides a pixel whose truth is known; a second
    output learns the size of that error (a Laplace scale) without changing the first.
    """
    given = settings or Settings()
    if not (np.isfinite(pairs.clear) & pairs.cloud[:, None]).any():
        raise BadSourceError("no pixel under cloud has a known truth, so there is nothing to learn")
    with seeded(given.seed):
        inner = encoder if frozen else copy.deepcopy(encoder)
        model = CloudRemover(inner, width=given.width)
        model.prior.copy_(torch.from_numpy(spectrum(pairs)))
        _learn(model, pairs, frozen or encoder is None, given)
    return model.eval()


def _learn(model: CloudRemover, pairs: Pairs, frozen: bool, settings: Settings) -> None:
    prior = model.prior.numpy()
    inputs, target, weight = pixels(pairs, prior), *_target(pairs, prior)
    maps = model.maps(pairs) if frozen else []
    inputs_of = batch(pairs)
    model.train()

    def loss_of(rows: Tensor) -> Tensor:
        levels = [one[rows] for one in maps]
        if model.encoder is not None and not frozen:
            levels = list(model.encoder(inputs_of.rows(rows)).maps)
        change, scale = model(levels, inputs[rows])
        return _loss(change, scale, target[rows], weight[rows])

    groups: list[tuple[nn.Module, float]] = [(model.net, settings.rate)]
    if model.encoder is not None and not frozen:
        groups.append((model.encoder, settings.encoder_rate))
    minimise(groups, loss_of, len(pairs), settings)


def _target(pairs: Pairs, prior: Floats) -> tuple[Tensor, Tensor]:
    """Return what must be added to the fill, in usual spreads, and where that is known."""
    known = np.isfinite(pairs.clear) & pairs.cloud[:, None]
    change = (pairs.clear - filled(pairs, prior)) / STD[:, None, None]
    return (
        torch.from_numpy(np.where(known, change, 0).astype(np.float32)),
        torch.from_numpy(known.astype(np.float32)),
    )


def _loss(change: Tensor, scale: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    error = (change - target).abs()
    size = error.detach() * torch.exp(-scale) + scale
    return ((error + 0.1 * size) * weight).sum() / weight.sum().clamp(min=1)


def restore(model: CloudRemover, pairs: Pairs) -> Restored:
    """Return the images without their clouds; ``pairs.clear`` is not looked at."""
    prior = model.prior.numpy()
    model.eval()
    images, spreads = [], []
    with torch.inference_mode():
        for i in range(len(pairs)):
            one = pairs.rows(slice(i, i + 1))
            change, scale = model(model.maps(one), pixels(one, prior))
            spread = STD[:, None, None]
            image = filled(one, prior) + change.numpy() * spread
            # the standard deviation of a Laplace distribution is its scale times sqrt(2)
            error = np.sqrt(2) * scale.exp().numpy() * spread
            seen = observed(one)
            images.append(np.where(seen, one.cloudy, image.clip(0, 1.5)))
            spreads.append(np.where(seen, 0, error))
    return Restored(
        image=np.concatenate(images).astype(np.float32),
        uncertainty=np.concatenate(spreads).astype(np.float32),
    )


# Files ----------------------------------------------------------------------

RADAR = ("VV", "VH")

SIDE, MARGIN = 128, 32
"""Pixels of a tile that a raster is restored by, and of the surroundings it is read with."""

WINDOW, STEP = 64, 32
"""Pixels of the clear windows that a scene is learned from, and from one to the next."""

EXAMPLES = 64
"""Clouded windows that are learned from; the clear ones get several clouds to reach that."""


def save(model: CloudRemover, folder: Path) -> None:
    """Write a fitted network with its encoder: safetensors and a manifest."""
    if model.encoder is None:
        raise CheckpointError("a network without an encoder is a floor and is not saved")
    about = {"config": asdict(model.encoder.config), "task": "clouds", "width": model.width}
    write(Path(folder), model.state_dict(), about)


def load(folder: Path) -> CloudRemover:
    """Read what :func:`save` wrote.

    Raises
    ------
    CheckpointError
        Damaged, newer than this code, or made for another task.
    """
    folder = Path(folder)
    tensors, manifest = read(folder)
    if manifest.get("task") != "clouds":
        raise CheckpointError(f"{folder} holds no cloud-removal network; make one with `save`")
    model = CloudRemover(Encoder(config_of(manifest)), width=int(manifest["width"]))
    fill_module(model, tensors, folder)
    return model.eval()


def run(
    images: Images,
    out: Path,
    *,
    cloud: Path | None = None,
    model: Path | None = None,
    weights: str | Path = "nano",
    settings: Settings | None = None,
) -> float:
    """Write a Sentinel-2 image without its clouds; return the share that was estimated.

    The GeoTIFF holds the bands of the input as reflectance, and a last band
    ``uncertainty``: the standard uncertainty, mean over bands, 0 where the pixel was seen.

    Parameters
    ----------
    images
        ``s2`` and, much better with it, ``sar``; they must fit into memory.
    cloud
        Raster that is not 0 under cloud and shadow. Without it the product's own scene
        classification is used.
    model
        Folder of a network that was fitted before (:func:`save`). Without it one is fitted
        to the clear parts of this very image, under simulated clouds.

    Raises
    ------
    BadSourceError
        No Sentinel-2 image, no cloud mask, or too little that is clear to learn from.
    """
    if images.s2 is None:
        raise BadSourceError("cloud removal needs a Sentinel-2 image: Images(s2=...)")
    grid = images.grid()
    hidden = _cloud_mask(images.s2, cloud, grid)
    chips = images.chips(grid)
    scene = _scene(chips, hidden)
    fitted = load(model) if model is not None else _fit_to(scene, weights, settings)
    names = chips["s2"].band_names
    order = [BANDS.index(name) for name in names]
    image, error = _restored(fitted, scene)
    layers = np.concatenate([image[order], error[order].mean(0, keepdims=True)])
    write_cog(
        Path(out),
        layers.astype(np.float32),
        grid,
        nodata=float("nan"),
        band_names=(*names, "uncertainty"),
        categorical=False,
    )
    return float(hidden.mean())


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
        day=np.array([day_of(chips["s2"].interval)], np.float32),
    )


def _fit_to(scene: Pairs, weights: str | Path, settings: Settings | None) -> CloudRemover:
    """Fit to the clear windows of a place, under simulated clouds."""
    given = settings or Settings()
    height, width = scene.cloud.shape[1:]
    lost = scene.cloud[0] | ~np.isfinite(scene.cloudy[0]).any(0)
    corners = [
        (slice(y, y + WINDOW), slice(x, x + WINDOW))
        for y in range(0, height - WINDOW + 1, STEP)
        for x in range(0, width - WINDOW + 1, STEP)
    ]
    clear = [part for part in corners if not lost[part].any()]
    if not clear:
        raise BadSourceError(
            f"no window of {WINDOW} x {WINDOW} px is free of cloud, so nothing can be learned "
            "here; give model=, a network that was fitted to other images"
        )
    images = np.stack([scene.cloudy[0][:, *part] for part in clear])
    sar = np.stack([scene.sar[0][:, *part] for part in clear])
    day = np.repeat(scene.day, len(clear))
    draws = -(-EXAMPLES // len(clear))
    parts = [simulate(images, sar, day, seed=given.seed + i) for i in range(draws)]
    return fit(Encoder.from_pretrained(weights), Pairs.join(*parts), settings=given)


def _restored(model: CloudRemover, scene: Pairs) -> tuple[Floats, Floats]:
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
            found = restore(model, Pairs(**cut, day=scene.day))
            weight = np.outer(*map(_ramp, tile.read))
            sums[..., *tile.read] += weight * np.stack([found.image[0], found.uncertainty[0]])
            total[tile.read] += weight
    image, error = (sums / total).astype(np.float32)
    return np.where(cloud, image, cloudy), np.where(cloud, error, np.float32(0))


def _ramp(part: slice) -> NDArray[np.float64]:
    """Return weights that rise from both ends of a tile over the width of its overlap."""
    steps = np.arange(part.stop - part.start) + 1.0
    return np.minimum(np.minimum(steps, steps[::-1]), 2 * MARGIN)
