"""What tasks with an answer per pixel share: cached maps, one optimiser loop, tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from glocal.errors import ConfigError
from msgfm.batch import Batch
from msgfm.embed import Normaliser
from msgfm.encoder import Encoder
from msgfm.sensors import bands_of

CHUNK = 16
"""Places that go through the encoder at once when nothing is learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a head is fitted. The defaults were set before any score was seen."""

    steps: int = 300
    batch: int = 8
    rate: float = 3e-3
    encoder_rate: float = 1e-4
    """Learning rate of the encoder where it is not frozen."""

    decay: float = 0.05
    width: int = 48
    """Channels of the head."""

    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "rate", "width"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be > 0, got {getattr(self, name)}")


class Tile(NamedTuple):
    """A rectangle to read with its surroundings, and the part of it to keep."""

    read: tuple[slice, slice]
    """Rows and columns of the image."""

    write: tuple[slice, slice]
    """Rows and columns of the image that this tile decides."""

    keep: tuple[slice, slice]
    """The same pixels, counted in the tile."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make what happens inside depend on ``seed`` alone; the generator outside goes on."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def maps_of(encoder: Encoder, batch: Batch) -> list[Tensor]:
    """Return the encoder's maps (B, h, w, D), computed in chunks without gradients."""
    encoder.eval()
    with torch.no_grad():
        parts = [
            encoder(batch.rows(slice(start, start + CHUNK))).maps
            for start in range(0, len(batch), CHUNK)
        ]
    return [torch.cat(level) for level in zip(*parts, strict=True)]


def pixels_of(batch: Batch, sensors: Sequence[str]) -> Tensor:
    """Return normalised values, then validity, of these sensors' bands: (B, 2 C, H, W).

    A sensor that the batch lacks counts as invalid everywhere.
    """
    values, valid = [], []
    for name in sensors:
        bands = bands_of(name)
        shape = (len(batch), len(bands), *batch.shape_yx)
        if name in batch.sensors:
            known = batch.valid[name]
            values.append(Normaliser(bands)(batch.values[name], known))
        else:
            known = torch.zeros(shape, dtype=torch.bool)
            values.append(torch.zeros(shape))
        valid.append(known.float())
    return torch.cat([*values, *valid], 1)


def minimise(
    groups: Sequence[tuple[nn.Module, float]],
    loss_of: Callable[[Tensor], Tensor],
    count: int,
    settings: Settings,
) -> list[float]:
    """Fit modules by AdamW under half a cosine; return the loss of every step.

    ``groups`` are modules with their peak learning rates; ``loss_of`` maps indices
    (settings.batch,) of ``count`` examples to a scalar.
    """
    optimiser = torch.optim.AdamW(
        [{"params": list(module.parameters()), "lr": rate} for module, rate in groups],
        weight_decay=settings.decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: (1 + math.cos(math.pi * step / settings.steps)) / 2
    )
    draw = torch.Generator().manual_seed(settings.seed)
    parameters = [one for module, _ in groups for one in module.parameters()]
    losses = []
    for _ in range(settings.steps):
        loss = loss_of(torch.randint(count, (settings.batch,), generator=draw))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


def tiles(shape: tuple[int, int], side: int, margin: int) -> list[Tile]:
    """Return tiles of ``side`` pixels that cover an image, each read with a margin around it.

    >>> [tile.read[1] for tile in tiles((10, 20), side=16, margin=4)]
    [slice(0, 20, None), slice(12, 20, None)]
    """
    axes = []
    for limit in shape:
        spans = []
        for start in range(0, limit, side):
            stop, first = min(start + side, limit), max(start - margin, 0)
            read = slice(first, min(stop + margin, limit))
            spans.append((read, slice(start, stop), slice(start - first, stop - first)))
        axes.append(spans)
    return [Tile(*zip(rows, columns, strict=True)) for rows, columns in product(*axes)]
