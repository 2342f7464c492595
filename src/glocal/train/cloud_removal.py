"""What would be seen without the cloud: Sentinel-1 and a clouded Sentinel-2 image to a clear one.

The encoder sees the clear pixels and the radar together; clouded pixels are invalid to it. A
head corrects a simple fill, with the pixels themselves beside the encoder's maps. Pixels that
were seen stay as they are.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter
from torch import Tensor, nn

from glocal.errors import BadSourceError
from glocal.model.batch import Batch, bands_of
from glocal.model.encoder import Encoder
from glocal.model.heads import ImageHead
from glocal.train.dense import Settings, maps_of, minimise, seeded
from glocal.train.unet import UNet

__all__ = [
    "BANDS",
    "CLOUDY_SCL",
    "CloudRemover",
    "Pairs",
    "Restored",
    "SarRegression",
    "filled",
    "fit",
    "fit_sar_regression",
    "restore",
    "simulate",
]

BANDS = tuple(band.name for band in bands_of("s2"))
"""Order of the bands in every array here."""

CLOUDY_SCL = (3, 8, 9, 10)
"""Codes of the scene classification: shadow, cloud (medium, high probability), cirrus."""

ENOUGH = 200
"""Clear pixels of a place from which its own mean or regression is taken."""

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

_MEAN = np.array([band.mean for band in bands_of("s2")], np.float32)
_STD = np.array([band.std for band in bands_of("s2")], np.float32)
_SAR_MEAN = np.array([band.mean for band in bands_of("sar")], np.float32)[:, None, None]
_SAR_STD = np.array([band.std for band in bands_of("sar")], np.float32)[:, None, None]
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
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return Pairs(**{**parts, "sar": np.full_like(self.sar, np.nan)})

    @classmethod
    def join(cls, *parts: Pairs) -> Self:
        """Return all places of several."""
        names = [f.name for f in fields(cls)]
        return cls(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Restored:
    """Images without cloud."""

    image: Floats
    """(B, C, H, W) reflectance: as observed where clear, estimated under cloud."""

    uncertainty: Floats
    """(B, C, H, W) standard uncertainty of the estimate; 0 where observed."""


def simulate(
    clear: Floats, sar: Floats, day: Floats, *, seed: int, cover: tuple[float, float] = (0.1, 1.0)
) -> Pairs:
    """Return clear images under simulated clouds.

    The model is simple on purpose: opacity follows a smooth random field above a threshold
    that gives the wanted cover; a cloud is bright, a little less so in the short-wave
    infrared; its shadow is the same field, shifted, and darkens. There is no haze, no
    parallax and no multiple scattering. A cover above 0.95 hides everything.

    Parameters
    ----------
    clear, sar, day
        As in :class:`Pairs`.
    cover
        Smallest and largest share under cloud, drawn uniformly.
    """
    rng = np.random.default_rng(seed)
    cloudy, cloud = np.empty_like(clear), np.zeros(clear[:, 0].shape, bool)
    for i, image in enumerate(clear):
        cloudy[i], cloud[i] = _clouded(image, rng.uniform(*cover), rng)
    return Pairs(cloudy=cloudy, cloud=cloud, clear=clear, sar=sar, day=day)


def _clouded(
    image: Floats, cover: float, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.bool_]]:
    shape = image.shape[1:]
    noise = rng.standard_normal(shape)
    smooth = gaussian_filter(noise, rng.uniform(1 / 16, 1 / 5) * min(shape), mode="wrap")
    field = (smooth - smooth.mean()) / max(smooth.std(), 1e-9)
    threshold = np.quantile(field, 1 - cover) if cover <= 0.95 else field.min() - 1
    opacity = np.clip((field - threshold) / 0.4, 0, 1) * rng.uniform(0.7, 1.0)
    shift = rng.integers(min(shape) // 10, min(shape) // 4 + 1, size=2) * rng.choice([-1, 1], 2)
    dark = np.roll(opacity, tuple(shift), (0, 1)) * rng.uniform(0.4, 0.8)
    bright = (_BRIGHT * rng.uniform(0.45, 0.85))[:, None, None]
    seen = image * (1 - dark) * (1 - opacity) + bright * opacity
    return seen.astype(np.float32), (opacity > 0.02) | (dark > 0.05)


def filled(pairs: Pairs, prior: Floats) -> Floats:
    """Return the images with the mean of the clear pixels of their place under the clouds.

    ``prior`` (C,) stands in for a band, or a place, without enough clear pixels.
    """
    seen = _seen(pairs)
    count = seen.sum((2, 3))
    total = np.where(seen, pairs.cloudy, 0).sum((2, 3))
    mean = np.where(count >= ENOUGH, total / np.maximum(count, 1), prior)
    return np.where(seen, pairs.cloudy, mean[:, :, None, None]).astype(np.float32)


def spectrum(pairs: Pairs) -> Floats:
    """Return the mean reflectance (C,) of clear images; the table's where none has a band."""
    known = np.isfinite(pairs.clear)
    count = known.sum((0, 2, 3))
    total = np.where(known, pairs.clear, 0).sum((0, 2, 3), dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), _MEAN).astype(np.float32)


def batch(pairs: Pairs) -> Batch:
    """Return what the encoder may see: clear pixels, and the radar where there is any."""
    seen, radar = _seen(pairs), np.isfinite(pairs.sar)
    values = {"s2": np.where(seen, pairs.cloudy, 0), "sar": np.where(radar, pairs.sar, 0)}
    gsd = torch.full((len(pairs),), 10.0)
    day = torch.from_numpy(pairs.day.astype(np.float32))
    return Batch(
        values={name: torch.from_numpy(v.astype(np.float32)) for name, v in values.items()},
        valid={"s2": torch.from_numpy(seen), "sar": torch.from_numpy(radar)},
        gsd_m={"s2": gsd, "sar": gsd},
        day={"s2": day, "sar": day},
    )


def _seen(pairs: Pairs) -> Bools:
    return np.isfinite(pairs.cloudy) & ~pairs.cloud[:, None]


def pixels(pairs: Pairs, prior: Floats) -> Tensor:
    """Return fill, clouded image, radar (all normalised) and masks: (B, 2 C + 4, H, W).

    The clouded image is given as it is: thin cloud and shadow show what lies below.
    """
    column = (slice(None), None, None)
    fill = (filled(pairs, prior) - _MEAN[column]) / _STD[column]
    raw = np.nan_to_num((pairs.cloudy - _MEAN[column]) / _STD[column]).clip(-3, 8)
    radar = np.nan_to_num((pairs.sar - _SAR_MEAN) / _SAR_STD).clip(-4, 4)
    heard = np.isfinite(pairs.sar).any(1, keepdims=True)
    stack = np.concatenate([fill, raw, radar, heard, pairs.cloud[:, None]], 1)
    return torch.from_numpy(stack.astype(np.float32))


PIXELS = 2 * len(BANDS) + 4
"""Channels of :func:`pixels`."""


class CloudRemover(nn.Module):
    """Encoder and image head; without an encoder, a U-Net on the same pixels."""

    prior: Tensor

    def __init__(self, encoder: Encoder | None, *, width: int = 48) -> None:
        super().__init__()
        outputs = 2 * len(BANDS)
        self.encoder = encoder
        self.net = (
            UNet(PIXELS, outputs)
            if encoder is None
            else ImageHead(encoder.config.widths, PIXELS, outputs, width=width)
        )
        # an untrained network leaves the fill as it is
        nn.init.zeros_(self.net.out.weight)
        self.register_buffer("prior", torch.from_numpy(_MEAN.copy()))

    def maps(self, pairs: Pairs) -> list[Tensor]:
        """Return the encoder's maps, without gradients."""
        return maps_of(self.encoder, batch(pairs)) if self.encoder else []

    def forward(self, maps: list[Tensor], given: Tensor) -> tuple[Tensor, Tensor]:
        """Return the correction of the fill and the logarithm of its scale.

        Both (B, C, H, W), in units of the bands' usual spread.
        """
        out = self.net(maps, given) if self.encoder else self.net(given)
        change, scale = out.chunk(2, 1)
        return change, scale.clamp(-6, 3)


def fit(
    encoder: Encoder | None,
    pairs: Pairs,
    *,
    frozen: bool = True,
    settings: Settings | None = None,
) -> CloudRemover:
    """Fit a head (``encoder=None``: a U-Net) to pairs.

    The loss is the absolute error where cloud hides a pixel whose truth is known; a second
    output learns the size of that error (a Laplace scale) without changing the first.
    """
    given = settings or Settings()
    if not (np.isfinite(pairs.clear) & pairs.cloud[:, None]).any():
        raise BadSourceError("no pixel under cloud has a known truth, so there is nothing to learn")
    with seeded(given.seed):
        inner = encoder if frozen else copy.deepcopy(encoder)
        model = CloudRemover(inner, width=given.width)
        model.prior.copy_(torch.from_numpy(spectrum(pairs)))
        _learn(model, pairs, frozen or encoder is None, given)
    return model.eval()


def _learn(model: CloudRemover, pairs: Pairs, frozen: bool, settings: Settings) -> None:
    prior = model.prior.numpy()
    inputs, target, weight = pixels(pairs, prior), *_target(pairs, prior)
    maps = model.maps(pairs) if frozen else []
    seen = batch(pairs)
    model.train()

    def loss_of(rows: Tensor) -> Tensor:
        levels = [one[rows] for one in maps]
        if model.encoder is not None and not frozen:
            levels = list(model.encoder(seen.rows(rows)).maps)
        return _loss(*model(levels, inputs[rows]), target[rows], weight[rows])

    groups = [(model.net, settings.rate)]
    if model.encoder is not None and not frozen:
        groups.append((model.encoder, settings.encoder_rate))
    minimise(groups, loss_of, len(pairs), settings)


def _target(pairs: Pairs, prior: Floats) -> tuple[Tensor, Tensor]:
    """Return what must be added to the fill, in usual spreads, and where that is known."""
    known = np.isfinite(pairs.clear) & pairs.cloud[:, None]
    change = (pairs.clear - filled(pairs, prior)) / _STD[:, None, None]
    return (
        torch.from_numpy(np.where(known, change, 0).astype(np.float32)),
        torch.from_numpy(known.astype(np.float32)),
    )


def _loss(change: Tensor, scale: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    error = (change - target).abs()
    size = error.detach() * torch.exp(-scale) + scale
    return ((error + 0.1 * size) * weight).sum() / weight.sum().clamp(min=1)


def restore(model: CloudRemover, pairs: Pairs) -> Restored:
    """Return the images without their clouds; ``pairs.clear`` is not looked at."""
    prior = model.prior.numpy()
    model.eval()
    images, spreads = [], []
    with torch.inference_mode():
        for i in range(len(pairs)):
            one = pairs.rows(slice(i, i + 1))
            change, scale = model(model.maps(one), pixels(one, prior))
            spread = _STD[:, None, None]
            image = filled(one, prior) + change.numpy() * spread
            # the standard deviation of a Laplace distribution is its scale times sqrt(2)
            error = np.sqrt(2) * scale.exp().numpy() * spread
            seen = _seen(one)
            images.append(np.where(seen, one.cloudy, image.clip(0, 1.5)))
            spreads.append(np.where(seen, 0, error))
    return Restored(
        image=np.concatenate(images).astype(np.float32),
        uncertainty=np.concatenate(spreads).astype(np.float32),
    )


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
            seen = _seen(pairs.rows(slice(i, i + 1)))[0]
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
    scaled = ((sar - _SAR_MEAN) / _SAR_STD).astype(np.float64)
    near = uniform_filter(np.nan_to_num(scaled), (0, 0, 5, 5))
    return np.concatenate([np.ones_like(scaled[:, :1]), scaled, near], 1)


def _line(design: NDArray[np.float64], values: Floats, known: Bools) -> NDArray[np.float64]:
    """Return least-squares coefficients (5,) with a trace of ridge, over known pixels."""
    x, y = design[:, known], values[known].astype(np.float64)
    normal = x @ x.T + 1e-3 * x.shape[1] * np.eye(len(x)) * (np.arange(len(x)) > 0)
    return np.linalg.solve(normal, x @ y)
