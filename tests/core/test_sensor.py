from __future__ import annotations

import pytest

from glocal.core.sensor import Band, Derived, Optical, Radar, Sensor, sensor, sensor_names
from glocal.errors import UnknownSensorError
from msgfm.sensors import sensor as model_sensor


@pytest.mark.parametrize("name", sensor_names())
def test_every_row_of_the_table_is_plausible(name):
    one = sensor(name)
    assert one.title
    for band in one.bands:
        assert one.band(band.name) is band
        assert 0 < band.gsd_m <= 1000
        assert band.scale != 0
        assert band.unit
        if isinstance(band.response, Optical):
            assert 0.3 < band.response.center_um < 15
            assert 0 < band.response.fwhm_um < band.response.center_um
        elif isinstance(band.response, Radar):
            assert 0.3 < band.response.frequency_ghz < 40
            assert set(band.response.polarization) <= set("VH")
        else:
            assert isinstance(band.response, Derived)


def test_unknown_names_list_the_known_ones():
    first = sensor_names()[0]
    with pytest.raises(UnknownSensorError, match=first):
        sensor("no such sensor")
    with pytest.raises(UnknownSensorError, match="it has"):
        sensor(first).band("no such band")


def test_bands_are_checked():
    good = {"name": "a", "response": Derived(quantity="height"), "gsd_m": 1.0, "unit": "m"}
    band = Band(**good)
    with pytest.raises(ValueError, match="gsd_m"):
        Band(**{**good, "gsd_m": 0.0})
    with pytest.raises(ValueError, match="valid_min"):
        Band(**good, valid_min=1.0, valid_max=1.0)
    with pytest.raises(ValueError, match="unique"):
        Sensor(name="s", title="S", bands=(band, band))
    with pytest.raises(ValueError, match="not empty"):
        Sensor(name="s", title="S", bands=())


@pytest.mark.parametrize("name", [name for name in sensor_names() if sensor(name).short])
def test_the_encoder_means_the_same_bands(name):
    ours, theirs = sensor(name), model_sensor(sensor(name).short)
    assert tuple(band.name for band in ours.bands) in theirs.levels
    for band in ours.bands:
        other = theirs.band(band.name)
        for field in ["common_name", "gsd_m", "unit", "scale", "offset", "valid_min", "valid_max"]:
            assert getattr(band, field) == getattr(other, field), (band.name, field)
        assert getattr(band.response, "center_um", None) == other.wavelength_um
