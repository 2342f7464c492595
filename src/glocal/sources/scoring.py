"""What kinds share when they are scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from glocal.core.grid import cells_of_points
from glocal.core.observation import Observations
from glocal.core.typing import Bools, Codes, Table
from glocal.io.vector import read_table
from glocal.sources.kind import Score, Truth


def pair(before: NDArray[Any], after: NDArray[Any]) -> dict[str, list[Any]]:
    """Return what is said before and after as columns."""
    return {"before": before.tolist(), "after": after.tolist()}


def said_at(before: Observations, after: Observations, cells: Codes) -> dict[str, list[Any]]:
    """Return the class that a source says at some cells, before and after, as columns."""
    return pair(*(one.class_of_cells().ravel()[cells] for one in (before, after)))


def right_or_wrong(
    metric: str, before: Codes, after: Codes, truth: Codes, cell: Codes
) -> Score | str:
    """Return the score of classes against the true ones; -1 is not known or not said."""
    use: Bools = (truth >= 0) & (before >= 0) & (after >= 0)
    if use.sum() < 2:
        return f"{int(use.sum())} statements that the truth knows"
    table: list[Table] = [(one[use] == truth[use]).astype(np.float64) for one in (before, after)]
    return Score(metric=metric, before=table[0], after=table[1], cell=cell[use])


def records_right(
    metric: str, source: Observations, after: Codes, truth: Truth, table: str, key: str
) -> Score | str:
    """Return the score of records against a table of the truth, whose column ``key`` names them."""
    real = read_table(truth.folder / table).set_index(key)["truth"].map(dict(truth.concepts))
    real = real[real.index.isin(source.record)].reindex(source.record)  # others may share names
    known = real.fillna(-1).to_numpy(np.int64)
    middle = shapely.get_coordinates(shapely.centroid(source.geometry))
    cell = np.maximum(cells_of_points(source.geobox, *middle.T), 0)
    return right_or_wrong(metric, source.said_class(), after, known, cell)
