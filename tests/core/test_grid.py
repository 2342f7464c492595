from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geom import box

from glocal.core.grid import (
    area_geobox,
    block_folds,
    cell_area_ha,
    cells_of_points,
    require_overlap,
    tiles,
)
from glocal.errors import GridMismatchError
from glocal.testing import grid

sides = st.integers(1, 30)


@given(sides, sides, st.integers(1, 12), st.integers(0, 4))
def test_tiles_cover_every_cell_once_and_halos_stay_inside(height, width, size, halo):
    geobox = grid(height, width)
    seen = np.zeros((height, width), int)
    for inner, outer in tiles(geobox.shape, size, halo):
        seen[inner] += 1
        for part, whole, n in zip(inner, outer, (height, width), strict=True):
            assert whole.start == max(part.start - halo, 0)
            assert whole.stop == min(part.stop + halo, n)
            assert part.stop - part.start <= size
    assert (seen == 1).all()


@given(sides, sides, st.integers(1, 9), st.integers(1, 6), st.integers(0, 99))
def test_folds_are_constant_in_blocks_and_nearly_equal(height, width, block, folds, seed):
    fold = block_folds(grid(height, width), block, folds, seed=seed)
    assert fold.shape == (height, width)
    corners = fold[::block, ::block]
    spread = corners.repeat(block, 0).repeat(block, 1)[:height, :width]
    np.testing.assert_array_equal(fold, spread)
    count = np.bincount(corners.ravel(), minlength=folds)
    assert count.max() - count.min() <= 1
    np.testing.assert_array_equal(fold, block_folds(grid(height, width), block, folds, seed=seed))


@given(sides, sides, st.integers(0, 2**16))
def test_points_fall_into_the_cell_that_holds_them(height, width, seed):
    geobox = grid(height, width)
    rng = np.random.default_rng(seed)
    row, column = rng.integers(0, height, 8), rng.integers(0, width, 8)
    inside = rng.uniform(0.01, 0.99, (2, 8))
    b = geobox.boundingbox
    x, y = b.left + (column + inside[0]) * 10, b.top - (row + inside[1]) * 10
    np.testing.assert_array_equal(cells_of_points(geobox, x, y), row * width + column)
    away = cells_of_points(
        geobox, np.array([b.left - 1, b.right + 1, np.nan, np.inf]), np.full(4, b.bottom + 5)
    )
    assert (away == -1).all()


@given(st.floats(0, 500), st.floats(0, 500), st.sampled_from([3.0, 10.0, 30.0]))
def test_areas_snap_to_one_net(dx, dy, step):
    left, bottom = 500_000 + dx, 5_000_000 + dy
    geobox = area_geobox((left, bottom, left + 100, bottom + 100), "EPSG:32632", step)
    b = geobox.boundingbox
    # a hundredth of a cell is not worth another column
    assert b.left <= left + 0.011 * step
    assert b.top >= bottom + 100 - 0.011 * step
    for edge in (b.left, b.top):
        assert edge / step == pytest.approx(round(edge / step), abs=1e-6)
    assert cell_area_ha(geobox) == pytest.approx(step**2 / 1e4)


def test_degrees_are_refused():
    with pytest.raises(GridMismatchError, match="UTM"):
        area_geobox((9, 45, 9.1, 45.1), "EPSG:4326", 0.001)


def test_a_source_elsewhere_is_refused_and_one_that_touches_is_not():
    geobox = grid(10, 10)
    require_overlap("near", box(8.9, 44.9, 9.3, 45.3, "EPSG:4326"), geobox)
    require_overlap("world", box(-180, -90, 180, 90, "EPSG:4326"), geobox)
    with pytest.raises(GridMismatchError, match=r"far .* order of its coordinates"):
        require_overlap("far", box(45, 8.9, 45.3, 9.3, "EPSG:4326"), geobox)
