"""What the tables of real areas rest on: areas without truth in them, draws, and figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import Affine

from benchmarks.real.areas import AREAS, DEVELOPMENT, REPORTING, make
from benchmarks.real.draws import Draw, chosen, deal, fewer
from benchmarks.real.figures import calibration_error, floored, log_loss, mean_and_error
from benchmarks.real.ground import Ground, spread
from benchmarks.real.methods import loop, rivals
from glocal.loop.area.area import Area


@pytest.fixture(scope="module")
def ground(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """A small area in Flanders as a user would make it."""
    return make("flanders_2018", shared, tmp_path_factory.mktemp("areas"))


@pytest.fixture(scope="module")
def area(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Area:
    return deal(ground, 0, 0, tmp_path_factory.mktemp("none")).area


@pytest.fixture(scope="module")
def draw(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Draw:
    return deal(ground, 40, 3, tmp_path_factory.mktemp("draw"))


def test_every_area_is_either_developed_on_or_reported():
    assert sorted(AREAS) == sorted((*DEVELOPMENT, *REPORTING))


def test_an_area_says_enough_and_knows_no_truth(ground, area):
    assert ground.config.anchors is None
    assert area.anchors is None
    assert len(area.observations) >= 3
    assert {one.name for one in area.learners} == {"model", "radar_model"}
    assert all(one.image.clear.mean() > 0.95 for one in area.readings if one.image is not None)
    roots = {root for one in area.readings for root in one.provenance.roots}
    assert not any("OUTPUT_POLY" in root for root in roots)


def test_the_truth_lies_in_the_area_and_has_its_classes(ground, area):
    truth = ground.truth
    assert 2000 < len(truth) <= 5000
    assert set(truth["class"]) == set(area.legend.names)
    left, bottom, right, top = ground.config.grid.bbox
    assert truth["x"].between(left, right).all()
    assert truth["y"].between(bottom, top).all()


def test_a_draw_keeps_what_is_scored_from_the_area(ground, draw):
    assert len(draw.area.anchors) == 40
    assert len(draw.cell) == len(ground.truth) - 40
    records = {*draw.area.anchors.record.tolist(), *draw.area.reference.record.tolist()}
    assert not records & set(draw.unseen.record.tolist())
    assert (draw.truth == draw.unseen.shares.argmax(axis=1)).all()


def test_a_class_can_be_hidden_from_the_sample(ground, tmp_path):
    hidden = deal(ground, 40, 3, tmp_path, "grass")
    assert 0 < len(hidden.area.anchors) < 40
    assert not hidden.area.anchors.shares[:, hidden.area.legend.index("grass")].any()


def test_all_are_asked_at_the_same_cells(draw):
    at = draw.cell[:200]
    said = [loop(draw.area, at)[0], *rivals(draw.area, at)]
    names = [one.method for one in said]
    assert len(set(names)) == len(names)
    assert {"loop", "own model, points only, optical", "stacked", "ebcc"} <= set(names)
    for one in said:
        assert one.classes.shape == at.shape
        if one.p is not None:
            np.testing.assert_allclose(one.p.sum(axis=1), 1, atol=1e-4)


def test_draws_are_nested_and_at_most_half(ground):
    few, many = (chosen(100, n, seed=1) for n in (10, 30))
    assert few.sum() == 10
    assert (many | ~few).all()
    assert fewer(10**6, ground) == len(ground.truth) // 2


def test_a_raster_truth_is_spread_evenly():
    codes = np.ones((300, 300), np.uint8)
    codes[:150] = 0
    truth = spread(codes, {1: "crop"}, Affine(10, 0, 0, 0, -10, 0))
    assert 2500 < len(truth) <= 5000
    counts = np.histogram2d(truth["x"], truth["y"], bins=3, range=[[0, 3000], [-3000, -1500]])[0]
    assert counts.min() > 0.8 * counts.max()


def test_figures_of_known_probabilities():
    truth = np.array([0, 0, 1, 1])
    p = floored(np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]]))
    np.testing.assert_allclose(p[0], [1 / 1.001, 0.001 / 1.001])
    assert calibration_error(p, truth) == pytest.approx(1 / 1.001 - 0.75)
    assert log_loss(p, truth) == pytest.approx(-(3 * np.log(p[0, 0]) + np.log(p[0, 1])) / 4)
    assert mean_and_error([1.0, 3.0]) == (2.0, 1.0)
    assert mean_and_error([1.0]) == (1.0, None)
