"""Random fields on a square grid, of mean width ``scale`` in cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from glocal.core.typing import Bytes, Floats, Layers
from glocal.synthetic.world import CLASSES, CONFUSED

K = len(CLASSES)
REGION_TILT = np.array([-1.0, -1 / 3, 1 / 3, 1.0])
"""Where each of the four regions stands between the best and the worst; sums to 0."""


def normal(rng: np.random.Generator, size: int, scale: float) -> Layers:
    """Return a Gaussian field (size, size) of mean 0 and variance 1; white for scale 0."""
    scale = max(min(scale, size / 6), 0)
    side = size + int(np.ceil(4 * scale))  # the margin keeps opposite edges independent
    white = rng.standard_normal((side, side), np.float32)
    if scale == 0:
        return white
    field = ndimage.gaussian_filter(white, scale, mode="wrap")[:size, :size]
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def uniform(rng: np.random.Generator, size: int, scale: float) -> Layers:
    """Return a field whose values are spread evenly over 0..1, ends excluded.

    So exactly the share ``p`` of its cells lies below ``p``.
    """
    field = normal(rng, size, scale)
    rank = np.empty(field.size, np.float32)
    rank[np.argsort(field, axis=None, kind="stable")] = np.arange(field.size) + 0.5
    return (rank / np.float32(field.size + 1)).reshape(field.shape)


def voronoi(rng: np.random.Generator, size: int, count: int) -> NDArray[np.int32]:
    """Return the number 0..count-1 of the nearest of ``count`` random seeds."""
    seeds = rng.uniform(0, size, (max(count, 1), 2))
    rows, columns = np.indices((size, size)) + 0.5
    cells = np.column_stack([rows.ravel(), columns.ravel()])
    return np.asarray(cKDTree(seeds).query(cells)[1], np.int32).reshape(size, size)


def regions(size: int) -> Bytes:
    """Return the region 0..3 of every cell: the quarters of the area."""
    half = (np.arange(size) >= size // 2).astype(np.uint8)
    return np.asarray(2 * half[:, None] + half[None, :], np.uint8)


def draw_wrong(truth: NDArray[np.integer], chance: Floats, structured: float) -> Bytes:
    """Return a class other than ``truth`` for every entry, by inverse chance 0..1.

    The share ``structured`` of the answers is the class it is confused with most.
    """
    table = np.full((K, K), (1 - structured) / (K - 1))
    table[np.arange(K), CONFUSED] += structured
    np.fill_diagonal(table, 0)
    table /= table.sum(axis=1, keepdims=True)
    edges = table.cumsum(axis=1)
    edges[:, -1] = 2.0
    found = np.zeros(truth.shape, np.uint8)
    for k in range(K):
        here = truth == k
        found[here] = np.searchsorted(edges[k], chance[here], side="right")
    return found


def majority(classes: Bytes, side: int) -> Bytes:
    """Return the commonest class in the square of ``side`` cells around every cell."""
    if side <= 1:
        return classes
    share = [ndimage.uniform_filter((classes == k).astype(np.float32), side) for k in range(K)]
    return np.asarray(np.argmax(share, axis=0), np.uint8)
