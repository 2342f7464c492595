"""What a pretraining run is: one value, from which every step follows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch

from glocal.errors import ConfigError
from msgfm import EncoderConfig
from msgfm.objective import ObjectiveConfig

Precision = Literal["auto", "bf16-mixed", "32-true"]

REFERENCE_BATCH = 256
"""``base_rate`` is the rate of this global batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """How the weights are found. Every field changes the result of a run."""

    steps: int
    """Updates of the weights; the learning rate reaches its minimum at the last one."""

    batch: int = 64
    """Chips per step over all processes together."""

    base_rate: float = 3e-4
    """Learning rate of a batch of 256."""

    rate_rule: Literal["sqrt", "linear"] = "sqrt"
    """How the rate follows the batch; the root suits Adam, whose steps have a fixed size."""

    warmup: int = 100
    """Steps in which the rate rises from nearly 0."""

    min_share: float = 0.01
    """Share of the peak rate that is left at the end."""

    weight_decay: float = 0.05
    """Not applied to norms, biases, position tables and tokens."""

    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    """Largest norm of the gradient."""

    ema: float = 0.999
    """Share of the old average in the new one; less in the first steps."""

    count_power: float = 0.5
    """Groups of sensors are drawn ∝ count to this power: 1 as they lie, 0 all alike."""

    seed: int = 0
    precision: Precision = "auto"
    """``auto``: bf16 where the hardware multiplies it, else 32 bit."""

    compile: bool = False
    """Pass the model through ``torch.compile``; the first steps take minutes."""

    def __post_init__(self) -> None:
        rules = {
            "steps": self.steps >= 1,
            "batch": self.batch >= 1,
            "base_rate": self.base_rate > 0,
            "warmup": 0 <= self.warmup <= self.steps,
            "min_share": 0 <= self.min_share <= 1,
            "weight_decay": self.weight_decay >= 0,
            "clip": self.clip > 0,
            "ema": 0 <= self.ema < 1,
            "count_power": 0 <= self.count_power <= 1,
            "seed": self.seed >= 0,
        }
        for name, good in rules.items():
            if not good:
                raise ConfigError(
                    f"pretraining: {name}={getattr(self, name)} is out of range; "
                    "see glocal.train.pretraining.recipe.PretrainConfig for its meaning"
                )

    @property
    def peak_rate(self) -> float:
        """Return the learning rate at the end of the warm-up."""
        ratio = self.batch / REFERENCE_BATCH
        return self.base_rate * (ratio if self.rate_rule == "linear" else math.sqrt(ratio))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole pretraining run but its data: architecture, objective, training."""

    encoder: EncoderConfig
    objective: ObjectiveConfig
    training: PretrainConfig
    maps: Mapping[str, int] = field(default_factory=dict)
    """Target maps that the pool has for some places, and their number of classes."""

    def __post_init__(self) -> None:
        if bool(self.maps) != (self.objective.maps > 0):
            raise ConfigError(
                f"pretraining: target maps {dict(self.maps)} and the chance to paint one, "
                f"objective.maps={self.objective.maps}, are needed together or not at all"
            )


def learning_rate(step: int, config: PretrainConfig) -> float:
    """Return the rate of a step: a linear warm-up, then half a cosine to the minimum.

    Parameters
    ----------
    step
        From 0 to ``config.steps - 1``.
    """
    if step < config.warmup:
        return config.peak_rate * (step + 1) / (config.warmup + 1)
    done = (step - config.warmup) / max(1, config.steps - 1 - config.warmup)
    cosine = (1 + math.cos(math.pi * min(1.0, done))) / 2
    return config.peak_rate * (config.min_share + (1 - config.min_share) * cosine)


def resolved_precision(
    precision: Precision, device: torch.device
) -> Literal["bf16-mixed", "32-true"]:
    """Return what ``auto`` means on a device: bf16 where it is multiplied in hardware."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    # the public check of oneDNN is also true where bf16 is emulated, which is slower than fp32
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if fast else "32-true"


def to_json(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return values


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one text per field that two nested mappings do not agree on.

    >>> differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})
    ['a.b: 1, now 3']
    """
    before, now = dict(_flat(old)), dict(_flat(new))
    return [
        f"{name}: {before.get(name)}, now {now.get(name)}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", value))
    return rows
