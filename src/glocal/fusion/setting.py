"""What the engine assumes: one value that turns parts of it off, for comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DAWID_SKENE", "ENGINE", "Setting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The assumptions of one fusion; the defaults are the engine."""

    exponents: Literal["learned", "one"] = "learned"
    """``one``: every source counts in full, as if all erred independently."""

    back_off: bool = True
    """Whether crosswalks and global tables are worth anything; if not, tables are counts."""

    parts: int = 3
    """Regions along the longer side of an area, at least, where each has some 20 anchors;
    0: a source is equally reliable everywhere."""

    start: Literal["crosswalk", "votes"] = "crosswalk"
    """``votes``: estimation begins with the mean of what the sources say at their word."""

    prior: Literal["anchors", "posterior"] = "anchors"
    """``posterior``: class shares are re-estimated from the estimate itself, every sweep."""

    spatial: bool = True
    """Whether neighbours are heard, if anchors like it."""

    context: bool = True
    """Whether anchors may teach how the pool and its surroundings are to be read
    (``context``), and statements beside them (``direct``); not without ``spatial``."""

    cells_per_statement: float = 1000.0
    """Neighbouring cells repeat each other: about 30 x 30 cells (a field, a wood) are one
    independent statement. Only the ratio of data to prior depends on it."""

    sweeps: int = 8
    """Steps of expectation-maximisation."""

    def __post_init__(self) -> None:
        if self.cells_per_statement <= 0 or self.sweeps < 1:
            raise ValueError(
                "cells_per_statement must be > 0 and sweeps >= 1, got "
                f"{self.cells_per_statement} and {self.sweeps}"
            )


ENGINE = Setting()

DAWID_SKENE = Setting(
    exponents="one", back_off=False, parts=0, start="votes", prior="posterior",
    spatial=False, cells_per_statement=1.0, sweeps=100,
)  # fmt: skip
"""The model of Dawid and Skene (1979), for items that are independent of each other."""
