"""Results with their uncertainty: distributions over classes as logarithms, displacements."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from glocal.core.typing import Floats, Table

SIGNIFICANT = 11.8
"""Squared distance of a shift, in standard uncertainties, from which it is told (three)."""

S = TypeVar("S", bound=np.generic)
F = TypeVar("F", bound=np.floating[Any])


def frozen(array: NDArray[S]) -> NDArray[S]:
    """Return a read-only view of ``array``."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def freeze(value: Any) -> None:
    """Make every array of a frozen dataclass read-only, when it is made."""
    for one in fields(value):
        array = getattr(value, one.name)
        if isinstance(array, np.ndarray):
            object.__setattr__(value, one.name, frozen(array))


def log_normalise(log_p: NDArray[F]) -> NDArray[F]:
    """Return ``log_p`` shifted so that ``exp`` sums to one along the last axis.

    >>> np.exp(log_normalise(np.zeros((1, 4)))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    return np.asarray(log_softmax(log_p, axis=-1))


def relative_entropy(log_p: Floats) -> Floats:
    """Return the entropy of distributions (..., K) over that of knowing nothing, shape (...).

    >>> relative_entropy(np.log([[0.5, 0.5], [1 - 1e-12, 1e-12]])).round(3).tolist()
    [1.0, 0.0]
    """
    return np.asarray(-(np.exp(log_p) * log_p).sum(axis=-1) / np.log(log_p.shape[-1]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShiftField:
    """Shifts on a lattice of places, bilinear between them, constant beyond the outermost."""

    x: Table
    """Shape (n,), ascending, in a CRS in metres."""

    y: Table
    """Shape (m,), ascending."""

    shift: Table
    """Shape (m, n, 2), east and north in metres."""

    covariance: Table
    """Shape (m, n, 2, 2), of (east, north) in square metres."""

    def __post_init__(self) -> None:
        shape = (len(self.y), len(self.x))
        if self.shift.shape != (*shape, 2) or self.covariance.shape != (*shape, 2, 2):
            raise ValueError(
                f"ShiftField needs shift {(*shape, 2)} and covariance {(*shape, 2, 2)}, got "
                f"{self.shift.shape} and {self.covariance.shape}"
            )
        if not np.isfinite(self.shift).all():
            raise ValueError("ShiftField.shift must be finite")
        if (np.diff(self.x) <= 0).any() or (np.diff(self.y) <= 0).any():
            raise ValueError("ShiftField.x and y must ascend")
        freeze(self)

    def at(self, xy: Table) -> Table:
        """Return the shift (east, north) at places ``xy`` (k, 2), shape (k, 2)."""
        column = np.interp(xy[:, 0], self.x, np.arange(len(self.x)))
        row = np.interp(xy[:, 1], self.y, np.arange(len(self.y)))
        left = np.clip(column.astype(np.int64), 0, max(len(self.x) - 2, 0))
        low = np.clip(row.astype(np.int64), 0, max(len(self.y) - 2, 0))
        right, high = np.minimum(left + 1, len(self.x) - 1), np.minimum(low + 1, len(self.y) - 1)
        a, b = (column - left)[:, None], (row - low)[:, None]
        below = (1 - a) * self.shift[low, left] + a * self.shift[low, right]
        above = (1 - a) * self.shift[high, left] + a * self.shift[high, right]
        return np.asarray((1 - b) * below + b * above)


@dataclass(frozen=True, slots=True, kw_only=True)
class Displacement:
    """A shift of one layer relative to the others, in metres, with its covariance.

    Only relative shifts are observable without control points: ``gauge`` says what
    the shift is relative to, or how it was split.
    """

    dy: float
    """Northward shift in metres that brings the source onto the others."""

    dx: float
    """Eastward shift in metres that brings the source onto the others."""

    covariance: tuple[tuple[float, float], tuple[float, float]]
    """Covariance of (dy, dx) in square metres."""

    gauge: str = "relative to the other sources"
    """What pins the shift down."""

    applied: bool = False
    """True when the layer was moved by it before it was fused."""

    field: ShiftField | None = None
    """Where the shift differs from place to place; ``dy`` and ``dx`` are then its mean."""

    def __post_init__(self) -> None:
        if not np.isfinite([self.dy, self.dx]).all():
            raise ValueError(f"Displacement must be finite, got dy={self.dy}, dx={self.dx}")
        matrix = np.asarray(self.covariance, dtype=float)
        if matrix.shape != (2, 2) or not np.allclose(matrix, matrix.T):
            raise ValueError(f"Displacement.covariance must be 2x2 symmetric, got {matrix}")
        if np.linalg.eigvalsh(matrix).min() <= 0:
            raise ValueError(f"Displacement.covariance must be positive definite, got {matrix}")

    @property
    def significant(self) -> bool:
        """True when it has a field, or differs from zero at three standard uncertainties."""
        if self.field is not None:
            return True
        shift = np.array([self.dy, self.dx])
        return bool(shift @ np.linalg.inv(np.asarray(self.covariance)) @ shift > SIGNIFICANT)
