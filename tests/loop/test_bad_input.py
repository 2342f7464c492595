"""What people get wrong: one clear message, the right exit code, and nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.transform import from_origin

from glocal.io import atomic
from tests.loop.areas import CELL, LEFT, TOP, glocal, make_area, run_area, write_tif, write_yaml

Settings = dict[str, Any]
SIZE = 48


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    make_area(folder, SIZE)
    return folder


@pytest.fixture
def folder(good, tmp_path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "in"))


def source(settings: Settings, name: str) -> Settings:
    return next(one for one in settings["sources"] if one["name"] == name)


def only(folder: Path, *names: str) -> Settings:
    """Return the settings with these sources only, and no anchors."""
    settings = yaml.safe_load((folder / "area.yaml").read_text())
    settings["sources"] = [source(settings, name) for name in names]
    settings.pop("anchors")
    return settings


def refused(folder: Path, settings: Settings, code: int = 3) -> str:
    """Run and return the message on stderr, which must be for people."""
    area = write_yaml(folder / "bad.yaml", settings)
    result = glocal("run", area, "--out", folder / "out")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert "mistake of the program" not in result.stderr
    assert not (folder / "out" / "metrics.json").exists()
    return result.stderr


def cut(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def image(folder: Path) -> np.ndarray[Any, Any]:
    with rasterio.open(folder / "image.tif") as one:
        return one.read()


def put_image(folder: Path, values: np.ndarray[Any, Any], **more: Any) -> Settings:
    names = ("B02", "B03", "B04", "B08", "B11", "B12")
    write_tif(folder / "image.tif", values, names=names, **more)
    return only(folder, "image", "rules")


def cells_near_anchors(folder: Path, reach: int) -> int:
    x, y = np.loadtxt(folder / "points.csv", delimiter=",", skiprows=1, usecols=(1, 2)).T
    rows, columns = np.indices((SIZE, SIZE))[..., None]
    away = np.abs(rows - (TOP - y) // CELL), np.abs(columns - (x - LEFT) // CELL)
    return int((np.maximum(*away).min(axis=-1) <= reach).sum())


def test_truncated_tiff(folder):
    cut(folder / "image.tif")
    said = refused(folder, only(folder, "image", "rules"))
    assert "image.tif" in said
    assert "truncated" in said


def test_truncated_jp2(folder):
    (folder / "scene").mkdir()
    bands = image(folder)
    for name, values in zip(("B02", "B03", "B04", "B08"), bands, strict=False):
        path = folder / "scene" / f"T33UUU_20200615T100000_{name}.jp2"
        profile = {"driver": "JP2OpenJPEG", "dtype": "uint16", "count": 1, "crs": "EPSG:32633"}
        profile |= {"height": SIZE, "width": SIZE, "transform": from_origin(LEFT, TOP, CELL, CELL)}
        with rasterio.open(path, "w", **profile) as target:
            target.write(values, 1)
    cut(folder / "scene" / "T33UUU_20200615T100000_B04.jp2")
    settings = only(folder, "image", "rules")
    source(settings, "image")["path"] = "scene"
    said = refused(folder, settings)
    assert "_B04.jp2" in said
    assert "truncated" in said


def test_truncated_osm(folder):
    cut(folder / "extract.osm")
    said = refused(folder, only(folder, "osm", "map"))
    assert "extract.osm" in said
    assert "fetch it again" in said


def test_truncated_pbf(folder, shared):
    shutil.copy(shared / "osm" / "monaco-20210418.osm.pbf", folder / "extract.osm.pbf")
    cut(folder / "extract.osm.pbf")
    settings = only(folder, "osm", "map")
    source(settings, "osm")["path"] = "extract.osm.pbf"
    assert "extract.osm.pbf" in refused(folder, settings)


def test_missing_crs(folder):
    settings = put_image(folder, image(folder), crs=None)
    said = refused(folder, settings)
    assert "has no CRS" in said
    assert "crs:" in said
    source(settings, "image")["crs"] = "EPSG:32633"
    area = write_yaml(folder / "right.yaml", settings)
    assert glocal("run", area, "--out", folder / "out2").exit_code == 0


def test_wrong_crs(folder):
    said = refused(folder, put_image(folder, image(folder), crs="EPSG:4326"))
    assert "image" in said


def test_no_overlap(folder):
    elsewhere = from_origin(LEFT + 50_000, TOP, CELL, CELL)
    said = refused(folder, put_image(folder, image(folder), transform=elsewhere))
    assert "does not overlap" in said


def test_a_cloud_over_all(folder):
    white = np.full((6, SIZE, SIZE), 7000, np.uint16)
    white += np.random.default_rng(0).integers(0, 200, white.shape).astype(np.uint16)
    white[4:] -= 1000
    said = refused(folder, put_image(folder, white))
    assert "cloud" in said
    assert "another date" in said


def test_a_band_without_any_contrast_is_no_error(folder):
    flat = image(folder)
    flat[4] = 2000
    area = write_yaml(folder / "ok.yaml", put_image(folder, flat))
    assert glocal("run", area, "--out", folder / "out").exit_code == 0


def test_empty_osm(folder):
    (folder / "extract.osm").write_text('<osm version="0.6" generator="test"/>')
    said = refused(folder, only(folder, "osm", "map"))
    assert "extract.osm" in said


def test_unknown_code_with_its_count(folder):
    with rasterio.open(folder / "map.tif") as one:
        codes = one.read(1)
    codes[3, 4:9] = 77
    write_tif(folder / "map.tif", codes, nodata=0)
    said = refused(folder, only(folder, "map", "osm"))
    assert "77 (5 cells)" in said


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_cells_that_are_no_number_are_left_out(folder, value):
    numbers = image(folder).astype(np.float32) / 10_000
    numbers[:, 10:20, 10:20] = value
    area = write_yaml(folder / "ok.yaml", put_image(folder, numbers))
    run_area(area, folder / "out")
    with rasterio.open(folder / "out" / "corrections" / "image" / "quality_mask.tif") as one:
        assert (one.read(1)[10:20, 10:20] == 3).all()
    with rasterio.open(folder / "out" / "probability.tif") as one:
        assert np.isfinite(one.read(1)).all()


def test_no_number_at_all(folder):
    said = refused(folder, put_image(folder, np.full((6, SIZE, SIZE), np.nan, np.float32)))
    assert "no valid cell" in said


def test_wrong_unit(folder):
    settings = put_image(folder, image(folder), nodata=65535)
    source(settings, "image")["unit"] = "reflectance"
    said = refused(folder, settings)
    assert "set unit: DN" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.update(rouns=2), ("rouns", "did you mean 'rounds'")),
        (lambda s: source(s, "map").update(legend="worldcove"), ("worldcove", "'worldcover'")),
        (lambda s: source(s, "model").update(of=["imag"]), ("imag", "'image'")),
        (lambda s: s["grid"].update(resolution=-10), ("grid.resolution", "-10")),
        (lambda s: s.update(date="June"), ("date", "June")),
    ],
)
def test_a_typo_in_the_configuration(folder, change: Callable[[Settings], None], words):
    settings = yaml.safe_load((folder / "area.yaml").read_text())
    change(settings)
    said = refused(folder, settings, code=2)
    for word in words:
        assert word in said


def test_a_file_that_is_not_there(folder):
    settings = only(folder, "map", "osm")
    source(settings, "map")["path"] = "maap.tif"
    assert "maap.tif" in refused(folder, settings)


def test_swapped_latitude_and_longitude(folder):
    rows = [f"f{i},52.33{80 + i},13.53{50 + i},tree" for i in range(9)]
    (folder / "field.csv").write_text("\n".join(["id,lon,lat,class", *rows]))
    settings = only(folder, "field", "map")
    source(settings, "field").pop("crs")
    said = refused(folder, settings)
    assert "swapped" in said


def test_a_small_area_with_few_places_to_visit(folder):
    """Thirty visits ten cells apart do not fit into 48 x 48 cells: they move closer."""
    area = write_yaml(folder / "ok.yaml", only(folder, "field", "map"))
    metrics = run_area(area, folder / "out")
    assert metrics["corrections"]["field"]["count"]["visit"] == 30


def test_a_model_that_did_not_help_still_gets_its_labels(folder):
    """Here the anchors prefer the round without the model, in one fold and not in the other."""
    metrics = run_area(folder / "area.yaml", folder / "out")
    assert "model" in metrics["sources"]
    label = metrics["corrections"]["model"]["count"]
    assert label["label_cells"] == SIZE * SIZE - cells_near_anchors(folder, reach=2)
    assert label["chips"] == (SIZE // 8) ** 2  # blocks hold two reference points each


def bytes_of(out: Path) -> dict[str, bytes]:
    return {
        one.relative_to(out).as_posix(): one.read_bytes()
        for one in out.rglob("*")
        if one.is_file() and one.name != "log.jsonl"
    }


@pytest.mark.parametrize("after", [1, 4, 9, 14, 20])
def test_a_full_disk_loses_nothing_and_the_next_run_finishes(folder, monkeypatch, after):
    settings = only(folder, "image", "rules", "osm", "map", "model")
    area = write_yaml(folder / "area.yaml", settings)
    run_area(area, folder / "whole")
    expected = bytes_of(folder / "whole")
    written = 0

    def full(source: Path, target: Path) -> None:
        nonlocal written
        written += 1
        if written > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", full)
        result = glocal("run", area, "--out", folder / "out")
    assert result.exit_code == 4, result.output
    assert "No space left" in result.stderr
    assert "free some space" in result.stderr
    so_far = bytes_of(folder / "out")
    assert {name: expected[name] for name in so_far} == so_far
    run_area(area, folder / "out")
    assert bytes_of(folder / "out") == expected
