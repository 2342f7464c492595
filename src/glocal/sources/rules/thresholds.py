"""A classifier from physics alone: published thresholds on indices, or no answer.

=====================  ==================================================================
symbol                 test (reflectance; in this order)
=====================  ==================================================================
snow_or_ice            NDSI > 0.4, green > 0.1, NIR > 0.11 (Hall, Riggs & Salomonson 1995,
                       doi:10.1016/0034-4257(95)00137-P); needs the short-wave infrared
water                  NDWI > 0 (McFeeters 1996, doi:10.1080/01431169608948714) and the water
                       test of Fmask (Zhu & Woodcock 2012, doi:10.1016/j.rse.2011.10.028)
dense_vegetation       NDVI > 0.5, "fully vegetated" (Sobrino, Jimenez-Munoz & Paolini 2004,
                       doi:10.1016/j.rse.2004.02.003)
sparse_vegetation      NDVI 0.2 to 0.5, "mixed" (same source)
bare_or_built          NDVI < 0.2 (same source) and NIR > 0.11
=====================  ==================================================================

Everything else abstains: dark cells that only one water test accepts (shadow, wet soil,
asphalt), and cells that are not clear. Top-of-atmosphere NDVI is lower than at the
surface, so Level-1C leans to the lower class; fusion learns by how much.
"""

from __future__ import annotations

import numpy as np
from odc.geo.geobox import GeoBox

from glocal.core.chip import Chip
from glocal.core.legend import Legend
from glocal.core.legends import crosswalk_from_concepts
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.typing import Bools, Bytes
from glocal.errors import BadSourceError, GridMismatchError
from glocal.sources.chips.indices import normalised_difference, shows_water

SYMBOLS = ("water", "dense_vegetation", "sparse_vegetation", "bare_or_built", "snow_or_ice")
NEEDED = ("green", "red", "nir")

SHARES: dict[str, dict[str, float]] = {
    "water": {"water": 0.96, "wetland": 0.03, "bare": 0.01},
    "dense_vegetation": {"tree": 0.4, "crop": 0.28, "grass": 0.25, "shrub": 0.04, "wetland": 0.03},
    "sparse_vegetation": {"grass": 0.35, "crop": 0.32, "tree": 0.2, "shrub": 0.08, "wetland": 0.05},
    "bare_or_built": {"crop": 0.4, "built": 0.3, "bare": 0.2, "grass": 0.1},
    "snow_or_ice": {
        "snow": 0.8,
        "water": 0.1,
        "grass": 0.03,
        "crop": 0.03,
        "built": 0.02,
        "tree": 0.02,
    },
}
"""Prior shares of concepts; bare soil of fields is no built-up land."""

CONFIDENCE = {
    "water": 0.8,
    "dense_vegetation": 0.5,
    "sparse_vegetation": 0.4,
    "bare_or_built": 0.4,
    "snow_or_ice": 0.6,
}


def classify(chip: Chip) -> Bytes:
    """Return the symbol of every cell, shape (H, W), in 0..5 as `SYMBOLS` counts from 1.

    Raises ``BadSourceError``: a band that the tests need is missing.
    """
    lacking = [name for name in NEEDED if not chip.has(name)]
    if lacking:
        raise BadSourceError(
            f"spectral rules need the bands {', '.join(NEEDED)}; the image lacks "
            f"{', '.join(lacking)} (it has {', '.join(chip.band_names)})"
        )
    green, red, nir = (chip.band(name) for name in NEEDED)
    ndvi, ndwi = normalised_difference(nir, red), normalised_difference(green, nir)
    wet = shows_water(red, nir)
    symbols = np.zeros(nir.shape, np.uint8)
    symbols[(ndvi < 0.2) & (nir > 0.11)] = 4
    symbols[(ndvi >= 0.2) & (ndvi <= 0.5) & ~wet] = 3
    symbols[(ndvi > 0.5) & ~wet] = 2
    symbols[wet & (ndwi > 0)] = 1
    if chip.has("swir16"):
        ndsi = normalised_difference(green, chip.band("swir16"))
        symbols[(ndsi > 0.4) & (green > 0.1) & (nir > 0.11)] = 5
    else:  # white cells may be snow, cloud or roof: not to be told without this band
        symbols[(green > 0.3) & (ndvi < 0.1)] = 0
    return symbols


def observe_rules(
    chip: Chip, clear: Bools, geobox: GeoBox, legend: Legend, *, source: str = "rules"
) -> Observations:
    """Return the rules' statement of every clear cell of ``chip``; 0 where they abstain.

    The result shares all roots of the image: it is no witness independent of it.
    """
    if chip.geobox != geobox or clear.shape != tuple(geobox.shape):
        raise GridMismatchError(
            f"{source}: image {tuple(chip.geobox.shape)} and clear mask {clear.shape} must lie on "
            f"the grid of the area {tuple(geobox.shape)}; read the image onto it first"
        )
    return Observations(
        source=source,
        support="cells",
        geobox=geobox,
        symbols=np.where(clear, classify(chip), 0).astype(np.uint8),
        # Without snow in the legend, snow_or_ice says almost nothing: what lies below is not known.
        crosswalk=crosswalk_from_concepts(legend, SHARES, CONFIDENCE),
        phenomenon_time=chip.interval,
        provenance=Provenance.derive("classify by spectral rules", [chip.provenance]),
    )
