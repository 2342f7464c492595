"""Tests on the reflectance of single cells that several rooms make."""

from __future__ import annotations

import numpy as np

from glocal.core.typing import Bools, Layers


def normalised_difference(a: Layers, b: Layers) -> Layers:
    """Return (a - b) / (a + b); NaN where a band is NaN, which no test passes."""
    return np.asarray((a - b) / np.maximum(a + b, np.float32(1e-4)))


def shows_water(red: Layers, nir: Layers) -> Bools:
    """Return cells that pass the water test of Fmask (Zhu & Woodcock 2012, equation 5)."""
    ndvi = normalised_difference(nir, red)
    return np.asarray(((ndvi < 0.01) & (nir < 0.11)) | ((ndvi < 0.1) & (nir < 0.05)))
