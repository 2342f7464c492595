"""``glocal model``: pack, pretrain, embed; quick help, and what a missing package says."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from rasterio.transform import from_origin
from typer.testing import CliRunner

from glocal import later
from glocal.cli import main, model
from msgfm import EncoderConfig
from recipes.pretrain import RECIPES
from tests.train.pools import ENCODER


def glocal(*args):
    return CliRunner().invoke(main.app, [str(one) for one in args])


def write_image(path, sensor, size=70):
    rng = np.random.default_rng(len(sensor))
    if sensor == "rgb":
        values, dtype = rng.integers(20, 200, (3, size, size)), "uint8"
    else:
        values, dtype = rng.normal([[[-10.0]], [[-17.0]]], 1.0, (2, size, size)), "float32"
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"height": size, "width": size, "count": len(values), "dtype": dtype}
    place = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as file:
        file.write(values.astype(dtype))
    return path


@pytest.fixture
def images(tmp_path):
    write_image(tmp_path / "images" / "rgb_2021-06-01.tif", "rgb")
    write_image(tmp_path / "images" / "sar_2021-06-02.tif", "sar")
    return tmp_path / "images"


@pytest.fixture
def small(monkeypatch):
    """Make every size a tiny one."""
    monkeypatch.setattr(model, "CONFIGS", dict.fromkeys(model.Size, lambda: ENCODER))


def test_pack_pretrain_and_embed(images, small, tmp_path):
    pool, out, table = tmp_path / "pool", tmp_path / "out", tmp_path / "vectors.parquet"
    packed = glocal("model", "pack", "--data", images, "--out", pool, "--side", 32, "--json")
    assert packed.exit_code == 0, packed.output
    assert json.loads(packed.stdout)["windows"] == {"rgb+sar": 4}

    words = ("model", "pretrain", "--data", pool, "--out", out, "--steps", 3, "--batch", 2)
    trained = glocal(*words, "--json")
    assert trained.exit_code == 0, trained.output
    told = json.loads(trained.stdout)
    assert (told["step"], told["why"]) == (3, "done")
    manifest = json.loads((out / "weights" / "manifest.json").read_text())
    assert manifest["card"]["origins"] == {"images": "not stated"}

    other = glocal(*words, "--seed", 5)
    assert other.exit_code == 2
    assert "recipe.training.seed: 0, now 5" in other.stderr

    rgb = images / "rgb_2021-06-01.tif"
    weights = ("--weights", told["weights"], "--side", 32)
    embedded = glocal("model", "embed", rgb, "--out", table, *weights)
    assert embedded.exit_code == 0, embedded.output
    rows = pq.read_table(table).to_pydict()
    # 70 px are two whole windows and one that is mostly missing, in both directions
    assert rows["row"] == [0] * 3 + [32] * 3 + [64] * 3
    assert rows["column"] == [0, 32, 64] * 3
    assert (rows["x"][0], rows["y"][0]) == (500_160.0, 4_999_840.0)
    assert np.isfinite(rows["vector"]).all()
    archive = tmp_path / "vectors.npz"
    assert glocal("model", "embed", rgb, "--out", archive, *weights).exit_code == 0
    with np.load(archive, allow_pickle=False) as found:
        np.testing.assert_array_equal(found["vectors"], np.array(rows["vector"], np.float32))


def test_images_are_packed_on_the_way(images, small, tmp_path):
    words = ("model", "pretrain", "--data", images, "--out", tmp_path / "out", "--side", 32)
    result = glocal(*words, "--steps", 1, "--batch", 2)
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "out" / "pool").glob("*.npz"))


def test_bad_input_is_one_readable_line(images, tmp_path):
    absent = glocal("model", "embed", images, "--out", tmp_path / "x.npz", "--weights", "absent")
    assert absent.exit_code == 3
    assert "no weights called 'absent'" in absent.stderr
    empty = glocal("model", "pretrain", "--data", tmp_path / "no", "--out", tmp_path / "out")
    assert empty.exit_code == 3
    assert "Traceback" not in empty.output


@pytest.mark.parametrize("command", ["pack", "pretrain", "embed"])
def test_help_of_every_command_has_an_example(command):
    result = glocal("model", command, "--help")
    assert result.exit_code == 0
    assert f"Example: glocal model {command}" in result.stdout


def test_a_missing_package_says_what_to_install(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(later, "import_module", absent)
    result = glocal("model", "pretrain", "--help")
    assert result.exit_code == 3
    assert "pip install -e packages/msgfm -e '.[train]'" in result.stderr


def test_sizes_and_recipes_are_valid():
    assert all(isinstance(model.CONFIGS[size](), EncoderConfig) for size in model.Size)
    assert all(name == one.__name__ and one().training.steps > 0 for name, one in RECIPES.items())
