"""Visits are spread, apart, and drawn with the probabilities that they state."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from glocal.core.grid import area_geobox
from glocal.errors import ConfigError
from glocal.sources.field.sampling import (
    hilbert_index,
    inclusion_probabilities,
    plan_visits,
    raised,
    write_visits,
)


def _grid(rows: int, columns: int) -> GeoBox:
    left, bottom = 330_000, 5_814_360
    return area_geobox((left, bottom, left + 10 * columns, bottom + 10 * rows), "EPSG:32633", 10)


def _cells(visits, grid: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    left, top = grid.boundingbox.left, grid.boundingbox.top
    column = ((visits.x.to_numpy() - left) // 10).astype(int)
    return ((top - visits.y.to_numpy()) // 10).astype(int), column


@pytest.mark.parametrize("side", [2, 8, 16])
def test_curve_visits_every_cell_by_single_steps(side: int) -> None:
    row, column = np.indices((side, side)).reshape(2, -1)
    place = hilbert_index(row, column)
    assert sorted(place.tolist()) == list(range(side * side))
    order = np.argsort(place)
    assert (np.abs(np.diff(row[order])) + np.abs(np.diff(column[order])) == 1).all()


@pytest.mark.parametrize("side", [0, 25])
def test_frequencies_match_the_stated_probabilities(side: float) -> None:
    """Horvitz and Thompson's estimator is unbiased, for all cells and for parts of them."""
    grid = _grid(11, 14)
    score = np.random.default_rng(1).random(grid.shape) ** 4
    score[0, :3] = np.nan
    score[5, 5] = 60
    places = np.zeros(grid.shape, int)
    places[8:10, 9:12] = 1
    row, column = np.indices(grid.shape)
    parts = [np.isfinite(score), np.isfinite(score) & (row < 5), places > 0, column % 2 == 0]
    draws, found = 200, np.zeros((200, len(parts)))
    for seed in range(draws):
        visits = plan_visits(score, grid, 5, seed=seed, square_m=side, places=places)
        at = _cells(visits, grid)
        weight = 1 / visits.inclusion_probability.to_numpy()
        found[seed] = [(weight * part[at]).sum() for part in parts]
    true = [(part & np.isfinite(score)).sum() for part in parts]
    z = (found.mean(axis=0) - true) / (found.std(axis=0) / np.sqrt(draws))
    assert np.abs(z).max() < 4


@given(
    st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 5),
    st.integers(0, 4).map(lambda power: 10.0**-power),
)  # fmt: skip
def test_probabilities_are_known_and_places_are_raised(
    seed: int, n: int, side: int, known: float
) -> None:
    rng = np.random.default_rng(seed)
    size = rng.random((20, 18)) ** 3 + 1e-9
    places = np.zeros(size.shape, int)
    for number in range(1, 5):
        top, left = rng.integers(0, 17, 2)
        places[top : top + rng.integers(1, 4), left : left + rng.integers(1, 4)] = number
    size[places > 0] *= known  # what was too hard may look as if it were known
    size /= size.sum()
    after = raised(size, places, n)
    assert after.sum() == pytest.approx(1)
    assert (after[places > 0] >= size[places > 0]).all()
    assert (after[places == 0] >= 0.7 * size[places == 0]).all()
    one = [np.bincount(places.ravel(), n * s.ravel(), minlength=5)[1:] for s in (size, after)]
    assert (one[1] <= np.maximum(one[0], 1) + 1e-9).all()
    low = (one[0] < 1) & (one[0] > 0)
    assert (one[1][low] > one[0][low]).all()
    square = np.indices(size.shape) // side
    p = inclusion_probabilities(after, square, n)
    assert p.sum() == pytest.approx(n)
    assert (p > 0).all()
    assert (p <= 1 + 1e-9).all()
    flat = np.ravel_multi_index(tuple(square), (20, 18))
    mass = np.bincount(flat.ravel(), p.ravel())
    assert mass.max() <= 1 + 1e-9  # so a square is visited once at most
    if n * np.bincount(flat.ravel(), size.ravel()).max() <= 1:  # no square is sure to be drawn
        before = inclusion_probabilities(size, square, n)
        chance = [np.bincount(places.ravel(), one.ravel(), minlength=5)[1:] for one in (before, p)]
        assert (chance[1][low] > chance[0][low]).all()


def test_nothing_is_raised_where_nothing_can_be_spared() -> None:
    size = np.full((4, 4), 1 / 16)
    for places in (np.zeros((4, 4), int), np.ones((4, 4), int)):
        np.testing.assert_array_equal(raised(size, places, 3), size)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.integers(1, 6), st.sampled_from([0, 15, 40]))
def test_visits_lie_in_different_squares_and_are_repeatable(seed: int, n: int, side: float) -> None:
    grid = _grid(24, 20)
    score = np.random.default_rng(seed).random(grid.shape)
    one, two = (plan_visits(score, grid, n, seed=seed, square_m=side) for _ in range(2))
    assert one.equals(two)
    assert one.sample_id.is_unique
    assert one["rank"].tolist() == list(range(1, n + 1))
    assert (np.diff(one.information) <= 0).all()
    assert len(one) == n
    cells = max(1, int(np.ceil(side / 10)))
    origin = np.random.default_rng(seed).integers(0, cells, 2)
    row, column = _cells(one, grid)
    squares = set(zip((row + origin[0]) // cells, (column + origin[1]) // cells, strict=True))
    assert len(squares) == n


def test_visits_are_spread() -> None:
    grid = _grid(32, 32)
    off = []
    for seed in range(20):
        row, column = _cells(plan_visits(np.ones(grid.shape), grid, 16, seed=seed), grid)
        quarter = np.bincount((row // 16) * 2 + column // 16, minlength=4)
        off.append(((quarter - 4) ** 2).mean())
    assert np.mean(off) < 1  # by chance: 16 * 1/4 * 3/4 = 3


@pytest.mark.parametrize(("n", "side"), [(0, 0), (200, 0), (5, 90)])
def test_impossible_plans_are_refused(n: int, side: float) -> None:
    with pytest.raises(ConfigError, match="visit"):
        plan_visits(np.ones((10, 10)), _grid(10, 10), n, seed=1, square_m=side)


def test_negative_scores_are_refused() -> None:
    with pytest.raises(ConfigError, match="scores >= 0"):
        plan_visits(np.full((10, 10), -1.0), _grid(10, 10), 2, seed=1)


def test_files(tmp_path: Path) -> None:
    grid = _grid(10, 12)
    visits = plan_visits(
        np.ones(grid.shape),
        grid,
        3,
        seed=4,
        entropy=np.full(grid.shape, 0.5),
        reason="<doubt>",
    )
    notes = {"licence": "CC0-1.0", "attribution": "A & B"}
    first = [path.read_bytes() for path in write_visits(visits, tmp_path, **notes)]
    assert first == [path.read_bytes() for path in write_visits(visits, tmp_path, **notes)]
    features = json.loads(first[0])["features"]
    assert [one["properties"]["reason"] for one in features] == ["<doubt>"] * 3
    tree = ElementTree.fromstring(first[1])
    assert len(tree.findall("{http://www.topografix.com/GPX/1/1}wpt")) == 3
    lines = first[2].decode().splitlines()
    assert len(lines) == 4
    lat, lon = (float(value) for value in lines[1].split(",")[3].split()[:2])
    assert 52 < lat < 53
    assert 12 < lon < 13


def test_observers_see_nothing_but_the_place(tmp_path: Path) -> None:
    grid = _grid(16, 16)
    files = []
    for name, score in (("even", 1.0), ("odd", 1.0 + np.indices(grid.shape).sum(axis=0))):
        plan = plan_visits(score * np.ones(grid.shape), grid, 256, seed=4, reason=name)
        files.append(write_visits(plan, tmp_path / name, licence="CC0-1.0", attribution="A"))
    told, observed = files[0][0], files[0][1:]
    assert told.read_bytes() != files[1][0].read_bytes()
    for one, other in zip(observed, files[1][1:], strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert "class" not in " ".join(plan.columns)
