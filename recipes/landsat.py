"""A sensor that pretraining never saw: Landsat-8, a row of the sensor table and nothing else.

Two questions. Land cover: two Flemish field sites, each learned from the other, from Landsat alone.
Same place: is a Landsat chip of Kempen nearest to the Sentinel-2 chip of the same place, without
any training? Two sites and one scene: cases, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from einops import rearrange
from netCDF4 import Dataset
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from glocal.train.tasks import segment
from glocal.train.tasks.dense import Settings
from msgfm import Batch, Encoder, batch_of
from msgfm.adapt import with_sensor

SITES = ("00002806639B424A", "000028085BF08E7E")
CODES = {11: "crop", 13: "grass", 60: "built", 99: "other"}
BANDS = {"B02": "SR_B2", "B03": "SR_B3", "B04": "SR_B4", "B05": "SR_B5", "B06": "SR_B6",
         "B07": "SR_B7"}  # fmt: skip
"""Variable of the cubes -> band of the table; the coastal band is missing."""

CLEAR_BIT = 1 << 1
"""Of ``pixel_qa`` of Landsat Collection 1."""

CLEAR = 0.98
"""Smallest share of clear pixels of a date; a date with fill pixels is left out."""

SIDE = 64
BRIGHT = 0.16
"""Blue reflectance above which a pixel of Kempen counts as cloud, in either image."""

GSD_M = 30.0

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Site:
    """Clear dates of one field site and its land cover."""

    name: str
    batch: Batch
    labels: NDArray[np.int64]
    """(B, H, W), the same for all dates."""


# Land cover ------------------------------------------------------------------


def site(data: Path, name: str) -> Site:
    """Read the clear dates of one site: Landsat on a grid of 10 m, and its land cover."""
    folder = data / "worldcereal-cib"
    (cube,), (cover,) = (sorted(folder.glob(f"{name}__{k}_*.nc")) for k in ("L8_SR", "OUTPUT"))
    with Dataset(cube) as file:
        file.set_auto_maskandscale(False)
        stored = np.stack([file[v][:] for v in BANDS], 1)
        quality = file["pixel_qa"][:]
        start = datetime.fromisoformat(file["timestamp"].units.removeprefix("seconds since "))
        dates = [start + timedelta(seconds=int(s)) for s in file["timestamp"][:]]
    with Dataset(cover) as file:
        file.set_auto_maskandscale(False)
        code = file["LC"][:]
    clear = ((quality & CLEAR_BIT) > 0).mean((1, 2)) >= CLEAR
    used = np.flatnonzero(clear & (quality > 0).all((1, 2)))
    images = np.where(stored[used] > 0, stored[used] * np.float32(1e-4), np.nan)
    day = np.array([dates[i].timetuple().tm_yday for i in used], np.float32)
    labels = np.full(code.shape, segment.UNKNOWN, np.int64)
    for i, value in enumerate(CODES):
        labels[code == value] = i
    return Site(
        name=name,
        batch=batch_of(
            {"l8": images},
            bands={"l8": tuple(BANDS.values())},
            gsd_m={"l8": GSD_M},
            day={"l8": day},
        ),
        labels=np.repeat(labels[None], len(used), 0),
    )


Model = Any
Fit = Callable[[Encoder, Site, Settings], Model]


def _head_only(encoder: Encoder, train: Site, settings: Settings) -> Model:
    return segment.fit(
        encoder, train.batch, train.labels, classes=len(CODES), head="linear", settings=settings
    )


def _embedding_too(encoder: Encoder, train: Site, settings: Settings) -> Model:
    encoder.requires_grad_(False)
    encoder.embed_tokens.sensors["l8"].requires_grad_(True)
    return segment.fit(
        encoder, train.batch, train.labels, classes=len(CODES), frozen=False, head="linear",
        settings=settings,
    )  # fmt: skip


METHODS: dict[str, tuple[str | None, Fit]] = {
    "embedding random, frozen": (None, _head_only),
    "embedding random, trained": (None, _embedding_too),
    "embedding from s2 by wavelength, frozen": ("s2", _head_only),
    "embedding from s2 by wavelength, trained": ("s2", _embedding_too),
}
"""What becomes of the new patch embedding, and the embedding that it starts from."""


def land_cover(
    data: Path, encoders: Mapping[str, Encoder], settings: Settings
) -> Iterator[dict[str, Any]]:
    """Learn each site from the other; yield one row per site and method.

    The answers of all dates of a site are averaged. Floors: a logistic regression and a random
    forest on the six bands of single pixels, a small U-Net from scratch, and the commonest class.
    """
    sites = [site(data, name) for name in SITES]
    for train, test in (sites, sites[::-1]):

        def row(method: str, model: Model, test: Site = test) -> dict[str, Any]:
            answer = segment.predict(model, test.batch).mean(0).argmax(0)
            found = segment.score(answer, test.labels[0], len(CODES))
            return {"test": test.name, "method": method, **found.as_dict(tuple(CODES.values()))}

        yield {**_commonest(train, test), "dates": len(test.labels)}
        for kind in ("logistic", "forest"):
            model = segment.fit_pixels(
                train.batch, train.labels, classes=len(CODES), kind=kind, seed=settings.seed
            )
            yield row(f"pixels, {kind}", model)
        yield row("U-Net from scratch", segment.fit_unet(
            train.batch, train.labels, classes=len(CODES), settings=settings))  # fmt: skip
        for name, encoder in encoders.items():
            for method, (like, fit) in METHODS.items():
                torch.manual_seed(settings.seed)
                yield row(
                    f"{name}: {method}", fit(with_sensor(encoder, "l8", like), train, settings)
                )


def _commonest(train: Site, test: Site) -> dict[str, Any]:
    most = np.bincount(train.labels[train.labels >= 0]).argmax()
    found = segment.score(np.full_like(test.labels[0], most), test.labels[0], len(CODES))
    return {"test": test.name, "method": "commonest class", **found.as_dict(tuple(CODES.values()))}


# Same place ------------------------------------------------------------------


def same_place(data: Path, encoders: Mapping[str, Encoder]) -> Iterator[dict[str, Any]]:
    """Yield how often the Sentinel-2 chip nearest to a Landsat chip shows the same place.

    Both images have blue, green and red only, dates differ; chips with clouds are left out.
    Vectors are standardised within each sensor and compared by their cosine. Floors: mean and
    spread of each band, and of the pixels of an image of 8 x 8 cells.
    """
    chips = _kempen(data)
    few = {
        k: rearrange(v, "n c (y p) (x q) -> n (c y x) p q", y=8, x=8).mean((2, 3))
        for k, v in chips.items()
    }
    plain = {k: np.concatenate([v.mean((2, 3)), v.std((2, 3))], 1) for k, v in chips.items()}
    count = len(chips["l8"])
    yield {"method": "chance", "chips": count, "top1": 1 / count, "top5": 5 / count}
    yield {"method": "image statistics", "chips": count, **_retrieval(plain["l8"], plain["s2"])}
    yield {"method": "image of 8 x 8 cells", "chips": count, **_retrieval(few["l8"], few["s2"])}
    for name, encoder in encoders.items():
        for like in (None, "s2"):
            both = with_sensor(encoder, "l8", like)
            vectors = {
                k: both.embed({k: v}, bands={k: ("blue", "green", "red")}).numpy()
                for k, v in chips.items()
            }
            how = "embedding random" if like is None else "embedding from s2 by wavelength"
            found = _retrieval(vectors["l8"], vectors["s2"])
            yield {"method": f"{name}: {how}", "chips": count, **found}


def _kempen(data: Path) -> dict[str, Floats]:
    """Return chips (n, 3, 64, 64) of the places that are clear in both images."""
    images = {}
    for short, prefix in (("l8", "L8"), ("s2", "S2")):
        layers = []
        for band in ("B02", "B03", "B04"):
            with rasterio.open(data / "belgium" / f"kempen_{prefix}_{band}.tif") as file:
                layers.append(file.read(1).astype(np.float32) / 10_000)
        images[short] = rearrange(np.stack(layers), "c (y p) (x q) -> (y x) c p q", p=SIDE, q=SIDE)
    clear = np.logical_and.reduce(
        [(i[:, 0] < BRIGHT).mean((1, 2)) > CLEAR for i in images.values()]
    )
    return {short: image[clear] for short, image in images.items()}


def _retrieval(query: NDArray[Any], base: NDArray[Any]) -> dict[str, float]:
    """Return the share of rows of ``query`` whose own row of ``base`` is nearest, or in five."""
    a, b = (StandardScaler().fit_transform(np.asarray(x, np.float64)) for x in (query, base))
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b))
    alike = a @ b.T
    rank = (alike > np.diag(alike)[:, None]).sum(1)
    return {"top1": float((rank < 1).mean()), "top5": float((rank < 5).mean())}
