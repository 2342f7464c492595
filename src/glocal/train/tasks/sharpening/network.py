"""Pan-sharpening: bands of coarse pixels at the pixel size of finer ones.

What was learnt on scenes degraded by Wald's protocol is applied to the originals, which assumes
that the relation between the bands is the same at both scales. Arrays are (C, H, W) in the unit of
the sensor, NaN where there is no data. Scenes are made in `glocal.train.tasks.sharpening.scenes`,
the classical methods stand in `glocal.train.tasks.sharpening.floors`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from glocal.errors import BadSourceError, ConfigError
from glocal.train.tasks.dense import seeded, tiles
from glocal.train.tasks.quality import scores
from glocal.train.tasks.sharpening.floors import FLOORS, Bools, Floats
from glocal.train.tasks.sharpening.scenes import BandPair, Task
from msgfm import Batch, Encoder, batch_of
from msgfm.checkpoint import fill, find, read, write
from msgfm.encoder import config_of
from msgfm.errors import CheckpointError
from msgfm.heads import ImageHead, conv

CONTEXT = 8
"""Channels at full resolution in which an encoder tells what it sees."""

SIDE, MARGIN = 512, 32
"""Pixels of a tile that a large image is sharpened by, and of the surroundings it is read with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How a sharpener is trained."""

    steps: int = 300
    batch: int = 4
    chip: int = 48
    """Side of a training chip in fine pixels."""

    rate: float = 2e-3
    """Peak learning rate of all but the encoder."""

    encoder_rate: float = 0.0
    """Of the encoder; 0 freezes it."""

    width: int = 24
    """Channels of the convolutions at full resolution, and of the head on the encoder."""

    seed: int = 0

    def __post_init__(self) -> None:
        least = {"steps": 0, "batch": 1, "chip": 1, "rate": 0, "encoder_rate": 0, "width": 1}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise ConfigError(f"{name} must be >= {low}, got {getattr(self, name)}")


class Residual(nn.Module):
    """The floor from scratch: convolutions with shortcuts at full resolution, as in DSen2.

    Lanaras et al. (2018), ISPRS J. Photogramm. Remote Sens. 146, 305-319; a small one, which
    starts at zero: untrained it adds nothing to what it corrects.
    """

    def __init__(self, inputs: int, outputs: int, width: int, depth: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(width, width), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(depth)
        )
        self.last = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        x = functional.gelu(self.first(pixels))
        for block in self.blocks:
            x = x + block(x)
        image: Tensor = self.last(x)
        return image


class Sharpener(nn.Module):
    """What is added to the base image: convolutions of the pixels, told by an encoder's maps.

    With and without an encoder the convolutions are the same; the encoder gives them CONTEXT more
    input channels. So the difference between the two is what the encoder contributes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, task: Task, encoder: Encoder | None, width: int) -> None:
        super().__init__()
        self.task, self.encoder, self.width = task, encoder, width
        inputs, outputs = len(task.fine) + len(task.coarse), len(task.coarse)
        self.context: ImageHead | None = None
        if encoder is not None:
            self.context = ImageHead(encoder.config.widths, inputs, CONTEXT, width=width)
        self.net = Residual(inputs + CONTEXT * (encoder is not None), outputs, width)
        self.register_buffer("mean", torch.zeros(1, inputs, 1, 1))
        self.register_buffer("std", torch.ones(1, inputs, 1, 1))

    def scale_by(self, pixels: Tensor) -> None:
        """Take mean and spread of the input from pixels (F + C, n), NaN left out."""
        known = torch.isfinite(pixels)
        count = known.sum(1).clamp(min=1)
        mean = torch.where(known, pixels, 0.0).sum(1) / count
        spread = torch.where(known, pixels - mean[:, None], 0.0).square().sum(1) / count
        self.mean.copy_(mean.view_as(self.mean))
        self.std.copy_(spread.sqrt().clamp(min=1e-6).view_as(self.std))

    def optimiser(self, config: FitConfig) -> torch.optim.Optimizer:
        """Return what trains the head, and the encoder if it has a rate, else freezes that."""
        heads = [one for one in (self.net, self.context) if one is not None]
        groups = [{"params": [p for one in heads for p in one.parameters()], "lr": config.rate}]
        if self.encoder is not None:
            tuned = config.encoder_rate > 0
            self.encoder.requires_grad_(tuned).train(tuned)
            if tuned:
                groups.append(
                    {"params": list(self.encoder.parameters()), "lr": config.encoder_rate}
                )
        return torch.optim.AdamW(groups, weight_decay=1e-4)

    def forward(self, pixels: Tensor, batch: Batch) -> Tensor:
        """Return (B, C, H, W), NaN where the base image is.

        ``pixels`` (B, F + C, H, W): fine bands and base image.
        """
        scaled = torch.nan_to_num((pixels - self.mean) / self.std, nan=0.0)
        seen = [scaled]
        if self.encoder is not None and self.context is not None:
            seen.append(self.context(self.encoder(batch).maps, scaled))
        first = len(self.task.fine)
        change: Tensor = self.net(torch.cat(seen, 1))
        return pixels[:, first:] + change * self.std[:, first:]


def fit(
    encoder: Encoder | None,
    task: Task,
    scenes: Sequence[BandPair],
    config: FitConfig | None = None,
) -> Sharpener:
    """Train a sharpener on scenes with truth; ``encoder`` None trains a network from scratch.

    The encoder given is not changed; with ``encoder_rate`` 0 its weights are used as they are.
    The loss is the absolute error over cells with data, each band divided by its spread.

    Raises
    ------
    BadSourceError
        No scene, a scene without truth, or one smaller than a chip.
    """
    config = config or FitConfig()
    sheets = [_sheet(task, _trainable(scene, config.chip)) for scene in scenes]
    if not sheets:
        raise BadSourceError("a sharpener is trained on one scene or more; got none")
    rng = np.random.default_rng(config.seed)
    with seeded(config.seed):
        model = Sharpener(task, deepcopy(encoder), config.width)
        pixels = [_parts([sheet], task)[0][0] for sheet in sheets]
        model.scale_by(torch.cat([one.flatten(1) for one in pixels], 1))
        optimiser = model.optimiser(config)
        rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: _share(i, config.steps))
        for _ in range(config.steps):
            drawn = rng.integers(len(sheets), size=config.batch)
            chips = [sheets[int(i)].chip(config.chip, rng) for i in drawn]
            images, batch, truth = _parts(chips, task)
            error = (model(images, batch) - truth) / model.std[:, len(task.fine) :]
            known = torch.isfinite(error)
            loss = torch.where(known, error, 0.0).abs().sum() / known.sum().clamp(min=1)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            rate.step()
    return model.eval()


@torch.inference_mode()
def predict(model: Sharpener, scene: BandPair) -> Floats:
    """Return the sharpened bands (C, H, W), NaN where the base method has no data.

    ``scene`` holds the original bands, or degraded ones where the result is to be scored. Large
    images go through the network in tiles of 512 px with their surroundings.
    """
    sheet = _sheet(model.task, scene)
    image = np.empty((len(model.task.coarse), *scene.fine.shape[1:]), np.float32)
    for tile in tiles(scene.fine.shape[1:], SIDE, MARGIN):
        part = sheet._replace(channels=sheet.channels[:, *tile.read])
        pixels, batch, _ = _parts([part], model.task)
        image[:, *tile.write] = model(pixels, batch)[0, :, *tile.keep].numpy()
    return image


def save(model: Sharpener, folder: str | Path) -> None:
    """Write a sharpener, its task and its encoder to a folder: complete, or not there."""
    encoder = None if model.encoder is None else asdict(model.encoder.config)
    config = {"task": asdict(model.task), "width": model.width, "encoder": encoder}
    write(Path(folder), model.state_dict(), {"config": config})


def load(folder: str | Path) -> Sharpener:
    """Return a sharpener that `save` wrote.

    Raises
    ------
    CheckpointError
        The folder is damaged, newer than this code, or holds something else.
    """
    source = find(folder)
    tensors, about = read(source)
    try:
        config = about["config"]
        encoder = Encoder(config_of({"config": config["encoder"]})) if config["encoder"] else None
        # JSON made lists of tuples
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in dict(config["task"]).items()
        }
        model = Sharpener(Task(**given), encoder, config["width"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source} does not hold a sharpener: {error!r}") from error
    fill(model, tensors, source)
    return model.eval()


def run(
    encoders: Mapping[str, Encoder],
    task: Task,
    train: Sequence[BandPair],
    test: Sequence[BandPair],
    config: FitConfig | None = None,
) -> list[dict[str, str | float]]:
    """Score the floors, a network from scratch and each encoder on every test scene.

    Returns one row per method and scene: ``method``, ``scene``, and the scores of `compared`.
    """
    models = {
        name: fit(encoder, task, train, config)
        for name, encoder in {"network from scratch": None, **encoders}.items()
    }
    rows: list[dict[str, str | float]] = []
    for scene in test:
        images = {n: floor(scene.fine, scene.coarse, task.ratio) for n, floor in FLOORS.items()}
        images |= {name: predict(model, scene) for name, model in models.items()}
        found = compared(images, scene, task.ratio)
        rows += [{"method": name, "scene": scene.name, **one} for name, one in found.items()]
    return rows


def compared(
    images: Mapping[str, Floats], scene: BandPair, ratio: int, where: Bools | bool = True
) -> dict[str, dict[str, float]]:
    """Return the scores of each method's image, over the cells that all of them know.

    ``where`` (H, W) leaves out others; a score of no cell is NaN.
    """
    truth = scene.truth
    if truth is None:
        raise BadSourceError(f"scene {scene.name} has no truth to compare with; see `wald`")
    known = where & np.logical_and.reduce([np.isfinite(x) for x in (truth, *images.values())])
    return {
        name: scores(image[None], truth[None], known[None], ratio=ratio)
        for name, image in images.items()
    }


class _Sheet(NamedTuple):
    """All that a scene gives to a network, in one tensor, so that one cut makes a chip."""

    channels: Tensor
    """(2 S + F + C + C, H, W): values and validity of the S bands of the sensor, fine bands,
    base image, truth."""

    gsd_m: float

    def chip(self, side: int, rng: np.random.Generator) -> _Sheet:
        """Cut a chip anywhere, turned and mirrored at random."""
        y, x = (int(rng.integers(n - side + 1)) for n in self.channels.shape[1:])
        cut = self.channels[:, y : y + side, x : x + side].rot90(int(rng.integers(4)), (1, 2))
        return self._replace(channels=cut.flip(2) if rng.integers(2) else cut)


def _sheet(task: Task, scene: BandPair) -> _Sheet:
    scene.check(task)
    base = FLOORS[task.base](scene.fine, scene.coarse, task.ratio)
    # overshoots would leave the range of the sensor
    seen, names = np.clip(base, np.nanmin(scene.coarse), np.nanmax(scene.coarse)), task.coarse
    if not task.has_pan:
        seen, names = np.concatenate([scene.fine, seen]), task.fine + names
    batch = batch_of({task.sensor: seen[None]}, bands={task.sensor: names})
    truth = np.full_like(base, np.nan) if scene.truth is None else scene.truth
    parts = [batch.values[task.sensor][0], batch.valid[task.sensor][0].float()]
    parts += [torch.from_numpy(np.asarray(x, np.float32)) for x in (scene.fine, base, truth)]
    return _Sheet(torch.cat(parts), scene.gsd_m)


def _parts(sheets: Sequence[_Sheet], task: Task) -> tuple[Tensor, Batch, Tensor]:
    """Return pixels (B, F + C, H, W), the encoder's batch, and the truth (B, C, H, W)."""
    stack = torch.stack([sheet.channels for sheet in sheets])
    rest = len(task.fine) + 2 * len(task.coarse)
    bands = (stack.shape[1] - rest) // 2
    sizes = [bands, bands, rest - len(task.coarse), len(task.coarse)]
    values, valid, pixels, truth = torch.split(stack, sizes, 1)
    gsd = torch.tensor([sheet.gsd_m for sheet in sheets], dtype=torch.float32)
    batch = Batch(
        values={task.sensor: values},
        valid={task.sensor: valid > 0},
        gsd_m={task.sensor: gsd},
        day={task.sensor: torch.full_like(gsd, torch.nan)},
    )
    return pixels, batch, truth


def _share(step: int, steps: int) -> float:
    """Return the share of the peak rate: a short rise, then half a cosine."""
    rise = max(1, steps // 20)
    return min((step + 1) / rise, (1 + math.cos(math.pi * step / max(1, steps))) / 2)


def _trainable(scene: BandPair, chip: int) -> BandPair:
    if scene.truth is None:
        raise BadSourceError(f"scene {scene.name} has no truth to learn from; see `wald`")
    if min(scene.fine.shape[1:]) < chip:
        raise BadSourceError(
            f"scene {scene.name} is {scene.fine.shape[1:]} pixels, smaller than a chip of {chip}; "
            "choose a smaller FitConfig.chip"
        )
    return scene
