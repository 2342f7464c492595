"""Downstream tasks in small that frozen features are read for, by linear maps in closed form.

Land cover, Sentinel-2 from radar or under cloud, and sharpening are told per token of 4 px by ridge
regression; scenes by logistic regression. Few scenes: cases, never a ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch.nn import functional

from glocal.errors import ConfigError
from glocal.train.tasks import quality
from glocal.train.tasks.classification.classify import divide
from glocal.train.tasks.classification.probes import linear_probe, majority
from glocal.train.tasks.classification.scenes import read_scenes
from glocal.train.tasks.clouds.pairs import BANDS, simulate
from glocal.train.tasks.clouds.removal import batch as under_cloud
from glocal.train.tasks.dense import maps_of, pixels_of
from glocal.train.tasks.segment import score
from glocal.train.tasks.sharpening.floors import FLOORS
from glocal.train.tasks.sharpening.scenes import BandPair, Task
from msgfm import Batch, Encoder, batch_of
from msgfm.embed import PATCH
from recipes.landcover import Fold, Labelled, cib_folds, terramind_folds
from recipes.sharpen import ALL, KEMPEN, dsen2_tile, halves, kempen, sentinel2

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Of the ridge, per training token, that the training parts choose from."""

STRIPS = 8
"""Parts of a single scene."""

LIMIT = 150
"""Pictures of each EuroSAT class."""

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokens:
    """Images, and what is to be told of each token of 4 px."""

    batch: Batch
    target: Floats
    """(B, h, w, K), NaN where a token has none."""

    group: Labels
    """(B, h, w) number of the part that a token lies in; the penalty is chosen between parts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dense:
    """One case of a task with an answer per token."""

    task: str
    case: str
    train: Tokens
    test: Tokens
    score: Callable[[Floats], dict[str, float]]
    """From answers (B, h, w, K) for the test images."""


def terramind(data: Path) -> Iterator[Dense]:
    """Yield land cover, Sentinel-2 from radar, and Sentinel-2 under cloud: four quadrants each."""
    for i, fold in enumerate(terramind_folds(data / "terramind-5sites")[2:]):
        upright = slice(0, len(fold.train.labels) // 8)
        train = replace(
            fold.train,
            images={k: v[upright] for k, v in fold.train.images.items()},
            labels=fold.train.labels[upright],
            day=fold.train.day[upright],
        )
        fold = replace(fold, train=train)
        yield cover("land cover, S2 (TerraMind)", fold, ("s2",))
        yield spectra("SAR to S2 (TerraMind)", fold, i, clouded=False)
        yield spectra("cloud removal, S1+S2 (TerraMind)", fold, i, clouded=True)


def flanders(data: Path) -> Iterator[Dense]:
    """Yield land cover of two cubes 40 km apart, each learned from the other."""
    for fold in cib_folds(data / "worldcereal-cib")[:2]:
        yield cover("land cover, S1+S2 (Flanders)", fold, ("s2", "sar"))


def cover(task: str, fold: Fold, sensors: Sequence[str]) -> Dense:
    """Return the task of telling the share of each class in a token."""
    count = len(fold.classes)

    def tokens(part: Labelled) -> Tokens:
        known = part.labels >= 0
        each = np.eye(count, dtype=np.float32)[np.where(known, part.labels, 0)] * known[..., None]
        total = rearrange(each, "b (h p) (w q) k -> b h w (p q) k", p=PATCH, q=PATCH).sum(3)
        size = total.sum(-1, keepdims=True)
        share = np.where(size > 0, total / np.maximum(size, 1), np.nan)
        return Tokens(
            batch=part.batch(sensors), target=share, group=parts(share.shape[:3], fold.one_place)
        )

    def scored(answer: Floats) -> dict[str, float]:
        labels = fold.test.labels
        if fold.one_place:
            answer, labels = answer.mean(0, keepdims=True), labels[:1]
        found = score(answer.argmax(-1).repeat(PATCH, 1).repeat(PATCH, 2), labels, count)
        return {"mIoU": found.miou, "accuracy": found.accuracy}

    train, test = tokens(fold.train), tokens(fold.test)
    return Dense(task=task, case=fold.name, train=train, test=test, score=scored)


def spectra(task: str, fold: Fold, seed: int, *, clouded: bool) -> Dense:
    """Return the task of telling a token's mean reflectance, from radar or under clouds."""

    def tokens(part: Labelled, seed: int) -> Tokens:
        clear = np.full((len(part.labels), len(BANDS), *part.labels.shape[1:]), np.nan, np.float32)
        order = [BANDS.index(name) for name in BANDS if name != "B10"]
        clear[:, order] = part.images["s2"]
        pairs = simulate(clear, part.images["sar"], part.day, seed=seed, cover=(0.4, 0.8))
        seen = under_cloud(pairs) if clouded else part.batch(["sar"])
        wanted = pairs.cloud & (part.labels >= 0)
        values = np.where(wanted[:, None], clear[:, order], np.nan)
        mean = rearrange(values, "b c (h p) (w q) -> b h w c (p q)", p=PATCH, q=PATCH).mean(-1)
        return Tokens(batch=seen, target=mean, group=parts(mean.shape[:3], fold.one_place))

    train, test = tokens(fold.train, seed), tokens(fold.test, 100 + seed)

    def scored(answer: Floats) -> dict[str, float]:
        return {"MAE": float(np.nanmean(np.abs(answer - test.target)))}

    return Dense(task=task, case=fold.name, train=train, test=test, score=scored)


def sharpening(data: Path) -> Iterator[Dense]:
    """Yield what the classical method misses, 20 to 10 m, on the other half of two scenes."""
    for scene, names in ((dsen2_tile(data), ALL), (kempen(data), KEMPEN)):
        task = sentinel2(names)
        one, other = (_sheet(half, task) for half in halves(scene, task.ratio))
        spread = np.nanstd(one[1], axis=(1, 2), keepdims=True)

        def tokens(sheet: Sheet, spread: Floats = spread) -> Tokens:
            batch, truth, base = sheet
            missed = rearrange((truth - base) / spread, CUT, p=PATCH, q=PATCH)[None]
            return Tokens(batch=batch, target=missed, group=parts(missed.shape[:3], one_place=True))

        yield Dense(
            task="sharpening, 20 to 10 m",
            case=scene.name,
            train=tokens(one),
            test=tokens(other),
            score=partial(_sharp, truth=other[1], base=other[2], spread=spread, ratio=task.ratio),
        )


Sheet = tuple[Batch, Floats, Floats]
CUT = "c (h p) (w q) -> h w (c p q)"


def _sheet(scene: BandPair, task: Task) -> Sheet:
    """Return what the encoder sees, the truth, and the classical method's image."""
    base = FLOORS[task.base](scene.fine, scene.coarse, task.ratio)
    if scene.truth is None:
        raise ConfigError(f"scene {scene.name} has no truth")
    rows, columns = (n // PATCH * PATCH for n in base.shape[1:])
    low, high = np.nanmin(scene.coarse), np.nanmax(scene.coarse)
    seen = np.concatenate([scene.fine, base.clip(low, high)])[None, :, :rows, :columns]
    batch = batch_of({"s2": seen}, bands={"s2": task.fine + task.coarse}, gsd_m={"s2": scene.gsd_m})
    return batch, scene.truth[:, :rows, :columns], base[:, :rows, :columns]


def _sharp(
    answer: Floats, truth: Floats, base: Floats, spread: Floats, ratio: int
) -> dict[str, float]:
    missed = rearrange(answer[0], "h w (c p q) -> c (h p) (w q)", p=PATCH, q=PATCH)
    image = (base + missed * spread)[None]
    known = np.isfinite(image) & np.isfinite(truth)
    found = quality.scores(image, truth[None], known, ratio=ratio)
    return {"ERGAS": found["ergas"], "PSNR": found["psnr"]}


def parts(shape: tuple[int, ...], one_place: bool) -> Labels:
    """Return the number of each token's part: its image; where all show one place, its strip."""
    count, _, w = shape
    if one_place:
        return np.broadcast_to(np.arange(w) * STRIPS // w, shape).astype(np.int64)
    return np.broadcast_to(np.arange(count)[:, None, None], shape).astype(np.int64)


# Reading --------------------------------------------------------------------


Features = Callable[[Batch], Floats]


def encoded(encoder: Encoder) -> Features:
    """Return a function from a batch to all the encoder's maps at stride 4, (B, h, w, D)."""

    def features(batch: Batch) -> Floats:
        maps = [rearrange(one, "b h w d -> b d h w") for one in maps_of(encoder, batch)]
        size = maps[0].shape[-2:]
        found = [functional.interpolate(one, size, mode="bilinear") for one in maps]
        return rearrange(torch.cat(found, 1), "b d h w -> b h w d").numpy()

    return features


def pixels(batch: Batch) -> Floats:
    """Return the token's own pixels and their validity: the floor without any encoder."""
    values = pixels_of(batch, batch.sensors).numpy()
    return rearrange(values, "b c (h p) (w q) -> b h w (c p q)", p=PATCH, q=PATCH)


def nothing(batch: Batch) -> Floats:
    """Return one 0 per token: the floor that answers the mean of the training part."""
    return np.zeros((len(batch), *(n // PATCH for n in batch.shape_yx), 1), np.float32)


def read_dense(features: Features, one: Dense) -> dict[str, float]:
    """Fit a ridge regression to the training tokens and score its answers."""
    x, y = _rows(features(one.train.batch)), _rows(one.train.target)
    known = np.isfinite(y).all(1)
    asked = features(one.test.batch)
    found = ridge(x[known], y[known], one.train.group.ravel()[known], _rows(asked))
    return one.score(found.reshape(*asked.shape[:3], -1))


def _rows(values: Floats) -> Floats:
    return values.reshape(-1, values.shape[-1]).astype(np.float64)


def ridge(x: Floats, y: Floats, group: Labels, asked: Floats) -> Floats:
    """Return the answers (n, K) of a ridge regression to ``asked`` (n, D).

    The penalty is the one of `PENALTIES` that predicts each part of the training rows best from
    the others. Features are standardised with the moments of the training rows.
    """
    middle, spread = x.mean(0), x.std(0)
    scale = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0)
    x, asked, mean = (x - middle) * scale, (asked - middle) * scale, y.mean(0)
    y = y - mean
    rows = [np.flatnonzero(group == g) for g in np.unique(group)]
    grams, sums = [x[r].T @ x[r] for r in rows], [x[r].T @ y[r] for r in rows]
    gram, total = np.sum(grams, 0), np.sum(sums, 0)
    error = np.zeros(len(PENALTIES))
    for r, g, c in zip(rows, grams, sums, strict=True):
        for i, weights in enumerate(_solved(gram - g, total - c, len(x) - len(r))):
            error[i] += np.square(y[r] - x[r] @ weights).sum()
    best = list(_solved(gram, total, len(x)))[int(error.argmin())]
    return np.asarray(asked @ best + mean)


def _solved(gram: Floats, total: Floats, count: int) -> Iterator[Floats]:
    """Yield the weights for every penalty."""
    values, vectors = np.linalg.eigh(gram)
    turned = vectors.T @ total
    for penalty in PENALTIES:
        yield vectors @ (turned / (values.clip(min=0) + penalty * count)[:, None])


class Pictures(NamedTuple):
    """EuroSAT, divided by blocks of half a degree."""

    images: NDArray[np.uint8]
    labels: Labels
    rows: tuple[Labels, ...]
    """Pictures that teach, choose and test."""

    blocks: tuple[int, ...]

    @classmethod
    def read(cls, folder: Path) -> Pictures:
        """Read the first `LIMIT` pictures of each class."""
        scenes = read_scenes(folder / "eurosat_rgb_open.zip", limit=LIMIT)
        division = divide(scenes.names, folder / "eurosat_lonlat.csv")
        rows = tuple(division.rows(part) for part in range(3))
        blocks = tuple(len(np.unique(division.block[one])) for one in rows)
        return cls(scenes.images, scenes.labels, rows, blocks)

    def counts(self) -> dict[str, list[int]]:
        """Return pictures and blocks that teach, choose and test."""
        return {"pictures": [len(one) for one in self.rows], "blocks": list(self.blocks)}

    def accuracy(self, vectors: NDArray[np.float32] | None) -> float:
        """Return the share of test pictures that a linear probe gets right."""
        train, val, test = self.rows
        if vectors is None:
            given = majority(self.labels[train], len(test))
        else:
            given = linear_probe(
                vectors[train],
                self.labels[train],
                vectors[test],
                validation=(vectors[val], self.labels[val]),
                penalties=(1e-3, 1e-2, 1e-1),
            ).labels
        return float(np.mean(given == self.labels[test]))
