"""Proposals that the map has left behind: which of them no longer fit a newer extract, and why."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from glocal.sources.kind import Rechecked
from glocal.sources.osm.change import fresh_elements, incomplete, parse_record
from glocal.sources.osm.file import read_areas
from glocal.sources.osm.tags import classify

TOUCHES = 0.01
"""A new area is mapped by now when objects cover more than this share of it: new outlines
overlap nothing, but their corners are rounded to what OSM stores."""


def what_can_be_stale(index: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return the rows of an index (`index.write_index`) that an extract can contradict.

    Elements with a version, and areas that nothing maps; not what was held back, nor
    displacements, nor rows of a layer without versions.
    """
    known = np.array([parse_record(str(one)) is not None for one in index["record"]], bool)
    new = index["fate"].isin(("create", "missing")).to_numpy()
    return index[(known | new) & (index["fate"] != "later").to_numpy()]


def stale_proposals(index: gpd.GeoDataFrame, extract: Path) -> dict[str, str]:
    """Return the reason by proposal id for each that no longer fits ``extract``.

    An element has another version or is gone, a relation to edit lacks members, or something is
    mapped by now in an area that was missing. ``index`` holds `what_can_be_stale`, with
    the columns of `index.write_index`.
    Errors are those of `read.observe_osm`.
    """
    new = index["fate"].isin(("create", "missing")).to_numpy()
    elements = index[~new]
    fresh, stale = fresh_elements(extract, elements["record"].tolist())
    edits = elements.loc[elements["fate"] == "modify", "record"].tolist()
    whole = {record: fresh[record] for record in edits if record in fresh}
    torn = incomplete(extract, whole.values())
    stale |= {record: torn[one.key] for record, one in whole.items() if one.key in torn}
    rows = zip(elements["proposal"].tolist(), elements["record"].tolist(), strict=True)
    out = {proposal: stale[record] for proposal, record in rows if record in stale}
    return out | _mapped_by_now(index[new], extract)


def _mapped_by_now(areas: gpd.GeoDataFrame, extract: Path) -> dict[str, str]:
    """Return why areas are no longer missing: what covers them in ``extract``."""
    if not len(areas):
        return {}
    held, places = read_areas(extract), areas.to_crs("EPSG:4326").geometry.to_numpy()
    shapes, names, out = shapely.make_valid(held.geometry), areas["proposal"].tolist(), {}
    pairs = shapely.STRtree(shapes).query(places, predicate="intersects")
    for i, at in np.unique(pairs, axis=1).T.tolist():  # by area, then as the extract has them
        part = shapely.area(shapely.intersection(shapes[at], places[i])) / shapely.area(places[i])
        maps = part > TOUCHES and classify(held.tags[at], is_line=bool(held.is_line[at]))
        if maps and names[i] not in out:
            name = f"{held.osm_type[at]}/{held.osm_id[at]} (version {held.version[at]})"
            out[names[i]] = f"{name} is mapped on {part:.0%} of it now"
    return out


def recheck(index: gpd.GeoDataFrame, extract: Path) -> Rechecked:
    """Compare the proposals of an index with a newer extract."""
    some = what_can_be_stale(index)
    why = stale_proposals(some, extract)
    told = pd.DataFrame(some[some["proposal"].isin(list(why))])[["proposal", "record", "fate"]]
    return Rechecked(
        number=int((index["fate"] != "later").sum()),
        checked=len(some),
        stale=tuple({**one, "why": why[one["proposal"]]} for one in told.to_dict("records")),
    )
