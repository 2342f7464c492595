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
    *layers: Layers,
    geobox: GeoBox,
    legend: Legend,
    source: str,
    interval: Interval,
    provenance: Provenance,
) -> tuple[Observations, ...]:
    """Turn layers of probabilities (cells, K) into symbols; cells with NaN say nothing.

    A symbol is (first class, second class, confidence bin): at most K * (K - 1) * 6, of which
    those that occur in any layer get a number. Its prior meaning is the mean probability over the
    cells that carry it in the first layer that has it. Probabilities stand beside the symbols.
    """
    classes = len(legend)
    speaks = [np.flatnonzero(np.isfinite(one[:, 0])) for one in layers]
    layer = np.repeat(np.arange(len(layers)), [len(one) for one in speaks])
    p = np.concatenate([one[at] for one, at in zip(layers, speaks, strict=True)])
    order = np.argsort(-p, axis=1, kind="stable")[:, :2]
    confidence = np.digitize(np.take_along_axis(p, order[:, :1], axis=1)[:, 0], BINS)
    code = (order[:, 0] * classes + order[:, 1]) * (len(BINS) + 1) + confidence
    present, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    use = layer == layer[first][inverse]
    mean = np.stack(
        [np.bincount(inverse[use], p[use, k], minlength=len(present)) for k in range(classes)],
        axis=1,
    )
    matrix = mean / np.bincount(inverse[use], minlength=len(present))[:, None]
    pair, bin_ = np.divmod(present, len(BINS) + 1)
    named = zip(*np.divmod(pair, classes), bin_, strict=True)
    crosswalk = Crosswalk(
        symbols=tuple(f"{legend.names[a]}>{legend.names[b]}/{c}" for a, b, c in named),
        target=legend,
        matrix=matrix / matrix.sum(axis=1, keepdims=True),
        confidence=np.full(len(present), 0.95),
    )
    said = []
    for i, (one, at) in enumerate(zip(layers, speaks, strict=True)):
        symbols = np.zeros(len(one), np.uint16)
        symbols[at] = inverse[layer == i] + 1
        shares = np.full((len(one), classes), np.nan, np.float32)
        shares[at] = p[layer == i]
        seen = Observations(
            source=source,
            support="cells",
            geobox=geobox,
            symbols=symbols.reshape(geobox.shape),
            crosswalk=crosswalk,
            phenomenon_time=interval,
            provenance=provenance,
            shares=shares.reshape(*geobox.shape, classes),
        )
        said.append(seen)
    return tuple(said)
