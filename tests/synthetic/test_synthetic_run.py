"""The whole loop runs on a synthetic world, and comes nearer to its truth."""

import json
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import yaml

from glocal.loop.score.baselines import FEW
from glocal.synthetic import simulate, write_scene
from glocal.synthetic.world import CLASSES, World
from tests.loop.areas import glocal, run_area


@pytest.mark.slow
def test_the_loop_runs_on_a_world_and_is_better_than_its_sources(tmp_path: Path) -> None:
    world = replace(World(), size=96, field_points=40, citizen_points=40, anchors=120, dsm=False)
    scene = simulate(world, 6)
    write_scene(scene, tmp_path / "world")
    path = tmp_path / "world" / "area.yaml"
    area = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**area, "rounds": 2, "folds": 2}))
    metrics = run_area(path, tmp_path / "out")
    assert set(metrics["sources"]) == {one["name"] for one in area["sources"]}
    with rasterio.open(tmp_path / "out" / "estimate.tif") as raster:
        estimate = raster.read(1)
    values, truth = np.array([*CLASSES, 0]), scene.truth
    for name in ("worldcover", "esri", "dynamicworld"):
        said = values[np.minimum(scene.maps[name], len(CLASSES))]
        assert (estimate == truth).mean() > (said == truth).mean() + 0.05
    scores = json.loads(evaluated(tmp_path / "out", tmp_path / "world" / "truth"))
    assert set(scores["sources"]) == set(metrics["sources"])
    assert scores["estimate"]["accuracy"] == pytest.approx((estimate == truth).mean())
    assert 0 < scores["estimate"]["ece"] < scores["estimate"]["log_loss"] < 1
    assert set(scores["baselines"]) == set(FEW)
    assert all(set(row) == set(scores["estimate"]) for row in scores["baselines"].values())
    assert scores["baselines"]["majority"]["log_loss"] > scores["estimate"]["log_loss"]
    with rasterio.open(tmp_path / "out" / "probabilities.tif") as raster:
        p = raster.read().astype(float) / 65_535
    np.testing.assert_allclose(p.sum(axis=0), 1, atol=7 / 65_535)
    assert (values[p.argmax(axis=0)] == estimate).mean() > 0.999
    for name in ("worldcover", "dynamicworld"):
        said = scene.maps[name]
        right = (values[np.minimum(said, len(CLASSES))] == truth)[said < len(CLASSES)]
        assert scores["sources"][name]["before"] == pytest.approx(right.mean())
        assert scores["sources"][name]["after"] > right.mean()
    objects = gpd.read_parquet(tmp_path / "world" / "truth" / "objects.parquet")
    mapped = objects[objects.record != ""]
    osm = scores["sources"]["osm"]
    assert osm["n"] == len(mapped)
    assert osm["before"] == pytest.approx((mapped.outcome == "right").mean())
    field = scores["sources"]["field"]
    assert field["before"] == pytest.approx(
        (scene.points["field"].said == scene.points["field"].truth).mean()
    )
    for row in scores["sources"].values():
        assert "why" in row or row["low"] <= row["after"] - row["before"] <= row["high"]
    other = tmp_path / "other"
    write_scene(simulate(replace(world, size=64, anchors=60), 6), other)
    refused = glocal("evaluate", tmp_path / "out", "--truth", other / "truth")
    assert refused.exit_code == 3
    assert "another grid" in refused.output


def evaluated(out: Path, truth: Path) -> str:
    result = glocal("evaluate", out, "--truth", truth, "--json")
    assert result.exit_code == 0, result.output
    return result.stdout


def test_only_finished_runs_are_scored(tmp_path: Path) -> None:
    result = glocal("evaluate", tmp_path, "--truth", tmp_path)
    assert result.exit_code == 4
    assert "no finished run" in result.output
