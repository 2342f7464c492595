"""Geographic splits: neighbours stand on the same side, whatever the order of the samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def blocks(lon: ArrayLike, lat: ArrayLike, size_deg: float = 0.5) -> NDArray[np.int64]:
    """Return the number of the block of ``size_deg`` x ``size_deg`` degrees of each place.

    ``lon`` and ``lat`` are degrees, same shape; longitudes outside [-180, 180) are wrapped.

    Raises
    ------
    ValueError
        A place is not finite, a latitude lies outside [-90, 90] or ``size_deg`` is not > 0.

    >>> blocks([5.1, 5.4, 5.6], [50.2, 50.2, 50.2]).tolist()
    [201970, 201970, 201971]
    """
    east, north = np.asarray(lon, np.float64), np.asarray(lat, np.float64)
    if not size_deg > 0:
        raise ValueError(f"size_deg must be > 0, got {size_deg}")
    if not (np.isfinite(east).all() and np.isfinite(north).all()):
        raise ValueError("longitudes and latitudes must be finite; drop places that are not known")
    if (np.abs(north) > 90).any():
        raise ValueError("latitudes must lie in [-90, 90]; are longitude and latitude swapped?")
    columns = int(np.ceil(360 / size_deg))
    column = np.floor(np.mod(east + 180, 360) / size_deg).astype(np.int64)
    row = np.floor((north + 90) / size_deg).astype(np.int64)
    return row * columns + column


def part_of(
    ids: ArrayLike, *, seed: int = 0, shares: Sequence[float] = (0.6, 0.1, 0.3)
) -> NDArray[np.int8]:
    """Return 0 (train), 1 (val) or 2 (test) for each block number.

    The part depends on the number and the seed only, so that it stays the same when
    samples are added; ``shares`` are shares of blocks, met on average.

    Raises
    ------
    ValueError
        ``shares`` are negative or do not add up to 1.
    """
    portions = np.asarray(shares, np.float64)
    if (portions < 0).any() or not np.isclose(portions.sum(), 1):
        raise ValueError(f"shares must be >= 0 and add up to 1, got {tuple(shares)}")
    numbers = np.asarray(ids, np.int64).astype(np.uint64)
    mixed = _mix(numbers ^ _mix(np.asarray(seed, np.int64).astype(np.uint64)))
    uniform = (mixed >> np.uint64(11)).astype(np.float64) / 2**53
    return np.searchsorted(np.cumsum(portions)[:-1], uniform, side="right").astype(np.int8)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64 bits: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
