"""What sources state: symbols with their support, in columns."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.burn import burn
from glocal.core.columns import chosen, stacked
from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk, Legend
from glocal.core.provenance import Provenance
from glocal.core.result import freeze
from glocal.core.typing import Bools, Codes, Layers, Table

Support = Literal["cells", "objects", "mixtures", "points", "answers"]
"""How one statement relates to the grid.

``cells``     one symbol per cell of the grid;
``objects``   polygons of one class each: cells inside nearly always share it;
``mixtures``  coarse cells: the symbol speaks of the shares of classes inside;
``points``    a class at a position known to some accuracy;
``answers``   polygons that somebody was asked about: the answer speaks of each cell inside,
              counts once, and is no evidence that the cells are alike.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observations:
    """The statements of one source about one property (ISO 19156), as columns.

    Symbols are the source's *own* alphabet, 1..M as named by ``crosswalk.symbols``;
    0 means that the source says nothing (cloud, not mapped, no data).
    """

    source: str
    """Name of the source, unique in a run."""

    support: Support
    geobox: GeoBox
    """Grid of the area; geometries are in its CRS."""

    symbols: NDArray[np.unsignedinteger]
    """``cells``: shape (H, W). Otherwise shape (n,), one per record."""

    crosswalk: Crosswalk
    """Alphabet and its prior meaning in the target legend."""

    phenomenon_time: Interval
    """When the ground was as the source says."""

    provenance: Provenance
    geometry: NDArray[np.object_] = field(default_factory=lambda: np.empty(0, object))
    """Shape (n,) of shapely geometries (x, y); empty for ``cells``.

    Objects stand in painting order: where two overlap, the later one speaks.
    """

    record: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, "U1"))
    """Shape (n,), native id with version (``way/123@4``); empty for ``cells``."""

    position_sd_m: Table = field(default_factory=lambda: np.empty(0))
    """Shape (n,), standard uncertainty of the position in metres; points only."""

    stratum: NDArray[np.unsignedinteger] | None = None
    """Same shape as ``symbols``: groups with reliabilities of their own (quality, age)."""

    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Further columns of shape (n,) that encoders need (original tags, version...)."""

    declared: Table | None = None
    """``answers`` only: P(symbol | class) by stratum, shape (S, K, M), before any data.

    The stratum is the question. Who is asked what follows from our own evidence, so only
    the answer *given* the question is evidence, and the crosswalk can't say that.
    """

    shares: Layers | None = None
    """``cells`` only: P(class) in the source's own words, shape (H, W, K), which symbols say
    only roughly; NaN where it is silent."""

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError("Observations.source must be named")
        if self.symbols.dtype.kind != "u":
            raise ValueError(
                f"{self.source}: symbols must be unsigned integers, got {self.symbols.dtype}"
            )
        top = int(self.symbols.max()) if self.symbols.size else 0
        if top > len(self.crosswalk.symbols):
            raise ValueError(
                f"{self.source}: symbol {top} is beyond the alphabet of "
                f"{len(self.crosswalk.symbols)}"
            )
        if self.support == "cells":
            if self.symbols.shape != tuple(self.geobox.shape):
                raise ValueError(
                    f"{self.source}: symbols must have the grid's shape "
                    f"{tuple(self.geobox.shape)}, got {self.symbols.shape}"
                )
        else:
            self._check_columns()
        if self.stratum is not None and self.stratum.shape != self.symbols.shape:
            raise ValueError(f"{self.source}: stratum must have the shape of symbols")
        self._check_declared()
        self._check_shares()
        freeze(self)

    def _check_columns(self) -> None:
        n = len(self.symbols)
        if self.symbols.ndim != 1 or len(self.geometry) != n or len(self.record) != n:
            raise ValueError(
                f"{self.source}: symbols, geometry and record must have one length, got "
                f"{self.symbols.shape}, {len(self.geometry)}, {len(self.record)}"
            )
        if len(np.unique(self.record)) != n:
            raise ValueError(f"{self.source}: records must be unique")
        if self.support == "points":
            self._check_points()
        wrong = [name for name, values in self.columns.items() if len(values) != n]
        if wrong:
            raise ValueError(f"{self.source}: columns {wrong} do not have length {n}")

    def _check_declared(self) -> None:
        if (self.declared is None) != (self.support != "answers"):
            raise ValueError(f"{self.source}: declared goes with the support answers, and only so")
        if self.declared is None:
            return
        top = 0 if self.stratum is None else int(self.stratum.max(initial=0))
        shape = (len(self.crosswalk.target), len(self.crosswalk.symbols))
        if self.declared.shape[1:] != shape or len(self.declared) <= top:
            raise ValueError(
                f"{self.source}: declared must have shape (> {top}, {shape[0]}, {shape[1]}), "
                f"got {self.declared.shape}"
            )
        if (self.declared <= 0).any() or not np.allclose(self.declared.sum(axis=2), 1):
            raise ValueError(f"{self.source}: declared must be > 0 and its rows sum to 1")

    def _check_shares(self) -> None:
        if self.shares is None:
            return
        shape = (*self.geobox.shape, len(self.crosswalk.target))
        if self.support != "cells" or self.shares.shape != shape:
            raise ValueError(
                f"{self.source}: shares go with the support cells and have shape {shape}, got "
                f"{self.support} and {self.shares.shape}"
            )
        told = self.shares[self.symbols > 0].astype(np.float32)
        if (told < 0).any() or not np.allclose(told.sum(axis=1), 1, atol=0.01):
            raise ValueError(f"{self.source}: shares must be >= 0 and sum to 1 where it speaks")
        if not np.isnan(self.shares[self.symbols == 0]).all():
            raise ValueError(f"{self.source}: shares must be NaN where symbols are 0")

    def _check_points(self) -> None:
        sd = self.position_sd_m
        if len(sd) != len(self.symbols) or not ((sd >= 0) & np.isfinite(sd)).all():
            raise ValueError(f"{self.source}: points need position_sd_m >= 0, one per record")
        there = ~(shapely.is_missing(self.geometry) | shapely.is_empty(self.geometry))
        there[there] = np.isfinite(shapely.get_coordinates(self.geometry[there])).all(axis=1)
        lost = np.flatnonzero(~there)
        if len(lost):
            raise ValueError(
                f"{self.source}: points need finite coordinates, {len(lost)} have none, the first "
                f"is {self.record[lost[0]]}; leave them out when reading"
            )

    def __len__(self) -> int:
        return len(self.symbols)

    def take(self, rows: Bools) -> Observations:
        """Return the statements selected by ``rows`` (n,); not for ``cells``."""
        names = ("symbols", "geometry", "record", "position_sd_m", "stratum", "columns")
        return chosen(self, rows, names)

    def said_class(self) -> Codes:
        """Return the class that each statement stands for at its word, -1 for none.

        Shape as `symbols`.
        """
        return np.asarray(np.append(-1, self.crosswalk.at_its_word())[self.symbols])

    def class_of_cells(self) -> Codes:
        """Return the class that is said of each cell at its word, -1 for none, shape (H, W).

        Not for points. Where objects overlap, the later one speaks.
        """
        said = self.said_class()
        return said if self.support == "cells" else np.append(-1, said)[self.owner_of_cells()]

    def owner_of_cells(self) -> NDArray[np.int32]:
        """Return the index + 1 of the object that holds each cell's centre, 0 for none, (H, W)."""
        return burn(self.geometry, self.geobox)

    def summed(self, layers: Layers) -> tuple[Codes, Table]:
        """Return how many cells each record holds, (n,), and the sum of ``layers`` (H, W, K) there.

        The sum has shape (n, K). Where records overlap, the later one holds the cell.
        """
        owner, n = self.owner_of_cells().ravel(), len(self) + 1
        flat = layers.reshape(-1, layers.shape[-1])
        total = [np.bincount(owner, one, minlength=n)[1:] for one in flat.T]
        return np.bincount(owner, minlength=n)[1:], np.stack(total, axis=1)

    @property
    def words(self) -> NDArray[np.str_]:
        """The source's word of each statement, shape as `symbols`; empty for silence."""
        return np.asarray(np.array(["", *self.crosswalk.symbols])[self.symbols])

    @property
    def speaks(self) -> bool:
        """True when the source says anything at all; who does not is no evidence."""
        return bool(self.symbols.any())

    @property
    def legend(self) -> Legend:
        """The target legend."""
        return self.crosswalk.target


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Anchors:
    """Reference points from a probability sample: few, precious, never a source."""

    x: Table
    """Shape (n,), in the grid's CRS."""

    y: Table
    shares: Table
    """Shape (n, K); soft labels, rows sum to 1; a row of zeros is non-response (cloud)."""

    weight: Table
    """Shape (n,), inverse inclusion probability, up to a constant."""

    record: NDArray[np.str_]
    provenance: Provenance

    def __post_init__(self) -> None:
        n = len(self.x)
        if not (len(self.y) == len(self.shares) == len(self.weight) == len(self.record) == n):
            raise ValueError("Anchors columns must have one length")
        if not (np.isfinite(self.x) & np.isfinite(self.y)).all():
            raise ValueError("Anchors need finite coordinates; leave the others out when reading")
        total = self.shares.sum(axis=1)
        if not (np.isclose(total, 1) | (total == 0)).all() or (self.shares < 0).any():
            raise ValueError(
                "Anchors.shares must be >= 0 and rows sum to 1, or be all zero for non-response"
            )
        if not ((self.weight > 0) & np.isfinite(self.weight)).all():
            raise ValueError("Anchors.weight must be > 0 and finite")
        freeze(self)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def answered(self) -> Bools:
        """Shape (n,), True where a class could be told."""
        return np.asarray(self.shares.sum(axis=1) > 0)

    def take(self, rows: NDArray[Any]) -> Anchors:
        """Return the anchors selected by a boolean or index array."""
        return chosen(self, rows, ("x", "y", "shares", "weight", "record"))


def joined(samples: Collection[Anchors]) -> Anchors:
    """Return several probability samples of one area as one, no place twice.

    Each sample's weights are scaled to sum to its effective size (sum w)^2 / sum w^2 (Kish
    1965), so that shares of classes are the mean of the samples' estimates, weighted by how
    much each of them knows.
    """
    parts = [
        replace(one, weight=one.weight * one.weight.sum() / (one.weight**2).sum())
        for one in samples
    ]
    whole = stacked(parts, ("x", "y", "shares", "weight", "record"))
    first = np.sort(np.unique(whole.record, return_index=True)[1])
    made_of = Provenance.derive("join samples", [one.provenance for one in parts])
    return replace(whole.take(first), provenance=made_of)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reliability:
    """A source's confusion: how often it says each symbol where a class is true."""

    source: str
    legend: Legend
    symbols: tuple[str, ...]
    confusion: Table
    """Shape (context, K, M): P(symbol | class); rows sum to 1."""

    counts: Table
    """Shape (context, K, M): effective number of statements behind each entry."""

    exponent: float
    """0..1, how much of its log-likelihood is counted where it speaks alone."""

    family: tuple[str, ...]
    """Sources that share a root with it, itself included, sorted."""

    def __post_init__(self) -> None:
        shape = (len(self.legend), len(self.symbols))
        if self.confusion.shape[1:] != shape or self.counts.shape != self.confusion.shape:
            raise ValueError(
                f"Reliability of {self.source} needs (context, {shape[0]}, {shape[1]}), got "
                f"{self.confusion.shape} and {self.counts.shape}"
            )
        if self.symbols and not np.allclose(self.confusion.sum(axis=2), 1):
            raise ValueError(f"Reliability of {self.source}: rows must sum to 1")
        freeze(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimate:
    """What all sources together say of the area, in one round."""

    geobox: GeoBox
    interval: Interval
    legend: Legend
    log_p: Layers
    """Shape (H, W, K), log-probability of every class in every cell."""

    disagreement: Layers
    """Shape (H, W), how far families of sources contradict each other, 0..1."""

    weights: dict[str, float]
    """Exponent of every source used; names them all."""

    provenance: Provenance
    round: int

    def __post_init__(self) -> None:
        shape = tuple(self.geobox.shape)
        for name, expected in (("log_p", (*shape, len(self.legend))), ("disagreement", shape)):
            found = getattr(self, name).shape
            if found != expected:
                raise ValueError(f"Estimate.{name} must have shape {expected}, got {found}")
        freeze(self)

    @property
    def p(self) -> Layers:
        """Probabilities, shape (H, W, K)."""
        return np.asarray(np.exp(self.log_p))

    @property
    def classes(self) -> Codes:
        """Position of the most probable class of every cell, shape (H, W)."""
        return np.asarray(self.log_p.argmax(axis=-1))
