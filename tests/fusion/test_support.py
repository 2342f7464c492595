"""From polygons to cells, against GDAL's rasteriser as an independent oracle."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from glocal.core.burn import burn

SHAPE = (23, 31)


def grid(step_y: float = -10.0, step_x: float = 10.0) -> GeoBox:
    """Return a grid whose origin is the corner of its first cell, rows down or up."""
    left = 500_000 if step_x > 0 else 500_310
    top = 5_200_230 if step_y < 0 else 5_200_000
    return GeoBox(SHAPE, Affine(step_x, 0, left, 0, step_y, top), "EPSG:32632")


def blob(rng: np.random.Generator, corners: int, size: float) -> shapely.Polygon:
    """Return a star around a random centre, partly outside; corners are off the centre lines."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = size * rng.uniform(0.2, 1, corners)
    x, y = rng.uniform(-40, 350), rng.uniform(-40, 270)
    xy = np.stack((x + reach * np.cos(angle), y + reach * np.sin(angle)), axis=1)
    return shapely.Polygon(np.array([500_000, 5_200_000]) + np.round(xy, 3) + 1e-4)


def shapes(seed: int, count: int, corners: int, size: float) -> np.ndarray:
    """Return stars, some with holes or of several parts, some empty or missing."""
    rng = np.random.default_rng(seed)
    out = np.empty(count, object)
    for i in range(count):
        one = blob(rng, corners, size)
        kind = rng.integers(6)
        if kind == 0:
            hole = shapely.affinity.scale(one, 0.5, 0.5).exterior
            one = shapely.Polygon(one.exterior, [hole])
        elif kind == 1:
            far = shapely.affinity.translate(one, 3 * size, 0.0)
            one = shapely.MultiPolygon([one, far])
        elif kind == 2 and i % 2:
            one = shapely.Polygon() if i % 3 else None
        out[i] = one
    return out


def by_gdal(geometry: np.ndarray, geobox: GeoBox) -> np.ndarray:
    there = [(one, i) for i, one in enumerate(geometry, start=1) if one and not one.is_empty]
    if not there:
        return np.zeros(geobox.shape, np.int32)
    return rasterize(there, out_shape=geobox.shape, transform=geobox.transform, dtype="int32")


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 12),
    corners=st.integers(3, 12),
    size=st.sampled_from([4.0, 15.0, 60.0, 400.0]),
    step_y=st.sampled_from([-10.0, 10.0]),
)
@settings(max_examples=150)
def test_cells_are_those_of_gdal(seed, count, corners, size, step_y) -> None:
    geometry = shapes(seed, count, corners, size)
    geobox = grid(step_y)
    assert np.array_equal(burn(geometry, geobox), by_gdal(geometry, geobox))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_the_later_object_speaks_and_says_its_number(seed) -> None:
    geometry = shapes(seed, 5, 6, 80.0)
    painted = burn(geometry, grid())
    for i in range(1, 6):
        alone = burn(geometry[i - 1 : i], grid()) > 0
        later = np.isin(painted, np.arange(i + 1, 6))
        assert np.array_equal(painted == i, alone & ~later)


THIN = [
    shapely.Point(500_055, 5_200_055),
    shapely.LineString([(500_000, 5_200_055), (500_300, 5_200_055)]),
]


@pytest.mark.parametrize("one", THIN, ids=["point", "line"])
def test_points_and_lines_own_no_cell(one) -> None:
    assert not burn(np.array([one]), grid()).any()


def test_an_edge_through_centres_gives_each_cell_to_one_side() -> None:
    left = shapely.box(500_000, 5_200_000, 500_105, 5_200_230)
    right = shapely.box(500_105, 5_200_000, 500_310, 5_200_230)
    a, b = (burn(np.array([one]), grid()) > 0 for one in (left, right))
    assert np.array_equal(a, ~b)


def test_nothing_paints_nothing() -> None:
    assert not burn(np.empty(0, object), grid()).any()
