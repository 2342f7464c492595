"""All baselines by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from glocal.core.setting import ENGINE
from glocal.loop.area.area import Area
from glocal.loop.score.baselines.ballots import ballots_of
from glocal.loop.score.baselines.crowd import Votes, dawid_skene, ebcc, majority, one_coin
from glocal.loop.score.baselines.learned import Learned, boosted, smoothed, stacked
from glocal.loop.score.baselines.masters import (
    best_source,
    fixed_modes,
    master_slave,
    region_weighted,
)

FEW = (
    "majority", "dawid_skene", "best_source", "master_slave", "stacked", "stacked_spatial",
    "boosted_spatial",
)  # fmt: skip
"""Those that ``glocal evaluate`` reports."""

MODES = (
    "only_model", "only_objects", "favour_objects", "favour_model", "mean_mixin", "only_corine",
    "harmonized_corine",
)  # fmt: skip

EVERY = (
    *FEW, "boosted", "region_weighted", "one_coin", "ibcc", "ebcc", "master_slave_pruned", *MODES,
)  # fmt: skip

Table = NDArray[np.float64]


def baselines(area: Area, names: Iterable[str] = FEW) -> Iterator[tuple[str, Table]]:
    """Yield (name, P(class) of shape (H, W, K)) for baselines in the order of ``names``.

    Those that need what the area lacks (an image model, objects, 30 labelled points) are
    left out.

    Raises
    ------
    KeyError
        A name is not in `EVERY`.
    """
    work = _Work(area)
    for name in names:
        p = _MADE[name](work)
        if p is not None:
            yield name, p.reshape(*area.geobox.shape, len(area.legend))


class _Work:
    """What several baselines share, made when first asked for."""

    def __init__(self, area: Area) -> None:
        self.area = area
        self.ballots = ballots_of(area)

    @property
    def taught(self) -> bool:
        return int(self.ballots.judge.sum()) >= ENGINE.min_sample

    @cached_property
    def votes(self) -> tuple[Votes, NDArray[np.int64]]:
        return self.ballots.votes()

    @cached_property
    def stacked(self) -> Learned | None:
        return stacked(self.ballots) if self.taught else None

    @cached_property
    def boosted(self) -> Learned | None:
        return boosted(self.ballots) if self.taught else None

    @cached_property
    def modes(self) -> dict[str, Table]:
        return fixed_modes(self.area, self.ballots)

    def voted(self, method: Callable[[Votes], Table]) -> Table:
        votes, of_cell = self.votes
        return method(votes)[of_cell]

    def spatial(self, learned: Learned | None) -> Table | None:
        return smoothed(self.ballots, learned) if learned else None


def _plain(learned: Learned | None) -> Table | None:
    return learned.probability if learned else None


_MADE: dict[str, Callable[[_Work], Table | None]] = {
    "majority": lambda work: work.voted(majority),
    "dawid_skene": lambda work: work.voted(dawid_skene),
    "best_source": lambda work: best_source(work.ballots),
    "master_slave": lambda work: master_slave(work.area, work.ballots),
    "stacked": lambda work: _plain(work.stacked),
    "stacked_spatial": lambda work: work.spatial(work.stacked),
    "boosted_spatial": lambda work: work.spatial(work.boosted),
    "boosted": lambda work: _plain(work.boosted),
    "region_weighted": lambda work: region_weighted(work.ballots),
    "one_coin": lambda work: work.voted(one_coin),
    "ibcc": lambda work: work.voted(lambda votes: ebcc(votes, subtypes=1)),
    "ebcc": lambda work: work.voted(ebcc),
    "master_slave_pruned": lambda work: master_slave(work.area, work.ballots, prune=True),
    **{name: lambda work, name=name: work.modes.get(name) for name in MODES},  # type: ignore[misc]
}
