"""The scores against scikit-image, against slow loops, and as laws."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from glocal.errors import BadSourceError
from glocal.train.tasks.quality import ergas, mae, psnr, sam, scores, ssim

SCORES = {
    "mae": mae,
    "psnr": psnr,
    "ssim": ssim,
    "sam": sam,
    "ergas": lambda a, b, v=None: ergas(a, b, v, ratio=2),
}
SHAPE = (2, 3, 14, 13)
images = hnp.arrays(np.float64, SHAPE, elements=st.floats(0.01, 1.0))
masks = hnp.arrays(np.bool_, SHAPE)
each_score = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)


def pair(seed=0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.05, 0.9, shape)
    return np.clip(truth + rng.normal(0, 0.1, shape), 0, 1), truth


def test_psnr_is_that_of_scikit_image():
    a, b = pair()
    expected = [peak_signal_noise_ratio(t, e, data_range=2.0) for e, t in zip(a, b, strict=True)]
    np.testing.assert_allclose(psnr(a, b, data_range=2.0), expected, rtol=1e-12)


@pytest.mark.parametrize("data_range", [1.0, 4.0])
def test_ssim_is_that_of_scikit_image(data_range):
    a, b = pair(shape=(2, 4, 23, 31))
    expected = [
        structural_similarity(
            e, t, channel_axis=0, data_range=data_range, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )
        for e, t in zip(a, b, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(ssim(a, b, data_range=data_range), expected, rtol=1e-10)


def test_ssim_leaves_out_windows_that_touch_invalid_cells():
    """The full map of scikit-image, averaged in a loop over the windows without invalid cells."""
    a, b = pair(seed=3, shape=(1, 2, 30, 28))
    valid = np.random.default_rng(4).random(a.shape) > 0.004
    values = []
    for band in range(2):
        _, full = structural_similarity(
            a[0, band], b[0, band], data_range=1.0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        values += [
            full[y, x]
            for y in range(5, 25)
            for x in range(5, 23)
            if valid[0, band, y - 5 : y + 6, x - 5 : x + 6].all()
        ]
    assert 0 < len(values) < 2 * 20 * 18
    np.testing.assert_allclose(ssim(a, b, valid), [np.mean(values)], rtol=1e-10)


def test_sam_and_ergas_are_their_slow_twins():
    a, b = pair(seed=5)
    valid = np.random.default_rng(6).random(SHAPE) > 0.2
    for i in range(len(a)):
        angles = []
        for y, x in np.ndindex(*SHAPE[2:]):
            if valid[i, :, y, x].all():
                u, v = a[i, :, y, x], b[i, :, y, x]
                angles.append(math.degrees(math.acos(u @ v / math.sqrt((u @ u) * (v @ v)))))
        assert sam(a, b, valid)[i] == pytest.approx(np.mean(angles), rel=1e-9)
        terms = []
        for e, t, known in zip(a[i], b[i], valid[i], strict=True):
            terms.append(np.mean((e[known] - t[known]) ** 2) / np.mean(t[known]) ** 2)
        expected = 100 / 2 * math.sqrt(np.mean(terms))
        assert ergas(a, b, valid, ratio=2)[i] == pytest.approx(expected, rel=1e-12)


@given(images)
def test_an_image_is_equal_to_itself(image):
    assert (mae(image, image) == 0).all()
    assert np.isposinf(psnr(image, image)).all()
    np.testing.assert_allclose(ssim(image, image), 1, rtol=1e-9)
    assert (sam(image, image) == 0).all()
    assert (ergas(image, image, ratio=4) == 0).all()


@given(images, images)
def test_all_but_ergas_are_symmetric(a, b):
    for name in ("mae", "psnr", "ssim", "sam"):
        np.testing.assert_allclose(SCORES[name](a, b), SCORES[name](b, a), rtol=1e-9)


@given(images, images, masks, st.sampled_from([np.nan, np.inf, -7.0, 1e6]))
def test_invalid_cells_have_no_influence(a, b, valid, junk):
    dirty_a, dirty_b = np.where(valid, a, junk), np.where(valid, b, -junk)
    for score in SCORES.values():
        np.testing.assert_array_equal(score(a, b, valid), score(dirty_a, dirty_b, valid))


@given(images, images)
def test_no_score_depends_on_the_other_images(a, b):
    for score in SCORES.values():
        np.testing.assert_allclose(score(a, b)[1:], score(a[1:], b[1:]), rtol=1e-12)


@given(images, st.floats(0.2, 5))
def test_sam_does_not_see_brightness(image, gain):
    np.testing.assert_allclose(sam(image * gain, image), 0, atol=1e-6)


@each_score
def test_nothing_valid_has_no_score(score):
    a, b = pair()
    valid = np.ones(SHAPE, bool)
    valid[0] = False
    got = score(a, b, valid)
    assert np.isnan(got[0])
    np.testing.assert_allclose(got[1], score(a, b)[1])


@each_score
def test_bad_input_is_refused(score):
    a, b = pair()
    with pytest.raises(BadSourceError, match="B, C, H, W"):
        score(a[0], b[0])
    with pytest.raises(BadSourceError, match="B, C, H, W"):
        score(a[:, :2], b)
    with pytest.raises(BadSourceError, match="does not fit"):
        score(a, b, np.ones((2, 3, 14, 14), bool))
    with pytest.raises(BadSourceError, match="boolean"):
        score(a, b, np.ones(SHAPE))
    b[0, 0, 0, 0] = np.nan
    with pytest.raises(BadSourceError, match="truth has valid cells that are not finite"):
        score(a, b)


def test_limits_of_single_scores():
    a, b = pair()
    with pytest.raises(BadSourceError, match="11 x 11"):
        ssim(a[..., :10], b[..., :10])
    with pytest.raises(BadSourceError, match="2 bands"):
        sam(a[:, :1], b[:, :1])
    with pytest.raises(BadSourceError, match="ratio"):
        ergas(a, b, ratio=0)
    with pytest.raises(BadSourceError, match="data_range"):
        psnr(a, b, data_range=-1)
    with pytest.raises(BadSourceError, match="one of them is 0"):
        ergas(a, np.zeros_like(b), ratio=2)


def test_scores_are_means_over_images():
    a, b = pair()
    got = scores(a, b, ratio=2)
    assert got == {name: pytest.approx(score(a, b).mean()) for name, score in SCORES.items()}
    assert set(scores(a[:, :1], b[:, :1])) == {"mae", "psnr", "ssim"}
    assert math.isnan(scores(a, b, np.zeros(SHAPE, bool))["psnr"])
