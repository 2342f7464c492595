"""Patches of a map that changed: from, to, how sure, on what ground."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from glocal.core.correction import Corrections
from glocal.core.findings import Voices
from glocal.core.grid import cell_area_ha
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.typing import Bools, Codes, Layers
from glocal.sources.patches import Patches, patches_of

SPEAKS = 0.1
"""Nats by which a source must prefer a change to be named as its ground."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The map that a correction speaks of."""

    name: str
    version: str
    interval: Interval
    """When the ground was as the map says."""

    now: Interval
    """When the ground is as the correction says."""

    names: tuple[str, ...]
    """Of the classes, by position."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapChange:
    """A map before and after, as class positions (H, W), -1 where it says nothing."""

    original: Codes
    corrected: Codes
    others: Layers
    """Shape (H, W, K), probabilities from everybody else."""

    geobox: GeoBox
    legend: Legend
    base: Base
    corrections: Corrections | None = None
    """Those that went into ``corrected``; None for a map that is refined as a whole."""

    confirmed: Codes | None = None
    """What people confirmed after earlier runs, -1 for nothing."""

    voices: Voices | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.geobox.shape)
        found = [self.corrected.shape, self.original.shape, self.others.shape[:2]]
        if any(one != shape for one in found):
            raise ValueError(f"layers of a map must have the grid's shape {shape}, got {found}")

    @property
    def changed(self) -> Bools:
        """Shape (H, W), True where one class is replaced by another."""
        both = (self.corrected >= 0) & (self.original >= 0)
        return np.asarray((self.corrected != self.original) & both)

    @property
    def accepted(self) -> Bools:
        """Shape (H, W), True where the class is one that people confirmed."""
        if self.confirmed is None:
            return np.zeros(self.original.shape, bool)
        return np.asarray((self.confirmed == self.corrected) & (self.confirmed >= 0))

    def probability(self, classes: Codes) -> Layers:
        """Return the others' probability of ``classes`` (H, W)."""
        at = np.maximum(classes, 0)[..., None]
        return np.asarray(np.take_along_axis(self.others, at, axis=-1)[..., 0])

    def grounds(self, found: Patches) -> list[str]:
        """Return for each patch the sources that speak for it, the most decided first."""
        n = len(found.size)
        if self.voices is None:
            return [""] * n
        unit, inside = self.voices.unit, np.flatnonzero(found.labels)
        new, old = self.corrected.ravel()[inside], self.original.ravel()[inside]
        names, rows = sorted(self.voices.message), []
        for name in names:
            message = self.voices.message[name]
            layer = np.zeros(found.labels.size, np.float32)
            layer[inside] = message[unit[inside], new] - message[unit[inside], old]
            rows.append(found.mean(layer.reshape(found.labels.shape)))
        said = np.array(rows).reshape(len(names), n)
        order = np.argsort(-said, axis=0, kind="stable")
        return [
            ", ".join(names[i] for i in order[:, patch] if said[i, patch] > SPEAKS)
            for patch in range(n)
        ]


def from_to(original: Codes, corrected: Codes, use: Bools) -> Codes:
    """Return a code > 0 for each pair of classes (H, W), 0 where not ``use`` or nothing is said."""
    there = use & (original >= 0) & (corrected >= 0)
    return np.where(there, 1 + original * 256 + corrected, 0)


def before_after(found: Patches) -> tuple[Codes, Codes]:
    """Return the classes of each patch of `from_to` codes, shape (n,)."""
    before, after = np.divmod(found.code - 1, 256)
    return before, after


def change_ids(found: Patches, base: Base) -> list[str]:
    """Return an id of each patch, equal in every run that finds the patch again.

    From map, place, classes and size.
    """
    corner = shapely.bounds(found.geometry)[:, [0, 3]] if len(found.size) else np.empty((0, 2))
    pairs = zip(*(one.tolist() for one in before_after(found)), strict=True)
    ids = [
        f"{base.name}-{base.names[old]}-{base.names[new]}-{x:.1f}-{y:.1f}-{cells}"
        for (old, new), (x, y), cells in zip(pairs, corner, found.size.tolist(), strict=True)
    ]
    seen: Counter[str] = Counter()
    for i, one in enumerate(ids):  # two patches may share corner and size
        seen[one] += 1
        ids[i] = one if seen[one] == 1 else f"{one}-{seen[one]}"
    return ids


def patch_table(change: MapChange, smallest: int, *, confirmed: bool = False) -> gpd.GeoDataFrame:
    """Return the changed patches of ``smallest`` cells or more as a table, in the grid's CRS.

    With ``confirmed`` those that people confirmed after earlier runs, else all others.

    Columns: ``change_id`` (`change_ids`), ``class_from``, ``class_to``, ``p_from`` (the others'
    mean over the patch), ``p_to`` (the same, or of a correction its probability), ``area_ha``,
    ``because`` (sources that prefer the change, the most decided first), ``date_from``,
    ``date_to``, ``round``, ``status`` (``proposed`` or ``accepted``), ``base_map_id``,
    ``base_map_version``.
    """
    use = change.changed & (change.accepted == confirmed)
    code = from_to(change.original, change.corrected, use)
    found = patches_of(code, smallest, change.geobox)
    before, after = before_after(found)
    ids = change_ids(found, change.base)
    n, told = len(found.size), change.corrections
    sure = found.mean(change.probability(change.corrected))
    if told is not None and not confirmed:
        of_id = dict(zip(told.record.tolist(), told.probability.tolist(), strict=True))
        sure = np.array([of_id[one] for one in ids], np.float64)
    names = np.array(change.legend.names, object)
    columns: dict[str, Any] = {
        "change_id": np.array(ids, object),
        "class_from": names[before],
        "class_to": names[after],
        "p_from": np.round(found.mean(change.probability(change.original)), 4),
        "p_to": np.round(sure, 4),
        "area_ha": np.round(found.size * cell_area_ha(change.geobox), 4),
        "because": np.array(change.grounds(found), object),
        "date_from": np.full(n, change.base.interval.isoformat(), object),
        "date_to": np.full(n, change.base.now.isoformat(), object),
        "round": np.full(n, told.round if told is not None else -1),
        "status": np.full(n, "accepted" if confirmed else "proposed", object),
        "base_map_id": np.full(n, change.base.name, object),
        "base_map_version": np.full(n, change.base.version, object),
    }
    return gpd.GeoDataFrame(columns, geometry=found.geometry, crs=str(change.geobox.crs))
