"""Existing land-cover maps as statements: cell by cell, or one per coarse native cell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core import legends
from glocal.core.grid import points_at, require_overlap
from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk, Legend
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.typing import Bytes, Floats
from glocal.errors import BadSourceError, LegendMismatchError
from glocal.io.raster import Pixels, cell_size_on, native_grid, read_pixels, warp

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
    provenance: Provenance
    """Of the map; its agent is the name of the legend."""

    @classmethod
    def of(
        cls,
        source: str,
        path: Path,
        name: str,
        target: Legend,
        interval: Interval,
        licence: str,
        legend_csv: Path | None,
    ) -> _Alphabet:
        """Return the meaning of a known legend's codes, or of a table's."""
        year = interval.start.year
        if legend_csv is not None:
            own = legends.legend_from_csv(legend_csv)
            name = name or own.name
            codes = {value: symbol for symbol, value in enumerate(own.values, start=1)}
            walk = legends.crosswalk_from_csv(legend_csv, target)
            credit, roots = "", frozenset({f"map:{source}"})
        else:
            codes, walk = legends.code_symbols(name), legends.crosswalk(name, target)
            licence = licence or legends.licence(name)
            credit, roots = legends.attribution(name, year), legends.roots(name, year)
        provenance = Provenance(
            activity="read land-cover map",
            agent=name,
            used=(path.name,),
            licences=frozenset({licence}) if licence else frozenset(),
            roots=roots,
            attribution=(credit,) if credit else (),
            generated_at=interval.start,
        )
        return cls(codes=codes, crosswalk=walk, provenance=provenance)

    def symbols(self, pixels: Pixels) -> Bytes:
        """Return the symbol of every pixel, 0 where invalid or unknown."""
        known = np.array(sorted(self.codes), np.int64)
        meaning = np.array([self.codes[int(code)] for code in known], np.uint8)
        at = np.clip(np.searchsorted(known, pixels.values), 0, len(known) - 1)
        said = pixels.valid & (known[at] == pixels.values)
        return np.where(said, meaning[at], 0).astype(np.uint8)


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
    alphabet = _Alphabet.of(source, path, legend_name, legend, interval, licence, legend_csv)
    pixels = _codes(source, path, geobox, crs, alphabet)
    size, symbols = cell_size_on(grid, geobox), alphabet.symbols(pixels)
    outlines, record = np.empty(0, object), np.empty(0, "U1")
    if size <= COARSE:
        spoken = replace(pixels, values=symbols, valid=symbols > 0)
        symbols, _ = warp(spoken, geobox, "mode" if size < 1 else "nearest")
    else:
        symbols, outlines, record = _coarse(pixels, geobox, symbols)
    if not symbols.any():
        raise BadSourceError(
            f"{source}: {path.name} says nothing inside the area (only nodata or silent codes); "
            "check the file and the area"
        )
    return Observations(
        source=source,
        support="cells" if size <= COARSE else "mixtures",
        geobox=geobox,
        symbols=symbols,
        geometry=outlines,
        record=record,
        crosswalk=alphabet.crosswalk,
        phenomenon_time=interval,
        provenance=alphabet.provenance,
    )


def _in_area(grid: GeoBox, geobox: GeoBox, row: Floats, column: Floats) -> tuple[Any, ...]:
    """Return x, y in the CRS of ``geobox`` at rows and columns of ``grid``."""
    to_area = pyproj.Transformer.from_crs(str(grid.crs), str(geobox.crs), always_xy=True)
    return tuple(to_area.transform(*points_at(grid, row, column)))


def _codes(source: str, path: Path, geobox: GeoBox, crs: Any, alphabet: _Alphabet) -> Pixels:
    """Return the pixels as int32 codes, 0 where invalid.

    Codes outside the legend are refused where their pixel's centre lies inside the area.
    """
    pixels = read_pixels(path, geobox, crs=crs, categorical=True)
    held = np.where(pixels.valid, pixels.values, 0)
    if held.dtype.kind == "f" and not np.array_equal(held, np.round(held)):
        raise BadSourceError(
            f"{path} holds fractions, a class map holds whole codes; "
            "read it as an image, or choose the band with the classes"
        )
    pixels = replace(pixels, values=held.astype(np.int32))
    strange = pixels.valid & ~np.isin(pixels.values, list(alphabet.codes))
    rows, columns = np.nonzero(strange)
    if not len(rows):
        return pixels
    x, y = _in_area(pixels.grid, geobox, rows + 0.5, columns + 0.5)
    left, bottom, right, top = geobox.extent.boundingbox.bbox
    inside = (x >= left) & (x < right) & (y > bottom) & (y <= top)
    codes, counts = np.unique(pixels.values[rows[inside], columns[inside]], return_counts=True)
    if len(codes):
        pairs = zip(codes, counts, strict=True)
        listed = ", ".join(f"{code} ({count} cells)" for code, count in pairs)
        raise LegendMismatchError(
            f"{source}: {path.name} holds codes that legend {alphabet.provenance.agent} does not "
            f"know: {listed}; choose the right legend:, or give its classes as a CSV"
        )
    return pixels


def _coarse(
    pixels: Pixels, geobox: GeoBox, symbols: Bytes
) -> tuple[Bytes, NDArray[np.object_], NDArray[np.str_]]:
    """Return (symbols, polygons, records) of the native cells that overlap the area."""
    rows, columns = np.nonzero(symbols)
    # Points along the edges, since straight lines of one CRS bend in another.
    step = np.arange(EDGE_POINTS) / EDGE_POINTS
    still, one = np.zeros(EDGE_POINTS), np.ones(EDGE_POINTS)
    row = rows[:, None] + np.concatenate([still, step, one, 1 - step])
    column = columns[:, None] + np.concatenate([step, one, 1 - step, still])
    x, y = _in_area(pixels.grid, geobox, row, column)
    outlines = shapely.polygons(np.stack([x, y], axis=-1))
    area = shapely.box(*geobox.extent.boundingbox.bbox)
    touching = shapely.intersects(outlines, area) & ~shapely.touches(outlines, area)
    rows, columns, outlines = rows[touching], columns[touching], outlines[touching]
    top, left = pixels.offset_yx
    record = [f"r{r + top}c{c + left}" for r, c in zip(rows, columns, strict=True)]
    return symbols[rows, columns], outlines, np.array(record, np.str_)
