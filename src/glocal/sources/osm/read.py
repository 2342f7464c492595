"""OpenStreetMap as a source: what it says of the area, and what it would say once corrected.

Only areas speak: closed ways and multipolygons. Points and lines have no extent of their
own on a map of cover. Their absence says nothing, and neither do unmapped places.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.correction import Corrections
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.observation import Observations
from glocal.sources.osm.change import incomplete, problem
from glocal.sources.osm.file import is_history, iterate_elements, read_areas
from glocal.sources.osm.history import ages_at, read_versions, slice_history
from glocal.sources.osm.layer import LAYER_SUFFIXES, read_layer
from glocal.sources.osm.observe import observations_of
from glocal.sources.osm.tags import CANONICAL, classify, crosswalk_of, retaggable


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
    timestamp (UTC seconds, NaT unknown), tags (a mapping; without addresses, contacts and
    notes, and only ``building`` for buildings), has_metadata; of an extract with versions also
    ``unfit``, see `unfit_elements`. In layers the type is
    inferred, see `layer`. User names, ids and changesets are dropped; with ``salt``,
    contributors become one of a few strata by HMAC-SHA256. A history adds the columns
    edit_age and life (years), contributors, retags, deletions and reshapes, and its strata
    are those of `history.Ages.stratum`.

    Raises
    ------
    SourceUnavailableError
        The file is missing, truncated or of another format.
    BadSourceError
        It is a history or change file, a layer without ``fclass``, or nothing in it can be used;
        says how many objects were read, usable, in the area.
    GridMismatchError
        It lies elsewhere, or has no CRS.
    """
    path = Path(path)
    history = is_history(path)
    if path.suffix.lower() in LAYER_SUFFIXES:
        elements = read_layer(path)
    elif history:
        with TemporaryDirectory() as folder:
            part = slice_history(path, interval.start, Path(folder) / "slice.osm.pbf")
            elements = read_areas(part)
    else:
        elements = read_areas(path, salt=salt)
    given = {"name": path.name, "source": source, "licence": licence}
    observations = observations_of(elements, geobox, legend, interval=interval, **given)
    if history:
        return _with_history(observations, path, interval)
    if observations.columns["has_metadata"].any():
        unfit = unfit_elements(path, observations)
        return replace(observations, columns={**observations.columns, "unfit": unfit})
    return observations


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


def with_edits(source: Observations, corrections: Corrections) -> Observations:
    """Return the source as it would be read with the edits of tags among ``corrections`` made.

    Only those that go out count: flags, questions and what is held back change nothing by
    themselves. Applying twice is the same as applying once.
    """
    sent = corrections.take(corrections.fate == "modify")
    edit_of = dict(zip(sent.record.tolist(), sent.columns["edit"], strict=True))
    alphabet = list(source.crosswalk.symbols)
    symbols, tags = source.symbols.astype(np.uint16), source.columns["tags"].copy()
    # layers split multipolygons into rows that share an id; the edit of one is that of all
    number = source.columns["osm_id"] if "layer_rows" in source.columns else None
    for at in np.flatnonzero(np.isin(source.record, sent.record)).tolist():
        rows = [at] if number is None else np.flatnonzero(number == number[at]).tolist()
        edit = next(edit_of[one] for one in source.record[rows].tolist() if one in edit_of)
        for i in rows:
            after = edit.applied(tags[i])
            meaning = classify(after)
            if meaning is not None:
                if meaning.base not in alphabet:
                    alphabet.append(meaning.base)
                symbols[i], tags[i] = alphabet.index(meaning.base) + 1, after
    crosswalk, columns = crosswalk_of(tuple(alphabet), source.legend), {**source.columns}
    columns["tags"] = tags
    return replace(source, symbols=symbols, crosswalk=crosswalk, columns=columns)


def unfit_elements(path: Path, source: Observations) -> NDArray[np.object_]:
    """Return why an element can't be edited whatever its class, shape (n,), empty where it can.

    Asked only of those whose tags cover seen from above can decide. A relation with members that
    the extract does not hold can't be judged, and some elements the OSM server would refuse.
    """
    out = np.full(len(source), "", object)
    rows = {
        (str(source.columns["osm_type"][i]), int(source.columns["osm_id"][i])): i
        for i, tags in enumerate(source.columns["tags"])
        if any(retaggable(tags, concept) for concept in CANONICAL)
    }
    relations = []
    for whole in iterate_elements(path, rows):
        out[rows[whole.key]] = problem(whole)
        relations += [whole] if whole.members else []
    for key, why in incomplete(path, relations).items():
        out[rows[key]] = out[rows[key]] or why
    return out
