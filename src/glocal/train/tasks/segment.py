"""Land cover per pixel: a head on the encoder's maps, its floors, and scores."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from glocal.errors import BadSourceError, ConfigError
from glocal.io.atomic import write_json
from glocal.io.raster import read_on, write_cog
from glocal.train.data.rasters import Rasters
from glocal.train.tasks.dense import Settings, Tile, maps_of, minimise, pixels_of, seeded, tiles
from glocal.train.tasks.unet import UNet
from msgfm.batch import Batch
from msgfm.encoder import Encoder
from msgfm.heads import LinearHead, UPerHead

UNKNOWN = -1
"""Label of pixels that nobody has classified: neither learned nor scored."""

BALANCE = 0.01
"""Weight of the routing losses while the encoder is learned (as in pretraining)."""

SIDE, MARGIN = 128, 32
"""Pixels of a tile that a raster is mapped by, and of the surroundings that it is read with."""

HELD_OUT = 4
"""One in so many labelled tiles is not learned but scored."""

PIXELS = 20_000
"""Pixels that a per-pixel classifier learns from, drawn at random when there are more."""

Head = Literal["uper", "linear"]


class Segmenter(nn.Module):
    """Encoder and head."""

    def __init__(self, encoder: Encoder, classes: int, *, head: Head, width: int) -> None:
        super().__init__()
        if head not in ("uper", "linear"):
            raise ConfigError(f"head must be uper or linear, got {head!r}")
        widths = encoder.config.widths
        self.encoder = encoder
        self.head: nn.Module = (
            UPerHead(widths, classes, width=width)
            if head == "uper"
            else LinearHead(widths, classes)
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return logits (B, K, H, W)."""
        logits: Tensor = self.head(self.encoder(batch).maps, batch.shape_yx)
        return logits


class PixelNet(nn.Module):
    """A U-Net on the normalised pixels of the sensors it was made for."""

    def __init__(self, sensors: Sequence[str], inputs: int, classes: int) -> None:
        super().__init__()
        self.sensors = tuple(sensors)
        self.net = UNet(inputs, classes)

    def forward(self, batch: Batch) -> Tensor:
        """Return logits (B, K, H, W)."""
        logits: Tensor = self.net(pixels_of(batch, self.sensors))
        return logits


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelModel:
    """A classifier of single pixels."""

    classifier: Any
    classes: int

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """Return probabilities (B, K, H, W)."""
        table, shape = _table(batch)
        found = np.zeros((len(table), self.classes), np.float32)
        found[:, self.classifier.classes_] = self.classifier.predict_proba(table)
        return np.moveaxis(found.reshape(*shape, self.classes), -1, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """How a class map agrees with labels."""

    confusion: NDArray[np.int64]
    """(K, K) pixels; rows are the labels, columns the map."""

    @property
    def accuracy(self) -> float:
        """Share of labelled pixels that are right."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union per class (K,); NaN where the labels have no such class."""
        hit = np.diag(self.confusion).astype(float)
        union = self.confusion.sum(0) + self.confusion.sum(1) - hit
        present = self.confusion.sum(1) > 0
        return np.where(present, hit / np.maximum(union, 1), np.nan)

    @property
    def miou(self) -> float:
        """Mean of the classes that the labels have."""
        return float(np.nanmean(self.iou))

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return a JSON-ready mapping; classes absent from the labels are left out."""
        iou = {n: float(v) for n, v in zip(names, self.iou, strict=True) if np.isfinite(v)}
        return {"accuracy": self.accuracy, "miou": self.miou, "iou": iou}


def fit(
    encoder: Encoder,
    batch: Batch,
    labels: NDArray[np.integer[Any]],
    *,
    classes: int,
    frozen: bool = True,
    head: Head = "uper",
    settings: Settings | None = None,
) -> Segmenter:
    """Fit a head, and with ``frozen=False`` a copy of the encoder too, to labelled pixels.

    ``encoder`` is left as it is in either case; ``batch`` holds B places by any of its sensors,
    ``labels`` (B, H, W) their classes 0 to ``classes`` - 1; -1 where unknown.

    Raises
    ------
    BadSourceError
        Labels of another shape, outside 0..K-1, or without any known pixel.
    """
    given = settings or Settings()
    target = _checked(batch, labels, classes)
    with seeded(given.seed):
        inner = encoder if frozen else copy.deepcopy(encoder)
        net = Segmenter(inner, classes, head=head, width=given.width)
        groups: list[tuple[nn.Module, float]] = [(net.head, given.rate)]
        maps: list[Tensor] = []
        if frozen:
            maps = maps_of(encoder, batch)  # once, since they stay the same
        else:
            net.train()
            groups.append((net.encoder, given.encoder_rate))

        def loss_of(rows: Tensor) -> Tensor:
            if frozen:
                return _loss(net.head([one[rows] for one in maps], batch.shape_yx), target[rows])
            features = net.encoder(batch.rows(rows))
            loss = _loss(net.head(features.maps, batch.shape_yx), target[rows])
            routing = features.routing
            return loss if routing is None else loss + BALANCE * (routing.balance + routing.z)

        minimise(groups, loss_of, len(target), given)
    return net.eval()


def fit_unet(
    batch: Batch,
    labels: NDArray[np.integer[Any]],
    *,
    classes: int,
    settings: Settings | None = None,
) -> PixelNet:
    """Fit a small U-Net to the same pixels: the supervised floor. Arguments as in :func:`fit`."""
    given = settings or Settings()
    target = _checked(batch, labels, classes)
    pixels = pixels_of(batch, batch.sensors)
    with seeded(given.seed):
        net = PixelNet(batch.sensors, pixels.shape[1], classes)

        def loss_of(rows: Tensor) -> Tensor:
            return _loss(net.net(pixels[rows]), target[rows])

        minimise([(net, given.rate)], loss_of, len(target), given)
    return net.eval()


def fit_pixels(
    batch: Batch,
    labels: NDArray[np.integer[Any]],
    *,
    classes: int,
    kind: Literal["logistic", "forest"] = "logistic",
    seed: int = 0,
) -> PixelModel:
    """Fit a classifier of the band values of single pixels: the floor without any context."""
    target = _checked(batch, labels, classes).numpy().ravel()
    table, _ = _table(batch)
    known = np.flatnonzero(target != UNKNOWN)
    if len(known) > PIXELS:
        known = np.random.default_rng(seed).choice(known, PIXELS, replace=False)
    classifier = (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        if kind == "logistic"
        else RandomForestClassifier(100, min_samples_leaf=2, random_state=seed, n_jobs=1)
    )
    classifier.fit(table[known], target[known])
    return PixelModel(classifier=classifier, classes=classes)


def predict(model: Segmenter | PixelNet | PixelModel, batch: Batch) -> NDArray[np.float32]:
    """Return the probability of every class, (B, K, H, W)."""
    if isinstance(model, PixelModel):
        return model(batch)
    model.eval()
    with torch.inference_mode():
        parts = [model(batch.rows(slice(i, i + 1))).softmax(1) for i in range(len(batch))]
    return torch.cat(parts).numpy()


def score(
    predicted: NDArray[np.integer[Any]], labels: NDArray[np.integer[Any]], classes: int
) -> Scores:
    """Count agreement of class indices of the same shape; unknown labels are left out."""
    if predicted.shape != labels.shape:
        raise BadSourceError(f"map {predicted.shape} and labels {labels.shape} differ in shape")
    known = labels != UNKNOWN
    if not known.any():
        raise BadSourceError("no pixel has a label, so there is nothing to score")
    pair = labels[known].astype(np.int64) * classes + predicted[known]
    return Scores(confusion=np.bincount(pair, minlength=classes**2).reshape(classes, classes))


def run(
    images: Rasters,
    labels: Path,
    out: Path,
    *,
    weights: str | Path = "nano",
    frozen: bool = True,
    settings: Settings | None = None,
) -> Scores | None:
    """Learn classes from a raster that labels a part of a place, and map the whole of it.

    Writes the class codes of ``labels`` with the probability of each pixel's class beside
    them (bands ``class`` and ``probability`` x 100) as a cloud-optimised GeoTIFF, and the
    scores as JSON. Scored are tiles of 128 px that were not learned, one in four of those
    with labels; they touch learned tiles, so the scores are for this place alone. Of two or
    three tiles each is scored by a model of the others, and the map is learned from all.

    ``images`` must fit into memory; ``labels`` is a raster of whole numbers 1 to 255, 0 and its
    nodata mean unknown. Returns None where all labels lie in one tile: nothing is left to score.

    Raises
    ------
    BadSourceError
        No label, or only one class, on the images.
    """
    grid = images.grid()
    batch = images.batch(grid)
    codes, target = _labels(labels, grid)
    learned, scored = _parted(target)
    encoder = Encoder.from_pretrained(weights)

    def learn(labels: NDArray[np.int64]) -> Segmenter:
        part, wanted = _turned(*_pieces(batch, labels))
        return fit(encoder, part, wanted, classes=len(codes), frozen=frozen, settings=settings)

    model = learn(learned)
    shares = np.zeros((len(codes), *batch.shape_yx), np.float32)
    for tile in tiles(batch.shape_yx, SIDE, MARGIN):
        shares[:, *tile.write] = predict(model, batch.window(*tile.read))[0][:, *tile.keep]
    found = shares.argmax(0)
    if (scored != UNKNOWN).any():
        result: Scores | None = score(found, scored, len(codes))
    else:
        result = _by_turns(batch, target, len(codes), learn)
    layers = np.stack([codes[found], (shares.max(0) * 100).round()]).astype(np.uint8)
    write_cog(out, layers, grid, nodata=None, band_names=("class", "probability"))
    names = [str(code) for code in codes]
    scores = result.as_dict(names) if result else None
    write_json(out.with_suffix(".json"), {"classes": names, "scores": scores})
    return result


def _labels(path: Path, grid: GeoBox) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the codes (K,) and the index of each pixel's code (H, W), -1 where unknown."""
    values, valid = read_on(Path(path), grid)
    if values.dtype.kind not in "iu":
        raise BadSourceError(f"{path}: labels must be whole numbers 1 to 255, got {values.dtype}")
    known = valid & (values > 0) & (values <= 255)
    codes = np.unique(values[known]).astype(np.uint8)
    if len(codes) < 2:
        raise BadSourceError(
            f"{path}: at least two classes must be labelled on the images, found {codes.tolist()}"
        )
    return codes, np.where(known, np.searchsorted(codes, values), UNKNOWN)


def _parted(target: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return labels to learn and labels to score, (H, W) each, parted by tiles."""
    learned, scored = target.copy(), np.full_like(target, UNKNOWN)
    parts = _labelled(target)
    if len(parts) < HELD_OUT:
        return learned, scored
    for part in parts[HELD_OUT // 2 :: HELD_OUT]:
        scored[part.write], learned[part.write] = target[part.write], UNKNOWN
    return learned, scored


def _labelled(target: NDArray[np.int64]) -> list[Tile]:
    return [one for one in tiles(target.shape, SIDE, MARGIN) if (target[one.write] >= 0).any()]


def _by_turns(
    batch: Batch,
    target: NDArray[np.int64],
    classes: int,
    learn: Callable[[NDArray[np.int64]], Segmenter],
) -> Scores | None:
    """Score each labelled tile by a model of the others; None where there is one tile only."""
    parts = _labelled(target)
    if len(parts) < 2:
        return None
    found = np.zeros_like(target)
    for part in parts:
        others = target.copy()
        others[part.write] = UNKNOWN
        shares = predict(learn(others), batch.window(*part.read))[0]
        found[part.write] = shares[:, *part.keep].argmax(0)
    return score(found, target, classes)


def _pieces(batch: Batch, target: NDArray[np.int64]) -> tuple[Batch, NDArray[np.int64]]:
    """Cut a batch of one into the tiles that have labels, padded with nothing known."""
    height, width = -(-target.shape[0] // SIDE) * SIDE, -(-target.shape[1] // SIDE) * SIDE
    below, right = height - target.shape[0], width - target.shape[1]
    padded = np.pad(target, ((0, below), (0, right)), constant_values=UNKNOWN)
    parts = [one.write for one in tiles((height, width), SIDE, 0) if (padded[one.write] >= 0).any()]

    def cut(image: Tensor) -> Tensor:
        whole = functional.pad(image, (0, right, 0, below))
        return torch.cat([whole[..., rows, columns] for rows, columns in parts])

    pieces = batch.changed(cut, lambda one: one.expand(len(parts)))
    return pieces, np.stack([padded[part] for part in parts])


def _turned(batch: Batch, target: NDArray[np.int64]) -> tuple[Batch, NDArray[np.int64]]:
    """Add every tile turned by a quarter, a half and three quarters.

    A few tiles that always lie the same way are learned by position instead of by content.
    """
    more = batch.changed(
        lambda image: torch.cat([image.rot90(k, (2, 3)) for k in range(4)]),
        lambda one: one.repeat(4),
    )
    return more, np.concatenate([np.rot90(target, k, (1, 2)) for k in range(4)])


def _checked(batch: Batch, labels: NDArray[np.integer[Any]], classes: int) -> Tensor:
    expected = (len(batch), *batch.shape_yx)
    if labels.shape != expected:
        raise BadSourceError(f"labels must have shape (B, H, W) = {expected}, got {labels.shape}")
    low, high = int(labels.min()), int(labels.max())
    if low < UNKNOWN or high >= classes:
        raise BadSourceError(
            f"labels must lie in 0..{classes - 1} or be {UNKNOWN} (unknown), got {low} to {high}"
        )
    if high == UNKNOWN:
        raise BadSourceError("no pixel has a label, so there is nothing to learn")
    return torch.from_numpy(labels.astype(np.int64))


def _loss(logits: Tensor, target: Tensor) -> Tensor:
    total = functional.cross_entropy(logits, target, ignore_index=UNKNOWN, reduction="sum")
    return total / (target != UNKNOWN).sum().clamp(min=1)


def _table(batch: Batch) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    """Return the bands that occur, one pixel per row, and the shape (B, H, W)."""
    pixels = pixels_of(batch, batch.sensors)
    values = pixels[:, : pixels.shape[1] // 2].permute(0, 2, 3, 1)
    return values.reshape(-1, values.shape[-1]).numpy(), tuple(values.shape[:3])
