"""What the ablation table rests on: settings that differ in one thing, and the linear readings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.ablation_tasks import parts, ridge
from benchmarks.model_ablations import SETTINGS, Part, means, recipe_of, tables
from glocal.train.pretraining.recipe import differences, to_json

COUNTS = {("rgb",): 90, ("s2", "sar"): 7, ("dsm",): 5}


class Chips:
    """A pool that says what it was asked for."""

    groups = COUNTS

    def draw(self, sensors: tuple[str, ...], n: int, rng: np.random.Generator) -> dict[str, Any]:
        return {"sensors": sensors, "n": n}


@pytest.mark.parametrize("name", [one for one in SETTINGS if one != "reference"])
def test_each_setting_differs_from_the_reference_in_one_thing(name: str) -> None:
    first, other = (recipe_of(SETTINGS[one], 0, 10) for one in ("reference", name))
    changed = differences(to_json(first), to_json(other))
    groups = [SETTINGS[one].passes for one in ("reference", name)]
    fewer = any(groups[0](one) != groups[1](one) for one in COUNTS)
    assert len(changed) + fewer == 1


def test_a_part_of_a_pool_holds_the_groups_that_pass() -> None:
    paired = Part(pool=Chips(), passes=SETTINGS["paired only"].passes)
    single = Part(pool=Chips(), passes=SETTINGS["unpaired only"].passes)
    assert paired.groups == {("s2", "sar"): 7}
    assert paired.groups | single.groups == COUNTS
    rng = np.random.default_rng(0)
    assert paired.draw(("s2", "sar"), 3, rng) == {"sensors": ("s2", "sar"), "n": 3}


def linear(rows: int, noise: float, seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return features, what follows from them, and four groups."""
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, (rows, 6))
    y = x @ np.random.default_rng(0).normal(size=(6, 2)) + 5
    return x, y + noise * rng.normal(size=y.shape), np.arange(rows) % 4


def test_ridge_finds_a_linear_relation_at_new_places() -> None:
    x, y, group = linear(200, 0.0, 1)
    asked, truth, _ = linear(50, 0.0, 2)
    assert np.abs(ridge(x, y, group, asked) - truth).max() < 0.01


def test_ridge_keeps_near_the_mean_where_features_tell_nothing() -> None:
    rng = np.random.default_rng(3)
    x, y, group = rng.normal(size=(60, 40)), rng.normal(size=(60, 1)), np.arange(60) % 4
    asked = rng.normal(size=(30, 40))
    found, unpenalised = ridge(x, y, group, asked), asked @ np.linalg.lstsq(x, y)[0]
    assert found.std() < 0.5 * unpenalised.std()
    assert abs(found.mean() - y.mean()) < 0.3 * y.std()


def test_ridge_does_not_mind_units_or_constant_features() -> None:
    x, y, group = linear(80, 0.3, 4)
    asked = linear(9, 0.0, 5)[0]
    scale = np.array([1e3, 1e-3, 1, -2, 7, 0.1])

    def changed(values: NDArray[Any]) -> NDArray[Any]:
        return np.hstack([values * scale, np.full((len(values), 1), 4.0)])

    np.testing.assert_allclose(
        ridge(x, y, group, asked), ridge(changed(x), y, group, changed(asked)), rtol=1e-6
    )


def test_parts_are_images_or_strips_of_one_place() -> None:
    several = parts((3, 2, 16), one_place=False)
    assert several[:, 0, 0].tolist() == [0, 1, 2]
    assert np.unique(several[1]).tolist() == [1]
    single = parts((3, 2, 16), one_place=True)
    assert single[2, 1].tolist() == [i // 2 for i in range(16)]


ROWS = [
    {"task": "a", "case": "x", "score": "MAE", "value": 1.0},
    {"task": "a", "case": "y", "score": "MAE", "value": 2.0},
    {"task": "b", "case": "x", "score": "mIoU", "value": 9.0},
    {"task": "b", "case": "x", "score": "accuracy", "value": 7.0},
]


def test_means_are_over_cases_of_the_main_score() -> None:
    assert means(ROWS) == {"a: MAE ↓": 1.5, "b: mIoU ↑": 9.0}


def test_tables_show_spans_over_seeds_and_differences_of_one_seed(tmp_path: Path) -> None:
    for name, seed, value in (("reference", 0, 1.0), ("reference", 1, 5.0), ("dense", 1, 4.0)):
        folder = tmp_path / name / str(seed)
        folder.mkdir(parents=True)
        rows = [{**ROWS[0], "value": value}]
        (folder / "scores.json").write_text(json.dumps(rows), "utf-8")
    found = tables(tmp_path, ["reference", "dense", "cross 0"])
    lines = "\n".join(one.markdown() for one in found.values()).splitlines()
    assert "| reference | 3.0000 (1.0000 to 5.0000) |" in lines
    assert "| dense | 4.0000 |" in lines
    assert "| dense | -1.0000 |" in lines
    assert "| a: x | 3.0000 | 4.0000 |" in lines
