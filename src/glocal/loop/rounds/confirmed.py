"""Patches of maps that people confirmed: they stay in the corrected map, and are asked no more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glocal.core.burn import burn
from glocal.loop.area.area import Area
from glocal.sources.people.store import Stored

__all__ = ["confirmed_classes"]

CONFIRMING = ("accepted", "already_fixed", "changed", "told")
"""Answers after which somebody who looked knows which class is there."""


def confirmed_classes(area: Area, source: str, said: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class that people confirmed for each cell of a map, shape (H, W), -1 for none.

    ``said`` (H, W) is what the map ``source`` says, as class positions. A patch counts only
    where the map still says what it said when it was asked: a newer version of the map has
    had its own way. Of several patches the last answered one counts.
    """
    out = np.full(said.shape, -1, np.int64)
    for stored in area.reviews.values():
        before, after = _answered(area, source, stored)
        out = np.where((before == said) & (said >= 0), after, out)
    return np.where(out == said, -1, out)


def _answered(
    area: Area, source: str, stored: Stored
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the classes before and after of every cell of a confirmed patch, -1 elsewhere."""
    table, names = stored.proposals, list(area.legend.names)
    table = table[(table["source"] == source) & (table["kind"] == "patch")]
    now = np.where(table["stated"] != "", table["stated"], table["proposed"])
    known = table["current"].isin(names) & np.isin(now.astype(str), names)
    use = (known & table["verdict"].isin(CONFIRMING)).to_numpy()
    owner = burn(table[use].to_crs(str(area.geobox.crs)).geometry.to_numpy(), area.geobox)
    index = {name: i for i, name in enumerate(names)}
    before = [-1, *(index[name] for name in table["current"][use])]
    after = [-1, *(index[name] for name in now[use])]
    return np.array(before, np.int64)[owner], np.array(after, np.int64)[owner]
