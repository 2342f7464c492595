"""Land cover at sites that were not learned from, by every method beside its floors.

The sites are few and unlike: TerraMind's two with a usable map share one class, the two
Flemish cubes lie 40 km apart. Results are cases, not a ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.io.raster import native_grid, read_on
from glocal.train.tasks import segment
from glocal.train.tasks.dense import Settings
from msgfm import Batch, Encoder, batch_of
from recipes.cib import SITES, Cube, day_of_year, read_cube

__all__ = ["METHODS", "Fold", "Labelled", "cib_folds", "compare", "terramind_folds"]

TERRAMIND = ("282D_485L_3_3", "38D_378R_2_3")
"""Brazil's coast, Tanzania. The Canadian site (609U_541L_3_0) is one class: nothing to learn."""

TERRAMIND_CODES = {1: "water", 2: "trees", 4: "crops", 6: "bare", 9: "rangeland"}
CIB_CODES = {11: "crop", 13: "grass", 60: "built", 99: "other"}

GUARD = 16
"""Pixels beside a held-out quadrant whose labels are not learned."""

DATES = 24
"""Clear dates of a cube, evenly spaced, that become images."""

CLEAR = 0.02
"""Largest share of clouded or missing pixels of a clear date."""

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labelled:
    """B images and their classes."""

    images: dict[str, NDArray[np.float32]]
    """Sensor -> (B, C, H, W) in physical units, NaN where there is no data."""

    labels: Labels
    """(B, H, W) index of the class, -1 where unknown."""

    bands: dict[str, tuple[str, ...]]
    """Names where the images hold a subset of the sensor's bands."""

    gsd_m: float
    day: NDArray[np.float32]
    """(B,) day of year, NaN where unknown."""

    def batch(self, sensors: Sequence[str]) -> Batch:
        """Return what a model reads."""
        return batch_of(
            {name: self.images[name] for name in sensors},
            bands={k: v for k, v in self.bands.items() if k in sensors},
            gsd_m=dict.fromkeys(sensors, self.gsd_m),
            day=dict.fromkeys(sensors, self.day),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fold:
    """What is learned from, and what is scored."""

    name: str
    train: Labelled
    test: Labelled
    classes: tuple[str, ...]
    one_place: bool = False
    """The test images show one place at several dates: their answers are averaged."""


# TerraMind ------------------------------------------------------------------


def terramind_folds(folder: Path) -> list[Fold]:
    """Return two folds by site and four by quadrant of both sites.

    By site: 96-px windows of one site, the other as a whole. By quadrant: three quadrants of
    both sites with a guard against the fourth; easier, as the scene is the same.
    """
    sites = [_terramind(folder, site) for site in TERRAMIND]
    names = tuple(TERRAMIND_CODES.values())
    by_site = [
        Fold(
            name=f"site {TERRAMIND[1 - i]} -> {TERRAMIND[i]}",
            train=_turned(_windows(sites[1 - i], 96, 64)),
            test=sites[i],
            classes=names,
        )
        for i in range(2)
    ]
    quarters = [_windows(_guarded(site), 112, 112) for site in sites]
    plain = [_windows(site, 112, 112) for site in sites]
    by_quadrant = [
        Fold(
            name=f"quadrant {q}",
            train=_turned(
                _joined([_rows(one, [i for i in range(4) if i != q]) for one in quarters])
            ),
            test=_joined([_rows(one, [q]) for one in plain]),
            classes=names,
        )
        for q in range(4)
    ]
    return by_site + by_quadrant


def _terramind(folder: Path, site: str) -> Labelled:
    grid = native_grid(folder / "LULC" / f"{site}.tif")
    code = _bands(folder / "LULC" / f"{site}.tif", grid, 1)[0]
    # Level-2A numbers of these files carry no offset (formats differ between sites for Level-1C)
    images = {
        "s2": _bands(folder / "S2L2A" / f"{site}.tif", grid, 12) / 10_000,
        "sar": _bands(folder / "S1RTC" / f"{site}.tif", grid, 2),
        "dsm": _bands(folder / "DEM" / f"{site}.tif", grid, 1),
    }
    return Labelled(
        images={name: image[None] for name, image in images.items()},
        labels=_index(code, TERRAMIND_CODES)[None],
        bands={},
        gsd_m=10,
        day=np.array([np.nan], np.float32),
    )


def _bands(path: Path, grid: GeoBox, count: int) -> NDArray[np.float32]:
    layers = [read_on(path, grid, band=i + 1) for i in range(count)]
    return np.stack([np.where(valid, values, np.nan) for values, valid in layers]).astype(
        np.float32
    )


def _index(code: NDArray[Any], codes: Mapping[int, str]) -> Labels:
    labels = np.full(code.shape, segment.UNKNOWN, np.int64)
    for i, value in enumerate(codes):
        labels[code == value] = i
    return labels


def _guarded(site: Labelled) -> Labelled:
    """Forget labels near the inner edges of the quadrants."""
    labels = site.labels.copy()
    row, column = labels.shape[1] // 2, labels.shape[2] // 2
    labels[:, row - GUARD : row + GUARD] = segment.UNKNOWN
    labels[:, :, column - GUARD : column + GUARD] = segment.UNKNOWN
    return replace(site, labels=labels)


# WorldCereal cubes ----------------------------------------------------------


def cib_folds(folder: Path) -> list[Fold]:
    """Return the two Flemish cubes, each learned from the other, and Tanzania from both.

    Only the bands that all sites have. Tanzania's labels are crop alone: its accuracy is the
    share of crop that is found, and says nothing about what is wrongly called crop.
    """
    cubes = [_cube(read_cube(folder, site)) for site in SITES]
    names = tuple(CIB_CODES.values())
    flanders = [
        Fold(
            name=f"{SITES[1 - i][:8]} -> {SITES[i][:8]}",
            train=cubes[1 - i],
            test=cubes[i],
            classes=names,
            one_place=True,
        )
        for i in range(2)
    ]
    both = _joined(cubes[:2])
    far = Fold(
        name="Flanders -> Tanzania (crop only)",
        train=both,
        test=cubes[2],
        classes=names,
        one_place=True,
    )
    return [*flanders, far]


COMMON = ("B05", "B06", "B07", "B8A", "B11", "B12")


def _cube(cube: Cube) -> Labelled:
    hidden = np.isin(cube.scl, (0, 1, 3, 8, 9, 10)).mean((1, 2))
    radar = [bool(np.isfinite(cube.nearest_sar(i)).any()) for i in range(len(hidden))]
    clear = np.flatnonzero((hidden <= CLEAR) & radar)
    dates = clear[np.linspace(0, len(clear) - 1, min(DATES, len(clear))).astype(int)]
    order = [cube.bands.index(name) for name in COMMON]
    return Labelled(
        images={
            "s2": cube.s2[dates][:, order],
            "sar": np.stack([cube.nearest_sar(i) for i in dates]),
        },
        labels=np.repeat(_index(cube.cover, CIB_CODES)[None], len(dates), 0),
        bands={"s2": COMMON},
        gsd_m=20,
        day=day_of_year(cube.s2_time[dates]),
    )


# Arrays ---------------------------------------------------------------------


def _windows(site: Labelled, side: int, step: int) -> Labelled:
    """Cut every image into square windows, row by row."""
    height, width = site.labels.shape[1:]
    corners = [
        (y, x) for y in range(0, height - side + 1, step) for x in range(0, width - side + 1, step)
    ]

    def cut(array: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([array[..., y : y + side, x : x + side] for y, x in corners])

    return _changed(site, cut, np.tile(site.day, len(corners)))


def _turned(data: Labelled) -> Labelled:
    """Return the images in all eight orientations."""

    def turn(array: NDArray[Any]) -> NDArray[Any]:
        both = (array, array[..., ::-1])
        return np.concatenate([np.rot90(one, k, (-2, -1)) for one in both for k in range(4)])

    return _changed(data, turn, np.tile(data.day, 8))


def _rows(data: Labelled, index: Sequence[int]) -> Labelled:
    rows = list(index)
    return _changed(data, lambda array: array[rows], data.day[rows])


def _joined(parts: Sequence[Labelled]) -> Labelled:
    first = parts[0]
    return replace(
        first,
        images={k: np.concatenate([one.images[k] for one in parts]) for k in first.images},
        labels=np.concatenate([one.labels for one in parts]),
        day=np.concatenate([one.day for one in parts]),
    )


def _changed(
    data: Labelled, change: Callable[[NDArray[Any]], NDArray[Any]], day: NDArray[np.float32]
) -> Labelled:
    images = {name: change(image) for name, image in data.images.items()}
    return replace(data, images=images, labels=change(data.labels), day=day)


# Comparison -----------------------------------------------------------------

Model = segment.Segmenter | segment.PixelNet | segment.PixelModel
Method = Callable[[Encoder | None, Batch, Labels, int, Settings], Model]


def _frozen(head: segment.Head) -> Method:
    def method(
        encoder: Encoder | None, batch: Batch, labels: Labels, classes: int, settings: Settings
    ) -> Model:
        assert encoder is not None
        return segment.fit(encoder, batch, labels, classes=classes, head=head, settings=settings)

    return method


def _fine_tuned(
    encoder: Encoder | None, batch: Batch, labels: Labels, classes: int, settings: Settings
) -> Model:
    assert encoder is not None
    return segment.fit(encoder, batch, labels, classes=classes, frozen=False, settings=settings)


def _unet(
    encoder: Encoder | None, batch: Batch, labels: Labels, classes: int, settings: Settings
) -> Model:
    return segment.fit_unet(batch, labels, classes=classes, settings=settings)


def _pixel(kind: str) -> Method:
    def method(
        encoder: Encoder | None, batch: Batch, labels: Labels, classes: int, settings: Settings
    ) -> Model:
        return segment.fit_pixels(
            batch,
            labels,
            classes=classes,
            kind=kind,
            seed=settings.seed,  # type: ignore[arg-type]
        )

    return method


METHODS: dict[str, Method] = {
    "pretrained, frozen": _frozen("uper"),
    "pretrained, frozen, linear head": _frozen("linear"),
    "pretrained, fine-tuned": _fine_tuned,
    "random encoder, frozen": _frozen("uper"),
    "random encoder, frozen, linear head": _frozen("linear"),
    "random encoder, trained": _fine_tuned,
    "U-Net": _unet,
    "random forest per pixel": _pixel("forest"),
    "logistic regression per pixel": _pixel("logistic"),
}


def compare(
    folds: Sequence[Fold],
    encoder: Callable[[int, bool], Encoder],
    *,
    sensors: Sequence[Sequence[str]],
    methods: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
) -> Iterator[dict[str, Any]]:
    """Yield the scores of every fold, choice of sensors, method and seed.

    ``encoder`` makes one from a seed and whether its weights are pretrained.
    """
    for fold in folds:
        for names in sensors:
            train, test = fold.train.batch(names), fold.test.batch(names)
            for method in methods:
                for seed in seeds:
                    needed = "encoder" in method or "pretrained" in method
                    one = encoder(seed, "pretrained" in method) if needed else None
                    model = METHODS[method](
                        one,
                        train,
                        fold.train.labels,
                        len(fold.classes),
                        replace(settings, seed=seed),
                    )
                    found = _scored(model, test, fold)
                    about = {
                        "fold": fold.name,
                        "sensors": "+".join(names),
                        "seed": seed,
                        "reachable": reachable(fold),
                    }
                    yield {**about, "method": method, **found.as_dict(fold.classes)}


def reachable(fold: Fold) -> float:
    """Return the share of the test labels whose class occurs in training: the most to be had."""
    known = fold.test.labels[fold.test.labels != segment.UNKNOWN]
    return float(np.isin(known, np.unique(fold.train.labels)).mean())


def _scored(model: Model, test: Batch, fold: Fold) -> segment.Scores:
    labels, shares = fold.test.labels, segment.predict(model, test)
    if fold.one_place:
        labels, shares = labels[:1], shares.mean(0, keepdims=True)
    return segment.score(shares.argmax(1), labels, len(fold.classes))
