"""Sharpening: Wald's protocol, classical methods, and a network that learns an easy relation."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.errors import BadSourceError, ConfigError
from glocal.train.tasks.quality import mae
from glocal.train.tasks.sharpening.floors import FLOORS, degrade, enlarge, hypersharpen
from glocal.train.tasks.sharpening.network import FitConfig, fit, load, predict, run, save
from glocal.train.tasks.sharpening.scenes import BandPair, Task, wald, with_pan
from msgfm import Encoder, EncoderConfig
from msgfm.errors import CheckpointError

TASK = Task(
    sensor="s2", fine=("B02", "B03", "B04", "B08"), coarse=("B8A", "B11"), ratio=2, base="bicubic"
)
PAN = Task(sensor="rgb", fine=("pan",), coarse=("R", "G", "B"), ratio=4)
FEW = FitConfig(steps=25, batch=4, chip=16, width=8, rate=1e-2)

sizes = st.tuples(st.integers(1, 3), st.integers(2, 6), st.integers(2, 6))


def encoder():
    torch.manual_seed(0)
    return Encoder(
        EncoderConfig(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), window=4, experts=2)
    ).eval()


def texture(bands, side, seed=0):
    """Reflectance with detail at every scale and strong correlation between bands."""
    rng = np.random.default_rng(seed)
    shared = sum(
        np.kron(rng.normal(size=(side // s, side // s)), np.ones((s, s))) for s in (1, 2, 4, 8)
    )
    own = rng.normal(size=(bands, side // 8, side // 8)).repeat(8, 1).repeat(8, 2)
    gain = np.linspace(0.5, 1.5, bands)[:, None, None]
    return (0.25 + 0.02 * gain * shared + 0.01 * own).clip(0.01, 1).astype(np.float32)


def scene(name="made", seed=0, side=48):
    six = texture(6, side, seed)
    return BandPair(
        name=name, fine=six[:4], coarse=degrade(six[4:], 2), truth=six[4:], gsd_m=10.0
    )  # fmt: skip


@given(sizes, st.sampled_from([2, 3, 4]), st.floats(-5, 5))
def test_degrading_and_enlarging_keep_a_constant(size, ratio, value):
    bands, rows, columns = size
    image = np.full((bands, rows * ratio, columns * ratio), value, np.float32)
    low = degrade(image, ratio)
    assert low.shape == size
    np.testing.assert_allclose(low, value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(enlarge(low, ratio), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_degrading_is_a_sum_of_gaussian_weights(ratio):
    """A loop over the cells, with the transfer function checked from its definition."""
    image = np.random.default_rng(0).random((1, 8 * ratio, 8 * ratio)).astype(np.float32)
    sigma = ratio / np.pi * np.sqrt(2 * np.log(1 / 0.3))
    nyquist = 1 / (2 * ratio)
    assert np.exp(-2 * (np.pi * sigma * nyquist) ** 2) == pytest.approx(0.3)
    low = degrade(image, ratio)
    for y, x in ((0, 0), (3, 4), (7, 2)):
        total = weight = 0.0
        for i, j in np.ndindex(*image.shape[1:]):
            dy, dx = i - ((y + 0.5) * ratio - 0.5), j - ((x + 0.5) * ratio - 0.5)
            if max(abs(dy), abs(dx)) <= 4 * sigma:
                one = np.exp(-(dy**2 + dx**2) / (2 * sigma**2))
                total, weight = total + one * image[0, i, j], weight + one
        assert low[0, y, x] == pytest.approx(total / weight, rel=1e-5)


def test_a_position_stays_where_it_is():
    """A ramp comes back at its place; this bicubic kernel bends it by less than 0.1 pixel."""
    ramp = np.arange(48, dtype=np.float32)[None, None].repeat(48, 1)
    back = enlarge(degrade(ramp, 2), 2)
    np.testing.assert_allclose(back[..., 8:-8], ramp[..., 8:-8], atol=0.1)


@given(hnp.arrays(np.bool_, (1, 8, 8)))
def test_a_block_with_a_missing_cell_has_no_value_and_no_influence(missing):
    image = np.where(missing, np.nan, 0.5).astype(np.float32)
    low = degrade(image, 2)
    blocks = missing.reshape(1, 4, 2, 4, 2).any(axis=(2, 4))
    np.testing.assert_array_equal(np.isnan(low), blocks)
    np.testing.assert_allclose(low[~blocks], 0.5, rtol=1e-6)


def test_wald_makes_the_coarse_bands_the_truth():
    ten, twenty = texture(4, 48), texture(2, 24, 1)
    made = wald("one", ten, twenty, ratio=2, gsd_m=10)
    made.check(TASK)
    np.testing.assert_array_equal(made.truth, twenty)
    assert (made.fine.shape, made.coarse.shape) == ((4, 24, 24), (2, 12, 12))
    assert made.gsd_m == 20


@pytest.mark.parametrize("name", FLOORS)
def test_classical_methods_return_the_shape_and_carry_missing_data(name):
    made = scene()
    coarse = made.coarse.copy()
    coarse[:, :3, :3] = np.nan
    out = FLOORS[name](made.fine, coarse, 2)
    assert out.shape == made.truth.shape
    assert np.isnan(out[:, :6, :6]).all()
    assert np.isfinite(out[:, 12:, 12:]).all()


def test_every_method_beats_bicubic_where_bands_share_their_detail():
    made = scene()
    errors = {n: float(mae(f(made.fine, made.coarse, 2)[None], made.truth[None])[0])
              for n, f in FLOORS.items()}  # fmt: skip
    assert max(errors["Gram-Schmidt"], errors["hypersharpening"]) < errors["bicubic"]


def test_hypersharpening_is_exact_for_a_combination_of_fine_bands():
    fine = texture(4, 48)
    truth = np.stack([0.3 * fine[0] + 0.7 * fine[3], fine[1] - 0.2 * fine[2] + 0.1])
    out = hypersharpen(fine, degrade(truth, 2), 2)
    np.testing.assert_allclose(out, truth, atol=2e-4)


@pytest.mark.parametrize("make", [encoder, lambda: None], ids=["encoder", "from scratch"])
def test_an_untrained_sharpener_is_its_base_and_training_improves_it(make):
    train, test = scene(), scene(seed=1)
    large = enlarge(test.coarse, 2)
    raw = predict(fit(make(), TASK, [train], FitConfig(steps=0, chip=16, width=8)), test)
    np.testing.assert_allclose(raw, large, atol=1e-6)
    learned = predict(fit(make(), TASK, [train], FEW), test)
    assert mae(learned[None], test.truth[None])[0] < 0.9 * mae(large[None], test.truth[None])[0]


def test_fitting_is_repeatable_and_leaves_encoder_and_random_state_alone():
    mine, torch_state = encoder(), torch.random.get_rng_state()
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    config = FitConfig(steps=3, batch=2, chip=16, width=8, encoder_rate=1e-3)
    one, two = (predict(fit(mine, TASK, [scene()], config), scene(seed=1)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())
    assert torch.equal(torch_state, torch.random.get_rng_state())


def test_a_frozen_encoder_stays_and_a_tuned_one_moves():
    mine = encoder()
    for rate in (0.0, 1e-3):
        config = FitConfig(steps=3, batch=2, chip=16, width=8, encoder_rate=rate)
        changed = [
            not torch.equal(a, b)
            for a, b in zip(
                fit(mine, TASK, [scene()], config).encoder.parameters(),
                mine.parameters(),
                strict=True,
            )
        ]
        assert any(changed) == (rate > 0)


def test_cells_without_data_are_not_learned_from_and_not_predicted():
    made = scene()
    config = FitConfig(steps=2, batch=2, chip=16, width=8)
    for name in ("coarse", "truth"):
        getattr(made, name)[:, :4, :4] = np.nan
    out = predict(fit(None, TASK, [made], config), made)
    assert np.isnan(out[:, :8, :8]).all()
    assert np.isfinite(out[:, 16:, 16:]).all()


@settings(max_examples=5)
@given(st.permutations([0.2, 0.5, 0.3]))
def test_a_synthetic_pan_band_is_the_declared_mean(weights):
    rgb = texture(3, 32)
    made = with_pan("made", rgb, weights, ratio=4, gsd_m=1)
    made.check(PAN)
    expected = sum(w * band for w, band in zip(weights, rgb, strict=True))
    np.testing.assert_allclose(made.fine[0], expected, rtol=1e-5)


def test_run_scores_every_method_on_the_same_cells():
    train = with_pan("a", texture(3, 64), (1, 1, 1), ratio=4, gsd_m=1)
    tests = [
        with_pan(n, texture(3, 64, s), (1, 1, 1), ratio=4, gsd_m=1) for n, s in (("b", 1), ("c", 2))
    ]
    config = FitConfig(steps=2, batch=2, chip=16, width=8)
    rows = run({"random": encoder()}, PAN, [train], tests, config)
    methods = [*FLOORS, "network from scratch", "random"]
    assert [(r["scene"], r["method"]) for r in rows] == [(s, m) for s in "bc" for m in methods]
    assert all({"mae", "psnr", "ssim", "sam", "ergas"} <= set(row) for row in rows)
    bicubic = next(row for row in rows if row["method"] == "bicubic")
    expected = mae(enlarge(tests[0].coarse, 4)[None], tests[0].truth[None])[0]
    assert bicubic["mae"] == pytest.approx(expected)


@pytest.mark.parametrize("make", [encoder, lambda: None], ids=["encoder", "from scratch"])
def test_a_saved_sharpener_says_the_same(make, tmp_path):
    config = FitConfig(steps=2, batch=2, chip=16, width=8)
    model = fit(make(), TASK, [scene()], config)
    save(model, tmp_path / "sharp")
    again = load(tmp_path / "sharp")
    assert again.task == TASK
    np.testing.assert_array_equal(predict(again, scene(seed=1)), predict(model, scene(seed=1)))


def test_other_weights_are_no_sharpener(tmp_path):
    encoder().save_pretrained(tmp_path / "encoder")
    with pytest.raises(CheckpointError, match="does not hold a sharpener"):
        load(tmp_path / "encoder")


def test_bad_input_is_refused():
    made = scene()
    blind = BandPair(name="blind", fine=made.fine, coarse=made.coarse, gsd_m=10)
    with pytest.raises(BadSourceError, match="do not divide by 5"):
        degrade(made.fine, 5)
    with pytest.raises(BadSourceError, match="no truth to learn from"):
        fit(None, TASK, [blind], FEW)
    with pytest.raises(BadSourceError, match="one scene or more"):
        fit(None, TASK, [], FEW)
    with pytest.raises(BadSourceError, match="smaller than a chip"):
        fit(None, TASK, [made], FitConfig(chip=64))
    with pytest.raises(BadSourceError, match="no truth to compare with"):
        run({}, TASK, [made], [blind], FitConfig(steps=1, batch=1, chip=16, width=8))
    with pytest.raises(BadSourceError, match="coarse must be"):
        fit(None, Task(sensor="s2", fine=TASK.fine, coarse=("B11",), ratio=2), [made], FEW)
    with pytest.raises(ConfigError, match="ratio of 2"):
        Task(sensor="s2", fine=("B02",), coarse=("B11",), ratio=1)
    with pytest.raises(ConfigError, match="base must be one of"):
        Task(sensor="s2", fine=("B02",), coarse=("B11",), ratio=2, base="magic")
    with pytest.raises(ConfigError, match="batch must be >= 1"):
        FitConfig(batch=0)
    with pytest.raises(BadSourceError, match="in common"):
        FLOORS["Brovey"](np.full_like(made.fine, np.nan), made.coarse, 2)
