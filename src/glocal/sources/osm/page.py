"""What mappers read: the page of a folder of proposals, and a few lines for each task."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import numpy as np

from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.interval import Interval
from glocal.sources.osm.batch import Batch
from glocal.sources.osm.rows import VECTOR
from glocal.sources.osm.tags import LAYER, fclass_tags

ABOUT = {
    "proposal.osc": "tag edits as OsmChange at their base version; opens in JOSM. "
    "`preview.osc` is the same one version up, only to look at locally: "
    "`osmium apply-changes EXTRACT preview.osc -o after.osm.pbf`",
    "proposal.osm": "the same as a JOSM layer (`upload='false'`: JOSM asks before an upload), with "
    "the nodes that the elements are drawn with",
    "maproulette.geojsonl": "tag fixes for MapRoulette (line-by-line GeoJSON), one element each",
    "new_areas.geojsonl": "areas that seem to be missing, for MapRoulette with JOSM: each task "
    "holds a change file with an outline made of image cells, to be redrawn by better imagery",
    "survey.geojsonl": "questions for MapRoulette: something is doubtful, but no edit is sound",
    "missing.geojsonl": "questions for MapRoulette: areas where nothing is mapped",
    "osmose.xml": "edits and questions grouped by kind, as Osmose's analysers write them (the item "
    "number is a placeholder)",
    "flags.geojson": "doubts to look at on a map, not tasks; the reason stands in `why_no_edit`",
}

ANSWERING = """\
## How to answer

- One object, one human decision: look at recent imagery that OSM may use, or at the
  ground, before accepting. There is no bulk accept; do not upload the file as a whole.
  A bulk upload would be an automated edit (Automated Edits code of conduct).
- Each task says in `instruction` what to look at. Put `{{instruction}}` into the
  instructions of the challenge, and MapRoulette shows it.
- In MapRoulette: *Fixed* when you made the edit, *False positive* when the map was right,
  *Already fixed*, *Too hard* when it can't be told. These answers are read back, and a
  rejection counts as much as an acceptance.
- The probability is a computed one, for the whole outline. The object may be wrong, or
  the ground may have changed since, or the map may be newer than the image.
- Where only a part of an outline is wrong, don't change the tags of the whole.
- Only tags that can be judged from above are proposed. Uses (residential, military,
  parks, orchards, protected areas) and wetlands are flagged for people who know the place.
- An edit is refused when the element has a newer version than `base_version`.

## Before a challenge is published

Tell the local community, and put up a page that names the people responsible, the
evidence, the date and a hashtag (Organised Editing Guidelines). Suggested changeset tags:
`comment=Land cover checked one by one after a proposal #glocal`, `source=` the imagery
that you looked at, `review_requested=yes`. Contact: the publisher of this folder fills in
a name here. Publish few tasks first (the most probable come first) and read the answers
before you publish more.
"""

INFERRED = """\
## Inferred: type and old tags

The source is a layer without element types, versions and tags. In each task of
`maproulette.geojsonl` these are inferred, and marked by `inferred`:

- the type: a way when the outline has one part without holes and is the same in all rows
  of its id, else a relation;
- the old tags: only what the layer's class (`fclass`) stands for. `forest` stands for
  `landuse=forest` and `natural=wood`: both keys are cleared but for the one that is set;
  clearing a key that is not there changes nothing. Other tags are not known and stay.

MapRoulette shows the element as it is today beside the edit: check that it is the same
outline, that it bears the old tag, and that no other tag (a use, a protected area, a name
that contradicts) is overwritten or left without sense, such as `leaf_type` on a meadow.
If anything differs, don't accept; edit by hand or answer *Too hard*.

A layer holds only part of OpenStreetMap (here land use or water, perhaps only some sizes).
What `missing.geojsonl` finds unmapped may stand in another layer: compare it with the full
extract before you publish any of it.
"""

LOOK = {
    "tree": "Crowns and their shadows over nearly all of the outline",
    "shrub": "Woody plants lower than trees over most of the outline",
    "grass": "No ploughed soil and no sown rows in any year; in one image a young crop looks "
    "alike, so compare several dates",
    "crop": "Ploughed or sown ground, straight-edged parcels; in one image mown or flooded grass "
    "looks alike, so compare several dates",
    "water": "Open water in images of several dates; not a flood, a shadow or ice",
}
"""What tells a class from those that it is mistaken for."""

PARTLY = "If only a part is, don't change the whole: split it, or answer Too hard."


def when(interval: Interval) -> str:
    """Return the dates in words, both ends included.

    >>> when(Interval.parse("2017-02-16")), when(Interval.of_year(2019))
    ('2017-02-16', '2019-01-01 to 2019-12-31')
    """
    first = interval.start.date()
    last = (interval.stop - timedelta(microseconds=1)).date()
    return f"{first}" if first == last else f"{first} to {last}"


WORDS = {
    "tree": "woodland", "shrub": "scrub", "grass": "grassland", "crop": "cropland",
    "built": "built-up land", "bare": "bare ground", "water": "open water",
}  # fmt: skip


def _old(symbol: str) -> str:
    """Return the tag that an element bears, or those that its class may stand for."""
    if symbol.startswith(LAYER):
        return " or ".join(fclass_tags(symbol.removeprefix(LAYER)))
    return symbol.replace("&", " with ")


def _chance(rows: Corrections, i: int) -> str:
    p = float(rows.probability[i])
    text = "more than 99 %" if p > 0.99 else f"{p:.0%}".replace("%", " %")
    return f"Computed probability {text}, not checked by a person."


def _about_place(rows: Corrections, i: int, element: str) -> str:
    """Return what is told of something displaced: an object, or the layer."""
    east, north, sd = (float(rows.columns[name][i]) for name in VECTOR)
    others = ", ".join(rows.because)
    if not rows.current[i]:
        return (
            f"The layer seems to lie off here: the other sources ({others}) agree "
            f"best when it is moved by {east:+.1f} m east and {north:+.1f} m north. That may be "
            "the imagery that mappers traced, the images that were compared, or both. Compare GPS "
            "traces or survey points at several places and set the imagery offset. Never move "
            "objects in bulk. Answer Fixed when the offset is known, False positive when there is "
            "none."
        )
    return (
        f"{element} ({_old(str(rows.current[i]))}) seems to lie beside its place, apart from any "
        f"offset of the whole layer: the other sources ({others}) fit it best "
        f"when it is moved by {east:+.0f} m east and {north:+.0f} m north, each give or take "
        f"{sd:.0f} m. {_chance(rows, i)} Check the imagery offset first; if the outline is still "
        "off, move or redraw it by imagery that OSM may use, and mind nodes that it shares with "
        "neighbours. Answer Fixed when you moved it, False positive when it lies right."
    )


def instruction(batch: Batch, i: int, element: str) -> str:
    """Return what a mapper should look at in row ``i``, and how to answer.

    ``element`` is ``way/123``, or what else names the place.
    """
    rows = batch.rows
    if rows.fault[i] == "displaced":
        return _about_place(rows, i, element)
    current, proposed = _old(str(rows.current[i])), str(rows.proposed[i])
    legend, mapped = batch.source.legend, when(batch.source.phenomenon_time)
    concept = dict(zip(legend.names, legend.concepts, strict=True)).get(proposed, "")
    cover = WORDS.get(concept, proposed)
    seen = "; ".join(f"{name} of {when(one)}" for name, one in sorted(batch.dates.items()))
    weighed = f"Evidence: {', '.join(rows.because)}{f' ({seen})' if seen else ''}."
    sure = _chance(rows, i)
    look = f"Look for: {LOOK[concept]}." if concept in LOOK else ""
    if not current:
        tags = batch.new[i][-1].tags.items() if i in batch.new else ()
        bears = ", ".join(f"{key}={value}" for key, value in tags if key != "source")
        drawn = f"The change file draws {bears} to begin with." if tags else ""
        return " ".join((
            f"It looks like {cover} here, and the map data that was read ({mapped}) has no",
            f"area here. {weighed} {sure} {look} If it is mapped already, answer Already fixed.",
            f"{drawn} If imagery that OSM may use shows it, draw its edge by that imagery, since",
            "this outline is made of image cells; else answer False positive.",
        ))  # fmt: skip
    old = f"Is this still {current}? It looks like {cover}. {weighed} {sure}"
    dated = f"The map data is of {mapped}; where it is newer than the image, trust the map."
    edit = batch.edit(i)
    if edit is None:
        return " ".join((old, dated, look, f"No edit is offered: {batch.why(i)}."))
    check = (
        f"Inferred, so check first: that {element} is this outline and bears {current}, and "
        f"that it has no other {' or '.join(edit.set)} tag that would be lost."
        if batch.layer
        else f"The edit was made for {element}; its other tags stay."
    )
    changes = [f"{key}={value}" for key, value in edit.set.items()]
    changes += [f"without {key}" for key in edit.unset]
    accept = f"If nearly all of the outline is {cover}, accept: {', '.join(changes)}. {PARTLY}"
    return " ".join((old, dated, look, check, accept))


def promised(told: Corrections, findings: Findings, wanted: float) -> str:
    """Return the sentence that says how many of the edits should be right, and who says so."""
    if told.expected_precision is None:
        return f"No edit is sure enough for the wanted precision of {wanted:.2f}."
    checked = findings.held_out
    points = 0 if checked is None else int(np.isfinite(checked).all(axis=1).sum())
    return (
        f"Expected precision of {int((told.action == 'modify').sum())} edits (some may be held "
        f"back): {told.expected_precision:.2f}, wanted {wanted:.2f}; only those of probability "
        f"{told.threshold:.2f} and more go out. Log-odds are multiplied by "
        f"{findings.sharpness:.2f}, the cautious end of what {points} reference points in objects "
        "allow that the run did not see."
    )


def readme(batch: Batch, counts: Mapping[str, int], promise: str) -> str:
    """Return the text of ``PROPOSAL_README.md``: what, from which evidence, how to answer.

    ``counts`` is how many elements, tasks or issues each file holds; ``promise`` says how many
    edits should be right.
    """
    rows, held = batch.rows, batch.rows.provenance
    notes = [one for one in (promise, *batch.notes) if one]
    files = [f"- `{name}` ({counts[name]}): {ABOUT[name]}" for name in ABOUT if counts[name]]
    licences = ", ".join(sorted(held.licences)) or "not stated"
    lines = [
        f"# Proposals to OpenStreetMap, round {rows.round}",
        "",
        "Proposals, not reviewed. Nothing was uploaded.",
        "",
        "## Files",
        "",
        *(files or ["- nothing to propose"]),
        *(["", *notes] if notes else []),
        "",
        *([INFERRED] if batch.layer else []),
        "## Evidence and licence",
        "",
        f"- Evidence: {', '.join(rows.because) or 'none'}; never OpenStreetMap itself.",
        f"- Licences of the evidence: {licences}. Evidence that OSM can't accept never enters "
        "an edit; it may only ask for a survey.",
        *(f"- {text}" for text in held.attribution),
        "- Elements and their tags: © OpenStreetMap contributors "
        "(https://www.openstreetmap.org/copyright). These files are a derivative database "
        "under the Open Database License 1.0 (ODbL-1.0).",
        f"- Software: {held.software or 'glocal'}",
        "",
        ANSWERING,
    ]
    return "\n".join(lines)
