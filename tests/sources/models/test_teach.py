"""What labels are worth to a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glocal.loop.area.area import Area, read_area
from glocal.loop.area.config import load
from glocal.loop.rounds.teaching import CELLS, USUAL_WORTH, drawn, worth
from glocal.loop.score.folds import taught_anew
from glocal.synthetic import Scene, simulate, world_named, write_scene


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Area]:
    folder: Path = tmp_path_factory.mktemp("world")
    scene = simulate(world_named("standard", 64), seed=3)
    write_scene(scene, folder / "w")
    return scene, read_area(load(folder / "w" / "area.yaml"), lambda what, share: None)


def labels(scene: Scene, *, right: bool) -> np.ndarray:
    """Return the truth as shares, or the same with the classes swapped round."""
    classes = scene.ground.classes().astype(int)
    count = int(classes.max()) + 1
    return np.eye(count)[classes if right else (classes + 1) % count]


def test_true_labels_are_worth_more_than_false_ones(world: tuple[Scene, Area]) -> None:
    scene, area = world
    weight = np.ones(area.geobox.shape)
    true, false = (
        worth(area, "model", labels(scene, right=right), weight) for right in (True, False)
    )
    assert true == 1.0
    assert false == 0.03


def test_true_labels_make_a_good_model(world: tuple[Scene, Area]) -> None:
    scene, area = world
    truth = scene.ground.classes().astype(int).ravel()
    at = np.flatnonzero(area.seen["model"].valid)
    right = [
        (taught_anew(area, "model", labels(scene, right=one), np.ones((64, 64)), at) == truth[at])
        for one in (True, False)
    ]
    assert right[0].mean() > 0.8 > 0.5 > right[1].mean()


def test_without_reference_points_worth_is_usual(world: tuple[Scene, Area]) -> None:
    scene, area = world
    unanchored = replace(area, anchors=None)
    assert worth(unanchored, "model", labels(scene, right=True), np.ones((64, 64))) == USUAL_WORTH


def test_labels_without_weight_are_not_drawn(world: tuple[Scene, Area]) -> None:
    scene, area = world
    weight = np.zeros(area.geobox.shape)
    weight[:, 40:] = 0.5
    cell, shares, weights = drawn(area, labels(scene, right=True), weight)
    assert len(cell) == len(np.unique(cell)) == CELLS
    assert (cell % 64 >= 40).all()
    assert (weights == 0.5).all()
    assert np.allclose(shares.sum(axis=1), 1)
