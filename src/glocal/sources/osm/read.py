"""OpenStreetMap as a source: what it says of the area, and what it would say once corrected.

Only areas speak: closed ways and multipolygons. Points and lines have no extent of their
own on a map of cover. Their absence says nothing, and neither do unmapped places.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from odc.geo.geobox import GeoBox

from glocal.core.correction import Corrections
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.observation import Observations
from glocal.sources.osm.edits import decide
from glocal.sources.osm.file import Elements, read_areas
from glocal.sources.osm.history import ages_at, is_history, read_versions, slice_history
from glocal.sources.osm.layer import LAYER_SUFFIXES, read_layer
from glocal.sources.osm.observe import observations_of
from glocal.sources.osm.tags import classify, crosswalk_of

__all__ = ["apply_corrections", "observe_osm"]


def observe_osm(
    path: Path,
    geobox: GeoBox,
    legend: Legend,
    *,
    source: str = "osm",
    interval: Interval,
    salt: bytes | None = None,
    licence: str = "ODbL-1.0",
) -> Observations:
    """Return what OpenStreetMap says about the area, as polygons with tags.

    ``path`` is an extract (``.osm.pbf``, ``.osm``, ``.osm.gz``), a full history
    (``.osh.pbf``), which is read as it was when ``interval`` begins, or a free Geofabrik
    layer (``.gpkg``, ``.shp``). ``interval`` is when the ground was like that: the date of the
    extract is a good guess, since elements tell only when they were last edited.

    Symbols are tags (``natural=wood``, ``fclass=forest``); records are ``way/123@4`` with
    the version, or ``geofabrik/ROW``. Columns: osm_type, osm_id, version (0 unknown),
    timestamp (UTC seconds, NaT unknown), tags (JSON; without addresses, contacts and
    notes, and only ``building`` for buildings), has_metadata. In layers the type is
    inferred, see `osm_layer`. User names, ids and changesets are dropped; with ``salt``,
    contributors become one of a few strata by HMAC-SHA256. A history adds the columns
    edit_age and life (years), contributors, retags, deletions and reshapes, and its strata
    are those of `osm_history.Ages.stratum`.

    Raises
    ------
    SourceUnavailableError
        The file is missing, truncated or of another format.
    BadSourceError
        Nothing in it can be used; says the counts.
    GridMismatchError
        It lies elsewhere, or has no CRS.
    """
    path = Path(path)
    history = is_history(path)
    observations = observations_of(
        _elements(path, history, interval, with_uid=salt is not None),
        geobox,
        legend,
        name=path.name,
        source=source,
        interval=interval,
        salt=salt,
        licence=licence,
    )
    return _with_history(observations, path, interval) if history else observations


def _elements(path: Path, history: bool, interval: Interval, *, with_uid: bool) -> Elements:
    if path.suffix.lower() in LAYER_SUFFIXES:
        return read_layer(path)
    if not history:
        return read_areas(path, with_uid=with_uid)
    with TemporaryDirectory() as folder:
        return read_areas(slice_history(path, interval.start, Path(folder) / "slice.osm.pbf"))


def _with_history(observations: Observations, path: Path, interval: Interval) -> Observations:
    """Add how each element came to be, as was known when ``interval`` began."""
    versions = read_versions(path)
    ages = ages_at(versions, interval.start)
    place = {
        (str(versions.osm_type[row]), int(versions.osm_id[row])): i
        for i, row in enumerate(ages.row.tolist())
    }
    held = zip(observations.columns["osm_type"], observations.columns["osm_id"], strict=True)
    at = np.array([place[str(kind), int(number)] for kind, number in held], np.int64)
    names = ("life", "contributors", "retags", "deletions", "reshapes")
    columns = {name: getattr(ages, name)[at] for name in names}
    return replace(
        observations,
        stratum=ages.stratum()[at],
        columns={**observations.columns, "edit_age": ages.age[at], **columns},
    )


def apply_corrections(observations: Observations, corrections: Corrections) -> Observations:
    """Return the source as it would be read with the proposed tag edits made.

    Only rows that are sent as a tag edit count (`osm_edits.decide`): flags, surveys and
    visits change nothing by themselves. Applying twice is the same as applying once.
    """
    place = {record: i for i, record in enumerate(observations.record.tolist())}
    made = decide(corrections, observations, observations.legend)
    alphabet = list(observations.crosswalk.symbols)
    symbols = observations.symbols.astype(np.uint16)
    tags = observations.columns["tags"].copy()
    for first, edit in made.edit.items():
        for row in made.together[first]:
            i = place[str(corrections.record[row])]
            after = edit.applied(json.loads(tags[i]))
            meaning = classify(after)
            if meaning is None:
                continue
            if meaning.base not in alphabet:
                alphabet.append(meaning.base)
            symbols[i] = alphabet.index(meaning.base) + 1
            tags[i] = json.dumps(after, ensure_ascii=False, sort_keys=True)
    return replace(
        observations,
        symbols=symbols,
        crosswalk=crosswalk_of(tuple(alphabet), observations.legend),
        columns={**observations.columns, "tags": tags},
    )
