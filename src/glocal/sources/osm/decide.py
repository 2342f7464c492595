"""What OpenStreetMap is told: the one place where doubts about its objects become corrections.

Whether a doubt is an edit, a question or a flag, and why, is decided here once; files, scores and
counts all read it from the corrections.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from glocal.core.correction import Corrections
from glocal.core.findings import Doubts, Findings
from glocal.core.observation import Observations
from glocal.core.promise import LIKELIER_THAN_NOT, shrunk, threshold_for
from glocal.core.provenance import Terms
from glocal.core.typing import Bools, Codes, Table
from glocal.sources.answers.settled import settled
from glocal.sources.kind import Window, needed
from glocal.sources.osm.place import as_mapped, displaced_objects, displaced_parts
from glocal.sources.osm.rows import NO_EDIT, NO_LICENCE, columns_of
from glocal.sources.osm.tags import BUILT_KEYS, edit_of, row_of
from glocal.sources.osm.unmapped import unmapped_areas
from glocal.sources.telling import corrections_of

DOUBTED = 0.1
"""An object is flagged when its class is right with less than this probability."""

MIN_CORE = 0.25
"""Share of an object that must lie inside its edge before its tags are edited: of hedges
and shores nearly every cell is mixed, and a small offset puts them beside themselves."""

SEEN = 0.9
"""An element is edited only if this share of it lies in the area that was looked at."""

OLD_DAYS = 3 * 365
"""An element that was last edited so long before the image may be outdated."""

ASKED = ("outdated", "vanished", "displaced")
"""Faults that a person can answer by looking."""

NOT_COVER = (
    "a use, or a change to or from wetland, built-up or bare ground: cover seen from above "
    "can't decide it"
)
NOT_SURE = "the tags are doubted, but no other class is likely enough for an edit"
SHARED = (
    "several rows of the layer share this OSM id and do not all ask for the same edit; "
    "open the element to see which of its tags is meant"
)


def decide(
    source: Observations, findings: Findings, window: Window, terms: Terms, batch: int
) -> Corrections:
    """Return the corrections of one source, the surest first, where the map has its objects.

    At most ``batch`` edits and ``batch`` questions go out at once; the rest waits. See `rows` for
    the columns beside those of all corrections.
    """
    displaced = displaced_objects(source, findings)
    # what seems to be of another class lies beside its place: nothing else is said of it
    in_place = ~np.isin(source.record, displaced.record)
    tags = _about_tags(source, findings, window, terms, in_place)
    unmapped = unmapped_areas(source, findings, window, terms)
    parts = displaced_parts(source, findings)
    told = Corrections.joined([tags, unmapped, displaced, parts])
    told = told.take(np.lexsort((told.record, -told.probability)))
    shift = findings.shift
    if shift is not None and shift.significant and shift.applied:
        told = as_mapped(told, source, shift)
    # what is too much at once waits, and people are asked what they can answer by looking
    fate = told.fate.copy()
    fate[np.flatnonzero(fate == "modify")[batch:]] = "later"
    room = max(batch - int((fate == "survey").sum()), 0)
    asked = np.flatnonzero((fate == "flag") & np.isin(told.fault, ASKED))
    fate[asked[:room]] = "survey"
    return replace(told, fate=fate)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Judged:
    """What may become of each of n objects."""

    edit: NDArray[np.object_]
    """Shape (n,), the `TagEdit` that makes an object say the proposed class; empty for none."""

    probability: Table
    """Shape (n,), of the proposed class, as far as held-out points let it be believed."""

    barred: NDArray[np.str_]
    """Shape (n,), why an edit can't be made though it would be sound; empty where it can."""

    open: Bools
    """Shape (n,), doubted by others, in its place, and not answered before."""

    likely: Bools
    """Shape (n,), True where the edit is sound and likelier right than wrong."""


def _about_tags(
    source: Observations, findings: Findings, window: Window, terms: Terms, in_place: Bools
) -> Corrections:
    """Return edits of tags, and flags of objects that are doubted without an edit."""
    doubts = needed(findings.doubts, f"{source.source}: findings about objects carry doubts")
    judged = _judge(source, findings, doubts, window, terms, in_place)
    threshold, groups, question, barred, doubted = _chosen(source, judged, doubts, window.precision)
    edits = np.array([group[0] for group in groups], np.int64)
    parts = [edits, question, barred, doubted]
    rows = np.concatenate(parts)
    role = np.repeat(["edit", "question", "barred", "doubted"], [len(one) for one in parts])
    edited, asked, likely = role == "edit", role == "question", role != "doubted"
    has_edit = np.array([bool(judged.edit[i]) for i in rows], bool)
    why = np.where(likely, judged.barred[rows], np.where(has_edit, NOT_SURE, NOT_COVER))
    probability = np.where(likely, judged.probability[rows], 1 - doubts.correct[rows])
    edit = np.full(len(rows), NO_EDIT, object)
    edit[edited] = judged.edit[edits]
    support, area = source.geometry[rows], shapely.area(source.geometry)
    for at, group in enumerate(groups):
        if len(group) > 1:  # of several rows of an element that of the largest speaks for all
            support[at] = shapely.multipolygons(shapely.get_parts(source.geometry[group]))
            probability[at] = np.average(judged.probability[group], weights=area[group])
    told = corrections_of(
        source,
        findings,
        record=source.record[rows],
        fault=np.where(likely, "retag", _faults(source, window, rows)),
        action=np.where(edited, "modify", "flag"),
        fate=np.where(edited, "modify", np.where(asked, "survey", "flag")),
        current=source.words[rows],
        proposed=np.array(window.legend.names)[doubts.proposed[rows]],
        probability=probability,
        support=support,
        columns=columns_of(len(rows), np.where(asked, SHARED, why), edit),
    )
    if not len(edits):
        return replace(told, terms=terms)
    mean = float(probability[edited].mean())
    return replace(told, terms=terms, threshold=threshold, expected_precision=mean)


def _judge(
    source: Observations,
    findings: Findings,
    doubts: Doubts,
    window: Window,
    terms: Terms,
    in_place: Bools,
) -> _Judged:
    legend, words = window.legend, source.words
    names = np.array(legend.names)[doubts.proposed]
    done = settled(findings.answers, source.record, words, names)
    free = doubts.supported & ~done & (source.symbols > 0) & in_place
    probability = shrunk(doubts.probability, findings.sharpness)
    likely = free & (probability > LIKELIER_THAN_NOT)
    may = terms.accept(findings.provenance.licences)
    edit = np.full(len(source), NO_EDIT, object)
    tags = source.columns["tags"]
    for i in np.flatnonzero(likely | (free & (doubts.correct < DOUBTED))).tolist():
        edit[i] = edit_of(str(words[i]), tags[i], legend.concepts[doubts.proposed[i]])
    whole = shapely.area(source.geometry)
    inside = shapely.clip_by_rect(source.geometry, *source.geobox.extent.boundingbox.bbox)
    seen = np.where(whole > 0, shapely.area(inside) / np.maximum(whole, 1e-9), 1.0)
    core = shapely.buffer(source.geometry, -abs(float(source.geobox.resolution.x)))
    thick = shapely.area(core) / np.maximum(whole, 1e-9) >= MIN_CORE
    barred = source.columns.get("unfit", np.full(len(source), "", object)).astype(str)
    outside = [f"only {one:.0%} of it lies in the area that was looked at" for one in seen]
    barred = np.where(seen < SEEN, np.array(outside), barred)
    if not may:
        barred = np.full(len(source), NO_LICENCE)
    sound = np.array([bool(one) for one in edit], bool) & thick
    return _Judged(
        edit=edit, probability=probability, barred=barred, open=free, likely=likely & sound
    )


def _chosen(
    source: Observations, judged: _Judged, doubts: Doubts, precision: float
) -> tuple[float, list[list[int]], Codes, Codes, Codes]:
    """Return the threshold, and the rows of edits by element, questions, barred and doubted.

    Layers split multipolygons into rows that share an id: those that ask for the same are one
    edit, the largest first; where they differ a person must look, asked of one row.
    """
    sure, free = judged.probability, judged.likely & (judged.barred == "")
    threshold, _ = threshold_for(sure[free], precision)
    sound = np.flatnonzero(free & (sure >= threshold))
    # those that would be edits if nothing barred them say what does
    passing, _ = threshold_for(sure[judged.likely], precision)
    barred = np.flatnonzero(judged.likely & (sure >= passing) & (judged.barred != ""))
    doubted = judged.open & (doubts.correct < DOUBTED)
    doubted[sound] = doubted[barred] = False
    many = source.columns.get("layer_rows")
    if many is None:
        return threshold, [[i] for i in sound.tolist()], sound[:0], barred, np.flatnonzero(doubted)
    groups: dict[int, list[int]] = {}
    for i in sound[np.argsort(-shapely.area(source.geometry[sound]), kind="stable")].tolist():
        groups.setdefault(int(source.columns["osm_id"][i]), []).append(i)
    same: list[list[int]] = []
    differ: list[list[int]] = []
    for number, group in groups.items():
        whole = number > 0 and many[group[0]] <= len(group)
        alike = all(judged.edit[i] == judged.edit[group[0]] for i in group)
        (same if whole and alike else differ).append(group)
    question = np.array([group[0] for group in differ], np.int64)
    return threshold, same, question, barred, np.flatnonzero(doubted)


def _faults(source: Observations, window: Window, rows: Codes) -> NDArray[np.str_]:
    """Return what may be wrong with objects whose class is doubted, shape as ``rows``."""
    # single things are there or not: buildings, dams, open water
    words = [row_of(one) for one in source.words[rows].tolist()]
    thing = np.array([one.key in BUILT_KEYS or one.base == "natural=water" for one in words], bool)
    starts = [np.datetime64(one.start.replace(tzinfo=None)) for one in window.dates.values()]
    edited, old = source.columns["timestamp"][rows], np.zeros(len(rows), bool)
    if starts:
        old = ~np.isnat(edited) & (max(starts) - edited > np.timedelta64(OLD_DAYS, "D"))
    return np.where(thing, "vanished", np.where(old, "outdated", "doubt"))
