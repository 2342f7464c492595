"""A running average of weights, which is what gets shipped."""

from __future__ import annotations

import torch
from torch import nn


def decay_at(step: int, decay: float) -> float:
    """Return the share of the old average at a step.

    Early steps forget faster, so that the random start weighs nothing in a short run
    (as in ``tf.train.ExponentialMovingAverage``).
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move every parameter of ``average`` towards ``model``, in place.

    ``average`` is a deep copy of ``model``; buffers are constants and stay.
    """
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - decay)
