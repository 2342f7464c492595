"""Clouds taken away, to see what the radar adds and what the pretrained weights add.

Learned from two of the three WorldCereal cubes (real cloudy and clear dates, and simulated
clouds over clear dates) and scored on the third; SEN12MS-CR's one triplet is a test only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.ndimage import binary_dilation

from glocal.io.raster import native_grid, read_on
from glocal.train.tasks import quality
from glocal.train.tasks.clouds.choice import BAND90, factor_of
from glocal.train.tasks.clouds.pairs import (
    BANDS,
    CLOUDY_SCL,
    Pairs,
    filled,
    fit_sar_regression,
    simulate,
    spectrum,
)
from glocal.train.tasks.clouds.removal import CloudRemover, fit, restore
from glocal.train.tasks.dense import Settings
from msgfm import Encoder
from recipes.cib import SITES, Cube, day_of_year, read_cube

__all__ = ["METHODS", "Case", "Fold", "cib_folds", "compare", "sen12mscr_fold"]

NEAR_DAYS = 10
"""Longest time between a cloudy date and the clear date that is taken for its truth."""

CLEAR = 0.02
"""Largest share of clouded or missing pixels of a clear date."""

SOME = 0.05
"""Smallest share of cloud of a cloudy date."""

PAIRS, DRAWS = 24, 24
"""Real pairs and simulated images per cube, evenly spaced in time."""

HELD_OUT = 5
"""One in so many pairs is not learned: the uncertainty is scaled on it."""

SEN12MSCR = "ROIs2017_winter_112_p797"

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """Images to restore, and what a series of dates would give for them."""

    name: str
    pairs: Pairs
    bands: tuple[str, ...]
    """Bands whose truth is known."""

    series: dict[str, Floats]
    """Floor -> (B, C, H, W) reflectance from other dates, NaN where none is clear."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fold:
    """What is learned from, and what is scored."""

    name: str
    train: Pairs
    cases: tuple[Case, ...]


def cib_folds(folder: Path) -> list[Fold]:
    """Return one fold per cube: learned from the two others."""
    cubes = [read_cube(folder, site) for site in SITES]
    real, drawn = [_real(one) for one in cubes], [_drawn(one, i) for i, one in enumerate(cubes)]
    folds = []
    for i, cube in enumerate(cubes):
        others = [k for k in range(len(cubes)) if k != i]
        train = Pairs.join(*(real[k].pairs for k in others), *(drawn[k].pairs for k in others))
        folds.append(Fold(name=cube.name, train=train, cases=(real[i], drawn[i])))
    return folds


def sen12mscr_fold(cib: Path, folder: Path) -> Fold:
    """Return the triplet of SEN12MS-CR, learned from all three cubes.

    Its clouded image is dark all over (thick cloud, low sun): every pixel counts as clouded.
    Level-1C, whereas the cubes are Level-2A; the bands that the cubes have are scored.
    """
    cubes = [read_cube(cib, site) for site in SITES]
    parts = [_real(one).pairs for one in cubes]
    parts += [_drawn(one, i).pairs for i, one in enumerate(cubes)]
    grid = native_grid(folder / "s1" / f"{SEN12MSCR}.tif")
    images = {
        name: _image(folder / name / f"{SEN12MSCR}.tif", grid, count)
        for name, count in (("s1", 2), ("s2_cloudy", 13), ("s2_cloudfree", 13))
    }
    triplet = Pairs(
        cloudy=images["s2_cloudy"] / np.float32(10_000),
        cloud=np.ones((1, *grid.shape), bool),
        clear=images["s2_cloudfree"] / np.float32(10_000),
        sar=images["s1"],
        day=np.array([np.nan], np.float32),
    )
    case = Case(name="SEN12MS-CR p797", pairs=triplet, bands=cubes[0].bands, series={})
    return Fold(name="SEN12MS-CR", train=Pairs.join(*parts), cases=(case,))


def _image(path: Path, grid: GeoBox, count: int) -> Floats:
    layers = [read_on(path, grid, band=i + 1) for i in range(count)]
    values = np.stack([np.where(valid, layer, np.nan) for layer, valid in layers])
    return values[None].astype(np.float32)


# Cubes ----------------------------------------------------------------------


def _real(cube: Cube) -> Case:
    """Pair cloudy dates with the nearest clear date; one more pixel around clouds counts as cloud.

    The floors from the series never use the date that serves as truth.
    """
    cloud, lost = np.isin(cube.scl, CLOUDY_SCL), np.isin(cube.scl, (0, 1))
    hidden = (cloud | lost).mean((1, 2))
    clear = np.flatnonzero(hidden <= CLEAR)
    gap = np.abs(cube.s2_time[:, None] - cube.s2_time[clear]) / np.timedelta64(1, "D")
    dates = np.flatnonzero(
        (cloud.mean((1, 2)) >= SOME) & (lost.mean((1, 2)) <= CLEAR) & (gap.min(1) <= NEAR_DAYS)
    )
    dates = dates[np.linspace(0, len(dates) - 1, min(PAIRS, len(dates))).astype(int)]
    truth = clear[gap[dates].argmin(1)]
    ring = np.ones((1, 5, 5), bool)
    stack = _all_bands(cube)
    open_sky = np.where((cloud | lost)[:, None], np.nan, stack)
    pairs = Pairs(
        cloudy=np.where(lost[dates][:, None], np.nan, stack[dates]),
        cloud=binary_dilation(cloud[dates], ring),
        clear=open_sky[truth],
        sar=np.stack([cube.nearest_sar(i) for i in dates]),
        day=day_of_year(cube.s2_time[dates]),
    )
    series = {
        "nearest clear date": [
            _nearest(cube, open_sky, i, t) for i, t in zip(dates, truth, strict=True)
        ],
        "temporal median": [
            _median(cube, open_sky, i, t) for i, t in zip(dates, truth, strict=True)
        ],
    }
    return Case(
        name=f"{cube.name} real",
        pairs=pairs,
        bands=cube.bands,
        series={name: np.stack(images) for name, images in series.items()},
    )


def _drawn(cube: Cube, seed: int) -> Case:
    """Simulate clouds over clear dates."""
    hidden = np.isin(cube.scl, (0, 1, *CLOUDY_SCL)).mean((1, 2))
    clear = np.flatnonzero(hidden <= CLEAR)
    dates = clear[np.linspace(0, len(clear) - 1, min(DRAWS, len(clear))).astype(int)]
    pairs = simulate(
        _all_bands(cube)[dates],
        np.stack([cube.nearest_sar(i) for i in dates]),
        day_of_year(cube.s2_time[dates]),
        seed=seed,
    )
    return Case(name=f"{cube.name} simulated", pairs=pairs, bands=cube.bands, series={})


def _all_bands(cube: Cube) -> Floats:
    stack = np.full((len(cube.s2), len(BANDS), *cube.s2.shape[2:]), np.nan, np.float32)
    stack[:, [BANDS.index(name) for name in cube.bands]] = cube.s2
    return stack


def _nearest(cube: Cube, open_sky: Floats, date: int, truth: int) -> Floats:
    """Return per pixel what the nearest other date saw without cloud."""
    image = np.full_like(open_sky[0], np.nan)
    for i in np.argsort(np.abs(cube.s2_time - cube.s2_time[date]), kind="stable"):
        if i not in (date, truth):
            image = np.where(np.isnan(image), open_sky[i], image)
    return image


def _median(cube: Cube, open_sky: Floats, date: int, truth: int, days: int = 60) -> Floats:
    """Return the median per pixel of what other dates within ``days`` saw without cloud."""
    near = np.abs(cube.s2_time - cube.s2_time[date]) <= np.timedelta64(days, "D")
    near[[date, truth]] = False
    masked = np.ma.masked_invalid(open_sky[near])
    return np.asarray(np.ma.median(masked, axis=0).filled(np.nan), np.float32)


# Comparison -----------------------------------------------------------------

METHODS = {
    "pretrained, S1+S2": (True, True, True),
    "pretrained, S2 only": (True, True, False),
    "pretrained, fine-tuned, S1+S2": (True, False, True),
    "random encoder, frozen, S1+S2": (False, True, True),
    "random encoder, trained, S1+S2": (False, False, True),
    "U-Net, S1+S2": (None, True, True),
    "U-Net, S2 only": (None, True, False),
}
"""Name -> pretrained (None: no encoder), frozen, with radar."""


def compare(
    folds: Sequence[Fold],
    encoder: Callable[[int, bool], Encoder],
    *,
    methods: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
) -> Iterator[dict[str, Any]]:
    """Yield the scores of every fold, case, method and seed; the floors first, which have none."""
    for fold in folds:
        yield from _floors(fold)
        for method in methods:
            weights, frozen, radar = METHODS[method]
            for seed in seeds:
                inner = None if weights is None else encoder(seed, weights)
                train = fold.train if radar else fold.train.without_sar()
                held = np.arange(len(train)) % HELD_OUT == HELD_OUT // 2
                learned, check = (train.rows(np.flatnonzero(part)) for part in (~held, held))
                model = fit(inner, learned, frozen=frozen, settings=replace(settings, seed=seed))
                factor = factor_of(restore(model, check), check)
                for case in fold.cases:
                    yield {
                        **_about(fold, case, method),
                        "seed": seed,
                        **_restored(model, case, factor, radar=radar),
                    }


def _about(fold: Fold, case: Case, method: str) -> dict[str, Any]:
    return {"fold": fold.name, "case": case.name, "images": len(case.pairs), "method": method}


def _floors(fold: Fold) -> Iterator[dict[str, Any]]:
    prior, line = spectrum(fold.train), fit_sar_regression(fold.train)
    for case in fold.cases:
        mean = filled(case.pairs, prior)
        images = {
            "clouded image as it is": case.pairs.cloudy,
            "mean of clear pixels": mean,
            "regression on S1": line(case.pairs),
            **case.series,
        }
        for method, image in images.items():
            about = _about(fold, case, method)
            yield {**about, **_scores(np.where(np.isnan(image), mean, image), case)}


def _restored(model: CloudRemover, case: Case, factor: Floats, *, radar: bool) -> dict[str, Any]:
    found = restore(model, case.pairs if radar else case.pairs.without_sar())
    hidden = _known(case) & case.pairs.cloud[:, None]
    width = found.uncertainty * factor[:, None, None] * BAND90
    inside = np.abs(found.image - case.pairs.clear)[hidden] <= width[hidden]
    return {**_scores(found.image, case), "coverage90": float(inside.mean())}


def _known(case: Case) -> NDArray[np.bool_]:
    named = np.isin(BANDS, case.bands)[None, :, None, None]
    return np.isfinite(case.pairs.clear) & named


def _scores(image: Floats, case: Case) -> dict[str, Any]:
    """Return scores under cloud and over the whole image, in the bands of the case."""
    pairs, order = case.pairs, [BANDS.index(name) for name in case.bands]
    known = _known(case)[:, order]
    hidden = known & pairs.cloud[:, None]
    seen = np.where(pairs.cloud[:, None] | ~np.isfinite(pairs.cloudy), image, pairs.cloudy)[
        :, order
    ]
    truth = np.nan_to_num(pairs.clear[:, order])
    under = {name: getattr(quality, name)(seen, truth, hidden) for name in ("mae", "psnr", "sam")}
    whole = {
        name: getattr(quality, name)(seen, truth, known) for name in ("mae", "psnr", "ssim", "sam")
    }
    return {
        **{f"cloud_{name}": _mean(values) for name, values in under.items()},
        **{name: _mean(values) for name, values in whole.items()},
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
