"""What a token carries: pixels of one sensor, which of them are valid, ground size and date.

Shape letters: B batch, C band, H W pixels, h w tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce

import torch
from einops import rearrange
from torch import Tensor, nn

from msgfm.batch import Batch
from msgfm.errors import SensorError
from msgfm.sensors import Band, bands_of

PATCH = 4
"""Side of a token at the finest stage, in pixels."""

GSD_WAVES = 4
"""Sine and cosine pairs over log2 of the ground sampling distance."""


class Normaliser(nn.Module):
    """Physical units to numbers around 0 and 1, and back; heights relative to their own mean."""

    mean: Tensor
    std: Tensor
    relief: Tensor

    def __init__(self, bands: tuple[Band, ...]) -> None:
        super().__init__()
        # The table's numbers, not those of the batch: an image must not depend on its batch-mates.
        # Nor those of the image, as MAE's targets do (He et al., CVPR 2022): how bright a field is
        # tells what grows there.
        column = (1, -1, 1, 1)
        height = [band.is_height for band in bands]
        self.register_buffer("mean", torch.tensor([b.mean for b in bands]).view(column))
        self.register_buffer("std", torch.tensor([b.std for b in bands]).view(column))
        self.register_buffer("relief", torch.tensor(height).view(column))
        self.has_relief = any(height)

    def forward(self, values: Tensor, valid: Tensor) -> Tensor:
        """Return (B, C, H, W) normalised values, 0 where invalid."""
        # A height is taken from the mean of its chip, so that 30 m of hills read alike at any
        # altitude (decision 0005). The mean includes hidden pixels: one number per chip leaks.
        centre = self.mean
        if self.has_relief:
            count = valid.sum((2, 3), keepdim=True).clamp(min=1)
            own = (values * valid).sum((2, 3), keepdim=True) / count
            centre = torch.where(self.relief, own, centre)
        return torch.where(valid, (values - centre) / self.std, 0.0)

    def invert(self, normalised: Tensor) -> Tensor:
        """Return physical units; a height comes back relative to the mean of its chip."""
        return normalised * self.std + self.mean


class SensorEmbedding(nn.Module):
    """Pixels of one sensor to tokens, by a linear map that also sees which pixels are valid.

    Invalid pixels are 0 in values and in validity, so a band that is not given and a band that is
    invalid everywhere are the same thing.
    """

    def __init__(self, short: str, width: int) -> None:
        super().__init__()
        bands = bands_of(short)
        self.normalise = Normaliser(bands)
        # Swin cuts an image into patches of 4 x 4 pixels and maps each linearly (section 3.1);
        # msGFM has one such map per sensor and shares all else. Ours also reads one channel of
        # validity per band, by which 0 for "average" and 0 for "missing" differ.
        self.project = nn.Linear(2 * len(bands) * PATCH**2, width)
        self.context = nn.Linear(2 * GSD_WAVES + 3, width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, values: Tensor, valid: Tensor, gsd_m: Tensor, day: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return tokens (B, h, w, D) and whether any of their pixels is valid (B, h, w)."""
        return self.tokens(self.normalise(values, valid), valid, context_of(gsd_m, day))

    def tokens(self, pixels: Tensor, valid: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Do the same for normalised pixels and the context of `context_of`."""
        # A linear map of patches is a convolution with a stride of its width, written as a reshape.
        both = torch.cat([pixels, valid.float()], 1)
        patches = rearrange(both, "b c (h p) (w q) -> b h w (c p q)", p=PATCH, q=PATCH)
        some = patches[..., patches.shape[-1] // 2 :].amax(-1) > 0
        # The context is the same in all tokens of an image, so it is added behind their norm, as
        # positions are added to tokens in other Transformers; places within are attention's affair.
        return self.norm(self.project(patches)) + self.context(context)[:, None, None], some


def context_of(gsd_m: Tensor, day: Tensor) -> Tensor:
    """Return (B, 2 `GSD_WAVES` + 3): waves of the ground size, and the season if it is known."""
    # Sines and cosines of a number at wavelengths that double (Vaswani et al., NeurIPS 2017,
    # section 3.5), here of log2 metres, since 10 m to 20 m is as far as 0.5 m to 1 m.
    octave = torch.log2(gsd_m)[:, None]
    waves = octave * 2.0 ** -torch.arange(GSD_WAVES, device=gsd_m.device)
    # A date is a place on the circle of the year, and a third number that says whether it is known.
    dated = torch.isfinite(day)
    angle = torch.where(dated, day, 0.0) * (2 * math.pi / 365.25)
    season = torch.stack([torch.sin(angle), torch.cos(angle), torch.ones_like(angle)], 1)
    return torch.cat([torch.sin(waves), torch.cos(waves), season * dated[:, None]], 1)


class TokenFusion(nn.Module):
    """Tokens of every sensor present, averaged by location; any subset may be missing."""

    def __init__(self, sensors: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.sensors = nn.ModuleDict({short: SensorEmbedding(short, width) for short in sensors})
        # The mask token of SimMIM: MAE leaves hidden tokens out, but windows need the whole grid.
        # Ours stands for all that is not known: hidden, clouded, outside, or never recorded.
        self.unknown = nn.Parameter(torch.zeros(width))

    def of(self, short: str) -> SensorEmbedding:
        """Return the embedding of a sensor, or raise SensorError."""
        module = dict(self.sensors.items()).get(short)
        if not isinstance(module, SensorEmbedding):
            raise SensorError(
                f"this encoder has no embedding for {short!r}; it has: {', '.join(self.sensors)}. "
                "Make one with EncoderConfig(sensors=...) or msgfm.adapt.with_sensor"
            )
        return module

    def forward(self, batch: Batch, masked: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return tokens (B, h, w, D) and ``known`` (B, h, w): some sensor sees something there.

        ``masked`` holds, per sensor, tokens (B, h, w) that are hidden from the model.
        """
        # token = sum_s known_s e_s / sum_s known_s over sensors s. msGFM lets one sensor in at a
        # time; a mean is the simplest rule that any subset obeys, and has no weight that could
        # depend on which sensors met in training (decision 0005).
        parts = []
        for short in batch.sensors:
            tokens, known = self.of(short)(
                batch.values[short], batch.valid[short], batch.gsd_m[short], batch.day[short]
            )
            if short in masked:
                known = known & ~masked[short]
            parts.append((tokens * known[..., None], known.to(tokens.dtype)))
        total, count = (reduce(torch.add, column) for column in zip(*parts, strict=True))
        known = count > 0
        fused = total / count.clamp(min=1)[..., None]
        return torch.where(known[..., None], fused, self.unknown.to(fused.dtype)), known
