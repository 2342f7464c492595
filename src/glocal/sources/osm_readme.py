"""The page that goes with every folder of proposals to OpenStreetMap."""

from __future__ import annotations

from glocal.core.correction import Corrections

__all__ = ["readme"]

ABOUT = {
    "proposal.osc": "tag edits as OsmChange at their base version; opens in JOSM. "
    "`preview.osc` is the same one version up, only to look at locally: "
    "`osmium apply-changes EXTRACT preview.osc -o after.osm.pbf`",
    "maproulette.geojsonl": "tasks for MapRoulette (line-by-line GeoJSON), tag fixes where "
    "an edit is given",
    "missing.geojsonl": "areas where nothing is mapped; survey tasks without an edit",
    "flags.geojson": "doubts without an edit; the reason stands in `why_no_edit`",
}

RULES = """\
## How to answer

- One object, one human decision: look at recent imagery that OSM may use, or at the
  ground, before accepting. There is no bulk accept; do not upload the file as a whole.
  A bulk upload would be an automated edit (Automated Edits code of conduct).
- In MapRoulette: *Fixed* when you made the edit, *False positive* when the map was right,
  *Already fixed*, *Too hard* when it can't be told. These answers are read back, and a
  rejection counts as much as an acceptance.
- The probability says how sure the other sources are. The object may be wrong, or the
  ground may have changed since.
- Only tags that can be judged from above are proposed. Uses (residential, military,
  parks, orchards, protected areas) are flagged for people who know the place.
- An edit is refused when the element has a newer version than `base_version`.

## Before a challenge is published

Tell the local community, and put up a page that names the people responsible, the
evidence, the date and a hashtag (Organised Editing Guidelines). Suggested changeset tags:
`comment=Land cover checked one by one after a proposal #glocal`, `source=` the imagery
that you looked at, `review_requested=yes`. Contact: the publisher of this folder fills in
a name here.
"""


def readme(corrections: Corrections, *, counts: dict[str, int], notes: list[str]) -> str:
    """Return the text of ``PROPOSAL_README.md``: what, from which evidence, how to answer."""
    files = [f"- `{name}` ({counts[name]}): {ABOUT[name]}" for name in ABOUT if counts[name]]
    held = corrections.provenance
    licences = ", ".join(sorted(held.licences)) or "not stated"
    lines = [
        f"# Proposals to OpenStreetMap, round {corrections.round}",
        "",
        "Proposals, not reviewed. Nothing was uploaded.",
        "",
        "## Files",
        "",
        *(files or ["- nothing to propose"]),
        *(["", *notes] if notes else []),
        "",
        "## Evidence and licence",
        "",
        f"- Evidence: {', '.join(corrections.because) or 'none'}; never OpenStreetMap itself.",
        f"- Licences of the evidence: {licences}. Evidence that OSM can't accept never enters "
        "an edit; it may only ask for a survey.",
        *(f"- {text}" for text in held.attribution),
        "- Elements and their tags: © OpenStreetMap contributors "
        "(https://www.openstreetmap.org/copyright). These files are a derivative database "
        "under the Open Database License 1.0 (ODbL-1.0).",
        f"- Software: {held.software or 'glocal'}",
        "",
        RULES,
    ]
    return "\n".join(lines)
