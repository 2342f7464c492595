"""What kinds share when they are told."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.observation import Observations

Words = NDArray[np.str_] | str
"""One for each row, or one for all."""


def corrections_of(
    source: Observations,
    findings: Findings,
    *,
    record: NDArray[np.str_],
    fault: Words,
    action: Words,
    fate: Words,
    current: Words,
    proposed: Words,
    threshold: float = np.inf,
    precision: float = np.nan,
    **columns: Any,
) -> Corrections:
    """Return corrections of ``source`` by what was found, with `Corrections`' other ``columns``.

    ``threshold`` and ``precision`` as `promise.threshold_for` returns them.
    """
    n, sure = len(record), bool(np.isfinite(threshold))
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
        threshold=threshold if sure else None,
        expected_precision=precision if sure else None,
        **columns,
    )
