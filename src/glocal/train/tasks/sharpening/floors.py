"""Degrading, enlarging, and the classical ways of pan-sharpening that a network has to beat.

Every method is a function ``(fine (F, H, W), coarse (C, H / ratio, W / ratio), ratio)`` to the
sharpened bands (C, H, W), NaN where a band that it needs has no data.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from glocal.errors import BadSourceError

NYQUIST_GAIN = 0.3
"""Share of contrast that a sensor keeps at the Nyquist frequency of its own pixels, assumed."""

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def degrade(image: Floats, ratio: int) -> Floats:
    """Return (C, H / ratio, W / ratio) as a sensor of coarser pixels would see ``image``.

    A Gaussian point spread whose transfer function is 0.3 at the coarse Nyquist frequency, sampled
    at the centres of blocks of ``ratio`` pixels; its width follows from that,
    ``ratio / pi * sqrt(2 ln(1 / 0.3))`` pixels. At a rim or beside cells without data the weights
    that are left sum to 1. A block with a cell without data has none.

    Wald, Ranchin & Mangolini (1997), Photogramm. Eng. Remote Sens. 63(6), 691-699 (the protocol);
    Aiazzi et al. (2006), Photogramm. Eng. Remote Sens. 72(5), 591-596 (filters matched to the MTF).
    """
    count, height, width = image.shape
    if ratio < 1 or height % ratio or width % ratio:
        raise BadSourceError(f"{height} x {width} pixels do not divide by {ratio}; cut them first")
    known = np.isfinite(image)
    rows, columns = _weights(height, ratio), _weights(width, ratio).T
    total = rows @ np.where(known, image, 0) @ columns
    weight = rows @ known.astype(np.float64) @ columns
    blocks = known.reshape(count, height // ratio, ratio, width // ratio, ratio).all(axis=(2, 4))
    return np.where(blocks, total / np.maximum(weight, 1e-12), np.nan).astype(np.float32)


def enlarge(image: Floats, ratio: int) -> Floats:
    """Return (C, H * ratio, W * ratio) by bicubic interpolation, block centres kept in place."""
    large = functional.interpolate(
        torch.from_numpy(np.asarray(image, np.float32))[None],
        scale_factor=ratio,
        mode="bicubic",
        align_corners=False,
    )
    result: Floats = large[0].numpy()
    return result


def bicubic(fine: Floats, coarse: Floats, ratio: int) -> Floats:
    """Enlarge the coarse bands and leave the fine ones unused."""
    del fine
    return enlarge(coarse, ratio)


def brovey(fine: Floats, coarse: Floats, ratio: int) -> Floats:
    """Multiply by fine intensity over coarse intensity (Gillespie, Kahle & Walker 1987).

    Intensities are means over bands; the fine one gets mean and spread of the coarse one.
    """
    large = enlarge(coarse, ratio)
    smooth, sharp = _intensities(fine, large)
    return np.where(smooth > 0, large * sharp / np.maximum(smooth, 1e-6), large)


def gram_schmidt(fine: Floats, coarse: Floats, ratio: int) -> Floats:
    """Add the missing intensity, weighted by the covariance of each band with intensity.

    Laben & Brower (2000), US patent 6,011,875, in the form of Aiazzi, Baronti & Selva (2007),
    IEEE Trans. Geosci. Remote Sens. 45(10), 3230-3239.
    """
    large = enlarge(coarse, ratio)
    smooth, sharp = _intensities(fine, large)
    known = np.isfinite(smooth) & np.isfinite(large).all(axis=0)
    around = smooth[known] - smooth[known].mean()
    gain = large[:, known] @ around / max(float(around @ around), 1e-12)
    return np.asarray(large + gain[:, None, None] * (sharp - smooth), np.float32)


def hypersharpen(fine: Floats, coarse: Floats, ratio: int) -> Floats:
    """Add the details of the combination of fine bands that predicts each coarse band best.

    The combination is fitted by least squares at the coarse pixel size (Selva, Aiazzi, Butera,
    Chiarantini & Baronti 2015, IEEE JSTARS 8(6), 3008-3024).
    """
    low = degrade(fine, ratio)
    known = np.isfinite(low).all(axis=0) & np.isfinite(coarse).all(axis=0)
    columns = np.concatenate([low[:, known], np.ones((1, known.sum()), np.float32)]).T
    factors = np.linalg.lstsq(columns, coarse[:, known].T, rcond=None)[0][:-1]
    details = fine - enlarge(low, ratio)
    return np.asarray(enlarge(coarse, ratio) + np.tensordot(factors.T, details, 1), np.float32)


FLOORS: dict[str, Callable[[Floats, Floats, int], Floats]] = {
    "bicubic": bicubic,
    "Brovey": brovey,
    "Gram-Schmidt": gram_schmidt,
    "hypersharpening": hypersharpen,
}


def _weights(length: int, ratio: int) -> NDArray[np.float64]:
    """Return (length / ratio, length): each row the point spread of one coarse cell."""
    width = ratio / math.pi * math.sqrt(2 * math.log(1 / NYQUIST_GAIN))
    centres = (np.arange(length // ratio) + 0.5) * ratio - 0.5
    apart = np.abs(np.arange(length) - centres[:, None])
    spread = np.exp(-0.5 * (apart / width) ** 2) * (apart <= 4 * width)
    return np.asarray(spread / spread.sum(axis=1, keepdims=True))


def _intensities(fine: Floats, large: Floats) -> tuple[Floats, Floats]:
    """Return coarse intensity and fine intensity with its mean and spread, both (H, W)."""
    smooth, sharp = large.mean(axis=0), fine.mean(axis=0)
    known = np.isfinite(smooth) & np.isfinite(sharp)
    if not known.any():
        raise BadSourceError("fine and coarse bands have no cell with data in common")
    spread = smooth[known].std() / max(float(sharp[known].std()), 1e-12)
    return smooth, (sharp - sharp[known].mean()) * spread + smooth[known].mean()
