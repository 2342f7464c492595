"""The columns of OpenStreetMap's corrections beside those that all corrections have.

``why`` there is no edit (empty for edits); ``edit``, the `TagEdit` of an edit, or that gives a new
area its tags; ``dx``, ``dy``, ``sd``: metres east and north by which something displaced should
move, and the standard uncertainty of each, NaN for all else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.observation import Observations
from glocal.core.typing import Table
from glocal.sources.osm.tags import TagEdit

NO_EDIT = TagEdit(set={}, unset=())
NO_LICENCE = "its evidence is under a licence that OpenStreetMap can't accept"
VECTOR = ("dx", "dy", "sd")


Words = NDArray[np.str_] | str
"""One for each row, or one for all."""


def of_source(
    source: Observations,
    findings: Findings,
    *,
    record: NDArray[np.str_],
    fault: Words,
    action: Words,
    fate: Words,
    current: Words,
    proposed: Words,
    probability: Table,
    support: NDArray[np.object_],
    why: NDArray[Any] | str = "",
    edit: NDArray[np.object_] | TagEdit = NO_EDIT,
    vector: Table | float = np.nan,
) -> Corrections:
    """Return corrections of ``source`` by what was found; ``vector`` (n, 3) is dx, dy, sd."""
    n = len(record)
    moved = dict(zip(VECTOR, np.broadcast_to(vector, (n, 3)).T.copy(), strict=True))
    reason, change = np.empty(n, object), np.empty(n, object)
    reason[:], change[:] = why, edit
    return Corrections(
        source=source.source,
        crs=str(source.geobox.crs),
        because=findings.because,
        round=findings.estimate.round,
        provenance=findings.provenance,
        record=record,
        fault=np.broadcast_to(fault, n),
        action=np.broadcast_to(action, n),
        fate=np.broadcast_to(fate, n),
        current=np.broadcast_to(current, n),
        proposed=np.broadcast_to(proposed, n),
        probability=probability,
        support=support,
        columns={"why": reason, "edit": change, **moved},
    )
