"""Captures in a Zarr store.

A group with an array per sensor, named ``rgb``, ``s2``, ``sar`` or ``dsm``, of shape
(y, x), (band, y, x) or (time, band, y, x). The place is told by the attributes of the
conventions ``proj:`` (``proj:code`` or ``proj:wkt2``) and ``spatial:``
(``spatial:transform``), or by ``x`` and ``y``, the coordinates of the centres of the
pixels; bands by a coordinate ``band``; dates by a coordinate ``time`` with CF units.
``scale_factor``, ``add_offset`` and ``_FillValue`` of an array are heeded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine

from glocal.core.interval import Interval
from glocal.errors import (
    BadSourceError,
    GridMismatchError,
    MissingExtraError,
    SourceUnavailableError,
    install_line,
)
from glocal.io.raster import Pixels
from glocal.train.data.captures import (
    BandFile,
    Capture,
    PoolSettings,
    Reader,
    names_of,
    scaling,
    table_of,
)
from glocal.train.data.shards import SENSORS

if find_spec("zarr"):  # an extra: without it `captures` says what to install
    import zarr

UNITS = re.compile(r"(seconds|minutes|hours|days) since (\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d:\d\d))?")


def captures(store: Path, settings: PoolSettings) -> Iterator[Capture]:
    """Yield a capture per sensor and date."""
    if not find_spec("zarr"):
        raise MissingExtraError(
            "reading Zarr stores needs the package zarr; in the folder of the source code run: "
            f"{install_line('zarr')}"
        )
    try:
        group = zarr.open_group(store, mode="r")
        arrays = {name: array for name, array in group.arrays() if name in SENSORS}
    except (OSError, ValueError, KeyError) as error:
        raise SourceUnavailableError(f"can't read the Zarr store {store}: {error}") from error
    if not arrays:
        raise BadSourceError(f"{store}: no array is named {', '.join(SENSORS)}; rename them")
    for short, array in sorted(arrays.items()):
        yield from _of_array(store, group, short, array, settings)


def _of_array(
    store: Path, group: Any, short: str, array: Any, settings: PoolSettings
) -> Iterator[Capture]:
    where = f"{store}/{short}"
    if array.ndim not in (2, 3, 4):
        raise BadSourceError(f"{where}: needs (time, band, y, x) or less, got {array.shape}")
    grid = _grid(where, {**group.attrs, **array.attrs}, group, array.shape[-2:])
    count = array.shape[-3] if array.ndim > 2 else 1
    labels = [str(one) for one in group["band"][:]] if "band" in group else []
    names = names_of(where, short, count, labels if array.ndim > 2 and short != "dsm" else ())
    given = [array.attrs.get(key) for key in ("scale_factor", "add_offset")]
    scale, offset = scaling(where, short, str(array.dtype), *given)
    nodata = array.attrs.get("_FillValue", table_of(short).bands[0].nodata)
    for i, when in enumerate(_dates(group, array)):
        lead = (i,) if array.ndim == 4 else ()
        yield Capture(
            name=f"{store.name}/{short}/{i}",
            sensor=short,
            bands=tuple(
                BandFile(
                    name=name,
                    path=store,
                    read=_reader(array, (*lead, j) if array.ndim > 2 else (), grid, nodata),
                    grid=grid,
                    scale=scale,
                    offset=offset,
                )
                for j, name in enumerate(names)
                if name
            ),
            interval=when,
            origin=settings.origin,
            licence=settings.licence,
        )


def _grid(where: str, attrs: Mapping[str, Any], group: Any, shape: Sequence[int]) -> GeoBox:
    crs = attrs.get("proj:code") or attrs.get("proj:wkt2")
    if crs is None and "spatial_ref" in group:
        crs = group["spatial_ref"].attrs.get("crs_wkt") or group["spatial_ref"].attrs.get(
            "spatial_ref"
        )
    numbers = attrs.get("spatial:transform")
    if numbers is not None:
        transform = Affine(*numbers[:6])
    elif "x" in group and "y" in group:
        x, y = np.asarray(group["x"][:], float), np.asarray(group["y"][:], float)
        dx, dy = (x[-1] - x[0]) / (len(x) - 1), (y[-1] - y[0]) / (len(y) - 1)
        transform = Affine(dx, 0, x[0] - dx / 2, 0, dy, y[0] - dy / 2)
    else:
        transform = None
    if crs is None or transform is None:
        raise GridMismatchError(
            f"{where}: its place is not told; set the attributes proj:code and spatial:transform"
        )
    return GeoBox((shape[0], shape[1]), transform, crs)


def _dates(group: Any, array: Any) -> list[Interval | None]:
    if array.ndim < 4:
        return [None]
    if "time" not in group:
        return [None] * int(array.shape[0])
    found = UNITS.match(str(group["time"].attrs.get("units", "")))
    if found is None:
        raise BadSourceError(
            f"{group.store_path}/time: needs units as 'days since 1970-01-01', got "
            f"{group['time'].attrs.get('units')!r}"
        )
    start = datetime.fromisoformat(f"{found[2]}T{found[3] or '00:00:00'}")
    steps = np.asarray(group["time"][:], float).tolist()
    return [Interval.of_day((start + timedelta(**{found[1]: one})).date()) for one in steps]


def _reader(array: Any, lead: tuple[int, ...], grid: GeoBox, nodata: Any) -> Reader:
    def read(wanted: GeoBox) -> Pixels:
        # two pixels more on each side, for the interpolation
        box = wanted.extent.to_crs(str(grid.crs)).boundingbox
        a, b = ~grid.transform * (box.left, box.top), ~grid.transform * (box.right, box.bottom)
        height, width = grid.shape
        rows, columns = _around(a[1], b[1], height), _around(a[0], b[0], width)
        values: NDArray[Any] = np.asarray(array[(*lead, rows, columns)])
        valid = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
        if isinstance(nodata, int | float):
            valid &= values != nodata
        return Pixels(values=values, valid=valid, grid=grid[rows, columns])

    return read


def _around(a: float, b: float, length: int) -> slice:
    first, last = np.clip((round(min(a, b)) - 2, round(max(a, b)) + 2), 0, length)
    return slice(int(first), int(last))
