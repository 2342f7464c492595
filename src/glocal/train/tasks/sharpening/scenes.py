"""What is sharpened: the task as a value, scenes, and scenes made for training and scores.

By Wald's protocol everything is first degraded by the ratio; the original coarse bands are then
the truth. Arrays are (C, H, W) in the unit of the sensor, NaN where there is no data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glocal.errors import BadSourceError, ConfigError
from glocal.train.tasks.sharpening.floors import FLOORS, Floats, degrade


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Which bands of a sensor are sharpened with which."""

    sensor: str
    """Short name: the encoder's input."""

    fine: tuple[str, ...]
    """Bands at full resolution; one name that the sensor lacks is a panchromatic band."""

    coarse: tuple[str, ...]
    """Bands to be sharpened."""

    ratio: int
    """Coarse pixel size over the fine one, at least 2."""

    base: str = "hypersharpening"
    """Classical method, of `FLOORS`, whose result a network corrects."""

    def __post_init__(self) -> None:
        if self.ratio < 2 or not self.fine or not self.coarse:
            raise ConfigError("sharpening needs fine bands, coarse bands and a ratio of 2 or more")
        if self.base not in FLOORS:
            raise ConfigError(f"base must be one of {', '.join(FLOORS)}; got {self.base!r}")

    @property
    def has_pan(self) -> bool:
        """True where the fine band is panchromatic, not a band of the sensor."""
        return self.fine == ("pan",)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BandPair:
    """One place: fine bands, coarse bands and, for training and scores, the sharp truth."""

    name: str
    fine: Floats
    """(F, H, W)."""

    coarse: Floats
    """(C, H / ratio, W / ratio); its upper left corner is that of ``fine``."""

    truth: Floats | None = None
    """(C, H, W)."""

    gsd_m: float
    """Pixel size of ``fine`` in metres."""

    def check(self, task: Task) -> None:
        """Raise BadSourceError if the arrays do not fit each other and the task."""
        height, width = self.fine.shape[1:]
        small = (len(task.coarse), height // task.ratio, width // task.ratio)
        expected = {
            "fine": (len(task.fine), small[1] * task.ratio, small[2] * task.ratio),
            "coarse": small,
            "truth": (len(task.coarse), height, width),
        }
        for name, shape in expected.items():
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise BadSourceError(
                    f"scene {self.name}: {name} must be {shape} at ratio {task.ratio}, "
                    f"got {array.shape}"
                )

    def window(self, rows: slice, columns: slice, ratio: int) -> BandPair:
        """Return a part, given in coarse pixels."""
        big = tuple(slice(s.start * ratio, s.stop * ratio) for s in (rows, columns))
        return BandPair(
            name=self.name,
            fine=self.fine[:, *big],
            coarse=self.coarse[:, rows, columns],
            truth=None if self.truth is None else self.truth[:, *big],
            gsd_m=self.gsd_m,
        )


def wald(name: str, fine: Floats, coarse: Floats, *, ratio: int, gsd_m: float) -> BandPair:
    """Degrade fine and coarse bands by ``ratio``; the coarse bands become the truth.

    ``gsd_m`` is the pixel size of ``fine`` before. Rims that do not divide are cut off.
    """
    rows, columns = (n // ratio for n in coarse.shape[1:])
    truth = coarse[:, : rows * ratio, : columns * ratio]
    fine = fine[:, : rows * ratio**2, : columns * ratio**2]
    return BandPair(
        name=name,
        fine=degrade(fine, ratio),
        coarse=degrade(truth, ratio),
        truth=truth,
        gsd_m=gsd_m * ratio,
    )


def with_pan(
    name: str, sharp: Floats, weights: Sequence[float], *, ratio: int, gsd_m: float
) -> BandPair:
    """Make a scene whose panchromatic band is SYNTHETIC: a weighted mean of the true bands.

    A real panchromatic band sees other wavelengths, with noise of its own: scores on such a scene
    are optimistic, and only comparable among themselves.
    """
    share = np.asarray(weights, np.float32) / np.sum(weights)
    rows, columns = (n // ratio * ratio for n in sharp.shape[1:])
    truth = sharp[:, :rows, :columns].astype(np.float32)
    pan = np.tensordot(share, truth, 1)[None]
    return BandPair(name=name, fine=pan, coarse=degrade(truth, ratio), truth=truth, gsd_m=gsd_m)
