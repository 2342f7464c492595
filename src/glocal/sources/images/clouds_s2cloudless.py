"""Clouds by s2cloudless, an optional extra (its model is CC-BY-SA-4.0; never the default).

Import this file only after asking for it: ``pip install glocal[clouds]``.
"""

from __future__ import annotations

import numpy as np

from glocal.core.chip import Chip
from glocal.core.typing import Bools, Bytes
from glocal.errors import BadSourceError, MissingExtraError

try:
    from s2cloudless import S2PixelCloudDetector
except ImportError as error:
    raise MissingExtraError(
        "cloud method s2cloudless is not installed; run: pip install 'glocal[clouds]'"
    ) from error

BANDS = ("B01", "B02", "B04", "B05", "B08", "B8A", "B09", "B10", "B11", "B12")


def clear_cells_s2cloudless(chip: Chip, threshold: float = 0.4) -> tuple[Bools, Bytes]:
    """Return (clear, kind) as `glocal.sources.images.clouds.clear_cells` does; Level-1C only."""
    lacking = [name for name in BANDS if not chip.has(name)]
    if lacking:
        raise BadSourceError(f"s2cloudless needs Level-1C bands; missing: {', '.join(lacking)}")
    seen: Bools = np.asarray(chip.valid.all(axis=0))
    cell_m = abs(float(chip.geobox.resolution.x))
    detector = S2PixelCloudDetector(
        threshold=threshold,
        average_over=max(round(40 / cell_m), 1),
        dilation_size=max(round(20 / cell_m), 1),
    )
    stack = np.stack([np.nan_to_num(chip.band(name)) for name in BANDS], axis=-1)[None]
    cloud = detector.get_cloud_masks(stack)[0].astype(bool)
    kind = np.where(seen, np.where(cloud, 1, 0), 3).astype(np.uint8)
    return kind == 0, kind
