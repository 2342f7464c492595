"""Clouds: told from a classification or from spectra; ice, roofs and water are none."""

from __future__ import annotations

import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from glocal.core.chip import Chip
from glocal.core.interval import Interval
from glocal.core.provenance import Provenance
from glocal.core.sensor import sensor
from glocal.errors import BadSourceError
from glocal.sources.chips.read import read_image
from glocal.sources.images.clouds import CLEAR, CLOUD, NO_DATA, SHADOW, clear_cells, require_clear

BANDS = ("B02", "B03", "B04", "B08", "B10", "B11", "B12")
SPECTRA = {  # top of atmosphere, typical
    "soil": (0.14, 0.13, 0.13, 0.19, 0.001, 0.22, 0.15),
    "forest": (0.11, 0.09, 0.06, 0.25, 0.001, 0.12, 0.05),
    "water": (0.13, 0.09, 0.06, 0.04, 0.001, 0.01, 0.01),
    "ice": (0.45, 0.45, 0.43, 0.35, 0.001, 0.05, 0.04),
    "cloud": (0.45, 0.44, 0.45, 0.5, 0.004, 0.4, 0.3),
    "cirrus": (0.17, 0.15, 0.15, 0.2, 0.02, 0.2, 0.13),
    "sand": (0.25, 0.33, 0.42, 0.5, 0.001, 0.6, 0.5),
}


def chip(cover, sensor_name="sentinel2-l1c", bands=BANDS, seed=0):
    """Return a chip of a map of class names, shape (H, W), with noise."""
    box = GeoBox.from_bbox(
        (330000, 5820000, 330000 + 10 * cover.shape[1], 5820000 + 10 * cover.shape[0]),
        "EPSG:32633",
        resolution=10,
    )
    values = np.zeros((len(bands), *cover.shape), np.float32)
    for name in np.unique(cover):
        for i, band in enumerate(bands):
            values[i][cover == name] = SPECTRA[name][BANDS.index(band)]
    values *= np.random.default_rng(seed).normal(1, 0.03, values.shape).astype(np.float32)
    return Chip(
        values=values,
        valid=np.ones(values.shape, bool),
        bands=tuple(sensor(sensor_name).band(name) for name in bands),
        geobox=box,
        interval=Interval.parse("2017-02-16"),
        provenance=Provenance(activity="make", agent="test", roots=frozenset({"S2:test"})),
    )


def scene():
    cover = np.full((120, 160), "soil", dtype="U8")
    cover[:, :50] = "forest"
    cover[90:, :] = "water"
    return cover


def test_a_clear_scene_stays_clear():
    clear, kind = clear_cells(chip(scene()))
    assert clear.mean() > 0.995
    assert set(np.unique(kind)) <= {CLEAR, CLOUD}


@pytest.mark.parametrize("what", ["ice", "water", "sand"])
def test_bright_and_dark_ground_is_no_cloud(what):
    cover = scene()
    cover[20:50, 80:120] = what
    clear, _ = clear_cells(chip(cover))
    assert clear[24:46, 84:116].mean() > 0.98


@pytest.mark.parametrize("what", ["cloud", "cirrus"])
def test_clouds_are_found_with_their_edge(what):
    cover = scene()
    cover[20:50, 80:120] = what
    _, kind = clear_cells(chip(cover))
    assert (kind[20:50, 80:120] == CLOUD).mean() > 0.98
    assert (kind == CLOUD).mean() < 0.12


def test_roofs_are_too_small_to_be_clouds():
    cover = scene()
    cover[30:34, 100:105] = "cloud"
    clear, _ = clear_cells(chip(cover))
    assert clear[30:34, 100:105].all()


def test_without_short_wave_infrared():
    cover = scene()
    cover[20:50, 80:120] = "cloud"
    _, kind = clear_cells(chip(cover, bands=("B02", "B03", "B04", "B08")))
    assert (kind[20:50, 80:120] == CLOUD).mean() > 0.98


def test_a_shadow_is_found_away_from_the_morning_sun():
    cover = np.full((200, 200), "soil", dtype="U8")
    cover[120:160, 120:160] = "cloud"
    one = chip(cover)
    values = one.values.copy()
    values[:, 60:100, 95:135] *= 0.45  # 60 rows north, 25 columns west of the cloud
    shaded = Chip(
        values=values, valid=one.valid, bands=one.bands, geobox=one.geobox,
        interval=one.interval, provenance=one.provenance,
    )  # fmt: skip
    _, kind = clear_cells(shaded)
    assert (kind[62:98, 97:133] == SHADOW).mean() > 0.9
    assert (kind == SHADOW).sum() < 50 * 50
    assert not (clear_cells(one)[1] == SHADOW).any()


def test_all_cloud_is_refused():
    _, kind = clear_cells(chip(np.full((60, 60), "cloud")))
    assert (kind == CLOUD).all()
    with pytest.raises(BadSourceError, match=r"image: 0% clear .*100% cloud.*another date"):
        require_clear("image", kind)
    require_clear("image", clear_cells(chip(scene()))[1])


def test_scene_classification_decides_where_given():
    one = chip(scene())
    scl = np.full(scene().shape, 4, np.uint8)
    scl[:10], scl[10:20], scl[20:30], scl[30:40], scl[40:50] = 8, 10, 3, 0, 11
    clear, kind = clear_cells(one, scl)
    assert [int(kind[row, 0]) for row in (5, 15, 25, 35, 45, 55)] == [
        CLOUD, CLOUD, SHADOW, NO_DATA, CLEAR, CLEAR,
    ]  # fmt: skip
    assert (clear == (kind == CLEAR)).all()


def test_invalid_cells_are_no_data_and_change_nothing_else():
    one = chip(scene())
    valid = np.ones(one.values.shape, bool)
    valid[2, 60:80, 100:120] = False
    values = one.values.copy()
    values[2, 60:80, 100:120] = np.nan
    holed = Chip(
        values=values, valid=valid, bands=one.bands, geobox=one.geobox, interval=one.interval,
        provenance=one.provenance,
    )  # fmt: skip
    _, kind = clear_cells(holed)
    assert (kind[60:80, 100:120] == NO_DATA).all()
    assert (np.delete(kind, np.s_[60:80], axis=0) == CLEAR).mean() > 0.995


def test_real_cloudy_and_clear_pair(shared):
    folder = shared / "sen12mscr-2"
    box_bands = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10"]
    box_bands += ["B11", "B12"]
    share = {}
    for name in ("s2_cloudy", "s2_cloudfree"):
        path = next((folder / name).glob("*.tif"))
        box = GeoBox.from_bbox((704400, 5629000, 706800, 5631200), "EPSG:32631", resolution=10)
        one = read_image(
            path, "sentinel2", box, bands=box_bands, interval=Interval.parse("2018-01-15")
        )
        share[name] = clear_cells(one)[0].mean()
    assert share["s2_cloudfree"] > 0.95
