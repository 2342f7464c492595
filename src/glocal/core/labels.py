"""Soft labels of cells: what a model that learns in the loop is taught."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from glocal.core.result import freeze
from glocal.core.typing import Codes, Table


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labels:
    """Soft labels of some cells."""

    cell: Codes
    """Shape (n,), flat indices."""

    shares: Table
    """Shape (n, K), rows sum to 1."""

    weight: Table
    """Shape (n,), > 0; 1 is the weight of one reference point."""

    bars: Codes
    """Shape (n,), number of a statement that reaches beyond one cell (an object), 0 for none.
    A model of a fold never sees a label whose statement reaches into that fold."""

    owner: Codes
    """Shape (cells,), the number of the statement that holds each cell, 0 for none."""

    def __post_init__(self) -> None:
        freeze(self)

    def __len__(self) -> int:
        return len(self.cell)

    def none(self) -> Labels:
        """Return no labels, on the same ground."""
        empty = slice(0, 0)
        return replace(
            self,
            cell=self.cell[empty],
            shares=self.shares[empty],
            weight=self.weight[empty],
            bars=self.bars[empty],
        )

    def beside(self, cell: Codes, shares: Table, weight: Table) -> Labels:
        """Return these labels and those of further cells, each barred by the object it lies in."""
        return Labels(
            cell=np.concatenate([self.cell, cell]),
            shares=np.concatenate([self.shares, shares]),
            weight=np.concatenate([self.weight, weight]),
            bars=np.concatenate([self.bars, self.owner[cell]]),
            owner=self.owner,
        )
