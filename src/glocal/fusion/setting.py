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

    back_off: float = 1.0
    """Factor on what crosswalks and global tables are worth; 0: tables are counts only."""

    prior: Literal["anchors", "posterior"] = "anchors"
    """``posterior``: class shares are re-estimated from the estimate itself, every sweep."""

    spatial: bool = True
    """Whether neighbours are heard, if anchors like it."""

    cells_per_statement: float = 1000.0
    """Neighbouring cells repeat each other: about 30 x 30 cells (a field, a wood) are one
    independent statement. Only the ratio of data to prior depends on it."""

    sweeps: int = 8
    """Steps of expectation-maximisation."""

    def __post_init__(self) -> None:
        if self.back_off < 0 or self.cells_per_statement <= 0 or self.sweeps < 1:
            raise ValueError(
                "back_off must be >= 0, cells_per_statement > 0 and sweeps >= 1, got "
                f"{self.back_off}, {self.cells_per_statement} and {self.sweeps}"
            )


ENGINE = Setting()

DAWID_SKENE = Setting(
    exponents="one", back_off=0.0, prior="posterior", spatial=False, cells_per_statement=1.0,
    sweeps=100,
)  # fmt: skip
"""The model of Dawid and Skene (1979), for items that are independent of each other."""
