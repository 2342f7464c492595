"""What mappers get: one small task per object, for a person to decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from glocal.core.correction import Corrections
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.observation import Observations
from glocal.core.provenance import osm_accepts
from glocal.errors import LicenceConflictError
from glocal.io.atomic import write_text
from glocal.sources.osm.change import change_xml, josm_xml
from glocal.sources.osm.index import INDEX, write_index
from glocal.sources.osm.maproulette import collection, feature_maker, task
from glocal.sources.osm.osmose import osmose_xml
from glocal.sources.osm.page import readme
from glocal.sources.osm.plan import Plan, make_plan

__all__ = ["FILES", "Encoded", "encode_osm"]

FILES = (
    "proposal.osc", "preview.osc", "proposal.osm", "maproulette.geojsonl", "new_areas.geojsonl",
    "survey.geojsonl", "missing.geojsonl", "flags.geojson", "osmose.xml", "PROPOSAL_README.md",
)  # fmt: skip

NO_DATES: Mapping[str, Interval] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What was written."""

    files: tuple[Path, ...]
    count: dict[str, int]
    """Elements and areas by what became of them, see `osm_plan.FATES`."""


def encode_osm(
    corrections: Corrections,
    observations: Observations,
    folder: Path,
    *,
    extract: Path | None = None,
    legend: Legend,
    max_tasks: int = 200,
    min_area_ha: float = 2.0,
    dates: Mapping[str, Interval] = NO_DATES,
    promise: str = "",
    in_place: bool = True,
) -> Encoded:
    """Write what OpenStreetMap's mappers need to judge the corrections; uploads nothing.

    ``proposal.osc``, ``preview.osc`` and ``proposal.osm`` (JOSM) come only with
    ``extract`` (the file that was read, with versions and node references), or when areas
    are missing. ``maproulette.geojsonl`` holds tag fixes, one per element; of a Geofabrik
    layer too, whose element types and old tags are inferred and marked so.
    ``new_areas.geojsonl`` holds missing areas, each with its own change file.
    ``survey.geojsonl`` and ``missing.geojsonl`` ask where no edit is sound,
    ``flags.geojson`` shows doubts, ``osmose.xml`` groups all of it by kind,
    ``proposals.parquet`` is the index by which answers are understood
    (`osm_index.write_index`), ``PROPOSAL_README.md`` tells the rest.

    At most ``max_tasks`` edits and ``max_tasks`` questions, the most probable first. A
    missing area smaller than ``min_area_ha`` is not drawn, and none is unless the layer
    lies ``in_place``: its neighbours would be off. ``dates`` names the images and
    when they were taken, for the mappers; ``promise`` says how many edits should be
    right. Files of these names that have nothing to say are removed. Geometries become
    longitude and latitude (RFC 7946).

    Raises
    ------
    LicenceConflictError
        An edit rests on evidence that OSM can't accept.
    """
    _check_licence(corrections)
    rows = corrections.take(np.lexsort((corrections.record, -corrections.probability)))
    plan = make_plan(
        rows,
        observations,
        legend,
        extract=extract,
        dates=dates,
        max_tasks=max_tasks,
        min_area_ha=min_area_ha,
        in_place=in_place,
    )
    if promise:
        plan.notes.insert(0, promise)
    files = _write(folder, _content(plan, rows, observations, dates))
    index = write_index(folder / INDEX, plan, rows)
    return Encoded(
        files=(*files, index), count={name: len(rows) for name, rows in plan.groups().items()}
    )


def _content(
    plan: Plan, rows: Corrections, observations: Observations, dates: Mapping[str, Interval]
) -> dict[str, str]:
    """Return the text of every file, empty where there is nothing to say."""
    feature = feature_maker(plan, rows, observations, dates)
    edited, new = list(plan.whole.values()), plan.numbered()
    changes = bool(edited or new)
    content = {
        "proposal.osc": change_xml(edited, new) if changes else "",
        "preview.osc": change_xml(edited, new, bump=1) if changes else "",
        "proposal.osm": josm_xml(edited, new, plan.context) if changes else "",
        "maproulette.geojsonl": "".join(task(feature(i), edit=e) for i, e in plan.fix.items()),
        "new_areas.geojsonl": "".join(task(feature(i), new=e) for i, e in plan.new.items()),
        "survey.geojsonl": "".join(task(feature(i)) for i in plan.survey),
        "missing.geojsonl": "".join(task(feature(i)) for i in plan.missing),
        "flags.geojson": collection([feature(i) for i in plan.flag]),
        "osmose.xml": osmose_xml(plan, rows, dates),
    }
    counts = _counts(plan, content)
    page = readme(rows, counts=counts, notes=plan.notes, inferred=plan.layer)
    return {**content, "PROPOSAL_README.md": page}


def _check_licence(corrections: Corrections) -> None:
    edits = np.isin(corrections.action, ("create", "modify"))
    if edits.any() and not osm_accepts(corrections.provenance.licences):
        raise LicenceConflictError(
            "an edit of OpenStreetMap can't rest on evidence under "
            f"{sorted(corrections.provenance.licences)}; make these rows flags, or leave "
            "those sources out of the evidence"
        )


def _write(folder: Path, content: dict[str, str]) -> list[Path]:
    for name in FILES:
        if content[name]:
            write_text(folder / name, content[name])
        else:
            (folder / name).unlink(missing_ok=True)
    return [folder / name for name in FILES if content[name]]


def _counts(plan: Plan, content: dict[str, str]) -> dict[str, int]:
    """Return how many elements, tasks or issues each file holds."""
    changed = len(plan.whole) + len(plan.new)
    return {
        "proposal.osc": changed,
        "proposal.osm": changed,
        "maproulette.geojsonl": len(plan.fix),
        "new_areas.geojsonl": len(plan.new),
        "survey.geojsonl": len(plan.survey),
        "missing.geojsonl": len(plan.missing),
        "flags.geojson": len(plan.flag),
        "osmose.xml": content["osmose.xml"].count("<error "),
    }
