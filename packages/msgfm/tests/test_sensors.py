"""The table of sensors: every row can be used, and mistakes in a row are refused."""

from importlib import resources

import pytest

from msgfm.errors import SensorError
from msgfm.sensors import Band, Sensor, sensor


@pytest.mark.parametrize("name", ["rgb", "s2", "sar", "dsm", "l8"])
def test_every_row_of_the_table_is_plausible(name):
    one = sensor(name)
    assert one.title
    for band in one.bands:
        assert one.band(band.name) is band
        assert 0 < band.gsd_m <= 1000
        assert band.scale != 0
        assert band.valid_min < band.mean < band.valid_max
        assert band.unit in ("1", "dB", "m")
        assert (band.wavelength_um is not None) == (band.unit == "1")
        assert band.wavelength_um is None or 0.3 < band.wavelength_um < 15
    assert one.levels[0] == tuple(band.name for band in one.bands)
    assert all(set(level) < set(one.levels[0]) for level in one.levels[1:])


def test_unknown_names_list_the_known_ones():
    with pytest.raises(SensorError, match="known: dsm, l8, rgb, s2, sar"):
        sensor("no such sensor")
    with pytest.raises(SensorError, match="it has: VV, VH"):
        sensor("sar").band("no such band")


def test_bands_are_checked():
    good = {"name": "a", "gsd_m": 1.0, "unit": "m", "valid_min": 0, "valid_max": 9, "mean": 0}
    band = Band(**good, std=1.0)
    for wrong in ({"std": 0.0}, {"gsd_m": 0.0}, {"valid_min": 9.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Band(**{**good, "std": 1.0, **wrong})
    with pytest.raises(ValueError, match="unique"):
        Sensor(name="s", title="S", bands=(band, band))
    with pytest.raises(ValueError, match="not empty"):
        Sensor(name="s", title="S", bands=())


@pytest.mark.parametrize("path", ["py.typed", "sensors.toml", "weights/nano/manifest.json"])
def test_data_files_come_with_the_package(path):
    assert resources.files("msgfm").joinpath(path).is_file()
