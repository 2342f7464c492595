from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from odc.geo.geobox import GeoBox
from sklearn.metrics import accuracy_score, jaccard_score

from glocal.core.interval import Interval
from glocal.errors import BadSourceError, ConfigError
from glocal.io.raster import write_cog
from glocal.train.data.rasters import Rasters
from glocal.train.tasks import segment
from glocal.train.tasks.dense import Settings, tiles
from msgfm import Batch, Encoder, EncoderConfig, batch_of
from recipes import landcover

CONFIG = EncoderConfig(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), window=4, experts=2)
K = 3


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(CONFIG)


def world(seed: int = 0, count: int = 6) -> tuple[Batch, np.ndarray]:
    """Squares of three colours; radar tells nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, size=(count, 4, 5)).repeat(8, 1).repeat(8, 2)
    colours = np.array([[0.1, 0.5, 0.2], [0.6, 0.3, 0.2], [0.2, 0.2, 0.7]], "f4")
    rgb = np.moveaxis(colours[labels], -1, 1) + rng.normal(0, 0.03, (count, 3, 32, 40))
    sar = rng.normal(-14, 2, (count, 2, 32, 40)) - np.array([0, 7])[:, None, None]
    return batch_of({"rgb": rgb.clip(0, 1), "sar": sar}), labels


def accuracy(model: object, seed: int = 7) -> float:
    batch, labels = world(seed, 2)
    return segment.score(segment.predict(model, batch).argmax(1), labels, K).accuracy


@pytest.mark.parametrize(("head", "frozen"), [("uper", True), ("linear", True), ("uper", False)])
def test_a_head_learns_colours(head, frozen) -> None:
    settings = Settings(steps=60, rate=1e-2, encoder_rate=2e-3, width=16)
    model = segment.fit(encoder(), *world(), classes=K, head=head, frozen=frozen, settings=settings)
    assert accuracy(model) > 0.7


def test_floors_learn_colours() -> None:
    assert accuracy(segment.fit_pixels(*world(), classes=K)) > 0.95
    assert accuracy(segment.fit_pixels(*world(), classes=K, kind="forest")) > 0.95
    assert accuracy(segment.fit_unet(*world(), classes=K, settings=Settings(steps=40))) > 0.7


def test_probabilities_add_up_and_need_no_class_that_was_seen() -> None:
    batch, labels = world()
    labels = np.where(labels == 1, segment.UNKNOWN, labels)
    for model in (
        segment.fit_pixels(batch, labels, classes=K + 2),
        segment.fit(encoder(), batch, labels, classes=K + 2, settings=Settings(steps=2, width=8)),
    ):
        found = segment.predict(model, batch)
        assert found.shape == (6, K + 2, 32, 40)
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert (segment.predict(segment.fit_pixels(batch, labels, classes=K), batch)[:, 1] == 0).all()


def test_unknown_labels_are_not_learned() -> None:
    batch, labels = world()
    settings = Settings(steps=3, width=8)
    hidden = labels.copy()
    hidden[:, :16] = segment.UNKNOWN
    pixels = {k: v.clone() for k, v in batch.values.items()}
    one = segment.fit(encoder(), batch, hidden, classes=K, settings=settings)
    two = segment.fit(encoder(), batch, hidden, classes=K, settings=settings)
    for a, b in zip(one.head.parameters(), two.head.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert all(torch.equal(pixels[k], batch.values[k]) for k in pixels)
    whole = segment.fit(encoder(), batch, labels, classes=K, settings=settings)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(one.head.parameters(), whole.head.parameters(), strict=True)
    )


def test_fitting_leaves_the_encoder_that_was_given_alone() -> None:
    given = encoder()
    before = {k: v.clone() for k, v in given.state_dict().items()}
    for frozen in (True, False):
        segment.fit(given, *world(), classes=K, frozen=frozen, settings=Settings(steps=2, width=8))
    for name, value in given.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_scores_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    labels, found = rng.integers(-1, 3, (2, 9, 9)), rng.integers(0, 4, (2, 9, 9))
    ours = segment.score(found, labels, 4)
    known = labels >= 0
    truth, guess = labels[known], found[known]
    assert ours.accuracy == pytest.approx(accuracy_score(truth, guess))
    expected = jaccard_score(truth, guess, average=None, labels=[0, 1, 2])
    np.testing.assert_allclose(ours.iou[:3], expected)
    assert np.isnan(ours.iou[3])
    assert ours.miou == pytest.approx(expected.mean())
    assert set(ours.as_dict("abcd")["iou"]) == set("abc")


def test_bad_input_is_refused() -> None:
    batch, labels = world()
    with pytest.raises(BadSourceError, match="shape"):
        segment.fit(encoder(), batch, labels[:, 1:], classes=K)
    with pytest.raises(BadSourceError, match=r"must lie in 0\.\.1"):
        segment.fit_unet(batch, labels, classes=2)
    with pytest.raises(BadSourceError, match="nothing to learn"):
        segment.fit_pixels(batch, np.full_like(labels, -1), classes=K)
    with pytest.raises(BadSourceError, match="nothing to score"):
        segment.score(labels, np.full_like(labels, -1), K)
    with pytest.raises(ConfigError, match="head must be"):
        segment.fit(encoder(), batch, labels, classes=K, head="other")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="steps must be > 0"):
        Settings(steps=0)


@pytest.mark.parametrize("shape", [(1, 1), (10, 33), (64, 48)])
def test_tiles_cover_every_pixel_once(shape: tuple[int, int]) -> None:
    count, image = np.zeros(shape, int), np.arange(shape[0] * shape[1]).reshape(shape)
    for tile in tiles(shape, side=16, margin=5):
        count[tile.write] += 1
        np.testing.assert_array_equal(image[tile.read][tile.keep], image[tile.write])
    assert (count == 1).all()


def files(folder: Path) -> tuple[Rasters, Path, np.ndarray]:
    """Write a picture, labels of a part of it, and weights; return its true codes too."""
    rng = np.random.default_rng(0)
    codes = np.array([10, 20, 30], np.uint8)
    truth = codes[rng.integers(0, 3, (18, 19)).repeat(16, 0).repeat(16, 1)]
    colours = np.array([[30, 130, 50], [150, 80, 50], [50, 50, 180]], np.uint8)
    picture = np.moveaxis(colours[truth // 10 - 1], -1, 0)
    grid = GeoBox.from_bbox((0, 0, 3040, 2880), "EPSG:32633", resolution=10)
    write_cog(folder / "rgb.tif", picture, grid, band_names=("red", "green", "blue"))
    part = truth.copy()
    part[:, 290:] = 0
    write_cog(folder / "labels.tif", part, grid, nodata=0)
    encoder().save_pretrained(folder / "small")
    images = Rasters(rgb=folder / "rgb.tif", interval=Interval.parse("2020-06-01"))
    return images, folder / "labels.tif", truth


def test_run_maps_a_place_that_is_labelled_in_part(tmp_path: Path) -> None:
    images, labels, truth = files(tmp_path)
    settings = Settings(steps=40, rate=1e-2, width=8, batch=4)
    scores = segment.run(
        images, labels, tmp_path / "map.tif", weights=tmp_path / "small", settings=settings
    )
    with rasterio.open(tmp_path / "map.tif") as file:
        found, crs = file.read(), file.crs
    assert crs.to_epsg() == 32633
    assert set(np.unique(found[0])) <= {10, 20, 30}
    assert (found[0] == truth).mean() > 0.6
    assert found[1].max() <= 100
    written = json.loads((tmp_path / "map.json").read_text())
    assert scores is not None
    assert written["scores"]["accuracy"] == pytest.approx(scores.accuracy)
    assert scores.confusion.sum() < (truth > 0).sum() / 2


@pytest.mark.parametrize(("tiles_labelled", "fits"), [(1, 1), (2, 3)])
def test_of_few_tiles_each_is_scored_by_a_model_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiles_labelled: int, fits: int
) -> None:
    images, labels, truth = files(tmp_path)
    part = np.zeros_like(truth)
    part[:100, : 128 * tiles_labelled] = truth[:100, : 128 * tiles_labelled]
    write_cog(labels, part, images.grid(), nodata=0)
    fit, learned = segment.fit, []

    def spy(
        encoder: Encoder, batch: Batch, target: np.ndarray, **about: object
    ) -> segment.Segmenter:
        learned.append((target >= 0).sum() // 4)  # each tile is turned in four ways
        return fit(encoder, batch, target, **about)

    monkeypatch.setattr(segment, "fit", spy)
    settings = Settings(steps=2, width=8, batch=4)
    weights = tmp_path / "small"
    scores = segment.run(images, labels, tmp_path / "map.tif", weights=weights, settings=settings)
    assert learned == [12800 * tiles_labelled, 12800, 12800][:fits]
    assert (scores is None) == (tiles_labelled == 1)
    if scores is not None:
        assert scores.confusion.sum() == (part > 0).sum()


def test_run_refuses_labels_that_teach_nothing(tmp_path: Path) -> None:
    images, labels, truth = files(tmp_path)
    write_cog(labels, np.where(truth == 10, truth, 0).astype(np.uint8), images.grid(), nodata=0)
    with pytest.raises(BadSourceError, match="at least two classes"):
        segment.run(images, labels, tmp_path / "map.tif", weights=tmp_path / "small")
    write_cog(labels, truth.astype(np.float32), images.grid())
    with pytest.raises(BadSourceError, match="whole numbers"):
        segment.run(images, labels, tmp_path / "map.tif", weights=tmp_path / "small")
    with pytest.raises(ConfigError, match="no image is given"):
        segment.run(Rasters(), labels, tmp_path / "map.tif", weights=tmp_path / "small")


def test_real_folds_score_nothing_that_was_learned(shared: Path) -> None:
    folds = landcover.terramind_folds(shared / "terramind-5sites")
    assert [fold.name.split()[0] for fold in folds] == ["site"] * 2 + ["quadrant"] * 4
    for fold in folds:
        learned = {float(image[1].sum(dtype=float)) for image in fold.train.images["s2"]}
        assert not learned & {float(image[1].sum(dtype=float)) for image in fold.test.images["s2"]}
        assert set(np.unique(fold.test.labels)) <= {-1, *range(len(fold.classes))}
    assert (folds[2].train.labels == -1).any()
    assert (folds[2].test.labels >= 0).all()


def test_real_cubes_are_read_in_physical_units(shared: Path) -> None:
    folds = landcover.cib_folds(shared / "worldcereal-cib")
    for fold in folds:
        batch = fold.test.batch(("s2", "sar"))
        assert 0.05 < float(batch.values["s2"][batch.valid["s2"]].mean()) < 0.5
        assert -30 < float(batch.values["sar"][batch.valid["sar"]].mean()) < -5
        assert fold.test.labels.shape[1:] == (64, 64)
    crop_only = folds[-1].test.labels
    assert set(np.unique(crop_only)) == {-1, 0}
