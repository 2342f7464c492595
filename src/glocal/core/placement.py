"""Where scenes and points really lie: values that fusion finds and sources give back."""

from __future__ import annotations

from dataclasses import dataclass

from glocal.core.result import Displacement
from glocal.core.typing import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPoint:
    """The middle of a part of the scene, and its shift."""

    row: float
    column: float
    shift: Displacement


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """How a scene is displaced."""

    shift: Displacement
    points: tuple[ControlPoint, ...]
    """Parts of the scene that could be measured by themselves."""

    affine: tuple[tuple[float, float, float], tuple[float, float, float]] | None
    """Rows (east, north): metres at the middle, per cell to the right, per cell down; None
    where one shift explains all parts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Places:
    """A better place for each point, where there is one; NaN elsewhere."""

    dx: Table
    """Shape (n,), metres to the east, to be added to the recorded position."""

    dy: Table
    """Shape (n,), metres to the north."""

    sd: Table
    """Shape (n,), standard uncertainty of the new place along one axis, metres."""
