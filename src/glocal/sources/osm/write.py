"""What mappers get: one small task per object, for a person to decide."""

from __future__ import annotations

from pathlib import Path

from glocal.io.atomic import write_text
from glocal.sources.osm.batch import Batch
from glocal.sources.osm.change import change_xml, josm_xml
from glocal.sources.osm.index import INDEX, write_index
from glocal.sources.osm.maproulette import collection, features, task
from glocal.sources.osm.osmose import osmose_xml
from glocal.sources.osm.page import readme

TASKS = {
    "maproulette.geojsonl": "modify",
    "new_areas.geojsonl": "create",
    "survey.geojsonl": "survey",
    "missing.geojsonl": "missing",
}
"""Files of tasks, and the fate of the rows that each holds."""

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
    shown, edited, new = features(batch), batch.edited(), batch.drawn()
    flags = [shown[i] for i in batch.of_fate("flag")]
    tasks = {
        name: [task(shown[i], batch.edit(i), batch.new.get(i)) for i in batch.of_fate(fate)]
        for name, fate in TASKS.items()
    }
    content = {name: "".join(lines) for name, lines in tasks.items()}
    content |= {"flags.geojson": collection(flags), "osmose.xml": osmose_xml(batch)}
    if edited or new:
        content["proposal.osc"] = change_xml(edited, new)
        content["preview.osc"] = change_xml(edited, new, bump=1)
        content["proposal.osm"] = josm_xml(edited, new, batch.context)
    counts = {name: len(lines) for name, lines in tasks.items()}
    counts |= dict.fromkeys(("proposal.osc", "proposal.osm"), len(edited) + len(batch.new))
    counts |= {"flags.geojson": len(flags), "osmose.xml": content["osmose.xml"].count("<error ")}
    content["PROPOSAL_README.md"] = readme(batch, counts, promise)
    files = []
    for name in FILES:
        if content.get(name):
            write_text(folder / name, content[name])
            files.append(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    return (*files, write_index(folder / INDEX, batch))
