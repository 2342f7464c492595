"""A small supervised U-Net: the floor that a pretrained encoder has to beat."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from msgfm.heads import conv


def _double(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(conv(width_in, width), conv(width, width))


class UNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) with normalisation over channels only."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        widths = [16, 32, 64, 128]  # of full resolution, and after each of three halvings
        self.down = nn.ModuleList(
            _double(a, b) for a, b in zip([inputs, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(_double(a + b, a) for a, b in pairwise(widths))
        self.out = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H, W) for ``x`` (B, inputs, H, W), scaled to about ±1."""
        tall, wide = x.shape[-2:]
        step = 2 ** len(self.up)
        x = functional.pad(x, (0, -wide % step, 0, -tall % step))
        kept: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else functional.max_pool2d(x, 2))
            kept.append(x)
        for i in reversed(range(len(self.up))):
            larger = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = self.up[i](torch.cat([kept[i], larger], 1))
        image: Tensor = self.out(x)
        return image[..., :tall, :wide]
