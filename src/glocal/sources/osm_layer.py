"""Free Geofabrik layers (``.gpkg``, ``.shp``): OpenStreetMap without versions or nodes.

Each row holds one ``fclass``; multipolygons are split, so that several rows share one
``osm_id``. Whether an id is a way or a relation is not in the file: a row of one part
without holes, whose id is unique, is *inferred* to be a way, all others a relation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyogrio
import pyogrio.errors
import pyogrio.raw
import shapely
from numpy.typing import NDArray

from glocal.errors import BadSourceError, GridMismatchError, SourceUnavailableError
from glocal.sources.osm_file import Elements
from glocal.sources.osm_tags import FCLASS, row_of

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
    keep = np.flatnonzero(areal & np.isin(kinds, list(FCLASS)))
    n = len(keep)
    return Elements(
        osm_type=_inferred_type(numbers, geometry)[keep],
        osm_id=numbers[keep],
        version=np.zeros(n, np.int32),
        timestamp=np.full(n, np.datetime64("NaT"), "datetime64[s]"),
        tags=[_tags(kinds[i]) for i in keep],
        symbol=[f"fclass={kinds[i]}" for i in keep],
        row=np.asarray(rows)[keep],
        is_line=np.zeros(n, bool),
        geometry=geometry[keep],
        crs=crs,
        broken=int((~areal).sum()),
    )


def _tags(fclass: str) -> dict[str, str]:
    row = row_of(f"fclass={fclass}")
    return {row.key: "yes" if row.value == "*" else row.value, **dict(row.qualifiers)}


def _inferred_type(numbers: NDArray[np.int64], geometry: NDArray[np.object_]) -> NDArray[np.str_]:
    _, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    parts = shapely.get_num_geometries(geometry)
    holes = shapely.get_num_interior_rings(shapely.get_geometry(geometry, 0))
    simple = (counts[inverse] == 1) & (parts == 1) & (holes == 0)
    return np.where(simple, "way", "relation")
