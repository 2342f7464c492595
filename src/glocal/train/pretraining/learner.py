"""A model in training: hardware, optimiser, running average, and the update of one step."""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from glocal.errors import ConfigError
from glocal.train.pretraining.draw import Draw
from glocal.train.pretraining.recipe import (
    PretrainConfig,
    Recipe,
    learning_rate,
    resolved_precision,
)
from msgfm.batch import Batch
from msgfm.checkpoint import fill, find, read
from msgfm.decoders import MSGFM
from msgfm.objective import Losses, Plan, Pretraining

PLAIN = ("bias", "table", "token")
"""Parameters with these words in their name do not decay, whatever their shape."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Training:
    """What changes from step to step."""

    fabric: Fabric
    objective: Pretraining
    average: MSGFM
    """Running average of the model's weights."""

    forward: Any
    """The objective as Fabric wraps it."""

    optimizer: torch.optim.AdamW


class _Pass(nn.Module):
    """The objective with plain tensors in and out, which Fabric and DDP can look through."""

    def __init__(self, objective: Pretraining) -> None:
        super().__init__()
        self.objective = objective

    def forward(
        self, columns: dict[str, dict[str, Tensor]], plan: Plan, masked: Tensor
    ) -> dict[str, Tensor]:
        losses: Losses = self.objective(Batch(**columns), plan, masked)
        return losses._asdict()


def learner(
    recipe: Recipe, teacher: Callable[[Batch], Tensor] | None = None, teacher_width: int = 0
) -> Training:
    """Return an untrained model on the hardware of this process."""
    config = recipe.training
    fabric = _fabric(config)
    torch.manual_seed(config.seed)
    model = MSGFM(recipe.encoder, recipe.maps)
    objective = Pretraining(model, recipe.objective, teacher, teacher_width)
    groups = decay_groups(objective, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=config.betas, fused=True)
    one_pass = _Pass(objective)
    if config.compile:
        one_pass.compile()
    forward = fabric.setup_module(one_pass)
    return Training(
        fabric=fabric,
        objective=objective,
        average=deepcopy(objective.model).requires_grad_(False),
        forward=forward,
        optimizer=optimizer,
    )


def begin_with(learner: Training, start: str | Path | None) -> str:
    """Put saved weights in the place of random ones; return their SHA-256, "" for None."""
    if start is None:
        return ""
    folder = find(start)
    tensors, manifest = read(folder)
    for model in (learner.objective.model, learner.average):
        fill(model, tensors, folder)
    return str(manifest["sha256"])


def _fabric(config: PretrainConfig) -> Fabric:
    """Return the hardware of this process; under ``torchrun`` one of several."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if config.batch % world:
        raise ConfigError(
            f"pretraining: batch={config.batch} must be a multiple of the {world} processes"
        )
    # a step trains only the embedding and the decoder of its own sensors
    backend = "nccl" if kind == "cuda" else "gloo"
    several = DDPStrategy(process_group_backend=backend, find_unused_parameters=True)
    fabric = Fabric(
        accelerator=kind,
        devices=here,
        num_nodes=max(1, world // here),
        strategy=several if world > 1 else "auto",
        precision=resolved_precision(config.precision, torch.device(kind)),
    )
    fabric.launch()
    return fabric


def decay_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Split the parameters: matrices decay; norms, biases, position tables and tokens do not."""
    named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    plain = {n for n, p in named if p.ndim < 2 or any(word in n for word in PLAIN)}
    return [
        {"params": [p for n, p in named if n not in plain], "weight_decay": decay},
        {"params": [p for n, p in named if n in plain], "weight_decay": 0.0},
    ]


def update(learner: Training, config: PretrainConfig, drawn: Draw, step: int) -> dict[str, Tensor]:
    """Make one step; return its losses as this process saw them, without waiting for them."""
    fabric = learner.fabric
    rank, world = fabric.global_rank, fabric.world_size
    # dropout draws anew at each step and in each process
    seed = np.random.SeedSequence((config.seed, step, rank)).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(seed >> np.uint64(1)))
    rate = learning_rate(step, config)
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
    mine = drawn if world == 1 else drawn.part(rank, world)
    batch = mine.batch.to(fabric.device)
    columns = {one.name: getattr(batch, one.name) for one in fields(batch)}
    losses = learner.forward(columns, mine.plan, mine.masked.to(fabric.device))
    # the weight that makes the mean over processes the mean over all their pixels
    share = torch.ones((), device=losses["values"].device)
    if world > 1:
        here = losses["values"].detach().float()
        share = here * world / reduced(here, "sum", fabric).clamp(min=1)
    loss = losses["total"] + (share - 1) * losses["reconstruction"]
    fabric.backward(loss)
    norm = nn.utils.clip_grad_norm_(learner.objective.parameters(), config.clip)
    learner.optimizer.step()
    learner.optimizer.zero_grad()
    update_average(learner.average, learner.objective.model, decay_at(step, config.ema))
    seen = {name: value.detach() for name, value in losses.items()}
    seen |= {"total": loss.detach(), "reconstruction": share * seen["reconstruction"]}
    return {**seen, "norm": norm.detach()}


def decay_at(step: int, decay: float) -> float:
    """Return the share of the old average at a step.

    Early steps forget faster, so that the random start weighs nothing in a short run
    (as in ``tf.train.ExponentialMovingAverage``).
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move every parameter of ``average``, a deep copy of ``model``, towards it, in place."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - decay)


def reduced(value: Tensor, how: Literal["sum", "mean"], fabric: Fabric) -> Tensor:
    """Return the sum or the mean of a tensor over all processes."""
    found: Any = fabric.all_reduce(value.clone(), reduce_op=how)
    return torch.as_tensor(found)
