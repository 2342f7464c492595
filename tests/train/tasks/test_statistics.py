"""Image statistics against numpy's own, and what is missing."""

from __future__ import annotations

import numpy as np
import pytest

from glocal.errors import BadSourceError
from glocal.train.tasks.classification import statistics
from glocal.train.tasks.classification.statistics import QUANTILES, band_statistics, statistic_names


def slow(band):
    """Return what numpy computes for the finite values of one band."""
    known = band[np.isfinite(band)].astype(np.float64)
    ends = [known.mean(), known.std(), known.min(), known.max()]
    return [*ends, *np.quantile(known, QUANTILES)]


def test_columns_are_what_numpy_computes_of_each_band():
    images = np.random.default_rng(0).normal(size=(5, 3, 7, 4))
    images[0, 1, :3] = np.nan
    images[2, 0, 1, 1] = np.inf
    found = band_statistics(images)
    expected = [[v for band in image for v in slow(band)] for image in images]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found.shape[1] == len(statistic_names(3))


def test_a_masked_pixel_counts_as_little_as_a_nan():
    rng = np.random.default_rng(1)
    images = rng.normal(size=(4, 2, 6, 6))
    valid = rng.random(images.shape) > 0.3
    masked = band_statistics(np.where(valid, images, 1e9), valid=valid)
    np.testing.assert_array_equal(masked, band_statistics(np.where(valid, images, np.nan)))


def test_a_band_without_data_is_nan_and_leaves_the_others_alone():
    images = np.ones((1, 2, 3, 3))
    images[0, 0] = np.nan
    found = band_statistics(images)[0].reshape(2, -1)
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == [1, 0, 1, 1, *[1] * len(QUANTILES)]


def test_shuffling_pixels_changes_nothing():
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, size=(3, 3, 8, 8), dtype=np.uint8)
    shuffled = rng.permuted(images.reshape(3, 3, -1), axis=2).reshape(images.shape)
    np.testing.assert_allclose(band_statistics(shuffled), band_statistics(images), rtol=1e-6)


def test_chunks_do_not_show(monkeypatch):
    images = np.random.default_rng(3).normal(size=(7, 1, 4, 4))
    whole = band_statistics(images)
    monkeypatch.setattr(statistics, "CHUNK", 2)
    np.testing.assert_array_equal(band_statistics(images), whole)


def test_no_images_give_no_rows_of_the_right_width():
    assert band_statistics(np.empty((0, 3, 4, 4))).shape == (0, 27)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 3, 0, 8), (2, 0, 8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(BadSourceError, match=r"\(B, C, H, W\)"):
        band_statistics(np.zeros(shape))


def test_validity_of_another_shape_is_refused():
    with pytest.raises(BadSourceError, match="shape of the images"):
        band_statistics(np.zeros((2, 3, 4, 4)), valid=np.ones((2, 1, 4, 4), bool))
