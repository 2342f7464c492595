"""What goes back to a model: what everybody else says, as labels to learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from glocal.run.area import Area
from glocal.run.proposals import Gift, attribution_of, evidence_of, licence_of
from glocal.run.rounds import Turn
from glocal.sources.model_out import encode_model

__all__ = ["to_model"]


def to_model(area: Area, turn: Turn, name: str, room: Path) -> Gift:
    """Write soft labels from everybody but the model itself."""
    log_q = turn.fused.cells(frozenset({name}))
    probability = np.exp(log_q)
    certain = 1 + (probability * log_q).sum(axis=-1) / np.log(len(area.legend))
    _, provenance = evidence_of(area, turn, name)
    files = encode_model(
        room,
        probability=probability.astype(np.float32),
        weight=np.clip(certain, 0, 1).astype(np.float32),
        geobox=area.geobox,
        legend=area.legend,
        licence=licence_of(provenance.licences),
        attribution=attribution_of(provenance),
    )
    return Gift(
        files=tuple(files),
        count={"label_cells": int(probability.shape[0] * probability.shape[1])},
        note="soft labels from everybody but the model itself",
    )
