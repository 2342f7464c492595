"""Where a point may really lie."""

from __future__ import annotations

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from glocal.core.grid import cells_of_points
from glocal.fusion.problem.support import POSITION_REACH, point_cells
from glocal.testing import CELL, grid

H, W = 9, 11
BOX = grid(H, W)
EDGE = BOX.boundingbox
places = st.tuples(st.floats(-30, W * CELL + 30), st.floats(-30, H * CELL + 30))


@given(st.lists(places, max_size=5), st.sampled_from([0.0, 1.0, 8.0, 40.0]))
def test_weights_sum_to_one_for_every_point_inside(xy, sd):
    x = np.array([EDGE.left + a for a, _ in xy])
    y = np.array([EDGE.bottom + b for _, b in xy])
    found = point_cells(np.asarray(shapely.points(x, y), object), np.full(len(xy), sd), BOX)
    inside = cells_of_points(BOX, x, y) >= 0
    total = np.bincount(found.point, found.weight, minlength=len(xy))
    np.testing.assert_allclose(total, inside.astype(float), atol=1e-12)
    assert (np.diff(found.point) >= 0).all()
    assert ((found.cell >= 0) & (found.cell < H * W)).all()
    pairs = found.point * H * W + found.cell
    assert len(np.unique(pairs)) == len(pairs)


@given(st.integers(0, W - 1), st.integers(0, H - 1), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_an_exact_point_lies_in_its_own_cell(column, row, right, down):
    x, y = EDGE.left + (column + right) * CELL, EDGE.top - (row + down) * CELL
    found = point_cells(np.array([shapely.Point(x, y)], object), np.zeros(1), BOX)
    assert found.cell.tolist() == [row * W + column]


def test_weights_are_those_of_a_normal_distribution_and_spread_with_it():
    x, y = EDGE.left + 5.4 * CELL, EDGE.top - 4.7 * CELL
    before = 2.0
    for sd in (1.0, 4.0, 10.0):
        found = point_cells(np.array([shapely.Point(x, y)], object), np.array([sd]), BOX)
        row, column = np.divmod(found.cell, W)
        share = (
            np.diff(norm.cdf([column, column + 1], 5.4, sd / CELL), axis=0)
            * np.diff(norm.cdf([row, row + 1], 4.7, sd / CELL), axis=0)
        )[0]
        np.testing.assert_allclose(found.weight, share / share.sum(), atol=1e-9)
        assert share.sum() > 0.97  # cut at two and a half uncertainties
        assert np.abs(column + 0.5 - 5.4).max() <= POSITION_REACH * sd / CELL + 1
        middle = found.weight[found.cell == 4 * W + 5]
        assert middle[0] < before
        before = middle[0]
