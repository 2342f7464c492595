from __future__ import annotations

import json
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import rasterio
import torch
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from glocal.core.interval import Interval
from glocal.errors import BadSourceError
from glocal.io.raster import write_cog
from glocal.train.data.rasters import Rasters
from glocal.train.tasks.clouds import files as clouds
from glocal.train.tasks.clouds import pairs as cp
from glocal.train.tasks.clouds import removal as cr
from glocal.train.tasks.clouds.choice import choose, factor_of
from glocal.train.tasks.dense import Settings
from msgfm import Encoder, EncoderConfig
from msgfm.errors import CheckpointError
from recipes import cloud_removal as recipe

B, C, H, W = 6, len(cp.BANDS), 36, 40


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(
        EncoderConfig(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), window=4, experts=2)
    )


def scenes(count: int = B, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fields whose brightness is a line of what the radar sees."""
    rng = np.random.default_rng(seed)
    field = rng.uniform(size=(count, 1, H // 4, W // 4)).repeat(4, 2).repeat(4, 3)
    clear = 0.05 + 0.2 * field * np.linspace(0.5, 1.5, C)[None, :, None, None]
    sar = np.concatenate([-15 + 8 * field, -22 + 8 * field], 1)
    return clear.astype("f4"), sar.astype("f4"), np.full(count, 180, "f4")


def pairs(seed: int = 0, **kwargs: tuple[float, float]) -> cp.Pairs:
    return cp.simulate(*scenes(seed=seed), seed=seed, **kwargs)


def error(image: np.ndarray, data: cp.Pairs) -> float:
    hidden = np.broadcast_to(data.cloud[:, None], image.shape)
    return float(np.abs(image - data.clear)[hidden].mean())


def test_simulated_clouds_change_only_the_pixels_that_they_mark() -> None:
    data = pairs(cover=(0.2, 0.6))
    clear = ~np.broadcast_to(data.cloud[:, None], data.clear.shape)
    np.testing.assert_allclose(data.cloudy[clear], data.clear[clear], atol=0.05)
    assert np.abs(data.cloudy - data.clear)[~clear].mean() > 0.05
    assert 0.1 < data.cloud.mean() < 0.95
    again = pairs(cover=(0.2, 0.6))
    np.testing.assert_array_equal(data.cloudy, again.cloudy)


def test_full_cover_hides_everything() -> None:
    assert pairs(cover=(0.99, 1.0)).cloud.all()


def test_fill_is_the_mean_of_the_clear_pixels() -> None:
    data = pairs(cover=(0.3, 0.5))
    prior = np.full(C, 0.9, "f4")
    image = cp.filled(data, prior)
    seen = ~data.cloud[0]
    expected = data.cloudy[0, 3][seen].mean()
    np.testing.assert_allclose(image[0, 3][~seen], expected, rtol=1e-5)
    np.testing.assert_array_equal(image[0, 3][seen], data.cloudy[0, 3][seen])
    dark = cp.filled(pairs(cover=(0.99, 1.0)), prior)
    np.testing.assert_array_equal(dark, np.full_like(dark, 0.9))


def test_regression_on_radar_finds_a_line() -> None:
    train, test = pairs(0), pairs(1, cover=(0.3, 0.6))
    floor = cp.fit_sar_regression(train)
    prior = cp.spectrum(train)
    assert error(floor(test), test) < 0.3 * error(cp.filled(test, prior), test)
    hidden = pairs(2, cover=(0.99, 1.0))
    assert error(floor(hidden), hidden) < 0.3 * error(cp.filled(hidden, prior), hidden)
    np.testing.assert_array_equal(floor(test.without_sar()), cp.filled(test.without_sar(), prior))


@pytest.mark.parametrize(("make", "frozen"), [(encoder, True), (encoder, False), (None, True)])
def test_a_fitted_network_beats_the_fill(make, frozen) -> None:
    train, test = cp.Pairs.join(*(pairs(s) for s in range(4))), pairs(9)
    settings = Settings(steps=60, rate=1e-2, width=16)
    model = cr.fit(make() if make else None, train, frozen=frozen, settings=settings)
    restored = cr.restore(model, test)
    fill = cp.filled(test, model.prior.numpy())
    assert error(restored.image, test) < 0.9 * error(fill, test)
    seen = ~np.broadcast_to(test.cloud[:, None], test.clear.shape)
    np.testing.assert_array_equal(restored.image[seen], test.cloudy[seen])
    assert (restored.uncertainty[seen] == 0).all()
    assert (restored.uncertainty[~seen] > 0).all()


def test_same_seed_same_network_and_the_truth_is_not_looked_at() -> None:
    data, settings = pairs(), Settings(steps=3, width=8)
    one, two = (cr.fit(encoder(), data, settings=settings) for _ in range(2))
    blind = cp.Pairs(
        cloudy=data.cloudy,
        cloud=data.cloud,
        clear=np.full_like(data.clear, np.nan),
        sar=data.sar,
        day=data.day,
    )
    np.testing.assert_array_equal(cr.restore(one, data).image, cr.restore(two, blind).image)


def test_what_a_place_gives_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    model = cr.fit(encoder(), pairs(), settings=Settings(steps=3, width=8))
    data = pairs(3)
    alone = cr.restore(model, data.rows(slice(2, 3)))
    np.testing.assert_allclose(alone.image[0], cr.restore(model, data).image[2], atol=1e-6)


def test_freezing_and_training_leave_the_encoder_that_was_given_alone() -> None:
    given = encoder()
    before = {k: v.clone() for k, v in given.state_dict().items()}
    for frozen in (True, False):
        cr.fit(given, pairs(), frozen=frozen, settings=Settings(steps=2, width=8))
    for name, value in given.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_bad_input_is_refused() -> None:
    data = pairs()
    with pytest.raises(BadSourceError, match="sar must have shape"):
        cp.Pairs(
            cloudy=data.cloudy,
            cloud=data.cloud,
            clear=data.clear,
            sar=data.sar[:, :1],
            day=data.day,
        )
    unknown = cp.Pairs(
        cloudy=data.cloudy,
        cloud=data.cloud,
        clear=np.full_like(data.clear, np.nan),
        sar=data.sar,
        day=data.day,
    )
    with pytest.raises(BadSourceError, match="nothing to learn"):
        cr.fit(encoder(), unknown)


# Files ----------------------------------------------------------------------

NAMES = ("B02", "B03", "B04", "B08")
DAY = Interval.parse("2020-06-01")


def files(folder: Path, *, size: tuple[int, int] = (150, 140)) -> tuple[Rasters, Path, np.ndarray]:
    """Write an image with a cloud, its radar and its cloud mask."""
    rng = np.random.default_rng(0)
    field = rng.uniform(size=(size[0] // 10, size[1] // 10)).repeat(10, 0).repeat(10, 1)
    clear = 0.03 + 0.2 * field * np.array([0.5, 0.7, 0.9, 1.5])[:, None, None]
    mask = np.zeros(size, np.uint8)
    mask[20:70, 90:130] = 1
    cloudy = np.where(mask, 0.6, clear)
    grid = GeoBox.from_bbox((0, 0, size[1] * 10, size[0] * 10), "EPSG:32633", resolution=10)
    numbers = (cloudy * 10_000).round().astype(np.uint16)
    write_cog(folder / "s2.tif", numbers, grid, nodata=0, band_names=NAMES)
    radar = np.stack([-15 + 8 * field, -22 + 8 * field]).astype(np.float32)
    write_cog(folder / "s1.tif", radar, grid, band_names=("VV", "VH"))
    write_cog(folder / "cloud.tif", mask, grid)
    images = Rasters(s2=folder / "s2.tif", sar=folder / "s1.tif", interval=DAY)
    return images, folder / "cloud.tif", clear


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "small"
    encoder().save_pretrained(folder)
    return folder


def test_run_restores_a_raster_and_keeps_what_was_seen(tmp_path: Path, weights: Path) -> None:
    images, cloud, clear = files(tmp_path)
    settings = Settings(steps=4, width=8)
    for name in ("one.tif", "two.tif"):
        told = clouds.run(images, tmp_path / name, cloud=cloud, weights=weights, settings=settings)
    assert told["estimated"] == pytest.approx(50 * 40 / (150 * 140))
    assert told["method"] == min(told["mae"], key=told["mae"].get)
    assert json.loads((tmp_path / "one.json").read_text()) == told
    with rasterio.open(tmp_path / "one.tif") as file:
        found, names, crs = file.read(), file.descriptions, file.crs
    assert names == (*NAMES, "uncertainty")
    assert crs.to_epsg() == 32633
    hidden = rasterio.open(cloud).read(1) > 0
    np.testing.assert_allclose(found[:4, ~hidden], clear[:, ~hidden], atol=1e-4)
    assert np.abs(found[:4] - clear)[:, hidden].mean() < 0.1
    assert (found[4, hidden] > 0).all()
    assert (found[4, ~hidden] == 0).all()
    assert (tmp_path / "one.tif").read_bytes() == (tmp_path / "two.tif").read_bytes()


def test_run_says_what_is_missing(tmp_path: Path, weights: Path) -> None:
    images, _, _ = files(tmp_path)
    with pytest.raises(BadSourceError, match="give cloud="):
        clouds.run(images, tmp_path / "out.tif", weights=weights)
    with pytest.raises(BadSourceError, match="needs a Sentinel-2 image"):
        clouds.run(Rasters(sar=images.sar, interval=DAY), tmp_path / "out.tif")
    whole = np.ones((150, 140), np.uint8)
    write_cog(tmp_path / "all.tif", whole, images.grid())
    with pytest.raises(BadSourceError, match="nothing can be learned"):
        clouds.run(images, tmp_path / "out.tif", cloud=tmp_path / "all.tif", weights=weights)
    assert not (tmp_path / "out.tif").exists()


def test_a_saved_network_gives_the_same_answer(tmp_path: Path, weights: Path) -> None:
    model, data = cr.fit(encoder(), pairs(), settings=Settings(steps=2, width=8)), pairs(4)
    cr.save(model, tmp_path / "model")
    again = cr.load(tmp_path / "model")
    np.testing.assert_array_equal(cr.restore(model, data).image, cr.restore(again, data).image)
    with pytest.raises(CheckpointError, match="holds no cloud-removal network"):
        cr.load(weights)
    with pytest.raises(CheckpointError, match="not saved"):
        cr.save(cr.CloudRemover(None), tmp_path / "floor")


# Choice ---------------------------------------------------------------------


def test_a_network_that_is_no_better_than_a_rule_is_not_used() -> None:
    train, held = pairs(0), pairs(1, cover=(0.3, 0.6))
    line = cp.fit_sar_regression(train)
    untrained = cr.fit(None, train, settings=Settings(steps=1, rate=1e-9, width=8))
    found = choose(untrained, line, held)
    assert found.method == "regression on radar"  # the pictures are a line of the radar
    np.testing.assert_array_equal(found(held).image, line(held))
    assert found.errors["regression on radar"] < 0.3 * found.errors["network"]
    without = choose(untrained, line, held.without_sar())
    assert without.method == "mean of clear pixels"  # an untrained network leaves that as it is
    assert choose(untrained, line, None).method == "network"


@hypothesis.settings(max_examples=15)
@hypothesis.given(seed=st.integers(0, 999), share=st.sampled_from([0.5, 0.9]))
def test_scaled_bands_hold_their_share_of_what_they_were_scaled_on(seed, share) -> None:
    rng, held = np.random.default_rng(seed), pairs(2, cover=(0.3, 0.6))
    own = rng.uniform(0.001, 10, held.clear.shape).astype("f4")
    noisy = held.clear + rng.normal(0, 0.1, held.clear.shape).astype("f4")
    guess = cr.Restored(image=noisy, uncertainty=own)
    factor = factor_of(guess, held, share)
    # the band of a Laplace distribution: its scale is its standard deviation / sqrt(2)
    band = own * factor[:, None, None] * -np.log(1 - share) / np.sqrt(2)
    hidden = np.broadcast_to(held.cloud[:, None], own.shape) & np.isfinite(held.clear)
    for c in range(C):
        use = hidden[:, c]
        if use.any():
            inside = (np.abs(noisy - held.clear) <= band * (1 + 1e-5))[:, c][use]
            assert inside.mean() == pytest.approx(share, abs=0.002)


def test_a_place_that_is_nearly_all_clouded_is_restored_unchecked(
    tmp_path: Path, weights: Path
) -> None:
    images, _, _ = files(tmp_path)
    mask = np.ones((150, 140), np.uint8)
    mask[:64, :64] = 0
    write_cog(tmp_path / "most.tif", mask, images.grid())
    told = clouds.run(
        images,
        tmp_path / "out.tif",
        cloud=tmp_path / "most.tif",
        weights=weights,
        settings=Settings(steps=1, width=8),
    )
    assert (told["method"], told["mae"]) == ("network", {})
    assert "not checked" in told["note"]


def test_windows_to_score_do_not_overlap_those_to_learn() -> None:
    cloudy = np.zeros((1, C, 300, 260), "f4")
    hidden = np.zeros((1, 300, 260), bool)
    hidden[0, 100:120, :90] = True
    scene = cp.Pairs(
        cloudy=cloudy,
        cloud=hidden,
        clear=np.full_like(cloudy, np.nan),
        sar=np.zeros((1, 2, 300, 260), "f4"),
        day=np.ones(1, "f4"),
    )
    learned, held = clouds._windows(scene)
    seen = np.zeros((2, 300, 260), int)
    for which, parts in enumerate((learned, held)):
        for part in parts:
            seen[which][part] = 1
            assert not hidden[0][part].any()
    assert learned
    assert held
    assert (seen.sum(0) <= 1).all()


def test_real_pairs_keep_the_truth_out_of_inputs_and_floors(shared: Path) -> None:
    folds = recipe.cib_folds(shared / "worldcereal-cib")
    for fold in folds:
        real, drawn = fold.cases
        order = [cp.BANDS.index(name) for name in real.bands]
        truth = real.pairs.clear[:, order]
        known = np.isfinite(truth)
        assert known.mean() > 0.9
        assert real.pairs.cloud.any((1, 2)).all()
        for image in real.series.values():
            equal = (image[:, order] == truth) & known
            assert equal.mean() < 0.2
        assert np.isfinite(drawn.pairs.clear[:, order]).mean() > 0.9
        learned = {float(np.nansum(one, dtype=float)) for one in fold.train.cloudy}
        for case in fold.cases:
            assert not learned & {float(np.nansum(one, dtype=float)) for one in case.pairs.cloudy}
