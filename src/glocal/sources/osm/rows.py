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
from glocal.sources.kind import Window
from glocal.sources.osm.tags import TagEdit

__all__ = ["NO_EDIT", "NO_LICENCE", "VECTOR", "is_layer_shift", "of_source"]

NO_EDIT = TagEdit(set={}, unset=())
NO_LICENCE = "its evidence is under a licence that OpenStreetMap can't accept"
VECTOR = ("dx", "dy", "sd")


def of_source(
    source: Observations,
    findings: Findings,
    window: Window,
    *,
    record: NDArray[np.str_],
    fault: NDArray[np.str_],
    action: NDArray[np.str_],
    fate: NDArray[np.str_],
    current: NDArray[np.str_],
    proposed: NDArray[np.str_],
    probability: Table,
    support: NDArray[np.object_],
    why: NDArray[Any] | None = None,
    edit: NDArray[np.object_] | None = None,
    vector: Table | None = None,
) -> Corrections:
    """Return corrections of ``source`` by what was found; ``vector`` (n, 3) is dx, dy, sd."""
    n = len(record)
    where = np.full((n, 3), np.nan) if vector is None else vector
    text = np.full(n, "", object) if why is None else np.asarray(why, object)
    changes = np.full(n, NO_EDIT, object) if edit is None else edit
    further = {"why": text, "edit": changes, **dict(zip(VECTOR, where.T.copy(), strict=True))}
    return Corrections(
        source=source.source,
        crs=str(window.geobox.crs),
        because=findings.because,
        round=findings.estimate.round,
        provenance=findings.provenance,
        record=record,
        fault=fault,
        action=action,
        fate=fate,
        current=current,
        proposed=proposed,
        probability=probability,
        support=support,
        columns=further,
    )


def is_layer_shift(rows: Corrections, i: int) -> bool:
    """Return True for a row about the place of a whole layer, or of a part of it."""
    return bool(rows.fault[i] == "displaced" and rows.current[i] == "")
