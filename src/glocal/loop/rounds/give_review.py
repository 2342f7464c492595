"""What goes back to those who answered: how likely each answer is right by all others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glocal.core.burn import burn
from glocal.core.observation import Observations
from glocal.io.vector import write_csv
from glocal.loop.area.area import Area
from glocal.loop.area.reviews import declared_rates
from glocal.loop.rounds.proposals import Gift, attribution_of, evidence_of, licence_of
from glocal.loop.rounds.turns import Turn
from glocal.sources.people.rates import rates_of

__all__ = ["to_reviewers"]

AGAIN = 0.2
"""An answer that is right with less than this probability is worth a second, blind look."""


def to_reviewers(area: Area, turn: Turn, source: Observations, room: Path) -> Gift:
    """Write each answer with the probability that it is right, the most doubtful first.

    The probability comes from the estimate without any answers. Nothing here judges a
    person: answers carry no names.
    """
    answers = frozenset(one.source for one in area.observations if one.support == "answers")
    right = _right(area, source, np.exp(turn.fused.cells(answers)))
    rates = rates_of(area.observations, area.anchors, declared_rates(area.config))
    order = np.lexsort((source.record, right))
    order = order[np.isfinite(right[order])]
    _, provenance = evidence_of(area, turn, source.source)
    credit = (licence_of(provenance.licences), attribution_of(provenance))
    rows = [
        [
            str(source.record[i]),
            source.crosswalk.symbols[int(source.symbols[i]) - 1],
            round(float(right[i]), 4),
            "yes" if right[i] < AGAIN else "no",
            *credit,
        ]
        for i in order.tolist()
    ]
    header = ["proposal", "answer", "p_right", "look_again", "licence", "attribution"]
    path = write_csv(room / "answers_checked.csv", header, rows)
    return Gift(
        files=(path,),
        count={"answers": len(rows), "look_again": int((right[order] < AGAIN).sum())},
        note=f"answers are evidence, never gold: {rates[source.source]}",
    )


def _right(area: Area, source: Observations, others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the probability of what each answer says, shape (n,); NaN where it has no cell."""
    owner = burn(source.geometry, area.geobox).ravel()
    n, classes = len(source) + 1, len(area.legend)
    size = np.bincount(owner, minlength=n)[1:]
    flat = others.reshape(-1, classes)
    total = [np.bincount(owner, flat[:, k], minlength=n)[1:] for k in range(classes)]
    mean = np.stack(total, axis=1) / np.maximum(size, 1)[:, None]
    meant = source.crosswalk.matrix[np.maximum(source.symbols.astype(np.int64) - 1, 0)] > 0
    return np.where(size > 0, (mean * meant).sum(axis=1), np.nan)
