"""A frozen image model as a teacher of pretraining.

msGFM reports that learning from scratch beats learning from a teacher; this is here to check
that, with any module that maps images (B, C, H, W) to vectors (B, D) or maps (B, D, h, w)::

    teacher = Teacher(module=network, width=1280, look=as_photo)
    pretrain(recipe, pool, out, teacher=(teacher, teacher.width))

where ``recipe.objective.distil`` is the weight. A teacher that can't see a batch (radar alone)
answers zeros, whose cosine with anything is 0: a constant in the loss, without gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glocal.errors import ConfigError
from msgfm.batch import Batch
from msgfm.sensors import bands_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue, as most image models want them."""

TRUE_COLOUR = ("B04", "B03", "B02")
WHITE = 0.3558
"""Reflectance that Sentinel-2's true-colour image (TCI) shows as white."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Teacher:
    """Maps a batch to (B, ``width``) without gradients; 0 where it sees nothing."""

    module: nn.Module
    width: int
    look: Callable[[Batch], Tensor | None]
    """What the module sees of a batch, (B, C, H, W), None when that is nothing."""

    def __post_init__(self) -> None:
        self.module.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """Return (B, ``width``), float32.

        Raises
        ------
        ConfigError
            When the module answers with another shape.
        """
        seen = self.look(batch)
        if seen is None:
            device = next(iter(batch.values.values())).device
            return torch.zeros(len(batch), self.width, device=device)
        answer: Tensor = self.module.to(seen.device)(seen)
        vectors = answer.flatten(2).mean(2) if answer.ndim > 2 else answer
        if vectors.shape != (len(batch), self.width):
            raise ConfigError(
                f"the teacher must answer ({len(batch)}, {self.width}) or (B, {self.width}, h, w), "
                f"got {tuple(answer.shape)}; give its width"
            )
        return vectors.float()


def as_photo(batch: Batch) -> Tensor | None:
    """Return red, green, blue, normalised as ImageNet; of Sentinel-2 its true colours.

    Invalid pixels are the mean colour, which is 0 here.
    """
    if "rgb" in batch.values:
        colours, valid = batch.values["rgb"], batch.valid["rgb"]
    elif "s2" in batch.values:
        rows = _rows(TRUE_COLOUR)
        colours = (batch.values["s2"][:, rows] / WHITE).clamp(0, 1)
        valid = batch.valid["s2"][:, rows]
    else:
        return None
    mean, std = (torch.tensor(one, device=colours.device).view(1, 3, 1, 1) for one in (MEAN, STD))
    return torch.where(valid, (colours - mean) / std, 0.0)


def as_reflectance(*bands: str) -> Callable[[Batch], Tensor | None]:
    """Return a look at these bands of Sentinel-2: reflectance 0 to 1, 0 where invalid."""
    rows = _rows(bands)

    def look(batch: Batch) -> Tensor | None:
        return batch.values["s2"][:, rows] if "s2" in batch.values else None

    return look


def _rows(bands: tuple[str, ...]) -> list[int]:
    table = [band.name for band in bands_of("s2")]
    unknown = [name for name in bands if name not in table]
    if unknown:
        raise ConfigError(f"Sentinel-2 has no band {unknown[0]!r}; it has {', '.join(table)}")
    return [table.index(name) for name in bands]
