"""Two partial looks at one place should be recognised as the same place among others.

Masked modelling alone leaves features that a linear probe reads no better than random ones at our
scale (docs/decisions/0005), so pretraining may add this term: InfoNCE over pairs of random crops,
as in SimCLR (Chen et al., ICML 2020). Where a place has several sensors, the two looks may
be by different ones. Shape letters: B batch, C band, H W pixels, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from msgfm.batch import Batch
from msgfm.encoder import Encoder, Features, pool
from msgfm.sensors import Band, bands_of

GAIN = 0.2
"""Largest change of an optical image's brightness and contrast, and of relief, as a share."""

TINT = 0.07
"""Largest change of one optical band against the others, as a share."""

DECIBELS = 1.0
"""Largest change of a radar image."""


class Agreement(nn.Module):
    """InfoNCE between two looks at each place, on the mean features of the two deepest stages.

    The shallow stages learn more from it through the deep ones than when they are asked themselves.
    """

    def __init__(self, widths: Sequence[int], *, side: int, temperature: float = 0.15) -> None:
        """Make the head; ``side`` is that of a look in pixels."""
        super().__init__()
        self.side, self.temperature = side, temperature
        # SimCLR's projection head (its section 4.2): what InfoNCE makes invariant is lost behind
        # it, so it is thrown away after training. Its norm is over a layer: through one over the
        # batch a network can cheat (MoCo, He et al., CVPR 2020, section 3.3).
        self.head = nn.Sequential(
            nn.Linear(sum(widths[-2:]), 512), nn.LayerNorm(512), nn.GELU(), nn.Linear(512, 128)
        )

    def forward(self, encoder: Encoder, batch: Batch, sensors: tuple[str, str]) -> Tensor:
        """Return the loss; ``sensors`` says who takes the first and who the second look.

        Places where a look sees nothing are left out. Under several processes each
        compares its own places only.
        """
        looks = [look(batch.only(sensor), self.side) for sensor in sensors]
        seen = torch.stack([one.seen for one in looks]).all(0)
        vectors = [self._vector(encoder(one))[seen] for one in looks]
        count = int(seen.sum())
        if count < 2:
            return sum((v.sum() * 0 for v in vectors), start=vectors[0].new_zeros(()))
        # SimCLR, eq. 1, over 2 N looks: -log (exp(z_i z_j / t) / sum over k != i exp(z_i z_k / t)).
        # Look j of the same place stands N rows away; these are cosines, since z has length 1.
        z = F.normalize(torch.cat(vectors), dim=1)
        alike = z @ z.T / self.temperature
        alike.fill_diagonal_(float("-inf"))
        return F.cross_entropy(alike, torch.arange(2 * count, device=z.device).roll(count))

    def _vector(self, features: Features) -> Tensor:
        pairs = list(zip(features.maps, features.known, strict=True))[-2:]
        means = [pool(m.float(), k)[:, : m.shape[-1]] for m, k in pairs]
        out: Tensor = self.head(torch.cat(means, 1))
        return out.float()


def look(batch: Batch, side: int) -> Batch:
    """Return a random crop of each place, turned or mirrored, with its light changed a little.

    Drawn with PyTorch's generator, so that seeding it makes the looks repeatable. All sensors of
    the batch are cropped alike. An image smaller than ``side`` is taken whole.
    """
    count, (height, width) = len(batch), batch.shape_yx
    side = min(side, height, width)
    device = next(iter(batch.values.values())).device
    rows = _run(count, height, side, device)
    columns = _run(count, width, side, device)
    # Falling rows, falling columns and exchanging both are the eight ways to lay a square down:
    # seen from above, ground has no up. No change of scale: the size of a pixel is an input.
    turned = torch.rand(count, device=device) < 0.5
    places = torch.arange(count, device=device)[:, None, None]

    def crop(image: Tensor) -> Tensor:
        cut = rearrange(image[places, :, rows[:, :, None], columns[:, None]], "b h w c -> b c h w")
        return torch.where(turned[:, None, None, None], cut.transpose(2, 3), cut)

    valid = {name: crop(one) for name, one in batch.valid.items()}
    values = {
        name: _relit(crop(one), valid[name], bands_of(name)) for name, one in batch.values.items()
    }
    return Batch(values=values, valid=valid, gsd_m=batch.gsd_m, day=batch.day)


def _run(count: int, length: int, side: int, device: torch.device) -> Tensor:
    """Return (B, side) neighbouring positions, rising or falling."""
    start = (torch.rand(count, 1, device=device) * (length - side + 1)).long()
    position = start + torch.arange(side, device=device)
    return torch.where(torch.rand(count, 1, device=device) < 0.5, position, position.flip(1))


def _relit(values: Tensor, valid: Tensor, bands: tuple[Band, ...]) -> Tensor:
    """Change brightness, contrast and tint; decibels are shifted, relief is stretched."""
    optical = _column(values, [band.wavelength_um is not None for band in bands])
    radar = _column(values, [band.is_radar for band in bands])
    # SimCLR's colour distortions, far weaker: brightness and contrast as haze and sun change them,
    # and hardly the ratios of bands, by which plants, water and soil differ.
    mean = (values * valid).sum((2, 3), keepdim=True) / valid.sum((2, 3), keepdim=True).clamp(1)
    gain = 1 + GAIN * _even(values, 1)
    tint = (1 + GAIN * _even(values, 1)) * (1 + TINT * _even(values, values.shape[1]))
    light = (mean + (values - mean) * gain) * tint
    shifted = values + DECIBELS * _even(values, 1)
    changed = torch.where(optical, light, torch.where(radar, shifted, values * gain))
    return torch.where(valid, changed, 0.0)


def _column(like: Tensor, flags: list[bool]) -> Tensor:
    return torch.tensor(flags, device=like.device)[:, None, None]


def _even(like: Tensor, bands: int) -> Tensor:
    """Return (B, bands, 1, 1) numbers between -1 and 1."""
    return 2 * torch.rand(like.shape[0], bands, 1, 1, device=like.device) - 1
