"""The files of a world: the same each time, readable by the product, the truth apart."""

import json
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from typer.testing import CliRunner

from glocal.cli.main import app
from glocal.core.burn import burn
from glocal.core.interval import Interval
from glocal.errors import RunError
from glocal.loop.area.area import read_area
from glocal.loop.area.config import files_of, load
from glocal.sources.osm.read import observe_osm
from glocal.synthetic import WORLDS, Scene, simulate, world_named, write_scene
from glocal.synthetic.world import World

FEW = {"size": 96, "field_points": 60, "citizen_points": 60, "anchors": 60}


def quiet(what: str, share: float) -> None:
    """Take progress and say nothing."""


def written(folder: Path, **knobs: object) -> tuple[Scene, Path]:
    scene = simulate(replace(World(), **{**FEW, **knobs}), 11)
    write_scene(scene, folder)
    return scene, folder


@pytest.fixture(scope="module")
def standard_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Path]:
    return written(tmp_path_factory.mktemp("world") / "standard")


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in files}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    standard_files: tuple[Scene, Path], tmp_path: Path
) -> None:
    _, first = standard_files
    _, again = written(tmp_path / "again")
    assert contents(first) == contents(again)
    write_scene(simulate(replace(World(), **FEW), 12), tmp_path / "other")
    same = {
        one for one in contents(first) if contents(first)[one] == contents(tmp_path / "other")[one]
    }
    assert not same


def test_the_truth_is_never_named_in_the_area(standard_files: tuple[Scene, Path]) -> None:
    _, folder = standard_files
    assert "truth" not in (folder / "area.yaml").read_text()
    config = load(folder / "area.yaml")
    named = {path.resolve() for path in files_of(config).values()}
    assert all(path.parent == folder.resolve() for path in named)
    plain = {one for one in folder.iterdir() if one.is_file()} - {folder / "area.yaml"}
    assert named == {one.resolve() for one in plain}


@pytest.mark.parametrize("name", WORLDS)
def test_every_named_world_is_an_area_that_can_be_read(name: str, tmp_path: Path) -> None:
    scene = simulate(replace(world_named(name, 64), rgb=True), 2)
    write_scene(scene, tmp_path / "world")
    area = read_area(load(tmp_path / "world" / "area.yaml"), quiet)
    assert area.geobox == scene.geobox
    assert {"worldcover", "esri", "dynamicworld", "osm", "field"} <= {
        one.source for one in area.observations
    }
    assert {"image", "radar", "heights", "colour"} <= set(area.window.images)
    assert (area.anchors is None) == (name == "no_anchors")


def test_perfect_files_read_back_as_the_truth(tmp_path: Path) -> None:
    scene = simulate(replace(WORLDS["perfect"], **FEW), 3)
    write_scene(scene, tmp_path / "world")
    area = load(tmp_path / "world" / "area.yaml")
    truth, when = scene.truth, Interval.parse("2023")
    whole = read_area(area, quiet)
    legend = whole.legend
    values = np.array(legend.values)
    said = {one.source: one for one in whole.observations}
    for name in ("worldcover", "esri", "dynamicworld"):
        cross = said[name].crosswalk.matrix.argmax(axis=1)
        np.testing.assert_array_equal(values[cross][said[name].symbols.astype(int) - 1], truth)
    osm = observe_osm(tmp_path / "world" / "extract.osm", scene.geobox, legend, interval=when)
    assert len(osm) == len(scene.osm)
    cross = osm.crosswalk.matrix.argmax(axis=1)
    number = burn(osm.geometry, scene.geobox)
    np.testing.assert_array_equal(values[cross][osm.symbols.astype(int) - 1][number - 1], truth)
    field = said["field"]
    cross = values[field.crosswalk.matrix.argmax(axis=1)][field.symbols.astype(int) - 1]
    np.testing.assert_array_equal(cross, truth.ravel()[scene.points["field"].cell])


def test_true_errors_belong_to_the_records_that_are_read(
    standard_files: tuple[Scene, Path],
) -> None:
    scene, folder = standard_files
    objects = gpd.read_parquet(folder / "truth" / "objects.parquet")
    legend = read_area(load(folder / "area.yaml"), quiet).legend
    osm = observe_osm(folder / "extract.osm", scene.geobox, legend, interval=Interval.parse("2023"))
    mapped = objects[objects.record != ""].set_index("record")
    assert set(osm.record.tolist()) <= set(mapped.index)
    rows = mapped.loc[osm.record]
    centre = np.array([[one.centroid.x, one.centroid.y] for one in osm.geometry])
    true = np.column_stack([rows.geometry.centroid.x, rows.geometry.centroid.y])
    np.testing.assert_allclose(centre - true, rows[["dx_m", "dy_m"]], atol=0.05)
    values = np.array(legend.values)
    said = values[osm.crosswalk.matrix.argmax(axis=1)][osm.symbols.astype(int) - 1]
    np.testing.assert_array_equal(said, rows.said)
    right = rows.said == rows.truth
    np.testing.assert_array_equal(right, rows.outcome == "right")
    assert (objects.outcome == "missing").sum() == (objects.record == "").sum() > 0


def test_true_errors_of_points_belong_to_their_tables(standard_files: tuple[Scene, Path]) -> None:
    scene, folder = standard_files
    points = pd.read_parquet(folder / "truth" / "points.parquet").set_index("id")
    given = pd.read_csv(folder / "field.csv").set_index("id")
    truth = points.loc[given.index]
    np.testing.assert_allclose(given.x - truth.x, truth.dx_m, atol=0.01)
    with rasterio.open(folder / "truth" / "truth.tif") as raster:
        cells = raster.read(1)
        there = np.array([raster.index(x, y) for x, y in zip(truth.x, truth.y, strict=True)])
    np.testing.assert_array_equal(cells, scene.truth)
    np.testing.assert_array_equal(cells[tuple(there.T)], truth.truth)
    assert set(points.source) == {"field", "citizen", "anchors"}


def test_rates_and_knobs_stand_in_the_truth(standard_files: tuple[Scene, Path]) -> None:
    _, folder = standard_files
    world = json.loads((folder / "truth" / "world.json").read_text())
    assert world["world"]["shared_errors"] == World().shared_errors
    assert world["seed"] == 11
    assert set(world["rates"]["esri errors"]) == {"configured", "measured"}
    assert world["codes"]["esri"].count(11) == 2  # rangeland: shrub and grass


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(RunError, match="not empty"):
        write_scene(simulate(replace(World(), **FEW), 1), tmp_path)
    assert contents(tmp_path) == {"mine.txt": b"precious"}


def test_an_area_without_objects_is_refused(tmp_path: Path) -> None:
    world = replace(World(), **FEW, completeness=(0.0,) * 7, imports=0)
    with pytest.raises(RunError, match="nothing is mapped"):
        write_scene(simulate(world, 1), tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


def test_the_command_writes_a_world_and_prints_its_rates(tmp_path: Path) -> None:
    runner = CliRunner()
    words = ["simulate", "--out", str(tmp_path / "w"), "--seed", "1", "--size", "96", "--json"]
    result = runner.invoke(app, words)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rates"]["cloud"]["configured"] == 0.1
    assert yaml.safe_load((tmp_path / "w" / "area.yaml").read_text())["seed"] == 1
    assert runner.invoke(app, words).exit_code == 4
    words[2] = str(tmp_path / "v")
    assert runner.invoke(app, [*words, "--world", "flat"]).exit_code == 2
