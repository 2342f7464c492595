"""What the engine might have found about a source, made by hand instead of by fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from glocal.core.burn import burn
from glocal.core.chip import Chip, Image
from glocal.core.findings import Doubts, Findings, Misplaced
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.observation import Estimate, Observations
from glocal.core.provenance import Provenance
from glocal.core.result import log_normalise
from glocal.sources.images.kind import Images
from glocal.sources.kind import Reading, Window

EVIDENCE = Provenance(
    activity="fuse",
    agent="glocal",
    licences=frozenset({"Copernicus"}),
    attribution=("Contains modified Copernicus Sentinel data 2021",),
)
UNSURE = 0.4
"""Probability of a class that is likelier wrong than right."""


def window_of(
    geobox: GeoBox,
    legend: Legend,
    *,
    interval: Interval,
    precision: float = 0.8,
    dates: Mapping[str, Interval] | None = None,
) -> Window:
    """Return the area as a source is read into it; ``dates`` are those of its images."""
    fields: dict[str, Any] = {
        "geobox": geobox,
        "legend": legend,
        "interval": interval,
        "seed": 1,
        "precision": precision,
        "block": 8,
        "fold": np.zeros(geobox.shape, np.uint8),
    }
    shape = (0, *geobox.shape)
    earlier = []
    for name, when in (dates or {}).items():
        chip = Chip(
            values=np.zeros(shape, np.float32), valid=np.zeros(shape, bool), bands=(),
            geobox=geobox, interval=when, provenance=EVIDENCE,
        )  # fmt: skip
        image = Image(
            chip=chip, clear=np.ones(geobox.shape, bool), mask=np.zeros(geobox.shape, np.uint8)
        )
        earlier.append(
            Reading(
                kind=Images(), config=SimpleNamespace(name=name), window=Window(**fields),
                provenance=EVIDENCE, image=image,
            )
        )  # fmt: skip
    return Window(**fields, earlier=earlier)


def findings_about(
    source: Observations,
    *,
    provenance: Provenance = EVIDENCE,
    because: Sequence[str] = ("sentinel2",),
    unmapped: Sequence[tuple[str, float, Any]] = (),
    round: int = 1,
    **more: Any,
) -> Findings:
    """Return findings about a source; whatever is not named in ``more`` was not found.

    ``unmapped`` are places (class, probability, outline) of which the others say a class; of all
    else they say nothing.
    """
    geobox, legend = source.geobox, source.legend
    k = len(legend)
    others = np.full((*geobox.shape, k), -np.log(k))
    for name, probability, outline in unmapped:
        inside = burn(np.array([outline], object), geobox) > 0
        p = np.full(k, (1 - probability) / (k - 1))
        p[legend.index(name)] = probability
        others[inside] = np.log(p)
    others = log_normalise(others)
    estimate = Estimate(
        geobox=geobox, interval=source.phenomenon_time, legend=legend,
        log_p=others.astype(np.float32), disagreement=np.zeros(geobox.shape, np.float32),
        weights=dict.fromkeys(because, 1.0), provenance=provenance, round=round,
    )  # fmt: skip
    found = {"checkable": True, "sharpness": 1.0, **more}
    return Findings(
        source=source.source, estimate=estimate, others=others, because=tuple(because),
        provenance=provenance, **found,
    )  # fmt: skip


def doubts_of(source: Observations, rows: Mapping[int, tuple[str, float, float]]) -> Doubts:
    """Return doubts about some statements: (class that fits, its probability, of what is said).

    Nobody doubts the others.
    """
    n = len(source)
    correct, probability, proposed = np.ones(n), np.zeros(n), np.zeros(n, np.int64)
    for i, (name, fits, stays) in rows.items():
        proposed[i], probability[i], correct[i] = source.legend.index(name), fits, stays
    supported = np.isin(np.arange(n), list(rows))
    return Doubts(correct=correct, proposed=proposed, probability=probability, supported=supported)


def in_place(source: Observations) -> Misplaced:
    """Return that no object lies off."""
    n = len(source)
    return Misplaced(
        probability=np.zeros(n), shift=np.zeros((n, 2)), covariance=np.tile(np.eye(2), (n, 1, 1))
    )


def free_square(source: Observations, side: int, skip: int = 0) -> shapely.Polygon:
    """Return a square of cells in which no object lies; the next one for each ``skip``."""
    owner = burn(source.geometry, source.geobox)
    blocks = owner[: owner.shape[0] // side * side, : owner.shape[1] // side * side]
    blocks = blocks.reshape(owner.shape[0] // side, side, -1, side).any(axis=(1, 3))
    row, column = np.argwhere(~blocks)[skip] * side
    left, top = source.geobox.transform * (int(column), int(row))
    right, bottom = source.geobox.transform * (int(column) + side, int(row) + side)
    return shapely.box(left, bottom, right, top)
