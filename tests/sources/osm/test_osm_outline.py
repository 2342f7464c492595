"""Outlines of areas that are missing: laws that hold for any patch of cells."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import shapes
from scipy import ndimage

from glocal.sources.osm.outline import new_elements, outline

CELL = 10.0


def patch_of(seed: int) -> shapely.Polygon:
    """Return the largest connected patch of a random field of 24 x 24 cells."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(24, 24)), 2) > 0
    label, _ = ndimage.label(field)
    size = np.bincount(label.ravel())[1:]
    mask = (label == size.argmax() + 1).astype(np.uint8)
    (outer,) = [shapely.geometry.shape(one) for one, value in shapes(mask) if value]
    return shapely.transform(outer, lambda xy: xy * CELL)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_an_outline_is_valid_near_the_cells_and_beside_what_is_mapped(one: int, other: int) -> None:
    patch = patch_of(one)
    taken = shapely.difference(patch_of(other), shapely.box(0, 0, 120, 240))
    drawn, why = outline(patch, taken, CELL, min_area=500)
    if why:
        return
    assert shapely.is_valid(drawn)
    assert drawn.geom_type == "Polygon"
    assert shapely.area(drawn) >= 500
    assert shapely.area(shapely.intersection(drawn, taken)) == 0
    buffered = shapely.buffer(shapely.Polygon(patch.exterior), CELL)
    assert shapely.covers(buffered, drawn)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_without_neighbours_area_is_kept_and_steps_are_gone(seed: int) -> None:
    patch = shapely.Polygon(patch_of(seed).exterior)
    drawn, why = outline(patch, shapely.Polygon(), CELL, min_area=1)
    assert why == ""
    assert shapely.area(drawn) == pytest.approx(shapely.area(patch), rel=0.2)
    assert shapely.count_coordinates(drawn) <= shapely.count_coordinates(patch)


def test_elements_of_a_holed_area_refer_to_each_other() -> None:
    hole = shapely.box(0.2, 0.2, 0.4, 0.4)
    elements = new_elements(shapely.box(0, 0, 1, 1).difference(hole), {"natural": "wood"}, -5)
    ids = [one.osm_id for one in elements]
    assert sorted(ids) == list(range(-4 - len(elements), -4))
    relation = elements[-1]
    assert relation.tags == {"type": "multipolygon", "natural": "wood"}
    assert [role for _, _, role in relation.members] == ["outer", "inner"]
    ways = {one.osm_id for one in elements if one.osm_type == "way"}
    assert {ref for _, ref, _ in relation.members} == ways
    assert all(not one.tags for one in elements if one.osm_type == "way")
