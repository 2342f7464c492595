"""Hypothesis strategies for small areas, their sources and their reference points.

For tests of this package and of sources written elsewhere; nothing else imports it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.core.legend import ClassDef, Crosswalk, Legend
from glocal.core.observation import Anchors, Observations, Support
from glocal.core.provenance import Provenance

SUPPORTS: tuple[Support, ...] = ("cells", "objects", "mixtures", "points")
CELL = 10.0
"""Side of a cell in metres."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Panel:
    """Sources on one grid, with or without reference points."""

    sources: tuple[Observations, ...]
    anchors: Anchors | None


def legend_of(classes: int) -> Legend:
    """Return a legend of classes ``c0``, ``c1``, ... with values from 1."""
    return Legend(
        name="made up",
        classes=tuple(
            ClassDef(value=i + 1, name=f"c{i}", title=f"Class {i}", color=f"{i * 40:06x}")
            for i in range(classes)
        ),
    )


def grid(height: int, width: int) -> GeoBox:
    """Return a grid of 10 m cells in UTM zone 32N."""
    left, bottom = 500_000.0, 5_000_000.0
    return area_geobox(
        (left, bottom, left + width * CELL, bottom + height * CELL), "EPSG:32632", CELL
    )


def provenance_of(*roots: str) -> Provenance:
    """Return the provenance of something made up, with these roots."""
    return Provenance(activity="make up", agent="test", roots=frozenset(roots))


@st.composite
def crosswalks(draw: st.DrawFn, legend: Legend) -> Crosswalk:
    """Draw alphabets of 1 to 5 symbols with any meaning, some of them unknown."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    symbols = draw(st.integers(1, 5))
    return Crosswalk(
        symbols=tuple(f"s{i}" for i in range(symbols)),
        target=legend,
        matrix=rng.dirichlet(np.full(len(legend), 0.5), symbols),
        confidence=rng.choice([0.0, 0.3, 0.7, 0.95, 1.0], symbols),
    )


@st.composite
def observations(
    draw: st.DrawFn,
    geobox: GeoBox,
    legend: Legend,
    *,
    source: str = "source",
    support: Support | None = None,
    roots: tuple[str, ...] = (),
) -> Observations:
    """Draw what one source says: any support, with silence, strata and overlaps."""
    kind: Support = draw(st.sampled_from(SUPPORTS)) if support is None else support
    crosswalk = draw(crosswalks(legend))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    n = draw(st.integers(0, 6)) if kind in ("objects", "points") else 0
    if kind == "mixtures":
        n = int(np.prod([-(-side // 4) for side in geobox.shape]))
    shape = geobox.shape if kind == "cells" else (n,)
    symbols = rng.integers(0, len(crosswalk.symbols) + 1, shape).astype(np.uint8)
    stratum = rng.integers(0, 2, shape).astype(np.uint8) if draw(st.booleans()) else None
    return Observations(
        source=source,
        support=kind,
        geobox=geobox,
        symbols=symbols,
        crosswalk=crosswalk,
        phenomenon_time=Interval.of_year(2020),
        provenance=provenance_of(*(roots or (source,))),
        geometry=_geometry(kind, geobox, n, rng),
        record=np.array([f"{source}/{i}@1" for i in range(n)], dtype=np.str_),
        position_sd_m=rng.choice([0.0, 3.0, 15.0], n) if kind == "points" else np.empty(0),
        stratum=stratum,
    )


def _geometry(
    kind: Support, geobox: GeoBox, n: int, rng: np.random.Generator
) -> NDArray[np.object_]:
    """Return rectangles, a net of coarse cells or points, some of them partly outside."""
    box = geobox.boundingbox
    if kind == "mixtures":
        step = 4 * CELL
        net = np.mgrid[box.left : box.right : step, box.bottom : box.top : step].reshape(2, -1)
        return np.asarray(shapely.box(*net, *(net + step)), object)
    x = rng.uniform(box.left - CELL, box.right + CELL, n)
    y = rng.uniform(box.bottom - CELL, box.top + CELL, n)
    if kind == "points":
        return np.asarray(shapely.points(x, y), object).reshape(n)
    size = rng.uniform(0.5 * CELL, 6 * CELL, (2, n))
    return np.asarray(shapely.box(x, y, x + size[0], y + size[1]), object).reshape(n)


def anchors_at(
    geobox: GeoBox, truth: NDArray[np.integer], n: int, legend: Legend, *, seed: int = 0
) -> Anchors:
    """Return ``n`` random reference points with the class ``truth`` (H, W; -1: no answer)."""
    rng = np.random.default_rng(seed)
    height, width = geobox.shape
    row, column = rng.integers(0, height, n), rng.integers(0, width, n)
    box = geobox.boundingbox
    known = truth[row, column]
    shares = np.eye(len(legend))[known] * (known >= 0)[:, None]
    return Anchors(
        x=box.left + (column + 0.5) * CELL,
        y=box.top - (row + 0.5) * CELL,
        shares=shares,
        weight=np.ones(n),
        record=np.array([f"anchor/{i}" for i in range(n)], dtype=np.str_),
        provenance=provenance_of("reference"),
    )


@st.composite
def worlds(
    draw: st.DrawFn,
    *,
    sources: tuple[int, int] = (2, 4),
    anchors: bool | None = None,
    side: tuple[int, int] = (6, 12),
) -> Panel:
    """Draw 2 to 4 sources of any support on one grid, some sharing roots, and perhaps anchors."""
    legend = legend_of(draw(st.integers(2, 4)))
    geobox = grid(draw(st.integers(*side)), draw(st.integers(*side)))
    seen = []
    for i in range(draw(st.integers(*sources))):
        roots = draw(st.sampled_from([(f"r{i}",), ("shared",), ("shared", "other"), ("other",)]))
        seen.append(draw(observations(geobox, legend, source=f"source{i}", roots=roots)))
    points = None
    if draw(st.booleans()) if anchors is None else anchors:
        seed = draw(st.integers(0, 2**16))
        truth = np.random.default_rng(seed).integers(-1, len(legend), geobox.shape)
        points = anchors_at(geobox, truth, 60, legend, seed=seed)
    return Panel(sources=tuple(seen), anchors=points)
