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
from glocal.sources.sampling import (
    hilbert_index,
    inclusion_probabilities,
    plan_visits,
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


@pytest.mark.parametrize("distance", [0, 25])
def test_frequencies_match_the_stated_probabilities(distance: float) -> None:
    grid = _grid(11, 14)
    score = np.random.default_rng(1).random(grid.shape) ** 4
    score[0, :3] = np.nan
    score[5, 5] = 60
    stated = inclusion_probabilities(score, grid, 5, min_distance_m=distance)
    assert stated.sum() == pytest.approx(5)
    assert (stated[np.isfinite(score)] > 0).all()
    assert (stated[~np.isfinite(score)] == 0).all()
    draws, seen = 300, np.zeros(grid.shape)
    for seed in range(draws):
        visits = plan_visits(score, grid, 5, seed=seed, min_distance_m=distance)
        row, column = _cells(visits, grid)
        seen[row, column] += 1
        if seed < 20:
            np.testing.assert_allclose(visits.inclusion_probability, stated[row, column])
    error = np.sqrt(stated * (1 - stated) / draws) + 1e-12
    z = (seen / draws - stated)[stated > 0] / error[stated > 0]
    assert np.abs(z).max() < 4.5
    assert (z**2).mean() < 1.4


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.integers(1, 6), st.sampled_from([0, 15, 40]))
def test_visits_are_apart_and_repeatable(seed: int, n: int, distance: float) -> None:
    grid = _grid(24, 20)
    score = np.random.default_rng(seed).random(grid.shape)
    one, two = (plan_visits(score, grid, n, seed=seed, min_distance_m=distance) for _ in range(2))
    assert one.equals(two)
    assert one.sample_id.is_unique
    assert one["rank"].tolist() == list(range(1, n + 1))
    assert (np.diff(one.information) <= 0).all()
    assert len(one) == n
    xy = one[["x", "y"]].to_numpy()
    gap = np.linalg.norm(xy[:, None] - xy[None], axis=2) + np.eye(n) * 1e9
    assert gap.min() >= distance


def test_visits_are_spread() -> None:
    grid = _grid(32, 32)
    off = []
    for seed in range(20):
        row, column = _cells(plan_visits(np.ones(grid.shape), grid, 16, seed=seed), grid)
        quarter = np.bincount((row // 16) * 2 + column // 16, minlength=4)
        off.append(((quarter - 4) ** 2).mean())
    assert np.mean(off) < 1  # by chance: 16 * 1/4 * 3/4 = 3


@pytest.mark.parametrize(("n", "distance"), [(0, 0), (200, 0), (5, 90)])
def test_impossible_plans_are_refused(n: int, distance: float) -> None:
    with pytest.raises(ConfigError, match="visit"):
        plan_visits(np.ones((10, 10)), _grid(10, 10), n, seed=1, min_distance_m=distance)


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
