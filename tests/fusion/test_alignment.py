"""An injected shift of polygons is found again, with its sign and its uncertainty."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from glocal.core.burn import burn
from glocal.core.setting import ENGINE
from glocal.fusion.place.alignment import relative_shift
from glocal.testing import CELL, grid

SIDE, K = 160, 3


def fields(seed):
    """Return rectangles of fields in a net with gaps, and the class of each."""
    rng = np.random.default_rng(seed)
    box = grid(SIDE, SIDE).boundingbox
    net = np.mgrid[box.left : box.right : 120.0, box.bottom : box.top : 120.0].reshape(2, -1)
    start = net + rng.uniform(5, 40, net.shape)
    size = rng.uniform(50, 75, net.shape)
    return shapely.box(*start, *(start + size)), rng.integers(1, K, net.shape[1])


def scene(seed, dx, dy, *, wrong=0.2, noise=0.25):
    """Return (what a layer shifted by dx, dy says, what the others believe)."""
    rng = np.random.default_rng(seed + 1000)
    geobox = grid(SIDE, SIDE)
    shapes, classes = fields(seed)
    truth = np.concatenate([[0], classes])[burn(shapes, geobox)]
    seen = np.where(rng.random(truth.shape) < noise, rng.integers(0, K, truth.shape), truth)
    others = np.full((*truth.shape, K), noise / K, np.float32)
    np.put_along_axis(others, seen[..., None], 1 - noise + noise / K, axis=2)
    moved = shapely.transform(shapes, lambda xy: xy + np.array([dx, dy]))
    tag = np.where(rng.random(len(classes)) < wrong, rng.integers(1, K, len(classes)), classes)
    table = np.log(np.full((K, K), 0.1) + 0.7 * np.eye(K))
    table -= table.mean(axis=1, keepdims=True)
    table[0] = 0
    said = table[np.concatenate([[0], tag])[burn(moved, geobox)]]
    return said.astype(np.float32), others


@pytest.mark.parametrize(
    ("dx", "dy"), [(0.0, 0.0), (23.0, -14.0), (-7.5, 31.0), (40.0, 40.0), (-4.0, -4.0)]
)
def test_the_shift_brings_the_layer_back(dx, dy):
    for seed in range(3):
        said, others = scene(seed, dx, dy)
        shift = relative_shift(said, others, CELL)
        assert shift is not None
        error = np.array([shift.dy + dy, shift.dx + dx])
        # within half a cell, and within what it states (chi-square, 2 degrees, 99.9 %)
        assert np.abs(error).max() < CELL / 2
        assert error @ np.linalg.inv(np.array(shift.covariance)) @ error < 13.8
        if max(abs(dx), abs(dy)) > 20:
            assert shift.significant


def test_a_layer_in_place_is_not_moved():
    for seed in range(5):
        shift = relative_shift(*scene(seed, 0.0, 0.0), CELL)
        assert shift is not None
        assert not shift.significant


def test_nothing_to_align_gives_no_shift():
    said, others = scene(0, 0.0, 0.0)
    assert relative_shift(np.zeros_like(said), others, CELL) is None
    assert relative_shift(said, np.full_like(others, 1 / K), CELL) is None
    beyond, _ = scene(0, (ENGINE.max_shift + 30) * CELL, 0.0)
    far = relative_shift(beyond, others, CELL)
    assert far is None or not far.significant or abs(far.dx) <= ENGINE.max_shift * CELL


def test_tiny_grids_do_not_wrap_round():
    rng = np.random.default_rng(0)
    for height, width in [(1, 1), (2, 3), (5, 2)]:
        said = rng.normal(size=(height, width, K)).astype(np.float32)
        others = rng.dirichlet(np.ones(K), (height, width)).astype(np.float32)
        shift = relative_shift(said, others, CELL)
        assert shift is None or abs(shift.dx) <= ENGINE.max_shift * CELL
