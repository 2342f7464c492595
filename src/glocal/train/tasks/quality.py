"""How close an image is to the true one: the scores of restoration and sharpening.

Every function takes an estimate and the truth, (B, C, H, W), and returns one score per image,
(B,) float64: NaN where the image has nothing left to compare. ``valid`` is True where the truth
(and the estimate) is data; it is broadcast to (B, C, H, W). A cell that is not valid has no
influence, whatever it holds; a valid cell that is not finite is an error.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, minimum_filter

from glocal.errors import BadSourceError

WINDOW, SIGMA = 11, 1.5
"""Window in pixels and standard deviation of its Gaussian weights (Wang et al. 2004)."""

TRUNCATE = 3.5
"""Standard deviations to the rim of that window: 3.5 * 1.5 rounds to 5 pixels on each side."""

K1, K2 = 0.01, 0.03

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def mae(estimate: ArrayLike, truth: ArrayLike, valid: ArrayLike | None = None) -> Floats:
    """Return the mean absolute difference over valid cells, in the unit of the images.

    >>> mae([[[[0.5, 0.1]]]], [[[[0.25, 9.0]]]], [[[[True, False]]]])
    array([0.25])
    """
    a, b, known = _checked(estimate, truth, valid)
    return _ratio(np.abs(a - b).sum(axis=(1, 2, 3)), known.sum(axis=(1, 2, 3)))


def psnr(
    estimate: ArrayLike,
    truth: ArrayLike,
    valid: ArrayLike | None = None,
    *,
    data_range: float = 1.0,
) -> Floats:
    """Return the peak signal-to-noise ratio in decibels, over the valid cells of all bands.

    ``data_range`` is the span of possible values: 1 for reflectance. Equal images have ``inf``.

    >>> psnr([[[[0.5, 0.1]]]], [[[[0.4, 0.0]]]]).round(3)
    array([20.])
    """
    a, b, known = _checked(estimate, truth, valid)
    mse = _ratio(np.square(a - b).sum(axis=(1, 2, 3)), known.sum(axis=(1, 2, 3)))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(_positive(data_range, "data_range") ** 2 / mse))


def ssim(
    estimate: ArrayLike,
    truth: ArrayLike,
    valid: ArrayLike | None = None,
    *,
    data_range: float = 1.0,
) -> Floats:
    """Return the mean structural similarity, at most 1.

    The mean over windows of 11 pixels (Gaussian weights, standard deviation 1.5) that lie inside
    the image and touch no invalid cell, over all bands together.

    Raises
    ------
    BadSourceError
        The image is smaller than the window.

    Wang, Bovik, Sheikh & Simoncelli (2004), IEEE Trans. Image Processing 13(4), 600-612.
    """
    a, b, known = _checked(estimate, truth, valid)
    if min(a.shape[2:]) < WINDOW:
        raise BadSourceError(
            f"ssim needs images of at least {WINDOW} x {WINDOW} pixels, got {a.shape[2:]}; "
            "use psnr or mae for smaller ones"
        )
    c1, c2 = np.square([K1, K2]) * _positive(data_range, "data_range") ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    cov = _blur(a * b) - mean_a * mean_b
    alike = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    alike /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    whole = minimum_filter(known, size=(1, 1, WINDOW, WINDOW), mode="constant", cval=0)
    return _ratio((alike * whole).sum(axis=(1, 2, 3)), whole.sum(axis=(1, 2, 3)))


def sam(estimate: ArrayLike, truth: ArrayLike, valid: ArrayLike | None = None) -> Floats:
    """Return the mean spectral angle in degrees, 0 to 180.

    The mean over pixels whose bands are all valid and whose two spectra are not zero.

    Raises
    ------
    BadSourceError
        There is a single band: its angle says nothing.

    Kruse et al. (1993), Remote Sensing of Environment 44, 145-163. The angle is computed by the
    half-angle formula of Kahan (2006), which is exact for equal spectra where arccos is not.
    """
    a, b, known = _checked(estimate, truth, valid)
    if a.shape[1] < 2:
        raise BadSourceError("the spectral angle needs at least 2 bands, got 1; use mae")
    long_a, long_b = (np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    used = known.all(axis=1) & (long_a > 0)[:, 0] & (long_b > 0)[:, 0]
    p, q = a * long_b, b * long_a
    half = np.arctan2(np.linalg.norm(p - q, axis=1), np.linalg.norm(p + q, axis=1))
    return _ratio(np.degrees(2 * half * used).sum(axis=(1, 2)), used.sum(axis=(1, 2)))


def ergas(
    estimate: ArrayLike, truth: ArrayLike, valid: ArrayLike | None = None, *, ratio: float
) -> Floats:
    """Return the relative dimensionless global error of a sharpened image, 0 is best.

    ``100 / ratio * sqrt(mean over bands of (RMSE / mean of the truth)²)``; ``ratio`` is the coarse
    pixel size over the fine one, 2 for 20 m sharpened to 10 m. Bands without a valid cell are
    left out.

    Raises
    ------
    BadSourceError
        The mean of a band of the truth is 0: a relative error does not exist.

    Wald (2000), Quality of high resolution synthesised images: is there a simple criterion?
    """
    a, b, known = _checked(estimate, truth, valid)
    count = known.sum(axis=(2, 3))
    mse = _ratio(np.square(a - b).sum(axis=(2, 3)), count)
    mean = _ratio(b.sum(axis=(2, 3)), count)
    if (mean == 0).any():
        raise BadSourceError("ergas divides by the mean of each true band, and one of them is 0")
    relative = np.where(count > 0, mse / mean**2, 0).sum(axis=1)
    return np.asarray(
        100 / _positive(ratio, "ratio") * np.sqrt(_ratio(relative, (count > 0).sum(axis=1)))
    )


def scores(
    estimate: ArrayLike,
    truth: ArrayLike,
    valid: ArrayLike | None = None,
    *,
    ratio: float | None = None,
) -> dict[str, float]:
    """Return every score, each the mean over the images that have one.

    ``ergas`` is there when its ``ratio`` is given. A score that no image has is NaN.
    """
    each = {
        "mae": mae(estimate, truth, valid),
        "psnr": psnr(estimate, truth, valid),
        "ssim": ssim(estimate, truth, valid),
    }
    if np.shape(truth)[1] > 1:
        each["sam"] = sam(estimate, truth, valid)
    if ratio is not None:
        each["ergas"] = ergas(estimate, truth, valid, ratio=ratio)
    known = {name: values[~np.isnan(values)] for name, values in each.items()}
    return {name: float(one.mean()) if one.size else float("nan") for name, one in known.items()}


def _checked(
    estimate: ArrayLike, truth: ArrayLike, valid: ArrayLike | None
) -> tuple[Floats, Floats, Bools]:
    """Return both images as float64, 0 where invalid, and the mask, all (B, C, H, W)."""
    a, b = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    if a.shape != b.shape or a.ndim != 4 or 0 in a.shape:
        raise BadSourceError(
            f"estimate and truth must both be (B, C, H, W), not empty; got {a.shape} and {b.shape}"
        )
    mask = True if valid is None else np.asarray(valid)
    if not np.issubdtype(np.asarray(mask).dtype, np.bool_):
        raise BadSourceError("valid must be boolean: True where there is data")
    try:
        known = np.broadcast_to(mask, a.shape)
    except ValueError as error:
        raise BadSourceError(
            f"valid of shape {np.shape(mask)} does not fit images of {a.shape}"
        ) from error
    for name, image in (("estimate", a), ("truth", b)):
        if not np.isfinite(image[known]).all():
            raise BadSourceError(f"the {name} has valid cells that are not finite; mark them")
    return np.where(known, a, 0), np.where(known, b, 0), known


def _positive(value: float, name: str) -> float:
    if not (np.isfinite(value) and value > 0):
        raise BadSourceError(f"{name} must be a number above 0, got {value}")
    return float(value)


def _ratio(total: Floats, count: NDArray[np.intp]) -> Floats:
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _blur(image: Floats) -> Floats:
    return np.asarray(gaussian_filter(image, (0, 0, SIGMA, SIGMA), truncate=TRUNCATE))
