"""The random choices of a step: a function of the recipe, the data, and the step's number."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from glocal.errors import ConfigError
from glocal.train.pretraining.recipe import Recipe
from msgfm.batch import Batch, batch_of
from msgfm.objective import Plan, draw_mask, draw_plan


class ChipPool(Protocol):
    """Where chips come from; :class:`glocal.train.data.shards.Pool` is one."""

    @property
    def groups(self) -> Mapping[tuple[str, ...], int]:
        """Sensors that were taken together -> number of chips."""
        ...

    def draw(self, sensors: tuple[str, ...], n: int, rng: np.random.Generator) -> dict[str, Any]:
        """Return the arguments of :func:`msgfm.batch_of` for ``n`` chips of a group."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """What one step sees, over all processes."""

    batch: Batch
    plan: Plan
    masked: Tensor
    """(B, h, w) bool, True where a token of the input is hidden."""

    def part(self, rank: int, world: int) -> Draw:
        """Return the rows of one process: every ``world``-th."""
        rows = torch.arange(rank, len(self.batch), world)
        return Draw(batch=self.batch.rows(rows), plan=self.plan, masked=self.masked[rows])


def draw(pool: ChipPool, recipe: Recipe, step: int) -> Draw:
    """Return the group, the chips, input and target, and the mask of a step."""
    config = recipe.training
    rng = np.random.default_rng([config.seed, step])
    groups = sorted(pool.groups)
    weights = np.array([pool.groups[group] for group in groups], float) ** config.count_power
    group = groups[rng.choice(len(groups), p=weights / weights.sum())]
    plan = draw_plan(group, rng, recipe.objective, tuple(recipe.maps))
    batch = batch_of(**pool.draw(group, config.batch, rng))
    if plan.target in recipe.maps and plan.target not in batch.maps:
        plan = plan._replace(target=plan.sources[0])  # nobody mapped these places
    for name in recipe.maps.keys() & batch.maps.keys():
        if (most := int(batch.maps[name].max())) >= recipe.maps[name]:
            raise ConfigError(
                f"pretraining: map {name} holds class {most}, but the recipe has "
                f"{recipe.maps[name]} classes, counted from 0; correct Recipe.maps or the map"
            )
    masked = draw_mask(len(batch), batch.shape_yx, rng, recipe.objective)
    return Draw(batch=batch, plan=plan, masked=torch.from_numpy(masked))


def draws(pool: ChipPool, recipe: Recipe, first: int, readers: int) -> Iterator[Draw]:
    """Yield the draws from step ``first`` on, in order; threads work ahead of the caller.

    With more than one reader, ``pool.draw`` must be safe to call from several threads.
    """
    steps = range(first, recipe.training.steps)
    if readers == 0:
        yield from (draw(pool, recipe, step) for step in steps)
        return
    workers = ThreadPoolExecutor(readers, thread_name_prefix="draw")
    waiting: deque[Future[Draw]] = deque()
    try:
        for step in steps:
            waiting.append(workers.submit(draw, pool, recipe, step))
            if len(waiting) > 2 * readers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        workers.shutdown(wait=True, cancel_futures=True)


def digest(pool: ChipPool, recipe: Recipe) -> dict[str, Any]:
    """Return what tells one pool from another: its groups, and a hash of the first draw."""
    first = draw(pool, recipe, 0)
    hashed = hashlib.sha256()
    for name in sorted(first.batch.sensors):
        for column in (first.batch.values, first.batch.valid):
            hashed.update(column[name].numpy().tobytes())
    groups = {"+".join(group): count for group, count in sorted(pool.groups.items())}
    return {"groups": groups, "first_draw": hashed.hexdigest()}
