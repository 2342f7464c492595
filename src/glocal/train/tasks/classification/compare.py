"""How sure a difference between two classifiers is, when neighbours share their fate.

Pictures of one block look alike, so blocks, not pictures, are drawn again (block bootstrap,
Efron and Tibshirani 1993, ch. 8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glocal.errors import BadSourceError

DRAWS = 2000
FEW = 5
"""Below so many blocks an interval says nothing: cases are reported instead."""


def block_interval(values: ArrayLike, blocks: ArrayLike) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of ``values`` (n,), drawing blocks with return.

    ``None`` with fewer than five blocks.

    >>> block_interval([1.0] * 6, range(6))
    (1.0, 1.0)
    """
    given = np.asarray(values, dtype=np.float64)
    names, block = np.unique(np.asarray(blocks), return_inverse=True)
    if given.shape != block.shape or given.ndim != 1 or not len(given):
        raise BadSourceError(f"one block per value is needed, got {given.shape} and {block.shape}")
    if len(names) < FEW:
        return None
    total = np.bincount(block, given)
    size = np.bincount(block)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    low, high = np.quantile((drawn @ total) / (drawn @ size), [0.025, 0.975])
    return float(low), float(high)


def score(
    predicted: Iterable[ArrayLike], truth: ArrayLike, blocks: ArrayLike
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Return the accuracy of several runs, its spread and interval; and (n,) shares of hits.

    The interval tells of other places, the spread of other training data and seeds.
    """
    truth = np.asarray(truth)
    given = [np.asarray(one) for one in predicted]
    hits = np.stack([one == truth for one in given]).astype(np.float64)
    each = hits.mean(axis=1)
    per_class = [[hit[truth == k].mean() for k in np.unique(truth)] for hit in hits]
    interval = block_interval(hits.mean(axis=0), blocks)
    found = {
        "accuracy": float(each.mean()),
        "balanced_accuracy": float(np.mean(per_class)),
        "spread": float(each.std(ddof=1)) if len(each) > 1 else None,
        "interval": interval,
        "runs": each.tolist(),
    }
    return found, hits.mean(axis=0)


def difference(
    hits: Mapping[str, NDArray[np.float64]], one: str, other: str, blocks: ArrayLike
) -> dict[str, Any]:
    """Return by how much ``one`` beats ``other``, with the interval of the paired difference."""
    by = hits[one] - hits[other]
    return {
        "better": one,
        "than": other,
        "by": float(by.mean()),
        "interval": block_interval(by, blocks),
    }


def subsets(
    rows: NDArray[np.int64], blocks: NDArray[np.int64], *, seeds: int, share: float = 0.8
) -> list[NDArray[np.int64]]:
    """Return for each seed the rows in a random ``share`` of the blocks, all its pictures."""
    names = np.unique(blocks[rows])
    keep = max(1, round(share * len(names)))
    rngs = map(np.random.default_rng, range(seeds))
    drawn = (rng.choice(names, keep, replace=False) for rng in rngs)
    return [rows[np.isin(blocks[rows], some)] for some in drawn]
