"""Heads that turn the encoder's maps into classes or images at the resolution of the input.

All are made for ``encoder.config.widths`` and take ``Features.maps``: four maps, each (B, h, w, D)
with channels last, at strides 4, 8, 16 and 32. Normalisation is over the channels of one location
only, so that neither the other images of a batch nor the padding around a small image changes a
result.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

POOLED = (1, 2, 3, 6)
"""Cells per side of the pyramid pooling module (Zhao et al. 2017, PSPNet)."""

FINEST = 4
"""Pixels per token of the first map."""


class _Norm(nn.Module):
    """Layer normalisation over the channels of each location of (B, D, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


def conv(width_in: int, width: int, side: int = 3) -> nn.Sequential:
    """Return convolution, normalisation over channels, GELU; (B, D, H, W) keeps its size."""
    return nn.Sequential(
        nn.Conv2d(width_in, width, side, padding=side // 2, bias=False), _Norm(width), nn.GELU()
    )


def _enlarge(x: Tensor, factor: int, size: Sequence[int]) -> Tensor:
    """Return x enlarged by a whole factor and cut to ``size``: tokens stay over their pixels."""
    large = functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    return large[..., : size[0], : size[1]]


def _channels_first(maps: Sequence[Tensor]) -> list[Tensor]:
    return [one.permute(0, 3, 1, 2) for one in maps]


class _Pyramid(nn.Module):
    """Pyramid pooling on the last map, then a top-down path; one map at stride 4 comes out."""

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.pooled = nn.ModuleList(conv(widths[-1], width, 1) for _ in POOLED)
        self.top = conv(widths[-1] + len(POOLED) * width, width)
        self.lateral = nn.ModuleList(conv(one, width, 1) for one in widths[:-1])
        self.smooth = nn.ModuleList(conv(width, width) for _ in widths[:-1])
        self.fuse = conv(len(widths) * width, width)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        *lower, last = _channels_first(maps)
        # Pyramid pooling (PSPNet, figure 3): means over 1, 4, 9 and 36 parts of the last map go
        # back to every place of it, so that a field knows if it lies by a town or by a forest.
        pools = []
        for side, one in zip(POOLED, self.pooled, strict=True):
            small = one(functional.adaptive_avg_pool2d(last, side))
            pools.append(
                functional.interpolate(
                    small, size=tuple(last.shape[-2:]), mode="bilinear", align_corners=False
                )
            )
        levels = [self.top(torch.cat([last, *pools], 1))]
        # Feature pyramid (Lin et al., CVPR 2017): from coarse to fine, each level adds what the one
        # above it has understood to what it sees itself.
        for i in reversed(range(len(lower))):
            side = self.lateral[i](lower[i])
            levels.append(side + _enlarge(levels[-1], 2, side.shape[-2:]))
        # UPerNet: every level, smoothed, is brought to the finest and all are joined
        finest = levels[-1].shape[-2:]
        smooth = [levels[0], *(self.smooth[-i](x) for i, x in enumerate(levels[1:], 1))]
        aligned = [
            _enlarge(x, 2 ** (len(levels) - 1 - i), finest) if i < len(levels) - 1 else x
            for i, x in enumerate(smooth)
        ]
        fused: Tensor = self.fuse(torch.cat(aligned, 1))
        return fused


class LinearHead(nn.Module):
    """A linear map from the concatenated features of a location to its outputs.

    With a frozen encoder this is the linear probe of a dense task.
    """

    def __init__(self, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        # one linear map reads all strides, so they are brought to one scale first
        self.norms = nn.ModuleList(nn.LayerNorm(one) for one in widths)
        self.linear = nn.Conv2d(sum(widths), outputs, 1)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Return (B, outputs, H, W) for ``size`` = (H, W) of the input."""
        normed = _channels_first([norm(one) for norm, one in zip(self.norms, maps, strict=True)])
        finest = normed[0].shape[-2:]
        rest = [_enlarge(x, 2**i, finest) for i, x in enumerate(normed[1:], 1)]
        logits = self.linear(torch.cat([normed[0], *rest], 1))
        return _enlarge(logits, FINEST, size)


class UPerHead(nn.Module):
    """UPerNet (Xiao et al. 2018) without its auxiliary head: maps to classes per pixel."""

    def __init__(self, widths: Sequence[int], classes: int, *, width: int = 64) -> None:
        super().__init__()
        self.pyramid = _Pyramid(widths, width)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits (B, K, H, W) for ``size`` = (H, W) of the input."""
        return _enlarge(self.classify(self.pyramid(maps)), FINEST, size)


class ImageHead(nn.Module):
    """Maps to an image at full resolution, with a path for what tokens of 4 pixels lose.

    ``inputs`` are the channels of the pixels, ``width`` those of the head at stride 4, half of
    it at full resolution.
    """

    def __init__(
        self, widths: Sequence[int], inputs: int, outputs: int, *, width: int = 48
    ) -> None:
        super().__init__()
        self.pyramid = _Pyramid(widths, width)
        self.pixels = conv(inputs, width // 2)
        self.middle = conv(width, width // 2)
        self.finest = conv(2 * (width // 2), width // 2)
        self.out = nn.Conv2d(width // 2, outputs, 1)

    def forward(self, maps: Sequence[Tensor], pixels: Tensor) -> Tensor:
        """Return (B, outputs, H, W) for ``pixels`` (B, inputs, H, W), scaled to about ±1."""
        # A token stands for 4 x 4 pixels, so what is finer must come past the encoder: a skip path
        # as in U-Net (Ronneberger et al., MICCAI 2015), joined at full resolution.
        size = pixels.shape[-2:]
        fused = self.pyramid(maps)
        tall, wide = fused.shape[-2:]
        deep = _enlarge(self.middle(_enlarge(fused, 2, (2 * tall, 2 * wide))), 2, size)
        image: Tensor = self.out(self.finest(torch.cat([deep, self.pixels(pixels)], 1)))
        return image
