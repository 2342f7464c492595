"""Spectral rules: physics where it speaks, silence elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from glocal.core.chip import Chip
from glocal.core.interval import Interval
from glocal.core.legends import legend
from glocal.core.provenance import Provenance
from glocal.core.sensor import sensor
from glocal.errors import BadSourceError, GridMismatchError
from glocal.sources.rules.thresholds import SYMBOLS, classify, observe_rules

WORLDCOVER = legend("worldcover")
SPECTRA = {  # blue, green, red, nir, short-wave infrared
    "water": (0.06, 0.05, 0.03, 0.02, 0.01),
    "dense_vegetation": (0.03, 0.06, 0.03, 0.4, 0.18),
    "sparse_vegetation": (0.06, 0.09, 0.1, 0.2, 0.25),
    "bare_or_built": (0.12, 0.15, 0.18, 0.22, 0.3),
    "snow_or_ice": (0.8, 0.8, 0.8, 0.7, 0.1),
    "": (0.04, 0.04, 0.04, 0.05, 0.06),  # shadow: neither water nor anything else
}


def chip(bands=("B02", "B03", "B04", "B08", "B11"), level="l2a"):
    rows = np.array(list(SPECTRA.values()), np.float32)
    order = ("B02", "B03", "B04", "B08", "B11")
    values = np.stack([np.tile(rows[:, order.index(name)], (3, 1)) for name in bands])
    box = GeoBox.from_bbox((330000, 5820000, 330060, 5820030), "EPSG:32633", resolution=10)
    return Chip(
        values=values,
        valid=np.ones(values.shape, bool),
        bands=tuple(sensor(f"sentinel2-{level}").band(name) for name in bands),
        geobox=box,
        interval=Interval.parse("2019-07-01"),
        provenance=Provenance(
            activity="read", agent="ESA", roots=frozenset({"S2:x"}), licences={"Copernicus"}
        ),
    )


def named(symbols):
    return [("", *SYMBOLS)[i] for i in symbols[0]]


@pytest.mark.parametrize("level", ["l1c", "l2a"])
def test_every_symbol(level):
    assert named(classify(chip(level=level))) == list(SPECTRA)


def test_without_short_wave_infrared_white_abstains():
    found = named(classify(chip(bands=("B03", "B04", "B08"))))
    assert found == [name if name != "snow_or_ice" else "" for name in SPECTRA]


def test_observation():
    one = chip()
    clear = np.ones(one.geobox.shape, bool)
    clear[1] = False
    observed = observe_rules(one, clear, one.geobox, WORLDCOVER)
    assert observed.support == "cells"
    assert observed.crosswalk.symbols == SYMBOLS
    assert not observed.symbols[1].any()
    assert observed.provenance.shares_root(one.provenance)
    assert observed.provenance.activity == "classify by spectral rules"
    assert observed.provenance.licences == {"Copernicus"}
    row = observed.crosswalk.matrix[0]
    assert WORLDCOVER.names[row.argmax()] == "water"


def test_invalid_cells_abstain():
    one = chip()
    valid = np.ones(one.values.shape, bool)
    valid[2, 0, 0] = False
    holed = Chip(
        values=one.values, valid=valid, bands=one.bands, geobox=one.geobox,
        interval=one.interval, provenance=one.provenance,
    )  # fmt: skip
    assert classify(holed)[0, 0] == 0


def test_legend_without_snow_learns_little_from_it():
    target = WORLDCOVER.subset(["tree", "grass", "crop", "water"])
    observed = observe_rules(chip(), np.ones((3, 6), bool), chip().geobox, target)
    assert observed.crosswalk.confidence[4] < 0.2
    assert target.names[observed.crosswalk.matrix[4].argmax()] == "water"


def test_missing_bands_and_other_grids_are_refused():
    with pytest.raises(BadSourceError, match="lacks nir"):
        classify(chip(bands=("B02", "B03", "B04")))
    one = chip()
    with pytest.raises(GridMismatchError, match="grid of the area"):
        observe_rules(one, np.ones((2, 2), bool), one.geobox, WORLDCOVER)
