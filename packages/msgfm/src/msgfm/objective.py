"""Masked image modelling across sensors: what is hidden, what must be painted, what it costs.

msGFM (Han et al., CVPR 2024): an image without partner repaints itself; of a pair either the image
or its partner is painted, by a coin. Masking and the L1 loss are those of SimMIM (Xie et al.,
CVPR 2022). Ours besides: invalid pixels cost nothing, and in joint mode the partner stays visible.
Shape letters: B batch, C band, H W pixels, h w tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from einops import repeat
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from msgfm.agreement import Agreement
from msgfm.batch import Batch
from msgfm.decoders import MSGFM
from msgfm.embed import PATCH
from msgfm.encoder import Features

NO_CLASS = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveConfig:
    """The choices of the objective, with the paper's values."""

    mask_ratio: float = 0.6
    """Share of cells hidden."""

    cells: int = 6
    """Cells along a side: 32 px at 192 px; the cell is rounded to whole tokens."""

    cross: float = 0.5
    """Chance that an image with a partner paints the partner instead of itself."""

    joint: float = 0.0
    """Chance that all sensors go in together, and one of them is masked and painted."""

    maps: float = 0.0
    """Chance that a target map is painted, where a place has one."""

    balance: float = 0.01
    """Weight of the load-balancing loss."""

    z: float = 0.001
    """Weight of the router's z-loss."""

    distil: float = 0.0
    """Weight of agreement with a frozen teacher."""

    agree: float = 0.0
    """Weight of agreement between two looks at the same place; not in the paper."""

    look: int = 32
    """Side in pixels of such a look."""

    def __post_init__(self) -> None:
        for name in ("mask_ratio", "cross", "joint", "maps"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        if min(self.cells, self.look) < 1 or min(self.balance, self.z, self.distil, self.agree) < 0:
            raise ValueError(f"cells and look must be >= 1 and weights >= 0, got {self}")


class Plan(NamedTuple):
    """What one batch does."""

    sources: tuple[str, ...]
    """Sensors that go in; the first is masked."""

    target: str
    """Sensor or map that must be painted."""

    looks: tuple[str, str] | None = None
    """Sensors that take the two looks whose agreement is asked for; None: the first source."""


class Losses(NamedTuple):
    """Parts of the loss of one batch; scalars but for ``load``."""

    total: Tensor
    """Of this process: with several, weigh by ``values`` before averaging, as the learner does."""

    reconstruction: Tensor
    """Mean over masked and valid pixels: L1 of normalised values, or cross-entropy of a map."""

    values: Tensor
    """Number of pixel values that ``reconstruction`` is a mean of."""

    balance: Tensor
    z: Tensor
    dropped: Tensor
    distil: Tensor
    agree: Tensor
    load: Tensor
    """(E,) share of assignments of each expert; 0 in a dense encoder."""


def draw_plan(
    sensors: Sequence[str],
    rng: np.random.Generator,
    config: ObjectiveConfig,
    maps: Sequence[str] = (),
) -> Plan:
    """Choose what goes in and what is painted, for places that have these ``sensors``."""
    # The three coins are always tossed, so that a chance of 0 shifts no other draw.
    source = str(rng.choice(list(sensors)))
    coin, together, chart = rng.random(3)
    looks = None
    if config.agree > 0:
        first, second = rng.choice(list(sensors), 2)
        looks = str(first), str(second)
    others = [s for s in sensors if s != source]
    partner = str(rng.choice(others)) if others else source
    if maps and chart < config.maps:
        return Plan((source,), str(rng.choice(list(maps))), looks)
    if others and together < config.joint:
        return Plan((source, *others), source, looks)
    # msGFM: t = s without a partner; with one, t = s or the partner, by a coin (cross = 0.5)
    return Plan((source,), partner if coin < config.cross else source, looks)


def draw_mask(
    count: int, shape_yx: tuple[int, int], rng: np.random.Generator, config: ObjectiveConfig
) -> NDArray[np.bool_]:
    """Return (B, h, w): tokens to hide, in whole cells of about a sixth of the side.

    ``shape_yx`` is the image in pixels; of each image the same share of cells is hidden.
    """
    # SimMIM, section 3.2: 60 % of the cells of 32 px are hidden. Small cells could be filled in
    # from their neighbours without understanding; 32 px of 192 are a sixth of the side.
    h, w = (-(-n // PATCH) for n in shape_yx)
    cell = max(1, round(max(h, w) / config.cells))
    rows, columns = -(-h // cell), -(-w // cell)
    hidden = int(np.ceil(rows * columns * config.mask_ratio))
    if config.mask_ratio < 1:  # something must be seen, however small the image
        hidden = min(hidden, max(rows * columns - 1, 0))
    # ranks of random numbers: exactly `hidden` cells of each image, every set as likely (as in MAE)
    order = rng.random((count, rows * columns)).argsort(1)
    mask = (order < hidden).reshape(count, rows, columns)
    return np.ascontiguousarray(mask.repeat(cell, 1).repeat(cell, 2)[:, :h, :w])


class Pretraining(nn.Module):
    """Model and objective: one call is one batch's loss."""

    def __init__(
        self,
        model: MSGFM,
        config: ObjectiveConfig,
        teacher: Callable[[Batch], Tensor] | None = None,
        teacher_width: int = 0,
    ) -> None:
        """Join them; ``teacher`` maps a batch to (B, ``teacher_width``) and is never trained."""
        super().__init__()
        if (teacher is not None) != (config.distil > 0):
            raise ValueError("a teacher and a distil weight > 0 are needed together")
        self.model, self.config = model, config
        self._teacher = (teacher,)  # in a tuple, so that it is no part of the module
        last = model.encoder.config.widths[-1]
        self.project = nn.Linear(last, teacher_width) if teacher is not None else None
        widths = model.encoder.config.widths
        self.agreement = Agreement(widths, side=config.look) if config.agree > 0 else None

    def forward(self, batch: Batch, plan: Plan, masked: Tensor) -> Losses:
        """Return the losses of ``batch`` under ``plan``; ``masked`` (B, h, w) hides tokens."""
        # Hidden tokens stay in place as the learned vector of `TokenFusion`, as in SimMIM.
        source = plan.sources[0]
        features = self.model.encoder(batch.only(*plan.sources), {source: masked})
        painted = self.model.reconstruct(features, plan.target, batch.shape_yx)
        hidden = repeat(masked, "b h w -> b (h p) (w q)", p=PATCH, q=PATCH)
        hidden = hidden[:, : batch.shape_yx[0], : batch.shape_yx[1]]
        loss, count = self._painting(painted, batch, plan.target, hidden)
        zero = loss.new_zeros(())
        routing = features.routing
        balance, z, dropped, load = routing if routing is not None else (zero,) * 4
        distil = self._distil(batch, features) if self.project is not None else zero
        agree = zero
        if self.agreement is not None:
            agree = self.agreement(self.model.encoder, batch, plan.looks or (source, source))
        # L = L_mim + 0.01 L_balance (Switch's and msGFM's weight) + 0.001 L_z (ST-MoE's) + ours
        c = self.config
        total = loss + c.balance * balance + c.z * z + c.distil * distil + c.agree * agree
        return Losses(total, loss, count, balance, z, dropped, distil, agree, load)

    def _painting(
        self, painted: Tensor, batch: Batch, target: str, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        # A partner is paid for at the places where the source was hidden, as itself would be: where
        # the source is seen, painting the partner is translation, and mostly easier.
        if target in batch.maps:
            classes = torch.where(hidden, batch.maps[target], NO_CLASS)
            count = (classes != NO_CLASS).sum()
            total = F.cross_entropy(
                painted.float(), classes, ignore_index=NO_CLASS, reduction="sum"
            )
            return total / count.clamp(min=1), count
        # SimMIM and msGFM: L = |M * (x_t - D_t(E(x_s)))|_1 / |M|, M hidden; ours: hidden and valid
        values, valid = batch.values[target], batch.valid[target]
        truth = self.model.embedding(target).normalise(values, valid)
        wanted = hidden[:, None] & valid
        count = wanted.sum()
        error = ((painted.float() - truth).abs() * wanted).sum()
        return error / count.clamp(min=1), count

    def _distil(self, batch: Batch, features: Features) -> Tensor:
        if self.project is None or self._teacher[0] is None:
            raise ValueError("distillation needs a teacher")
        # As in GFM (Mendieta et al., ICCV 2023), msGFM's forerunner: 1 - cosine of the projected
        # mean feature of what the student sees and the teacher's feature of the whole image.
        with torch.no_grad():
            wanted = self._teacher[0](batch)
        known = features.known[-1][..., None]
        seen = (features.maps[-1] * known).sum((1, 2)) / known.sum((1, 2)).clamp(min=1)
        mine = self.project(seen.float())
        return 1 - F.cosine_similarity(mine, wanted, dim=-1).mean()
