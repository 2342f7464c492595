"""A sensor added to a trained encoder by its row of the table alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from msgfm import Encoder, EncoderConfig
from msgfm.adapt import _nearest_bands, with_sensor
from msgfm.sensors import bands_of
from recipes.landsat import SITES, _retrieval, site

NAMES = {"SR_B1": "B01", "SR_B2": "B02", "SR_B3": "B03", "SR_B4": "B04", "SR_B5": "B8A",
         "SR_B6": "B11", "SR_B7": "B12"}  # fmt: skip


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Encoder(
        EncoderConfig(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), window=4, experts=2)
    ).eval()


def test_each_landsat_band_takes_the_sentinel_band_of_its_wavelength():
    sentinel = bands_of("s2")
    found = [sentinel[i].name for i in _nearest_bands("l8", "s2")]
    assert dict(zip([band.name for band in bands_of("l8")], found, strict=True)) == NAMES


@pytest.mark.parametrize("like", [None, "s2"])
def test_the_old_sensors_are_read_as_before(encoder, like):
    image = {"s2": np.random.default_rng(0).uniform(0.05, 0.3, (2, 12, 32, 32))}
    larger = with_sensor(encoder, "l8", like)
    assert set(larger.config.sensors) == {*encoder.config.sensors, "l8"}
    torch.testing.assert_close(larger.embed(image), encoder.embed(image), rtol=0, atol=0)


def test_a_borrowed_embedding_reads_landsat_as_a_subset_of_sentinel_bands(encoder):
    """Equal once each band is put on the typical mean and spread of its own sensor."""
    rng = np.random.default_rng(0)
    old, new = bands_of("s2"), bands_of("l8")
    near = [old[i] for i in _nearest_bands("l8", "s2")]
    standard = rng.uniform(-1, 1, (2, len(new), 32, 32))

    def physical(bands):
        mean, std = (np.array([getattr(b, k) for b in bands]) for k in ("mean", "std"))
        return standard * std[:, None, None] + mean[:, None, None]

    as_landsat = with_sensor(encoder, "l8", "s2").embed(
        {"l8": physical(new)}, gsd_m={"l8": 30.0}, day={"l8": 100.0}
    )
    as_sentinel = encoder.embed(
        {"s2": physical(near)},
        bands={"s2": [band.name for band in near]},
        gsd_m={"s2": 30.0},
        day={"s2": 100.0},
    )
    torch.testing.assert_close(as_landsat, as_sentinel, rtol=1e-3, atol=1e-3)


def test_an_encoder_that_has_the_sensor_already_is_refused(encoder):
    with pytest.raises(ValueError, match="already reads l8"):
        with_sensor(with_sensor(encoder, "l8"), "l8")


def test_retrieval_counts_own_rows():
    base = np.eye(8)
    assert _retrieval(base, base) == {"top1": 1.0, "top5": 1.0}
    assert _retrieval(base, np.roll(base, 1, axis=0))["top1"] == 0.0


def test_the_sites_are_read(shared):
    for name in SITES:
        one = site(shared, name)
        known = one.batch.valid["l8"]
        assert len(one.batch) == len(one.labels) >= 5
        assert not known[:, 0].any()
        assert known[:, 1:].float().mean() > 0.99
        assert set(np.unique(one.labels)) == {0, 1, 2, 3}
        nir, red = (one.batch.values["l8"][:, i].mean() for i in (4, 3))
        assert nir > 2 * red
