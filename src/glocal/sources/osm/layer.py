"""Free Geofabrik layers (``.gpkg``, ``.shp``): OpenStreetMap without versions or nodes.

Each row holds one ``fclass``. Several rows can share one ``osm_id``: parts of a split
multipolygon, an element with two classes, or one that stands in two layers that were
merged. The last are the same statement twice (same id, class and outline) and are read
once. Whether an id is a way or a relation is not in the file: one part without holes,
the same in all rows of its id, is *inferred* to be a way, all others a relation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyogrio.errors
import pyogrio.raw
import shapely
from numpy.typing import NDArray

from glocal.errors import BadSourceError, GridMismatchError, SourceUnavailableError
from glocal.sources.osm.file import Elements
from glocal.sources.osm.tags import FCLASS, row_of

__all__ = ["LAYER_SUFFIXES", "read_layer"]

LAYER_SUFFIXES = (".gpkg", ".shp")


def read_layer(path: Path) -> Elements:
    """Return the polygons of a Geofabrik layer whose ``fclass`` is known, in its own CRS.

    Raises
    ------
    SourceUnavailableError
        The file is missing or damaged.
    BadSourceError
        It has no ``fclass`` column.
    GridMismatchError
        It has no CRS.
    """
    if not path.is_file():
        raise SourceUnavailableError(f"no layer at {path}; check the path")
    try:
        fields = pyogrio.read_info(path)["fields"].tolist()
        if "fclass" not in fields:
            raise BadSourceError(
                f"{path.name} has no column 'fclass' (it has {', '.join(fields)}); give a free "
                "Geofabrik layer, or the .osm.pbf extract itself"
            )
        columns = [name for name in ("osm_id", "fclass") if name in fields]
        meta, rows, wkb, data = pyogrio.raw.read(path, columns=columns, return_fids=True)
    except pyogrio.errors.DataSourceError as error:
        raise SourceUnavailableError(f"{path.name} can't be read ({error})") from error
    if not meta["crs"]:
        raise GridMismatchError(f"{path.name} has no CRS; Geofabrik layers come in EPSG:4326")
    table = dict(zip(meta["fields"].tolist(), data, strict=True))
    numbers = table.get("osm_id", np.zeros(len(rows), np.int64)).astype(np.int64)
    geometry = np.asarray(shapely.from_wkb(wkb), dtype=object).reshape(-1)
    return _elements(rows, numbers, table["fclass"], geometry, meta["crs"])


def _elements(
    rows: NDArray[np.int64],
    numbers: NDArray[np.int64],
    fclass: NDArray[np.object_],
    geometry: NDArray[np.object_],
    crs: str,
) -> Elements:
    areal = np.isin(shapely.get_type_id(geometry), (3, 6))
    kinds = [str(one) for one in fclass]
    outline = _outlines(geometry)
    keep = np.flatnonzero(areal & np.isin(kinds, list(FCLASS)))
    keep = keep[_first_of_each(numbers[keep], np.array(kinds)[keep], outline[keep])]
    n = len(keep)
    return Elements(
        osm_type=_inferred_type(numbers, geometry, outline)[keep],
        osm_id=numbers[keep],
        version=np.zeros(n, np.int32),
        timestamp=np.full(n, np.datetime64("NaT"), "datetime64[s]"),
        tags=[_tags(kinds[i]) for i in keep],
        symbol=[f"fclass={kinds[i]}" for i in keep],
        row=np.asarray(rows)[keep],
        sharing=_rows_of_same_id(numbers[keep]),
        is_line=np.zeros(n, bool),
        geometry=geometry[keep],
        crs=crs,
        broken=int((~areal).sum()),
    )


def _tags(fclass: str) -> dict[str, str]:
    row = row_of(f"fclass={fclass}")
    return {row.key: "yes" if row.value == "*" else row.value, **dict(row.qualifiers)}


def _outlines(geometry: NDArray[np.object_]) -> NDArray[np.int64]:
    """Return a number per row, equal where the geometries are."""
    wkb = shapely.to_wkb(geometry)
    number: dict[bytes, int] = {}
    return np.array([number.setdefault(one, len(number)) for one in wkb], np.int64)


def _first_of_each(*columns: NDArray[Any]) -> NDArray[np.int64]:
    """Return the sorted positions of the first of each distinct combination."""
    codes = np.stack([np.unique(one, return_inverse=True)[1] for one in columns], axis=1)
    return np.sort(np.unique(codes, axis=0, return_index=True)[1])


def _rows_of_same_id(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    _, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse], np.int64)


def _inferred_type(
    numbers: NDArray[np.int64], geometry: NDArray[np.object_], outline: NDArray[np.int64]
) -> NDArray[np.str_]:
    distinct = np.unique(np.stack((numbers, outline), axis=1), axis=0)[:, 0]
    ids, count = np.unique(distinct, return_counts=True)
    parts = shapely.get_num_geometries(geometry)
    holes = shapely.get_num_interior_rings(shapely.get_geometry(geometry, 0))
    alone = count[np.searchsorted(ids, numbers)] == 1
    return np.where(alone & (parts == 1) & (holes == 0), "way", "relation")
