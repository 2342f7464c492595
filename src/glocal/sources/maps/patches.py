"""Patches of a map that changed: from, to, how sure, on what ground."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from glocal.core.correction import Corrections
from glocal.core.grid import cell_area_ha
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.io.vector import polygons_of_labels

__all__ = ["Base", "MapChange", "patch_labels", "patches"]

SPEAKS = 0.1
"""Nats by which a source must prefer a change to be named as its ground."""

Layer = NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The map that a correction speaks of."""

    name: str
    version: str
    interval: Interval
    """When the ground was as the map says."""

    now: Interval
    """When the ground is as the correction says."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapChange:
    """A map before and after, and what speaks for the change."""

    corrected: NDArray[np.uint8]
    """Shape (H, W), class values of ``legend``; 0 is no data."""

    original: NDArray[np.uint8]
    """Likewise."""

    probability: Layer
    """Shape (H, W), probability that the corrected class is right."""

    probability_before: Layer
    """Shape (H, W), probability that the original class is right."""

    geobox: GeoBox
    legend: Legend
    base: Base
    voices: Mapping[str, Layer] = field(default_factory=dict)
    """Source → shape (H, W), nats by which it prefers the new class to the old one."""

    confirmed: NDArray[np.bool_] | None = None
    """Shape (H, W), True where people confirmed the change after an earlier run."""

    def __post_init__(self) -> None:
        shape = tuple(self.geobox.shape)
        layers = (self.corrected, self.original, self.probability, self.probability_before)
        found = [one.shape for one in (*layers, *self.voices.values())]
        if any(one != shape for one in found):
            raise ValueError(f"layers of a map must have the grid's shape {shape}, got {found}")
        at = self.probability[self.changed]
        if not ((at >= 0) & (at <= 1)).all():
            raise ValueError("probability must lie in 0..1 wherever the class changes")

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Shape (H, W), True where one class is replaced by another."""
        nothing = self.legend.nodata
        both = (self.corrected != nothing) & (self.original != nothing)
        return np.asarray((self.corrected != self.original) & both)


def patch_labels(code: NDArray[np.int64], smallest: int) -> NDArray[np.int32]:
    """Return labels 1..n of edge-connected cells with equal ``code`` > 0, shape (H, W).

    Patches with fewer than ``smallest`` cells get 0; labels follow the first cell of a
    patch in row-major order.

    >>> patch_labels(np.array([[5, 5, 0], [7, 5, 5]]), 2).tolist()
    [[1, 1, 0], [0, 1, 1]]
    """
    cells = np.arange(code.size).reshape(code.shape)
    pairs = []
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        same = (code[one] == code[other]) & (code[one] > 0)
        pairs.append((cells[one][same], cells[other][same]))
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(code.size,) * 2)
    _, part = connected_components(graph, directed=False)
    size = np.bincount(part)
    keep = (code.ravel() > 0) & (size[part] >= smallest)
    labels = np.zeros(code.size, np.int32)
    _, start, inverse = np.unique(part[keep], return_index=True, return_inverse=True)
    rank = np.empty(len(start), np.int32)
    rank[np.argsort(start)] = np.arange(1, len(start) + 1)
    labels[keep] = rank[inverse]
    return labels.reshape(code.shape)


def patches(
    change: MapChange, corrections: Corrections | None, smallest: int, *, confirmed: bool = False
) -> gpd.GeoDataFrame:
    """Return the changed patches of ``smallest`` cells or more, in the grid's CRS.

    With ``confirmed`` those that people confirmed after earlier runs, else all others.

    Columns: ``change_id`` (from map, place, classes and size: equal in every run that finds
    the patch again), ``class_from``, ``class_to``, ``p_from``, ``p_to`` (means over the
    patch), ``area_ha``, ``because`` (sources that prefer the change, the most decided
    first), ``date_from``, ``date_to``, ``round``, ``status`` (``proposed`` or
    ``accepted``), ``base_map_id``, ``base_map_version``.
    """
    settled = np.zeros(change.changed.shape, bool) if change.confirmed is None else change.confirmed
    code = change.original.astype(np.int64) * 256 + change.corrected
    labels = patch_labels(np.where(change.changed & (settled == confirmed), code, 0), smallest)
    n = int(labels.max(initial=0))
    _, at = np.unique(labels, return_index=True)
    at = at[-n:] if n else at[:0]
    size = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    names = dict(zip(change.legend.values, change.legend.names, strict=True))
    before = [names.get(value, str(value)) for value in change.original.ravel()[at].tolist()]
    after = [names.get(value, str(value)) for value in change.corrected.ravel()[at].tolist()]
    polygons = polygons_of_labels(labels, change.geobox)
    corner = shapely.bounds(polygons)[:, [0, 3]] if n else np.empty((0, 2))
    ids = [
        f"{change.base.name}-{old}-{new}-{x:.1f}-{y:.1f}-{i}"
        for old, new, (x, y), i in zip(before, after, corner, size.tolist(), strict=True)
    ]
    columns: dict[str, Any] = {
        "change_id": _text(ids),
        "class_from": _text(before),
        "class_to": _text(after),
        "p_from": np.round(_means(labels, change.probability_before, n), 4),
        "p_to": np.round(_means(labels, change.probability, n), 4),
        "area_ha": np.round(size * cell_area_ha(change.geobox), 4),
        "because": _text(_grounds(labels, change.voices, n)),
        "date_from": _text([change.base.interval.isoformat()] * n),
        "date_to": _text([change.base.now.isoformat()] * n),
        "round": np.full(n, corrections.round if corrections is not None else -1),
        "status": _text(["accepted" if confirmed else "proposed"] * n),
        "base_map_id": _text([change.base.name] * n),
        "base_map_version": _text([change.base.version] * n),
    }
    return gpd.GeoDataFrame(columns, geometry=polygons, crs=str(change.geobox.crs))


def _text(values: list[str]) -> NDArray[np.object_]:
    return np.array(values, dtype=object)


def _means(labels: NDArray[np.int32], layer: Layer, n: int) -> NDArray[np.float64]:
    """Return the mean of ``layer`` over each label 1..n."""
    flat = labels.ravel()
    size = np.bincount(flat, minlength=n + 1)[1:]
    inside = np.where(flat > 0, layer.ravel(), 0.0)
    return np.asarray(np.bincount(flat, inside, n + 1)[1:] / np.maximum(size, 1))


def _grounds(labels: NDArray[np.int32], voices: Mapping[str, Layer], n: int) -> list[str]:
    """Return for each label the sources that speak for the change, the most decided first."""
    names = sorted(voices)
    said = np.array([_means(labels, voices[name], n) for name in names]).reshape(len(names), n)
    order = np.argsort(-said, axis=0, kind="stable")
    return [
        ", ".join(names[i] for i in order[:, patch] if said[i, patch] > SPEAKS)
        for patch in range(n)
    ]
