"""Networks that give an image a class: a pretrained encoder fine-tuned, and one from scratch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from glocal.errors import BadSourceError
from glocal.train.tasks.dense import Settings, minimise, pixels_of, seeded
from msgfm.batch import Batch, batch_of
from msgfm.encoder import Encoder, bf16_is_fast, pool

BALANCE = 0.01
"""Weight of the routing losses while the encoder is learned (as in pretraining)."""

HEAD = 300
"""Steps in which the head alone is learned, on vectors of the encoder as it came."""

DECAY = 0.75
"""Factor on the rate from one stage to the one before (Clark et al. 2020, arXiv:2003.10555)."""

Arrays = Mapping[str, NDArray[Any]]


class SceneClassifier(nn.Module):
    """Encoder, pooled as in `Encoder.embed`, and a linear map to classes.

    Between both each column is brought to mean 0 and spread 1, as they were over ``vectors``
    (N, D) of the encoder.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, encoder: Encoder, classes: int, vectors: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean", vectors.mean(0))
        self.register_buffer("scale", vectors.std(0, correction=0).clamp(min=1e-6))
        self.head = nn.Linear(vectors.shape[1], classes)

    def forward(self, batch: Batch) -> Tensor:
        """Return logits (B, K)."""
        return self.scored(batch)[0]

    def scored(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and the routing loss, which is 0 in a dense encoder."""
        seen = self.encoder(batch)
        # in 32 bits as `Encoder.embed` does: the spread of a column may be small beside its mean
        pooled = torch.cat(
            [pool(m.float(), k) for m, k in zip(seen.maps, seen.known, strict=True)], 1
        )
        logits: Tensor = self.head((pooled - self.mean) / self.scale)
        routing = logits.new_zeros(()) if seen.routing is None else seen.routing.balance
        return logits, routing


class SceneNet(nn.Module):
    """A small convolutional network: what labels alone teach, without any pretraining."""

    def __init__(
        self, sensors: Sequence[str], inputs: int, classes: int, widths: Sequence[int]
    ) -> None:
        super().__init__()
        self.sensors = tuple(sensors)
        layers: list[nn.Module] = []
        for before, after in zip([inputs, *widths], widths, strict=False):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, batch: Batch) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.head(self.body(pixels_of(batch, self.sensors)).mean((2, 3)))
        return logits


def fine_tune(
    encoder: Encoder,
    arrays: Arrays,
    labels: NDArray[np.int64],
    *,
    classes: int,
    settings: Settings,
    gsd_m: float | None = None,
) -> SceneClassifier:
    """Learn a head, then it and a copy of the encoder, which moves less near to the pixels.

    A head that starts at random would first bend the features to itself, so it is learned
    alone before (Kumar et al., ICLR 2022).

    ``encoder`` is left as it is; ``settings.encoder_rate`` is the rate of its last stage.
    ``arrays`` and ``gsd_m`` are those of `embed_all`, with classes (N,) in 0 to ``classes`` - 1.
    Each image is seen in one of its eight flips and turns at random.
    """
    _check_labels(arrays, labels, classes)
    with seeded(settings.seed):
        vectors = torch.from_numpy(embed_all(encoder, arrays, gsd_m=gsd_m))
        net = SceneClassifier(copy.deepcopy(encoder), classes, vectors).train()
        rows = (vectors - net.mean) / net.scale
        target = torch.from_numpy(np.asarray(labels, dtype=np.int64))

        def loss_of(index: Tensor) -> Tensor:
            return functional.cross_entropy(net.head(rows[index]), target[index])

        minimise([(net.head, settings.rate)], loss_of, len(target), replace(settings, steps=HEAD))
        _learn(net.scored, _groups(net, settings), arrays, labels, settings, gsd_m)
    return net.eval()


def fit_network(
    arrays: Arrays,
    labels: NDArray[np.int64],
    *,
    classes: int,
    settings: Settings,
    widths: Sequence[int] = (16, 32, 64, 128),
) -> SceneNet:
    """Learn a small network from the labels alone; parameters are those of `fine_tune`.

    ``widths`` are the channels of its convolutions, each followed by a halving of the image.
    """
    _check_labels(arrays, labels, classes)
    with seeded(settings.seed):
        inputs = 2 * sum(array.shape[1] for array in arrays.values())
        net = SceneNet(tuple(arrays), inputs, classes, widths).train()
        _learn(lambda b: (net(b), 0.0), [(net, settings.rate)], arrays, labels, settings)
    return net.eval()


def embed_all(
    encoder: Encoder, arrays: Arrays, *, gsd_m: float | None = None, batch: int = 128
) -> NDArray[np.float32]:
    """Return the encoder's vectors (N, D) of many images, a few at a time.

    ``arrays`` are (N, C, H, W) per sensor in the units of `msgfm.batch_of`; bytes (``uint8``) are
    read as 0-255 and scaled to 0-1, so that a large set need not be held as floats. ``gsd_m`` are
    metres per pixel; ``None`` stands for what is usual for the sensor.
    """
    parts = [encoder.embed(_batch(some, gsd_m)).cpu() for some in _chunks(arrays, batch)]
    return torch.cat(parts).numpy()


@torch.inference_mode()
def predict(net: nn.Module, arrays: Arrays, *, gsd_m: float | None = None) -> NDArray[np.int64]:
    """Return the class (N,) that a fitted network gives each image; see `embed_all`."""
    parts = []
    for some in _chunks(arrays):
        with _fast():
            parts.append(net(_batch(some, gsd_m)).argmax(1).numpy())
    return np.concatenate(parts)


def _chunks(arrays: Arrays, size: int = 128) -> Iterator[dict[str, NDArray[Any]]]:
    starts = range(0, count_of(arrays), size)
    return (some_of(arrays, slice(at, at + size)) for at in starts)


def _batch(arrays: Arrays, gsd_m: float | None) -> Batch:
    return batch_of(arrays, gsd_m=None if gsd_m is None else dict.fromkeys(arrays, gsd_m))


def _learn(
    scored: Callable[[Batch], tuple[Tensor, Tensor | float]],
    groups: Sequence[tuple[nn.Module, float]],
    arrays: Arrays,
    labels: NDArray[np.int64],
    settings: Settings,
    gsd_m: float | None = None,
) -> None:
    """Minimise the cross entropy over images turned and flipped at random."""
    turn = np.random.default_rng(settings.seed)
    target = torch.from_numpy(np.asarray(labels, dtype=np.int64))

    def loss_of(index: Tensor) -> Tensor:
        # square images in one of their eight positions, others in one of four
        some, which = some_of(arrays, index.numpy()), int(turn.integers(8))
        for name, array in some.items():
            square = array.shape[2] == array.shape[3]
            one = np.rot90(array, which % 4 if square else 2 * (which % 2), axes=(2, 3))
            some[name] = np.ascontiguousarray(one[..., ::-1] if which >= 4 else one)
        with _fast():
            logits, routing = scored(_batch(some, gsd_m))
        return functional.cross_entropy(logits.float(), target[index]) + BALANCE * routing

    minimise(groups, loss_of, len(labels), settings)


def _groups(
    net: SceneClassifier, settings: Settings, decay: float = DECAY
) -> list[tuple[nn.Module, float]]:
    """Return the modules with their rates: the later the stage, the faster."""
    encoder, last = net.encoder, len(net.encoder.config.depths) - 1
    rates = [settings.encoder_rate * decay ** (last - i) for i in range(last + 1)]
    groups: list[tuple[nn.Module, float]] = [(net.head, settings.rate)]
    groups += [(encoder.embed_tokens, rates[0] * decay)]
    for column, first in ((encoder.stages, 0), (encoder.norms, 0), (encoder.merges, 1)):
        groups += [(module, rates[i + first]) for i, module in enumerate(column)]
    return groups


def some_of(arrays: Arrays, rows: Any) -> dict[str, NDArray[Any]]:
    """Return some of the images (rows or a slice of them), bytes as numbers from 0 to 1."""
    chosen = {name: array[rows] for name, array in arrays.items()}
    return {
        name: array.astype(np.float32) / np.float32(255) if array.dtype == np.uint8 else array
        for name, array in chosen.items()
    }


def count_of(arrays: Arrays) -> int:
    """Return the number of images, which must be the same for every sensor."""
    counts = {len(array) for array in arrays.values()}
    if len(counts) != 1 or 0 in counts:
        raise BadSourceError(
            f"all sensors need the same number of images, at least one; got {sorted(counts)}"
        )
    return counts.pop()


def _check_labels(arrays: Arrays, labels: NDArray[np.int64], classes: int) -> None:
    given = np.asarray(labels)
    if given.shape != (count_of(arrays),) or given.min() < 0 or given.max() >= classes:
        raise BadSourceError(
            f"labels must be {count_of(arrays)} integers from 0 to {classes - 1}, got shape "
            f"{given.shape} from {given.min()} to {given.max()}"
        )


def _fast() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast(torch.device("cpu")))
