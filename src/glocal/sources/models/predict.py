"""A classifier of pixels and their neighbourhood: a source like any other.

It learns from the loop's soft labels and from reference points, and predicts every
cell from a model that saw no label of that cell's block (out of fold). What it
states is a symbol, (first class, second class, confidence bin), whose meaning the
engine learns as it does for every source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from scipy import ndimage
from scipy.linalg import cho_factor, cho_solve
from scipy.special import softmax

from glocal.core.chip import Chip
from glocal.core.labels import Labels
from glocal.core.provenance import Provenance
from glocal.core.typing import Bools, Bytes, Codes, Layers, Table
from glocal.errors import BadSourceError
from glocal.later import load
from glocal.sources.kind import Features

FeatureKind = Literal["bands", "msgfm"]

WINDOW = 5
"""Side in cells of the neighbourhood of local statistics."""

COMPONENTS = 128
"""Landmarks of the kernel approximation."""

PENALTY = 1.0
"""L2 penalty of the logistic regression, relative to one label."""

KERNEL, PLAIN = np.float32(4.0), np.float32(0.25)
"""Scale of kernel features and of plain ones; a larger scale is penalised less."""

ITERATIONS = 60
"""Steps of the optimiser; the fit changes by less than 0.1 % afterwards."""

CHUNK = 1 << 16


def features(chips: Sequence[Chip], clear: Bools, kind: FeatureKind = "bands") -> Features:
    """Return band values, normalised differences and local statistics of ``chips``.

    All chips share one grid (H, W). Cells outside ``clear`` (H, W) are invalid. With the kind
    ``msgfm`` the leading components of the image model's maps stand beside them.

    Raises
    ------
    BadSourceError
        No cell is valid in all images.
    MissingExtraError
        ``msgfm`` without PyTorch.
    """
    told = [
        (f"{number}:{name}", layer)
        for number, chip in enumerate(chips)
        for name, layer in _of_chip(chip)
    ]
    if kind == "msgfm":
        told += _msgfm().scene_components(chips, clear)
    names, layers = zip(*told, strict=True)
    stack = np.stack([layer.ravel() for layer in layers], axis=1)
    valid = np.isfinite(stack).all(axis=1) & clear.ravel()
    if not valid.any():
        raise BadSourceError(
            "no cell has all bands valid and clear; add an image with fewer clouds"
        )
    mean, std = stack[valid].mean(axis=0), stack[valid].std(axis=0)
    stack = (stack - mean) / np.where(std > 0, std, 1)
    np.clip(stack, -6, 6, out=stack)
    stack[~valid] = 0
    return Features(values=stack.astype(np.float32), valid=valid, names=names)


def weights_behind(kind: FeatureKind) -> tuple[Provenance, ...]:
    """Return where the weights behind features of a kind come from; () without weights."""
    return (_msgfm().weights_provenance(),) if kind == "msgfm" else ()


def _msgfm() -> Any:
    # PyTorch takes seconds to import, and is an extra
    return load("glocal.sources.models.features_msgfm", "model")


def _of_chip(chip: Chip) -> list[tuple[str, Layers]]:
    # atmospheric bands say nothing of the ground
    used = [band.name for band in chip.bands if band.common_name not in ("cirrus", "nir09")]
    bands = {name: chip.band(name) for name in used}
    optical = chip.has("red")
    out = [(name, np.log(np.maximum(v, 1e-3)) if optical else v) for name, v in bands.items()]
    ratios = ("blue", "green", "red", "nir", "swir16", "swir22")
    for a, b in combinations([name for name in ratios if chip.has(name)], 2):
        first, second = chip.band(a), chip.band(b)
        total = np.maximum(first + second, 1e-3)
        out.append((f"{a}-{b}", ((first - second) / total).astype(np.float32)))
    keys = ("green", "red", "nir", "swir16") if optical else tuple(used)
    for name in (key for key in keys if chip.has(key)):
        # Mean and log standard deviation in the window, from valid cells only.
        layer = chip.band(name)
        valid = np.isfinite(layer)
        filled = np.where(valid, layer, 0).astype(np.float64)
        part = np.maximum(ndimage.uniform_filter(valid.astype(np.float64), WINDOW), 1e-9)
        mean = ndimage.uniform_filter(filled, WINDOW) / part
        square = ndimage.uniform_filter(filled**2, WINDOW) / part
        std = np.sqrt(np.maximum(square - mean**2, 1e-8))
        blank = np.where(valid, 0, np.nan)
        out += [(f"{name} mean", (mean + blank).astype(np.float32))]
        out += [(f"{name} std", (np.log(std) + blank).astype(np.float32))]
    return out


def predict(
    seen: Features,
    labels: Sequence[Labels],
    fold: Bytes,
    *,
    seed: int = 0,
    only: Codes | None = None,
) -> Layers:
    """Return class probabilities of every cell, shape (cells, K), out of fold; NaN if invalid.

    ``fold`` (H, W) is constant in blocks; the model of fold f learns from those of ``labels[f]``
    that lie and reach outside it. With ``only`` (flat indices) all other cells stay NaN.
    Deterministic for a given seed.

    Raises
    ------
    BadSourceError
        No label lies outside some fold.
    """
    kernel, fold = _kernel(seen, seed), fold.ravel()
    folds = np.unique(fold)
    models = []
    for f in folds.tolist():
        mine = labels[f]
        # An object's label is barred where any of its cells lies in the fold.
        reaching = np.flatnonzero(np.bincount(mine.owner[fold == f]))
        barred = np.isin(mine.bars, reaching[reaching > 0])
        use = seen.valid[mine.cell] & (fold[mine.cell] != f) & ~barred
        if not use.any():
            raise BadSourceError(
                f"the classifier has no label outside fold {f}; use smaller blocks (block:) or "
                "add reference points or OSM"
            )
        models.append(_taught(kernel, seen, mine, use))
    cells = np.flatnonzero(seen.valid) if only is None else only[seen.valid[only]]
    return _asked(kernel, seen, models, np.searchsorted(folds, fold), cells)


def predict_taught_by_all(seen: Features, labels: Labels, *, seed: int = 0) -> Layers:
    """Return class probabilities of every cell by one model of all labels; NaN if invalid.

    Not out of fold: for a map that is read, not for anything that is judged by it (the refit of
    van der Laan, Polley and Hubbard 2007, section 2). NaN everywhere without any label.
    """
    use = seen.valid[labels.cell]
    if not use.any():
        return np.full((len(seen.valid), labels.shares.shape[1]), np.nan, np.float32)
    kernel = _kernel(seen, seed)
    one = _taught(kernel, seen, labels, use)
    of_all = np.zeros(len(seen.valid), np.int64)
    return _asked(kernel, seen, [one], of_all, np.flatnonzero(seen.valid))


def _kernel(seen: Features, seed: int) -> _Kernel:
    cells = np.flatnonzero(seen.valid)
    drawn = np.random.default_rng(seed).choice(cells, min(COMPONENTS, len(cells)), replace=False)
    return _Kernel.around(seen.values[drawn])


def _taught(
    kernel: _Kernel, seen: Features, labels: Labels, use: Bools
) -> tuple[Layers, Layers, Layers]:
    lifted = kernel.lift(seen.values[labels.cell[use]])
    return kernel.parts(_train(lifted, labels.shares[use], labels.weight[use]))


def _asked(
    kernel: _Kernel,
    seen: Features,
    models: Sequence[tuple[Layers, Layers, Layers]],
    of_cell: Codes,
    cells: Codes,
) -> Layers:
    """Return what ``models[of_cell]`` say at ``cells``, shape (all cells, K); NaN elsewhere."""
    out = np.full((len(seen.valid), len(models[0][2])), np.nan, np.float32)
    for start in range(0, len(cells), CHUNK):
        part = cells[start : start + CHUNK]
        x = seen.values[part]
        near = kernel.near(x)
        for i, (by_landmark, by_feature, constant) in enumerate(models):
            mine = of_cell[part] == i
            score = near[mine] @ by_landmark + x[mine] @ by_feature + constant
            out[part[mine]] = softmax(score, axis=1)
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kernel:
    """A Gaussian kernel seen through landmarks (Nyström approximation)."""

    landmarks: Layers
    """Shape (L, D)."""

    whiten: Layers
    """Shape (L, L), inverse square root of the landmarks' own kernel."""

    @classmethod
    def around(cls, landmarks: Layers) -> _Kernel:
        """Return the kernel seen through cells drawn from the scene, shape (L, D)."""
        bare = cls(landmarks=landmarks, whiten=np.empty((0, 0), np.float32))
        value, vector = np.linalg.eigh(bare.near(landmarks).astype(np.float64))
        whiten = (vector / np.sqrt(np.maximum(value, 1e-4))) @ vector.T
        return cls(landmarks=landmarks, whiten=whiten.astype(np.float32))

    def near(self, x: Layers) -> Layers:
        """Return the kernel between cells (n, D) and landmarks, shape (n, L)."""
        square = (x * x).sum(axis=1)[:, None] + (self.landmarks**2).sum(axis=1)[None, :]
        square -= 2 * (x @ self.landmarks.T)
        return np.asarray(np.exp(square * np.float32(-0.5 / x.shape[1])))

    def lift(self, x: Layers) -> Layers:
        """Return kernel features beside the plain ones and a constant, shape (n, L + D + 1)."""
        one = np.ones((len(x), 1), np.float32)
        return np.concatenate([self.near(x) @ self.whiten * KERNEL, x * PLAIN, one], axis=1)

    def parts(self, model: Layers) -> tuple[Layers, Layers, Layers]:
        """Split a model of lifted features (L + D + 1, K): per landmark, per feature, constant.

        So a model speaks of the landmarks through one product, and no cell is lifted twice.
        """
        n = len(self.landmarks)
        return self.whiten @ model[:n] * KERNEL, model[n:-1] * PLAIN, model[-1]


def _train(x: Layers, shares: Table, weight: Table) -> Layers:
    """Fit multinomial logistic regression to soft labels; returns (E, K).

    Minimises cross-entropy + L2 by steps against a fixed upper bound of the Hessian,
    half of x' W x per class (Böhning 1992), with Nesterov's momentum.
    """
    wide = x.astype(np.float64)
    target, mass = shares * weight[:, None], weight[:, None]
    # Böhning: softmax(x) has a Hessian of at most half of the identity.
    bound = 0.5 * wide.T @ (wide * mass) + PENALTY * np.eye(x.shape[1])
    factor = cho_factor(bound)
    model = np.zeros((x.shape[1], shares.shape[1]))
    ahead, t = model, 1.0
    for _ in range(ITERATIONS):
        gradient = wide.T @ (softmax(wide @ ahead, axis=1) * mass - target) + PENALTY * ahead
        step = ahead - cho_solve(factor, gradient)
        # Nesterov: t' = (1 + sqrt(1 + 4 t^2)) / 2, ahead by (t - 1) / t' of the last change.
        further = (1 + np.sqrt(1 + 4 * t * t)) / 2
        ahead = step + (t - 1) / further * (step - model)
        model, t = step, further
    return model.astype(np.float32)
