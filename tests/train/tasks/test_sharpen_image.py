"""Sharpening of files: what is written is what was best where the network did not learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
import torch
from odc.geo.geobox import GeoBox

from glocal.errors import BadSourceError, GlocalError
from glocal.io.raster import info, write_cog
from glocal.train.tasks.quality import mae
from glocal.train.tasks.sharpening.floors import FLOORS, degrade
from glocal.train.tasks.sharpening.image import _parted, sharpen_image
from glocal.train.tasks.sharpening.network import FitConfig, Sharpener, fit, save
from glocal.train.tasks.sharpening.scenes import Task, wald
from msgfm import Encoder
from msgfm.errors import MsgfmError
from tests.train.pools import ENCODER
from tests.train.tasks.test_sharpen import texture

FEW = FitConfig(steps=4, batch=2, chip=16, width=8)
NAMES = ("B02", "B03", "B04", "B08", "B8A", "B11")
GRID = GeoBox.from_bbox((500_000, 5_000_000, 501_280, 5_001_280), "EPSG:32633", resolution=20)


def ground(bands, side):
    """Reflectance with detail, and as dark somewhere as Sentinel-2 always is."""
    return 0.4 * texture(bands, side)


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    Encoder(ENCODER).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def write(path, values, names=(), scale=10_000, grid=GRID):
    """Write bands whose extent is that of the grid, whatever the size of their pixels."""
    own = grid.zoom_to(values.shape[1:])
    stored = np.where(np.isfinite(values), values * scale, 0).round()
    kind = np.uint16 if scale > 255 else np.uint8
    write_cog(path, stored.astype(kind), own, band_names=names, categorical=False, nodata=0)
    return path


@pytest.fixture
def images(tmp_path):
    """Four bands of 128 x 128 pixels of 10 m, two of 64 x 64 pixels of 20 m, and the truth."""
    six = ground(6, 128)
    fine = write(tmp_path / "fine.tif", six[:4], NAMES[:4])
    coarse = write(tmp_path / "coarse.tif", degrade(six[4:], 2), NAMES[4:])
    return fine, coarse, six[4:]


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def test_the_result_is_sharper_than_what_was_given(images, weights, tmp_path):
    fine, coarse, truth = images
    out = tmp_path / "sharp.tif"
    report = sharpen_image(fine, coarse, out, weights=weights, config=FEW)
    values, header = read(out), info(out)
    assert header.grid == GRID.zoom_to((128, 128))
    assert header.descriptions == NAMES[4:]
    known = np.isfinite(values)
    assert known.all()
    bicubic = FLOORS["bicubic"](truth, degrade(truth, 2), 2)
    assert mae(values[None], truth[None])[0] < 0.7 * mae(bicubic[None], truth[None])[0]
    assert report == json.loads(out.with_suffix(".json").read_text())
    assert set(report["scores"]) == {*FLOORS, "network"}
    assert report["method"] == min(report["scores"], key=lambda n: report["scores"][n]["ergas"])
    assert (report["ratio"], report["bands"]) == (2, list(NAMES[4:]))


def test_the_same_input_gives_the_same_bytes(images, weights, tmp_path):
    fine, coarse, _ = images
    paths = [tmp_path / f"{i}.tif" for i in range(2)]
    reports = [sharpen_image(fine, coarse, one, weights=weights, config=FEW) for one in paths]
    assert reports[0] == reports[1]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def sharpener(tmp_path, bias, base="hypersharpening", fine=NAMES[:4]):
    """Save a network that adds a constant to the result of a classical method."""
    task = Task(sensor="s2", fine=fine, coarse=NAMES[4:], ratio=2, base=base)
    with torch.no_grad():
        model = Sharpener(task, None, 8)
        model.net.last.bias += bias
    save(model, tmp_path / "net")
    return tmp_path / "net"


def test_a_bad_network_is_not_used_and_the_report_says_so(images, tmp_path):
    fine, coarse, _ = images
    out = tmp_path / "sharp.tif"
    report = sharpen_image(fine, coarse, out, model=sharpener(tmp_path, 0.5))
    assert report["method"] == "hypersharpening"
    assert report["note"].startswith("the network was worse")
    with rasterio.open(fine) as high, rasterio.open(coarse) as low:
        given = [(one.read() / 10_000).astype(np.float32) for one in (high, low)]
    np.testing.assert_allclose(read(out), FLOORS["hypersharpening"](*given, 2), atol=1e-5)


def test_a_network_that_is_best_is_used(images, tmp_path, monkeypatch):
    fine, coarse, _ = images
    monkeypatch.setattr(
        "glocal.train.tasks.sharpening.image.FLOORS", {"bicubic": FLOORS["bicubic"]}
    )
    report = sharpen_image(fine, coarse, tmp_path / "s.tif", model=sharpener(tmp_path, 0.0))
    assert report["method"] == "network"
    assert "was the best" in report["note"]


def test_held_out_blocks_are_not_learned():
    scene = wald("made", ground(4, 256), ground(2, 128), ratio=2, gsd_m=10)
    learned, scored = _parted(scene, 2)
    assert 0.15 < scored.mean() < 0.35
    for block in learned:
        assert not scored[tuple(slice(2 * s.start, 2 * s.stop) for s in block)].any()
    changed = wald("made", ground(4, 256), ground(2, 128), ratio=2, gsd_m=10)
    changed.truth[:, scored] = 0.9
    task = Task(sensor="s2", fine=NAMES[:4], coarse=NAMES[4:], ratio=2)
    one, two = (
        fit(None, task, [s.window(*block, 2) for block in learned], FEW) for s in (scene, changed)
    )
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_one_product_holds_fine_and_coarse_bands(weights, tmp_path):
    six, folder = ground(6, 128), tmp_path / "T33UUU_20200601"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        values = six[i : i + 1] if i < 4 else degrade(six[i : i + 1], 2)
        write(folder / f"T33UUU_20200601_{name}.tif", values)
    write(folder / "T33UUU_20200601_B01.tif", degrade(six[:1], 8))
    report = sharpen_image(folder, folder, tmp_path / "s.tif", weights=weights, config=FEW)
    assert (report["bands"], report["ratio"]) == (["B8A", "B11"], 2)


def test_a_panchromatic_band_sharpens_colours(weights, tmp_path):
    colours = ground(3, 128) + 0.2
    grid = GeoBox.from_bbox((500_000, 5_000_000, 500_128, 5_000_128), "EPSG:32633", resolution=4)
    pan = write(tmp_path / "pan.tif", colours.mean(0, keepdims=True), grid=grid)
    coarse = write(tmp_path / "colour.tif", degrade(colours, 4), scale=255, grid=grid)
    report = sharpen_image(pan, coarse, tmp_path / "s.tif", weights=weights, config=FEW)
    assert (report["bands"], report["ratio"]) == (["R", "G", "B"], 4)
    scores = report["scores"]
    assert scores[report["method"]]["mae"] < scores["bicubic"]["mae"]


def test_missing_pixels_stay_missing(weights, tmp_path):
    six = ground(6, 128)
    six[:, :20, :20] = np.nan
    fine = write(tmp_path / "fine.tif", six[:4], NAMES[:4])
    coarse = write(tmp_path / "coarse.tif", degrade(six[4:], 2), NAMES[4:])
    sharpen_image(fine, coarse, tmp_path / "s.tif", weights=weights, config=FEW)
    values = read(tmp_path / "s.tif")
    assert np.isnan(values[:, :20, :20]).all()
    assert np.isfinite(values[:, 40:, 40:]).all()


def test_bad_input_is_refused(images, tmp_path):
    fine, coarse, truth = images

    def refused(match, first=fine, second=coarse, **options):
        with pytest.raises((GlocalError, MsgfmError), match=match):
            sharpen_image(first, second, tmp_path / "no.tif", weights="absent", **options)
        assert not (tmp_path / "no.tif").exists()

    refused("does not exist", tmp_path / "none.tif")
    refused("no band of larger pixels", second=fine)
    odd = write(tmp_path / "odd.tif", truth[:, :85, :85], NAMES[4:])
    refused("whole number", second=odd)
    small = GeoBox.from_bbox((500_000, 5_000_000, 500_400, 5_000_400), "EPSG:32633", resolution=20)
    tiny = write(tmp_path / "tiny.tif", truth[:, :20, :20], NAMES[4:], grid=small)
    refused("too small", second=tiny)
    refused("names 2", fine_bands=("B02", "B03"))
    refused("sharpens Task", model=sharpener(tmp_path, 0.0, fine=("B02", "B03")))
    refused("no weights called")


def test_an_image_with_little_data_is_refused(tmp_path):
    six = ground(6, 128)
    six[:, 40:] = np.nan
    fine = write(tmp_path / "fine.tif", six[:4], NAMES[:4])
    coarse = write(tmp_path / "coarse.tif", degrade(six[4:], 2), NAMES[4:])
    with pytest.raises(BadSourceError, match="blocks of"):
        sharpen_image(fine, coarse, tmp_path / "no.tif")
