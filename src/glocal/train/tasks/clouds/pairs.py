"""Images under cloud with what lies below, real or simulated, and what simple rules make of it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from glocal.errors import BadSourceError
from msgfm.sensors import bands_of

BANDS = tuple(band.name for band in bands_of("s2"))
"""Order of the bands in every array here."""

CLOUDY_SCL = (3, 8, 9, 10)
"""Codes of the scene classification: shadow, cloud (medium, high probability), cirrus."""

ENOUGH = 200
"""Clear pixels of a place from which its own mean or regression is taken."""

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

MEAN = np.array([band.mean for band in bands_of("s2")], np.float32)
STD = np.array([band.std for band in bands_of("s2")], np.float32)
SAR_MEAN = np.array([band.mean for band in bands_of("sar")], np.float32)[:, None, None]
SAR_STD = np.array([band.std for band in bands_of("sar")], np.float32)[:, None, None]
_BRIGHT = np.array([1.1 if b < "B05" else 1.0 for b in BANDS], np.float32)
_BRIGHT[[BANDS.index("B11"), BANDS.index("B12")]] = (0.6, 0.45)
_BRIGHT[BANDS.index("B10")] = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """B places under cloud, and where known what lies below."""

    cloudy: Floats
    """(B, C, H, W) reflectance in the order of :data:`BANDS`, NaN where there is no data."""

    cloud: Bools
    """(B, H, W) True under cloud or in its shadow."""

    clear: Floats
    """(B, C, H, W) reflectance without cloud, NaN where it is not known."""

    sar: Floats
    """(B, 2, H, W) VV and VH in dB, NaN where there is no data."""

    day: Floats
    """(B,) day of year, NaN where unknown."""

    def __post_init__(self) -> None:
        count, _, *shape = self.cloudy.shape
        expected = {
            "cloudy": (count, len(BANDS), *shape),
            "cloud": (count, *shape),
            "clear": (count, len(BANDS), *shape),
            "sar": (count, 2, *shape),
            "day": (count,),
        }
        for name, wanted in expected.items():
            found = getattr(self, name).shape
            if found != wanted:
                raise BadSourceError(f"Pairs.{name} must have shape {wanted}, got {found}")

    def __len__(self) -> int:
        return len(self.cloudy)

    def rows(self, index: slice | NDArray[np.integer]) -> Pairs:
        """Return some of the places."""
        return Pairs(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def without_sar(self) -> Pairs:
        """Return the same places as if no radar had looked."""
        return replace(self, sar=np.full_like(self.sar, np.nan))

    @classmethod
    def join(cls, *parts: Pairs) -> Self:
        """Return all places of several."""
        names = [f.name for f in fields(cls)]
        return cls(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


def simulate(
    clear: Floats, sar: Floats, day: Floats, *, seed: int, cover: tuple[float, float] = (0.1, 1.0)
) -> Pairs:
    """Return clear images under simulated clouds.

    The model is simple on purpose: opacity follows a smooth random field above a threshold
    that gives the wanted cover; a cloud is bright, a little less so in the short-wave
    infrared; its shadow is the same field, shifted, and darkens. There is no haze, no
    parallax and no multiple scattering. The share under cloud is drawn uniformly from the two
    numbers of ``cover``; above 0.95 it hides everything.
    """
    rng = np.random.default_rng(seed)
    shape = clear.shape[2:]
    cloudy, cloud = np.empty_like(clear), np.zeros(clear[:, 0].shape, bool)
    for i, image in enumerate(clear):
        # the field of the clouds, and the threshold above which the wanted share of it lies
        wanted = rng.uniform(*cover)
        noise = rng.standard_normal(shape)
        smooth = gaussian_filter(noise, rng.uniform(1 / 16, 1 / 5) * min(shape), mode="wrap")
        field = (smooth - smooth.mean()) / max(smooth.std(), 1e-9)
        threshold = np.quantile(field, 1 - wanted) if wanted <= 0.95 else field.min() - 1
        opacity = np.clip((field - threshold) / 0.4, 0, 1) * rng.uniform(0.7, 1.0)
        # its shadow, and what is seen: the shaded ground through the cloud, and the cloud
        shift = rng.integers(min(shape) // 10, min(shape) // 4 + 1, size=2) * rng.choice([-1, 1], 2)
        dark = np.roll(opacity, tuple(shift), (0, 1)) * rng.uniform(0.4, 0.8)
        bright = (_BRIGHT * rng.uniform(0.45, 0.85))[:, None, None]
        seen = image * (1 - dark) * (1 - opacity) + bright * opacity
        cloudy[i] = seen.astype(np.float32)
        cloud[i] = (opacity > 0.02) | (dark > 0.05)
    return Pairs(cloudy=cloudy, cloud=cloud, clear=clear, sar=sar, day=day)


def filled(pairs: Pairs, prior: Floats) -> Floats:
    """Return the images with the mean of the clear pixels of their place under the clouds.

    ``prior`` (C,) stands in for a band, or a place, without enough clear pixels.
    """
    seen = observed(pairs)
    count = seen.sum((2, 3))
    total = np.where(seen, pairs.cloudy, 0).sum((2, 3))
    mean = np.where(count >= ENOUGH, total / np.maximum(count, 1), prior)
    return np.where(seen, pairs.cloudy, mean[:, :, None, None]).astype(np.float32)


def spectrum(pairs: Pairs) -> Floats:
    """Return the mean reflectance (C,) of clear images; the table's where none has a band."""
    known = np.isfinite(pairs.clear)
    count = known.sum((0, 2, 3))
    total = np.where(known, pairs.clear, 0).sum((0, 2, 3), dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), MEAN).astype(np.float32)


def observed(pairs: Pairs) -> Bools:
    """Return where a value was given and no cloud lies over it, (B, C, H, W)."""
    return np.isfinite(pairs.cloudy) & ~pairs.cloud[:, None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SarRegression:
    """Reflectance as a linear function of the radar: the floor of what radar alone tells."""

    prior: Floats
    coefficients: NDArray[np.float64]
    """(5, C), from 1, VV, VH and their means over 5 x 5 pixels."""

    def __call__(self, pairs: Pairs) -> Floats:
        """Return the images with the regression under the clouds.

        A place with enough clear pixels gets its own regression; where there is no radar, the
        mean of the clear pixels stays.
        """
        image = filled(pairs, self.prior)
        for i, design in enumerate(_design(pairs.sar)):
            heard = np.isfinite(design).all(0)
            hidden = pairs.cloud[i] & heard
            seen = observed(pairs.rows(slice(i, i + 1)))[0]
            for c in range(len(BANDS)):
                known = seen[c] & heard
                own = known.sum() >= ENOUGH
                line = _line(design, pairs.cloudy[i, c], known) if own else self.coefficients[:, c]
                image[i, c][hidden] = np.tensordot(line, design, 1)[hidden].clip(0, 1.5)
        return image


def fit_sar_regression(pairs: Pairs) -> SarRegression:
    """Fit the regression for places without clear pixels to the clear images of ``pairs``."""
    design = np.moveaxis(_design(pairs.sar), 1, 0)
    heard = np.isfinite(design).all(0)
    prior = spectrum(pairs)
    lines = np.zeros((len(design), len(BANDS)))
    for c in range(len(BANDS)):
        known = heard & np.isfinite(pairs.clear[:, c])
        lines[:, c] = (
            _line(design, pairs.clear[:, c], known) if known.any() else [prior[c], 0, 0, 0, 0]
        )
    return SarRegression(prior=prior, coefficients=lines)


def _design(sar: Floats) -> NDArray[np.float64]:
    """Return 1, VV, VH and their local means, standardised: (B, 5, H, W)."""
    scaled = ((sar - SAR_MEAN) / SAR_STD).astype(np.float64)
    near = uniform_filter(np.nan_to_num(scaled), (0, 0, 5, 5))
    return np.concatenate([np.ones_like(scaled[:, :1]), scaled, near], 1)


def _line(design: NDArray[np.float64], values: Floats, known: Bools) -> NDArray[np.float64]:
    """Return least-squares coefficients (5,) with a trace of ridge, over known pixels."""
    x, y = design[:, known], values[known].astype(np.float64)
    normal = x @ x.T + 1e-3 * x.shape[1] * np.eye(len(x)) * (np.arange(len(x)) > 0)
    return np.linalg.solve(normal, x @ y)
