"""What mappers get: one small task per object, for a person to decide."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from glocal.io.atomic import write_text
from glocal.sources.osm.batch import Batch
from glocal.sources.osm.change import change_xml, josm_xml
from glocal.sources.osm.index import INDEX, write_index
from glocal.sources.osm.maproulette import collection, feature_maker, task
from glocal.sources.osm.osmose import osmose_xml
from glocal.sources.osm.page import readme

__all__ = ["FILES", "write_batch"]

FILES = (
    "proposal.osc", "preview.osc", "proposal.osm", "maproulette.geojsonl", "new_areas.geojsonl",
    "survey.geojsonl", "missing.geojsonl", "flags.geojson", "osmose.xml", "PROPOSAL_README.md",
)  # fmt: skip


def write_batch(batch: Batch, folder: Path, promise: str = "") -> tuple[Path, ...]:
    """Write what OpenStreetMap's mappers need to judge the corrections; uploads nothing.

    ``proposal.osc``, ``preview.osc`` and ``proposal.osm`` (JOSM) come only where the elements are
    known with versions and node references, or when areas are missing. ``maproulette.geojsonl``
    holds tag fixes, one per element; of a Geofabrik layer too, whose element types and old tags
    are inferred and marked so. ``new_areas.geojsonl`` holds missing areas, each with its own
    change file. ``survey.geojsonl`` and ``missing.geojsonl`` ask where no edit is sound,
    ``flags.geojson`` shows doubts, ``osmose.xml`` groups all of it by kind, ``proposals.parquet``
    is the index by which answers are understood (`index.write_index`), ``PROPOSAL_README.md``
    tells the rest, with ``promise`` on how many edits should be right. Files of these names that
    have nothing to say are removed. Geometries become longitude and latitude (RFC 7946).
    """
    content = _content(batch, promise)
    for name in FILES:
        if content[name]:
            write_text(folder / name, content[name])
        else:
            (folder / name).unlink(missing_ok=True)
    index = write_index(folder / INDEX, batch)
    return (*(folder / name for name in FILES if content[name]), index)


def _content(batch: Batch, promise: str) -> Mapping[str, str]:
    """Return the text of every file, empty where there is nothing to say."""
    feature, edited, new = feature_maker(batch), batch.edited(), batch.drawn()
    changes = bool(edited or new)
    fixes, areas = batch.of_fate("modify"), batch.of_fate("create")
    asked, missing = batch.of_fate("survey"), batch.of_fate("missing")
    flags = batch.of_fate("flag")
    content = {
        "proposal.osc": change_xml(edited, new) if changes else "",
        "preview.osc": change_xml(edited, new, bump=1) if changes else "",
        "proposal.osm": josm_xml(edited, new, batch.context) if changes else "",
        "maproulette.geojsonl": "".join(task(feature(i), edit=batch.edit(i)) for i in fixes),
        "new_areas.geojsonl": "".join(task(feature(i), new=batch.new[i]) for i in areas),
        "survey.geojsonl": "".join(task(feature(i)) for i in asked),
        "missing.geojsonl": "".join(task(feature(i)) for i in missing),
        "flags.geojson": collection([feature(i) for i in flags]),
        "osmose.xml": osmose_xml(batch),
    }
    counts = {
        "proposal.osc": len(edited) + len(areas),
        "proposal.osm": len(edited) + len(areas),
        "maproulette.geojsonl": len(fixes),
        "new_areas.geojsonl": len(areas),
        "survey.geojsonl": len(asked),
        "missing.geojsonl": len(missing),
        "flags.geojson": len(flags),
        "osmose.xml": content["osmose.xml"].count("<error "),
    }
    return {**content, "PROPOSAL_README.md": readme(batch, counts, promise)}
