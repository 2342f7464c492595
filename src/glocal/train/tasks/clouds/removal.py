"""What would be seen without the cloud: Sentinel-1 and a clouded Sentinel-2 image to a clear one.

The encoder sees the clear pixels and the radar together; clouded pixels are invalid to it. A
head corrects a simple fill, with the pixels themselves beside the encoder's maps. Pixels that
were seen stay as they are.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from glocal.errors import BadSourceError
from glocal.train.tasks.clouds.pairs import (
    BANDS,
    MEAN,
    SAR_MEAN,
    SAR_STD,
    STD,
    Floats,
    Pairs,
    filled,
    observed,
    spectrum,
)
from glocal.train.tasks.dense import Settings, maps_of, minimise, seeded
from glocal.train.tasks.unet import UNet
from msgfm.batch import Batch
from msgfm.checkpoint import fill as fill_module
from msgfm.checkpoint import read, write
from msgfm.encoder import Encoder, config_of
from msgfm.errors import CheckpointError
from msgfm.heads import ImageHead


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
    inputs = pixels(pairs, prior)
    # what must be added to the fill, in usual spreads, and where that is known
    known = np.isfinite(pairs.clear) & pairs.cloud[:, None]
    lacking = (pairs.clear - filled(pairs, prior)) / STD[:, None, None]
    target = torch.from_numpy(np.where(known, lacking, 0).astype(np.float32))
    weight = torch.from_numpy(known.astype(np.float32))
    maps = model.maps(pairs) if frozen else []
    inputs_of = batch(pairs)
    model.train()

    def loss_of(rows: Tensor) -> Tensor:
        levels = [one[rows] for one in maps]
        if model.encoder is not None and not frozen:
            levels = list(model.encoder(inputs_of.rows(rows)).maps)
        change, scale = model(levels, inputs[rows])
        # |error| for the change; for its scale s the likelihood of Laplace, |error| / e^s + s, with
        # the error detached, so that a doubtful pixel is not made to count less
        error = (change - target[rows]).abs()
        size = error.detach() * torch.exp(-scale) + scale
        total: Tensor = ((error + 0.1 * size) * weight[rows]).sum()
        return total / weight[rows].sum().clamp(min=1)

    groups: list[tuple[nn.Module, float]] = [(model.net, settings.rate)]
    if model.encoder is not None and not frozen:
        groups.append((model.encoder, settings.encoder_rate))
    minimise(groups, loss_of, len(pairs), settings)


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
