"""EuroSAT RGB (Helber et al. 2019, MIT): ten scene classes, split by geographic blocks.

The jpg files are Sentinel-2 red, green and blue stretched to bytes, so they are pictures
(``rgb``, 0-1), not reflectance: peers that take Sentinel-2 in reflectance can't be fed with them.
Blocks of half a degree are dealt with seed 0; the shipped weights have seen no picture of the
test part, but pictures of the other two.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from glocal.train.tasks.classification import classify
from glocal.train.tasks.dense import Settings
from msgfm import Encoder

__all__ = ["NETWORK", "TUNING", "eurosat"]

NETWORK = Settings(steps=600, batch=64, rate=2e-3)
"""Of the network from scratch: 38,400 pictures, about five epochs of the training subset."""

TUNING = Settings(steps=100, batch=32, rate=1e-3, encoder_rate=2e-4)
"""Of fine-tuning, at a reduced scale: 3,200 pictures, not half an epoch."""


def eurosat(
    data: Path,
    encoder: Encoder,
    *,
    seeds: int = 3,
    limit: int | None = None,
    learned: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Compare an encoder with its floors on EuroSAT; see `classify.run`.

    Parameters
    ----------
    data
        Folder with ``eurosat_rgb_open.zip`` and ``eurosat_lonlat.csv``.
    limit
        Pictures per class; ``None`` takes all.
    learned
        Also learn a network from scratch and fine-tune, which takes many times longer.
    """
    return classify.run(
        data / "eurosat_rgb_open.zip",
        encoder,
        table=data / "eurosat_lonlat.csv",
        gsd_m=10,
        seeds=seeds,
        limit=limit,
        network=NETWORK if learned else None,
        tuning=TUNING if learned else None,
        note=note,
    )
