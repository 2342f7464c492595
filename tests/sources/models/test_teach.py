"""What labels are worth to a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glocal.core.findings import Findings
from glocal.core.observation import Estimate
from glocal.loop.area.area import Area, read_area
from glocal.loop.area.config import load
from glocal.loop.score.folds import exam_of
from glocal.sources.kind import Reading
from glocal.sources.models.teach import CELLS, _drawn, labels_given, taught_anew
from glocal.sources.worth import USUAL
from glocal.synthetic import Scene, simulate, world_named, write_scene


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Area]:
    folder: Path = tmp_path_factory.mktemp("world")
    scene = simulate(world_named("standard", 64), seed=3)
    write_scene(scene, folder / "w")
    return scene, read_area(load(folder / "w" / "area.yaml"), lambda what, share: None)


def model_of(area: Area) -> Reading:
    (learner,) = area.learners
    return learner


def worth(area: Area, shares: np.ndarray) -> float:
    """Return what certain labels are worth that everybody else gives, but for guarded cells."""
    log_p = np.log(np.clip(shares, 1e-9, 1 - 1e-9))
    found = Findings(
        source="model", estimate=estimate_of(area, log_p), others=log_p, because=("osm",),
        provenance=area.window.earlier[0].provenance, checkable=True, anchors=area.anchors,
        reference=area.reference, points=area.points(),
    )  # fmt: skip
    _, weight = labels_given(model_of(area), found)
    used = np.unique(weight[weight > 0].astype(float).round(4))
    assert len(used) == 1
    return float(used[0])


def estimate_of(area: Area, log_p: np.ndarray) -> Estimate:
    return Estimate(
        geobox=area.geobox, interval=area.window.interval, legend=area.legend, log_p=log_p,
        disagreement=np.zeros(area.geobox.shape, np.float32), weights={}, round=0,
        provenance=area.window.earlier[0].provenance,
    )  # fmt: skip


def labels(scene: Scene, *, right: bool) -> np.ndarray:
    """Return the truth as shares, or the same with the classes swapped round."""
    classes = scene.ground.classes().astype(int)
    count = int(classes.max()) + 1
    return np.eye(count)[classes if right else (classes + 1) % count]


def test_true_labels_are_worth_more_than_false_ones(world: tuple[Scene, Area]) -> None:
    scene, area = world
    true, false = (worth(area, labels(scene, right=right)) for right in (True, False))
    assert true == 1.0
    assert false == 0.03


def test_true_labels_make_a_good_model(world: tuple[Scene, Area]) -> None:
    scene, area = world
    truth = scene.ground.classes().astype(int).ravel()
    model = model_of(area)
    at = np.flatnonzero(model.sees.valid)
    exam = exam_of(area, at)
    right = [
        (taught_anew(model, exam, labels(scene, right=one), np.ones((64, 64))) == truth[at])
        for one in (True, False)
    ]
    assert right[0].mean() > 0.8 > 0.5 > right[1].mean()


def test_without_reference_points_worth_is_usual(world: tuple[Scene, Area]) -> None:
    scene, area = world
    unanchored = replace(area, anchors=None)
    assert worth(unanchored, labels(scene, right=True)) == USUAL


def test_labels_without_weight_are_not_drawn(world: tuple[Scene, Area]) -> None:
    scene, area = world
    weight = np.zeros(area.geobox.shape)
    weight[:, 40:] = 0.5
    cell, shares, weights = _drawn(model_of(area), labels(scene, right=True), weight)
    assert len(cell) == len(np.unique(cell)) == CELLS
    assert (cell % 64 >= 40).all()
    assert (weights == 0.5).all()
    assert np.allclose(shares.sum(axis=1), 1)
