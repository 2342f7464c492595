"""Free Geofabrik layers (``.gpkg``, ``.shp``): OpenStreetMap without versions or nodes.

Each row holds one ``fclass``. Several rows can share one ``osm_id``: parts of a split
multipolygon, an element with two classes, or one that stands in two layers that were
merged. The last are the same statement twice (same id, class and outline) and are read
once. Whether an id is a way or a relation is not in the file: one part without holes,
the same in all rows of its id, is *inferred* to be a way, all others a relation.
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
from glocal.sources.osm.file import Elements
from glocal.sources.osm.tags import FCLASS, LAYER, row_of

LAYER_SUFFIXES = (".gpkg", ".shp")


def read_layer(path: Path) -> Elements:
    """Return the polygons of a Geofabrik layer whose ``fclass`` is known, in its own CRS.

    Errors are those of `read.observe_osm`.
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
    kinds = np.array([str(one) for one in fclass], str)
    numbered: dict[bytes, int] = {}  # equal outlines have equal numbers
    wkb = shapely.to_wkb(geometry)
    outline = np.array([numbered.setdefault(one, len(numbered)) for one in wkb], np.int64)
    # one part without holes, the same in all rows of its id, is inferred to be a way
    distinct = np.unique(np.stack((numbers, outline), axis=1), axis=0)[:, 0]
    ids, count = np.unique(distinct, return_counts=True)
    holes = shapely.get_num_interior_rings(shapely.get_geometry(geometry, 0))
    is_way = (shapely.get_num_geometries(geometry) == 1) & (holes == 0)
    is_way &= count[np.searchsorted(ids, numbers)] == 1
    keep = np.flatnonzero(areal & np.isin(kinds, list(FCLASS)))
    same = [np.unique(one[keep], return_inverse=True)[1] for one in (numbers, kinds, outline)]
    keep = keep[np.sort(np.unique(np.stack(same, axis=1), axis=0, return_index=True)[1])]
    n = len(keep)
    _, number, sharing = np.unique(numbers[keep], return_inverse=True, return_counts=True)
    symbols = [f"{LAYER}{one}" for one in kinds[keep]]
    return Elements(
        osm_type=np.where(is_way, "way", "relation")[keep],
        osm_id=numbers[keep],
        version=np.zeros(n, np.int32),
        timestamp=np.full(n, np.datetime64("NaT"), "datetime64[s]"),
        tags=[row_of(one).tags for one in symbols],
        symbol=symbols,
        row=np.asarray(rows)[keep],
        sharing=sharing[number],
        is_line=np.zeros(n, bool),
        geometry=geometry[keep],
        crs=crs,
        broken=int((~areal).sum()),
    )
