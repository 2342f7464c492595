from __future__ import annotations

import numpy as np
import pytest

from glocal.core.chip import Chip
from glocal.core.interval import Interval
from glocal.core.sensor import sensor
from glocal.errors import UnknownSensorError
from glocal.testing import grid, provenance_of

BANDS = tuple(sensor("sentinel2-l1c").band(name) for name in ("red", "nir"))


def chip(**more):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    content = {
        "values": values,
        "valid": values != 5,
        "bands": BANDS,
        "geobox": grid(3, 4),
        "interval": Interval.of_year(2020),
        "provenance": provenance_of("it"),
    }
    return Chip(**{**content, **more})


def test_bands_are_found_by_either_name_with_nan_where_invalid():
    one = chip()
    np.testing.assert_array_equal(one.band("red"), one.band(BANDS[0].name))
    assert np.isnan(one.band("red")).sum() == 1
    assert one.has("red", BANDS[1].name)
    assert not one.has("red", "blue")
    with pytest.raises(UnknownSensorError, match="no band 'blue'"):
        one.band("blue")


def test_invalid_cells_may_hold_anything_and_valid_ones_may_not():
    values = np.full((2, 3, 4), np.nan, np.float32)
    assert np.isnan(chip(values=values, valid=np.zeros((2, 3, 4), bool)).band("red")).all()
    with pytest.raises(ValueError, match="finite"):
        chip(values=values)


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": np.zeros((2, 4, 3), np.float32)},
        {"valid": np.ones((1, 3, 4), bool)},
        {"valid": np.ones((2, 3, 4), np.uint8)},
        {"bands": BANDS[:1]},
    ],
)
def test_shapes_are_checked(wrong):
    with pytest.raises(ValueError, match="Chip"):
        chip(**wrong)


def test_a_chip_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        chip().values[0, 0, 0] = 1
