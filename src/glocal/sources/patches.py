"""Connected cells of one code as polygons along cell edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from glocal.core.typing import Codes, Floats, Table
from glocal.io.vector import polygons_of_labels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patches:
    """Connected cells of one code each, n of them."""

    labels: NDArray[np.int32]
    """Shape (H, W), 1..n, 0 outside."""

    geometry: NDArray[np.object_]
    """Shape (n,), in the grid's CRS."""

    code: Codes
    """Shape (n,)."""

    size: Codes
    """Shape (n,), cells of each."""

    def mean(self, layer: Floats) -> Table:
        """Return the mean of ``layer`` (H, W) over each patch, shape (n,)."""
        flat, n = self.labels.ravel(), len(self.size)
        inside = np.where(flat > 0, layer.ravel(), 0.0)
        return np.asarray(np.bincount(flat, inside, n + 1)[1:] / np.maximum(self.size, 1))

    def commonest(self, symbols: NDArray[np.integer], kinds: int) -> Codes:
        """Return the commonest of ``symbols`` (H, W), which are 0..kinds - 1, in each patch."""
        n, inside = len(self.size), self.labels > 0
        pair = (self.labels[inside].astype(np.int64) - 1) * kinds + symbols[inside]
        count = np.bincount(pair, minlength=n * kinds).reshape(n, kinds)
        return np.asarray(count.argmax(axis=1), np.int64)


def patch_labels(code: Codes, smallest: int) -> NDArray[np.int32]:
    """Return labels 1..n of edge-connected cells with equal ``code`` > 0, shape (H, W).

    Patches with fewer than ``smallest`` cells get 0; labels follow the first cell of a
    patch in row-major order.

    >>> patch_labels(np.array([[5, 5, 0], [7, 5, 5]]), 2).tolist()
    [[1, 1, 0], [0, 1, 1]]
    """
    cells = np.arange(code.size).reshape(code.shape)
    pairs = []
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        same = (code[one] == code[other]) & (code[one] > 0)
        pairs.append((cells[one][same], cells[other][same]))
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(code.size,) * 2)
    _, part = connected_components(graph, directed=False)
    size = np.bincount(part)
    keep = (code.ravel() > 0) & (size[part] >= smallest)
    labels = np.zeros(code.size, np.int32)
    _, start, inverse = np.unique(part[keep], return_index=True, return_inverse=True)
    rank = np.empty(len(start), np.int32)
    rank[np.argsort(start)] = np.arange(1, len(start) + 1)
    labels[keep] = rank[inverse]
    return labels.reshape(code.shape)


def patches_of(code: Codes, smallest: int, geobox: GeoBox) -> Patches:
    """Return the patches of equal ``code`` > 0 (H, W) of ``smallest`` cells or more."""
    labels = patch_labels(code, smallest)
    n = int(labels.max(initial=0))
    _, at = np.unique(labels, return_index=True)
    return Patches(
        labels=labels,
        geometry=polygons_of_labels(labels, geobox),
        code=code.ravel()[at[-n:]] if n else np.empty(0, np.int64),
        size=np.bincount(labels.ravel(), minlength=n + 1)[1:],
    )
