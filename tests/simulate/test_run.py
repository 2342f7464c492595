"""The whole loop runs on a synthetic world, and comes nearer to its truth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import yaml

from glocal.simulate import simulate, write_scene
from glocal.simulate.world import CLASSES, standard
from tests.run.areas import run_area


def test_the_loop_runs_on_a_world_and_is_better_than_its_sources(tmp_path: Path) -> None:
    world = replace(standard(), size=96, field_points=40, citizen_points=40, anchors=120, dsm=False)
    scene = simulate(world, 6)
    write_scene(scene, tmp_path / "world")
    path = tmp_path / "world" / "area.yaml"
    area = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**area, "rounds": 1, "folds": 2}))
    metrics = run_area(path, tmp_path / "out")
    assert set(metrics["sources"]) == {one["name"] for one in area["sources"]}
    with rasterio.open(tmp_path / "out" / "estimate.tif") as raster:
        estimate = raster.read(1)
    values, truth = np.array([*CLASSES, 0]), scene.truth
    for name in ("worldcover", "esri", "dynamicworld"):
        said = values[np.minimum(scene.maps[name], len(CLASSES))]
        assert (estimate == truth).mean() > (said == truth).mean() + 0.05
