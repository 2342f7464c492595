"""Objects that lie off by themselves: found where they were moved, not where nothing was."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas as gpd
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import hypergeom

from glocal.core.setting import ENGINE
from glocal.fusion.place.misplaced import Misplaced, _judged, misplaced_objects
from glocal.loop.area.area import read_area
from glocal.loop.area.config import load
from glocal.loop.rounds.turns import start
from glocal.synthetic import simulate, world_named, write_scene
from glocal.synthetic.ground import displaced

KEPT = ("worldcover", "esri", "dynamicworld", "osm", "field")
FAR_M = 15.0


@cache
def looked_at(moved: float) -> tuple[Misplaced, NDArray[np.float64]]:
    """Return what is found in a world, and how far each object really lies off.

    A share ``moved`` of the objects is moved by 20 to 45 m, each in a direction of its own.
    """
    scene, rng = simulate(world_named("independent", 160), 1), np.random.default_rng(5)
    n = len(scene.osm)
    turn, far = rng.uniform(0, 2 * np.pi, n), rng.uniform(20, 45, n)
    step = np.column_stack([np.cos(turn), np.sin(turn)]) * (far * (rng.random(n) < moved))[:, None]
    osm = scene.osm
    osm = replace(osm, outline=displaced(osm.outline, step), step=osm.step + step)
    with TemporaryDirectory() as room:
        folder = Path(room) / "world"
        write_scene(replace(scene, osm=osm), folder)
        path = folder / "area.yaml"
        values = yaml.safe_load(path.read_text("utf-8"))
        values["sources"] = [one for one in values["sources"] if one["name"] in KEPT]
        path.write_text(yaml.safe_dump({**values, "folds": 2}), encoding="utf-8")
        area, _, first = start(read_area(load(path), lambda *_: None))
        truth = gpd.read_parquet(folder / "truth" / "objects.parquet").set_index("record")
    source = next(one for one in area.observations if one.source == "osm")
    found = misplaced_objects(first.fused, source)
    return found, truth.loc[source.record, ["dx_m", "dy_m"]].to_numpy()


def test_objects_that_were_moved_are_found_better_than_by_chance() -> None:
    found, off = looked_at(0.15)
    far = np.hypot(*off.T) > FAR_M
    told = found.probability > 0.5
    hits = int((told & far).sum())
    # as many hits among so many told, were they drawn blindly
    assert hypergeom.sf(hits - 1, len(far), far.sum(), told.sum()) < 0.01
    assert (told & ~far).sum() <= 0.01 * len(far)


def test_they_are_told_where_they_belong() -> None:
    found, off = looked_at(0.15)
    right = (found.probability > 0.5) & (np.hypot(*off.T) > FAR_M)
    miss = (found.shift + off)[right]
    assert np.median(np.hypot(*miss.T)) < 0.5 * np.median(np.hypot(*off[right].T))
    stated = np.einsum("ni,nij,nj->n", miss, np.linalg.inv(found.covariance[right]), miss)
    # two degrees of freedom: 2 on average if the uncertainties are right
    assert np.mean(stated) < 6


def test_where_nothing_was_moved_nothing_is_said() -> None:
    found, off = looked_at(0.0)
    assert np.hypot(*off.T).max() < FAR_M
    assert (found.probability > 0.5).sum() <= 0.005 * len(off)


REACH, WIDE = ENGINE.object_reach, ENGINE.object_reach + ENGINE.object_ring
USUAL = 0.2


def scene_of(row: int, column: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return an object and how its class fits around it, seen some cells away from it."""
    mask = np.ones((12, 9), bool)
    mask[:4, :3] = False
    seen = np.full((12 + 2 * WIDE, 9 + 2 * WIDE), 0.02)
    seen[WIDE + row : WIDE + row + 12, WIDE + column : WIDE + column + 9][mask] = 0.98
    return mask, seen


STEP = st.integers(-REACH + 1, REACH - 1)


@given(STEP, STEP)
def test_the_shift_points_from_the_outline_to_what_is_seen(row: int, column: int) -> None:
    mask, seen = scene_of(row, column)
    probability, shift, covariance = _judged(mask, seen, USUAL, np.ones(seen.shape, bool), ENGINE)
    assert shift == pytest.approx([column, -row], abs=0.3)
    assert np.linalg.eigvalsh(covariance).min() > 0
    far = np.hypot(row, column) > 2
    assert not far or probability > 0.5
    assert row or column or probability == 0


def test_ground_that_others_cover_speaks_less_for_a_move() -> None:
    mask, seen = scene_of(0, 3)
    free = np.ones(seen.shape, bool)
    alone = _judged(mask, seen, USUAL, free, ENGINE)
    free[:, WIDE + 9 :] = False
    beside = _judged(mask, seen, USUAL, free, ENGINE)
    assert beside[0] < alone[0]
    assert beside[2][0, 0] > alone[2][0, 0]


def test_a_class_that_is_everywhere_or_nowhere_tells_nothing() -> None:
    mask, seen = scene_of(0, 0)
    for flat in (0.02, 0.5, 0.98):
        everywhere = np.full(seen.shape, flat)
        assert _judged(mask, everywhere, USUAL, np.ones(seen.shape, bool), ENGINE)[0] == 0
