"""Existing land-cover maps as statements: cell by cell, or one per coarse native cell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core import legends
from glocal.core.grid import require_overlap
from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk, Legend
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.typing import Bytes, Codes
from glocal.errors import BadSourceError, LegendMismatchError
from glocal.io.raster import Pixels, cell_size_on, native_grid, read_pixels, warp

__all__ = ["COARSE", "observe_landcover"]

COARSE = 3.0
"""A map whose cells are more than so many cells of the grid wide speaks of mixtures."""

EDGE_POINTS = 8
"""Points per edge of a native cell, so that its outline stays true in another CRS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Alphabet:
    """What the codes of one map mean."""

    codes: dict[int, int]
    """Raster code to symbol; 0 says nothing."""

    crosswalk: Crosswalk
    licence: str
    attribution: tuple[str, ...]
    roots: frozenset[str]
    title: str


def observe_landcover(
    path: Path,
    geobox: GeoBox,
    legend: Legend,
    *,
    source: str,
    legend_name: str,
    interval: Interval,
    crs: Any | None = None,
    licence: str = "",
    legend_csv: Path | None = None,
) -> Observations:
    """Return what an existing categorical map states about the area.

    ``legend_name`` is a known legend (`glocal.core.legends.legend_names`), or any name
    when ``legend_csv`` gives the classes. A map with native cells up to 3 cells of the
    grid wide becomes ``cells`` (nearest, or the mode when it is finer); a coarser one
    becomes ``mixtures``: one record ``r<row>c<column>`` per native cell that touches the
    area, whole cells as polygons in the area's CRS. Nodata and codes such as cloud say
    nothing.

    Raises
    ------
    LegendMismatchError
        Codes inside the area that the legend does not know, each with its count.
    GridMismatchError
        No CRS, or no overlap.
    SourceUnavailableError
        The file can't be read.
    BadSourceError
        Fractions instead of codes, or no valid cell in the area.
    """
    path = Path(path)
    grid = native_grid(path, crs)
    require_overlap(source, grid.extent, geobox)
    alphabet = _alphabet(source, legend_name, legend, interval, legend_csv)
    pixels = _whole_numbers(path, read_pixels(path, geobox, crs=crs, categorical=True))
    _require_known(source, path, pixels, geobox, alphabet)
    size = cell_size_on(grid, geobox)
    if size <= COARSE:
        symbols = _on_cells(pixels, geobox, alphabet, "mode" if size < 1 else "nearest")
        outlines, record = np.empty(0, object), np.empty(0, "U1")
    else:
        symbols, outlines, record = _coarse(pixels, geobox, alphabet)
    _require_any(source, path, symbols)
    return Observations(
        source=source,
        support="cells" if size <= COARSE else "mixtures",
        geobox=geobox,
        symbols=symbols,
        geometry=outlines,
        record=record,
        crosswalk=alphabet.crosswalk,
        phenomenon_time=interval,
        provenance=_provenance(path, alphabet, licence, interval),
    )


def _alphabet(
    source: str, name: str, target: Legend, interval: Interval, legend_csv: Path | None
) -> _Alphabet:
    if legend_csv is not None:
        own = legends.legend_from_csv(legend_csv)
        return _Alphabet(
            codes={value: symbol for symbol, value in enumerate(own.values, start=1)},
            crosswalk=legends.crosswalk_from_csv(legend_csv, target),
            licence="",
            attribution=(),
            roots=frozenset({f"map:{source}"}),
            title=name or own.name,
        )
    year = interval.start.year
    return _Alphabet(
        codes=legends.code_symbols(name),
        crosswalk=legends.crosswalk(name, target),
        licence=legends.licence(name),
        attribution=(legends.attribution(name, year),),
        roots=legends.roots(name, year),
        title=name,
    )


def _provenance(path: Path, alphabet: _Alphabet, licence: str, interval: Interval) -> Provenance:
    chosen = licence or alphabet.licence
    return Provenance(
        activity="read land-cover map",
        agent=alphabet.title,
        used=(path.name,),
        licences=frozenset({chosen}) if chosen else frozenset(),
        roots=alphabet.roots,
        attribution=alphabet.attribution,
        generated_at=interval.start,
    )


def _whole_numbers(path: Path, pixels: Pixels) -> Pixels:
    """Return the pixels as int32 codes; 0 where invalid."""
    codes = np.where(pixels.valid, pixels.values, 0)
    if codes.dtype.kind == "f" and not np.array_equal(codes, np.round(codes)):
        raise BadSourceError(
            f"{path} holds fractions, a class map holds whole codes; "
            "read it as an image, or choose the band with the classes"
        )
    return Pixels(
        values=codes.astype(np.int32),
        valid=pixels.valid,
        grid=pixels.grid,
        offset_yx=pixels.offset_yx,
    )


def _to_area(grid: GeoBox, geobox: GeoBox) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(str(grid.crs), str(geobox.crs), always_xy=True)


def _require_known(
    source: str, path: Path, pixels: Pixels, geobox: GeoBox, alphabet: _Alphabet
) -> None:
    """Refuse codes outside the legend whose pixel centres lie inside the area."""
    strange = pixels.valid & ~np.isin(pixels.values, list(alphabet.codes))
    rows, columns = np.nonzero(strange)
    if not len(rows):
        return
    a, b, c, d, e, f = tuple(pixels.grid.transform)[:6]
    x, y = c + a * (columns + 0.5) + b * (rows + 0.5), f + d * (columns + 0.5) + e * (rows + 0.5)
    x, y = _to_area(pixels.grid, geobox).transform(x, y)
    left, bottom, right, top = geobox.extent.boundingbox.bbox
    inside = (x >= left) & (x < right) & (y > bottom) & (y <= top)
    codes, counts = np.unique(pixels.values[rows[inside], columns[inside]], return_counts=True)
    if len(codes):
        listed = ", ".join(
            f"{code} ({count} cells)" for code, count in zip(codes, counts, strict=True)
        )
        raise LegendMismatchError(
            f"{source}: {path.name} holds codes that legend {alphabet.title} does not know: "
            f"{listed}; choose the right legend:, or give its classes as a CSV"
        )


def _require_any(source: str, path: Path, symbols: NDArray[np.unsignedinteger]) -> None:
    if not symbols.any():
        raise BadSourceError(
            f"{source}: {path.name} says nothing inside the area (only nodata or silent codes); "
            "check the file and the area"
        )


def _symbols(pixels: Pixels, alphabet: _Alphabet) -> Bytes:
    """Return the symbol of every pixel, 0 where invalid or unknown."""
    known = np.array(sorted(alphabet.codes), np.int64)
    meaning = np.array([alphabet.codes[int(code)] for code in known], np.uint8)
    at = np.clip(np.searchsorted(known, pixels.values), 0, len(known) - 1)
    said = pixels.valid & (known[at] == pixels.values)
    return np.where(said, meaning[at], 0).astype(np.uint8)


def _on_cells(pixels: Pixels, geobox: GeoBox, alphabet: _Alphabet, resampling: str) -> Bytes:
    symbols = _symbols(pixels, alphabet)
    spoken = Pixels(values=symbols, valid=symbols > 0, grid=pixels.grid)
    values, valid = warp(spoken, geobox, resampling)
    return np.where(valid, values, 0).astype(np.uint8)


def _coarse(
    pixels: Pixels, geobox: GeoBox, alphabet: _Alphabet
) -> tuple[Bytes, NDArray[np.object_], NDArray[np.str_]]:
    """Return (symbols, polygons, records) of the native cells that overlap the area."""
    symbols = _symbols(pixels, alphabet)
    rows, columns = np.nonzero(symbols)
    outlines = _outlines(pixels.grid, geobox, rows, columns)
    left, bottom, right, top = geobox.extent.boundingbox.bbox
    area = shapely.box(left, bottom, right, top)
    touching = shapely.intersects(outlines, area) & ~shapely.touches(outlines, area)
    rows, columns, outlines = rows[touching], columns[touching], outlines[touching]
    top_row, left_column = pixels.offset_yx
    record = np.array(
        [f"r{r}c{c}" for r, c in zip(rows + top_row, columns + left_column, strict=True)], np.str_
    )
    return symbols[rows, columns], outlines, record


def _outlines(grid: GeoBox, geobox: GeoBox, rows: Codes, columns: Codes) -> NDArray[np.object_]:
    """Return the outlines of cells of ``grid``, with points along the edges, in the area's CRS."""
    step = np.arange(EDGE_POINTS) / EDGE_POINTS
    still, one = np.zeros(EDGE_POINTS), np.ones(EDGE_POINTS)
    along_x = np.concatenate([step, one, 1 - step, still])
    along_y = np.concatenate([still, step, one, 1 - step])
    column, row = columns[:, None] + along_x, rows[:, None] + along_y
    a, b, c, d, e, f = tuple(grid.transform)[:6]
    x, y = _to_area(grid, geobox).transform(c + a * column + b * row, f + d * column + e * row)
    return np.asarray(shapely.polygons(np.stack([x, y], axis=-1)))
