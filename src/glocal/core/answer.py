"""What people answered to corrections of earlier runs, as a later run needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.core.columns import chosen

SPEAKS = frozenset({"accepted", "changed", "told", "rejected", "already_fixed"})
"""Verdicts that say something of the ground; the others are no evidence."""

SETTLED = SPEAKS | {"disputed"}
"""Verdicts after which the same question is not asked again."""

COLUMNS = ("source", "proposal", "record", "fault", "current", "proposed", "verdict", "stated")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answered:
    """The corrections of one earlier run, with what people said to each; shape (n,) all."""

    source: NDArray[np.str_]
    proposal: NDArray[np.str_]
    record: NDArray[np.str_]
    fault: NDArray[np.str_]
    current: NDArray[np.str_]
    proposed: NDArray[np.str_]
    verdict: NDArray[np.str_]
    """Empty where nobody answered."""

    stated: NDArray[np.str_]
    """Class in people's own words, else empty."""

    geometry: NDArray[np.object_]
    """In the CRS of the run that hears them."""

    def __len__(self) -> int:
        return len(self.record)

    def take(self, rows: NDArray[Any]) -> Answered:
        """Return the rows selected by a boolean or index array."""
        return chosen(self, rows, (*COLUMNS, "geometry"))

    def about(self, source: str) -> Answered:
        """Return the rows that were proposals to ``source``."""
        return self.take(self.source == source)
