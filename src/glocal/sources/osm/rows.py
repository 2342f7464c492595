"""The columns of OpenStreetMap's corrections beside those that all corrections have.

``why`` there is no edit (empty for edits); ``edit``, the `TagEdit` of an edit, or that gives a new
area its tags; ``dx``, ``dy``, ``sd``: metres east and north by which something displaced should
move, and the standard uncertainty of each, NaN for all else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.core.typing import Table
from glocal.sources.osm.tags import TagEdit

NO_EDIT = TagEdit(set={}, unset=())
NO_LICENCE = "its evidence is under a licence that OpenStreetMap can't accept"
VECTOR = ("dx", "dy", "sd")


def columns_of(
    n: int,
    why: NDArray[Any] | str,
    edit: NDArray[np.object_] | TagEdit = NO_EDIT,
    vector: Table | float = np.nan,
) -> dict[str, NDArray[Any]]:
    """Return the columns of ``n`` corrections; ``vector`` (n, 3) is dx, dy, sd."""
    reason, change = np.empty(n, object), np.empty(n, object)
    reason[:], change[:] = why, edit
    moved = dict(zip(VECTOR, np.broadcast_to(vector, (n, 3)).T.copy(), strict=True))
    return {"why": reason, "edit": change, **moved}
