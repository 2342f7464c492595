"""The encoder's tasks as commands: what they print and write, and how they refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
import torch
from odc.geo.geobox import GeoBox
from PIL import Image
from typer.testing import CliRunner

from glocal.cli import main
from glocal.io.raster import write_cog
from glocal.train.tasks.clouds import files as clouds
from msgfm import Encoder
from tests.train.pools import ENCODER
from tests.train.tasks.test_sharpen import texture

VERBS = ("classify", "segment", "remove-clouds", "sharpen")
SIX = ("B02", "B03", "B04", "B08", "B8A", "B11")


def glocal(*args):
    return CliRunner().invoke(main.app, ["model", *map(str, args)])


def told(*args):
    """Return what a command prints as JSON."""
    result = glocal(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    Encoder(ENCODER).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def write(path, values, size_m=10, names=()):
    side = values.shape[-1] * size_m
    bbox = (500_000, 5_000_000, 500_000 + side, 5_000_000 + side)
    grid = GeoBox.from_bbox(bbox, "EPSG:32633", resolution=size_m)
    write_cog(path, values, grid, band_names=names, nodata=0, categorical=False)
    return path


@pytest.fixture
def place(tmp_path):
    """Sentinel-2 without names of bands and date, radar, and classes known in the upper half."""
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 2, (8, 8)).repeat(16, 0).repeat(16, 1)
    image = 0.4 * texture(6, 128) + 0.2 * squares
    radar = rng.normal(-14, 1, (2, 128, 128)) - np.array([0, 7])[:, None, None]
    labels = (squares + 3).astype(np.uint8)
    labels[64:] = 0
    return {
        "s2": write(tmp_path / "image.tif", (image * 10_000).astype(np.uint16)),
        "sar": write(tmp_path / "radar.tif", radar.astype(np.float32)),
        "labels": write(tmp_path / "labels.tif", labels),
        "squares": squares,
    }


def read(path):
    with rasterio.open(path) as file:
        return file.read(), file.descriptions


def unnamed(place):
    radar = ("--sar", place["sar"], "--sar-bands", "VV,VH")
    return ("--s2", place["s2"], "--bands", ",".join(SIX), *radar)


def test_classify_prints_methods_and_tells_of_random_parts(weights, tmp_path):
    rng = np.random.default_rng(0)
    for name, colour in (("field", (60, 140, 60)), ("town", (150, 120, 110))):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(24):
            pixels = np.clip(rng.normal(colour, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{name}_{i}.png")
    words = ("classify", tmp_path / "pictures", "--weights", weights, "--seeds", 1)
    parts = ("train", "val", "train", "test")
    rows = [f"{one}_{i},{parts[i % 4]}" for one in ("field", "town") for i in range(24)]
    table = tmp_path / "parts.csv"
    table.write_text("\n".join(["name,part", *rows]))
    found = told(*words, "--table", table, "--tune", 1)
    assert found["classes"] == ["field", "town"]
    assert found["methods"]["statistics, linear"]["accuracy"] > 0.9
    assert "encoder, fine-tuned" in found["methods"]
    shown = glocal(*words, "--limit", 12)
    assert "encoder, linear" in shown.stdout
    assert "Note: no places given" in shown.stdout


def test_segment_maps_what_part_of_a_place_teaches(place, weights, tmp_path):
    out = tmp_path / "map.tif"
    words = ("segment", *unnamed(place), "--labels", place["labels"], "--weights", weights)
    found = told(*words, "--out", out, "--steps", 30, "--interval", "2020-06-01")
    layers, names = read(out)
    assert names == ("class", "probability")
    assert set(np.unique(layers[0])) == {3, 4}
    # the lower half has no labels
    assert (layers[0, 64:] == place["squares"][64:] + 3).mean() > 0.8
    assert found["note"].startswith("all labels lie in one tile")


def test_clouds_are_removed_and_clear_pixels_kept(place, weights, tmp_path):
    cloud = np.zeros((128, 128), np.uint8)
    cloud[70:100, 20:60] = 1
    mask, out = write(tmp_path / "cloud.tif", cloud), tmp_path / "clear.tif"
    words = ("remove-clouds", *unnamed(place), "--cloud", mask, "--weights", weights)
    found = told(*words, "--out", out, "--steps", 2)
    assert found["estimated"] == pytest.approx(cloud.mean())
    layers, names = read(out)
    assert names == (*SIX, "uncertainty")
    given = read(place["s2"])[0] / 10_000
    np.testing.assert_allclose(layers[:-1, cloud == 0], given[:, cloud == 0], atol=1e-6)
    assert (layers[-1, cloud == 1] > 0).all()


def test_tiles_do_not_show_under_a_cloud(place, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(clouds, "SIDE", 32)
    monkeypatch.setattr(clouds, "MARGIN", 16)
    cloud = np.zeros((128, 128), np.uint8)
    cloud[70:122, 10:60] = 1
    mask, out = write(tmp_path / "cloud.tif", cloud), tmp_path / "clear.tif"
    words = ("remove-clouds", *unnamed(place), "--cloud", mask, "--weights", weights)
    told(*words, "--out", out, "--steps", 1)
    inside = read(out)[0][:-1, 70:122, 10:60]
    step = np.abs(np.diff(inside, axis=1)).mean(axis=(0, 2))
    # rows 96 and 95 lie in two tiles, whose means differ
    assert step[96 - 70 - 1] < 2 * np.median(step)


def test_sharpen_says_which_method_was_used(weights, tmp_path):
    six = (texture(6, 128) * 4_000).astype(np.uint16)
    fine = write(tmp_path / "fine.tif", six[:4])
    means = six[4:].reshape(2, 64, 2, 64, 2).mean((2, 4)).astype(np.uint16)
    coarse, out = write(tmp_path / "coarse.tif", means, 20), tmp_path / "sharp.tif"
    words = ("sharpen", fine, "--coarse", coarse, "--bands", "B8A,B11")
    words = (*words, "--fine-bands", "B02,B03,B04,B08", "--weights", weights)
    found = told(*words, "--out", out, "--steps", 2)
    assert found["method"] in found["scores"]
    layers, names = read(out)
    assert (names, layers.shape) == (("B8A", "B11"), (2, 128, 128))
    shown = glocal(*words, "--out", out, "--steps", 2)
    assert "hypersharpening: mae" in shown.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_task_has_an_example(verb):
    result = glocal(verb, "--help")
    assert result.exit_code == 0
    assert f"Example: glocal model {verb}" in result.stdout


def test_bad_input_is_one_readable_block(place, weights, tmp_path):
    out = ("--out", tmp_path / "no.tif", "--weights", weights)
    s2 = ("--s2", place["s2"])

    def refused(code, text, *words):
        result = glocal(*words)
        assert (result.exit_code, text in result.stderr) == (code, True), result.output
        assert "Traceback" not in result.output
        assert not (tmp_path / "no.tif").exists()

    labels = ("--labels", place["labels"])
    refused(2, "no image is given", "segment", *labels, *out)
    refused(3, "which band is which", "segment", *s2, *labels, *out)
    refused(2, "--interval", "segment", *s2, *labels, *out, "--interval", "soon")
    refused(2, "steps", "segment", *s2, *labels, *out, "--steps", "0")
    refused(3, "does not exist", "remove-clouds", "--s2", tmp_path / "absent", *out)
    named = ("--bands", ",".join(SIX))
    refused(3, "no scene classification", "remove-clouds", *s2, *named, *out)
    refused(
        3,
        "no band of larger pixels",
        "sharpen",
        place["s2"],
        *named,
        "--fine-bands",
        named[1],
        *out,
    )
    refused(3, "is missing", "classify", tmp_path / "absent", "--weights", weights)
