"""From words to the engine's own values: observations of each source, and anchors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import shapely
import xarray as xr
from numpy.typing import NDArray

from glocal.api.given import Meaning, Words, crosswalk, read, symbols
from glocal.api.layout import Cells, Items, Layout
from glocal.core.grid import cells_of_points
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.observation import Anchors, Observations
from glocal.core.provenance import Provenance
from glocal.errors import BadSourceError, GridMismatchError
from glocal.io.labelled import CLASS
from glocal.sources.stated import observe_stated

LABELS = ("label", "class")
"""Names of the column of a frame that says what is there."""

ANY_TIME = Interval.of_year(2000)
"""All is taken as of one time."""


def label_of(given: Any, source: str) -> Any:
    """Return the words in what was handed over: the column of a frame, else itself."""
    if not isinstance(given, pd.DataFrame):
        return given
    for name in LABELS:
        if name in given.columns:
            return given[name]
    raise BadSourceError(
        f"{source}: a frame needs a column 'label' or 'class' that says what is there, got "
        f"{', '.join(map(str, given.columns))}"
    )


def is_stated(given: Any) -> bool:
    """Return True for probabilities: arrays (H, W, K), or xarray with a dimension of classes."""
    if isinstance(given, xr.DataArray):
        return CLASS in given.dims
    return isinstance(given, np.ndarray) and given.ndim == 3


def stated_classes(given: Any) -> list[Any]:
    """Return the classes of probabilities: their coordinate, or numbers from 0."""
    if isinstance(given, xr.DataArray) and CLASS in given.coords:
        return list(given[CLASS].values)
    return list(range(given.sizes[CLASS] if isinstance(given, xr.DataArray) else given.shape[2]))


def observe(
    given: Any,
    said: Words | None,
    layout: Layout,
    legend: Legend,
    *,
    source: str,
    meaning: Meaning | None = None,
    roots: frozenset[str],
) -> Observations:
    """Return what one source says; ``said`` are its words, None where it states probabilities."""
    provenance = Provenance(activity="hand over", agent=source, roots=roots)
    if said is None:
        (stated,) = observe_stated(
            _stated(given, len(legend), source),
            geobox=layout.geobox,
            legend=legend,
            source=source,
            interval=ANY_TIME,
            provenance=provenance,
        )
        return stated
    symbol = symbols(said, legend.names if meaning is None else list(meaning))
    places: dict[str, Any] = {"support": "cells"}
    if isinstance(layout, Items):
        symbol = symbol[None]
    elif isinstance(given, pd.DataFrame):
        places = _places(given, layout, source)
    return Observations(
        source=source,
        geobox=layout.geobox,
        symbols=symbol,
        crosswalk=crosswalk(said, legend, meaning),
        phenomenon_time=ANY_TIME,
        provenance=provenance,
        **places,
    )


def _places(frame: pd.DataFrame, grid: Cells, source: str) -> dict[str, Any]:
    """Return what makes statements at points, or about polygons, of the rows of a frame."""
    geometry = grid.located(frame, source)
    areas = shapely.get_dimensions(geometry) == 2
    if areas.any() and not areas.all():
        raise BadSourceError(f"{source}: a frame holds either points or polygons, got both")
    sd = frame.get("position_sd_m", np.zeros(len(frame)))
    # who answered is a stratum: a table of his own, as far as he is heard
    workers = frame.get("worker", np.zeros(len(frame)))
    return {
        "support": "objects" if areas.any() else "points",
        "geometry": geometry,
        "record": np.array([f"{source}/{i}" for i in range(len(frame))]),
        "position_sd_m": np.asarray(sd, np.float64)[: 0 if areas.any() else None],
        "stratum": pd.factorize(workers, sort=True)[0].astype(np.uint16),
    }


def _stated(given: Any, classes: int, source: str) -> NDArray[np.float32]:
    """Return probabilities (cells, K), NaN where nothing is stated."""
    if isinstance(given, xr.DataArray):
        given = given.transpose(..., CLASS).values
    p = np.asarray(given, np.float32)
    p = p.reshape(-1, p.shape[-1])
    told = np.asarray(np.isfinite(p).all(axis=1))
    fits = p.shape[1] == classes
    if not fits or (p[told] < 0).any() or not np.allclose(p[told].sum(axis=1), 1, atol=0.01):
        raise BadSourceError(
            f"{source}: probabilities of {classes} classes must be >= 0 and sum to 1 over the last "
            f"axis, got {p.shape[1]} from {np.nanmin(p, initial=0):g} to "
            f"{np.nanmax(p, initial=0):g}; pass the result of softmax"
        )
    return np.where(told[:, None], p, np.float32(np.nan))


def anchors_at(given: Any, layout: Layout, legend: Legend) -> Anchors:
    """Return reference points: a frame of places (or tasks), an array (H, W), or classes by item.

    A column ``weight`` holds inverse inclusion probabilities.
    """
    weight = None
    if isinstance(given, pd.DataFrame):
        weight = given.get("weight")
        labels = label_of(given, "anchors")
        if isinstance(layout, Cells):
            x, y = shapely.get_coordinates(shapely.centroid(layout.located(given, "anchors"))).T
            cell = cells_of_points(layout.geobox, x, y)
        else:
            cell = layout.index.get_indexer(given.get("task", given.index))
    elif isinstance(layout, Items):
        labels = pd.Series(given, layout.index if isinstance(given, np.ndarray | list) else None)
        cell = layout.index.get_indexer(labels.index)
    else:
        labels = given
        cell = np.arange(np.prod(layout.geobox.shape)).reshape(layout.geobox.shape)
        if np.shape(given) != cell.shape:
            raise GridMismatchError(
                f"anchors must have the shape of the grid, {cell.shape}, got {np.shape(given)}; "
                "write -1 where nothing is known, or pass a frame of places"
            )
    symbol = symbols(read(labels, "anchors"), legend.names).astype(np.int64)
    use = np.asarray((symbol > 0) & (cell >= 0))
    if not use.any():
        raise BadSourceError(
            "none of the anchors has a class and lies among the sources' cells or items; check "
            "their places and labels"
        )
    row, column = np.divmod(cell[use], layout.geobox.shape[1])
    side = float(layout.geobox.resolution.x)
    return Anchors(
        x=(column + 0.5) * side,
        y=-(row + 0.5) * side,
        shares=np.eye(len(legend))[symbol[use] - 1],
        weight=np.ones(use.sum()) if weight is None else np.asarray(weight, np.float64)[use],
        record=np.arange(use.sum()).astype(str),
        provenance=Provenance(activity="hand over", agent="anchors", roots=frozenset({"anchors"})),
    )
