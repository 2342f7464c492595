"""The floor under every learned feature: what the values of each band alone tell.

No position, no neighbourhood, no learning: a feature that does not beat these has learned
nothing about the picture. On EuroSAT they already sort most scenes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glocal.errors import BadSourceError

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles that are taken of each band."""

CHUNK = 1024
"""Images sorted at once: bounds the memory, changes no value."""


def statistic_names(bands: int) -> tuple[str, ...]:
    """Return the name of each column of `band_statistics`, in its order.

    >>> statistic_names(1)[:5]
    ('band 0 mean', 'band 0 std', 'band 0 min', 'band 0 max', 'band 0 q0.05')
    """
    what = ("mean", "std", "min", "max", *(f"q{q:g}" for q in QUANTILES))
    return tuple(f"band {band} {name}" for band in range(bands) for name in what)


def band_statistics(images: ArrayLike, *, valid: ArrayLike | None = None) -> NDArray[np.float32]:
    """Return mean, standard deviation, minimum, maximum and quantiles of each band.

    From images (B, C, H, W) of any unit and number type, and ``valid`` of the same shape, True
    where there is data, to (B, C * 9), bands outermost (`statistic_names`). Non-finite values
    never count. NaN where a band of an image has no valid pixel: the probes refuse it, so that the
    caller decides which images to leave out. Quantiles are linearly interpolated.

    Raises
    ------
    BadSourceError
        The images are not of shape (B, C, H, W), or ``valid`` has another shape.
    """
    values = np.asarray(images)
    if values.ndim != 4 or 0 in values.shape[1:]:
        raise BadSourceError(
            f"images must be of shape (B, C, H, W) without an empty axis, got {values.shape}; "
            "a single image is images[None]"
        )
    known = np.broadcast_to(True, values.shape) if valid is None else np.asarray(valid, bool)
    if known.shape != values.shape:
        raise BadSourceError(
            f"valid must have the shape of the images, {values.shape}, got {known.shape}"
        )
    chunks = [slice(at, at + CHUNK) for at in range(0, len(values), CHUNK)]
    none = np.empty((0, values.shape[1] * (4 + len(QUANTILES))), np.float32)
    return np.concatenate([none, *(_of_chunk(values[some], known[some]) for some in chunks)])


def _of_chunk(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Sort each band with what is missing last, then read everything off the sorted values."""
    flat = values.reshape(*values.shape[:2], -1).astype(np.float32)
    missing = ~(np.isfinite(flat) & valid.reshape(flat.shape))
    flat = np.sort(np.where(missing, np.inf, flat), axis=-1)
    count = flat.shape[-1] - missing.sum(axis=-1)
    kept = np.arange(flat.shape[-1]) < count[..., None]
    flat = np.where(kept, flat, 0)
    some = np.maximum(count, 1)
    mean = flat.sum(axis=-1, dtype=np.float64) / some
    square = np.where(kept, flat - mean[..., None], 0.0) ** 2
    std = np.sqrt(square.sum(axis=-1) / some)
    at = np.array([0.0, 1.0, *QUANTILES]) * (some[..., None] - 1)
    lower = np.floor(at).astype(np.int64)
    low = np.take_along_axis(flat, lower, axis=-1).astype(np.float64)
    high = np.take_along_axis(flat, np.minimum(lower + 1, some[..., None] - 1), axis=-1)
    ordered = low + (at - lower) * (high - low)
    empty = count[..., None] == 0
    table = np.concatenate([mean[..., None], std[..., None], ordered], axis=-1)
    return np.where(empty, np.nan, table).reshape(len(values), -1).astype(np.float32)
