"""What states the probabilities of classes, in symbols whose meaning the engine can learn."""

from __future__ import annotations

import numpy as np
from odc.geo.geobox import GeoBox

from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk, Legend
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.typing import Layers

BINS = (0.5, 0.65, 0.8, 0.9, 0.95)
"""Edges of the confidence bins."""


def observe_stated(
    probability: Layers,
    geobox: GeoBox,
    legend: Legend,
    *,
    source: str,
    interval: Interval,
    provenance: Provenance,
) -> Observations:
    """Turn probabilities (cells, K) into symbols; cells with NaN say nothing.

    A symbol is (first class, second class, confidence bin): at most K * (K - 1) * 6,
    of which those that occur get a number. Its prior meaning is the mean probability
    over the cells that carry it. The probabilities stand beside the symbols.
    """
    speaks = np.flatnonzero(np.isfinite(probability[:, 0]))
    p = probability[speaks]
    order = np.argsort(-p, axis=1, kind="stable")[:, :2]
    confidence = np.digitize(np.take_along_axis(p, order[:, :1], axis=1)[:, 0], BINS)
    classes = len(legend)
    code = (order[:, 0] * classes + order[:, 1]) * (len(BINS) + 1) + confidence
    present, inverse, count = np.unique(code, return_inverse=True, return_counts=True)
    mean = np.stack(
        [np.bincount(inverse, p[:, k], minlength=len(present)) for k in range(classes)], axis=1
    )
    symbols = np.zeros(len(probability), np.uint16)
    symbols[speaks] = inverse + 1
    shares = np.full((len(symbols), classes), np.nan, np.float32)
    shares[speaks] = p
    matrix = mean / count[:, None]
    pair, bin_ = np.divmod(present, len(BINS) + 1)
    named = zip(*np.divmod(pair, classes), bin_, strict=True)
    return Observations(
        source=source,
        support="cells",
        geobox=geobox,
        symbols=symbols.reshape(geobox.shape),
        crosswalk=Crosswalk(
            symbols=tuple(f"{legend.names[a]}>{legend.names[b]}/{c}" for a, b, c in named),
            target=legend,
            matrix=matrix / matrix.sum(axis=1, keepdims=True),
            confidence=np.full(len(present), 0.95),
        ),
        phenomenon_time=interval,
        provenance=provenance,
        shares=shares.reshape(*geobox.shape, classes),
    )
