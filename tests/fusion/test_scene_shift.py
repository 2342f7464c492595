"""A scene that was moved is told its way back; one that was not is left in peace."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from glocal.fusion.place.scene_shift import register

SIDE, CELL = 160, 10.0
MEANS = np.array([[0.05, 0.3], [0.12, 0.2], [0.03, 0.02]])


def _place(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return bands (2, H, W) of a patchwork and the others' probabilities (H, W, 3)."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 4)
    label = np.digitize(field, np.quantile(field, [0.33, 0.66]))
    bands = np.moveaxis(MEANS[label], -1, 0) * rng.normal(1, 0.15, (2, SIDE, SIDE))
    return bands.astype(np.float32), np.eye(3)[label] * 0.85 + 0.05


@pytest.mark.parametrize("move", [(0, 0), (1, -2), (-3, 0)])
def test_whole_cells_are_found(move: tuple[int, int]) -> None:
    bands, others = _place(1)
    moved = np.roll(bands, move, axis=(1, 2))
    clear = np.ones((SIDE, SIDE), bool)
    clear[:30, :40] = False
    found = register(moved, clear, others, CELL, seed=0)
    assert found is not None
    assert found.affine is None
    assert (found.shift.dx, found.shift.dy) == pytest.approx(
        (-move[1] * CELL, move[0] * CELL), abs=2.0
    )
    assert found.shift.significant == (move != (0, 0))
    for part in found.points:
        assert part.shift.dx == pytest.approx(-move[1] * CELL, abs=5.0)


def test_a_stretched_scene_gets_an_affine_field() -> None:
    bands, others = _place(2)
    rows, columns = np.indices((SIDE, SIDE)).astype(float)
    stretch = 0.05
    source = columns + stretch * (columns - SIDE / 2)
    moved = np.stack([ndimage.map_coordinates(b, [rows, source], order=0) for b in bands])
    found = register(moved, np.ones((SIDE, SIDE), bool), others, CELL, seed=0)
    assert found is not None
    assert found.affine is not None
    east, north = found.affine
    assert east[1] == pytest.approx(stretch * CELL, rel=0.4)
    assert abs(north[2]) < 0.2 * stretch * CELL


def test_noise_has_no_place() -> None:
    noise = np.random.default_rng(3).normal(size=(2, SIDE, SIDE)).astype(np.float32)
    found = register(noise, np.ones((SIDE, SIDE), bool), _place(3)[1], CELL, seed=0)
    assert found is None or not found.shift.significant


def test_few_clear_cells_say_nothing() -> None:
    bands, others = _place(4)
    clear = np.zeros((SIDE, SIDE), bool)
    clear[:10, :10] = True
    assert register(bands, clear, others, CELL, seed=0) is None
