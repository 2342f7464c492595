"""What mappers really did: elements of a newer extract, a history, a diff, beside the proposal.

A file that is missing, damaged, not well-formed or declares entities raises
`SourceUnavailableError` or `BadSourceError`; so does one that holds nothing that was asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely

from glocal.core.legend import Legend
from glocal.errors import BadSourceError
from glocal.sources.answers.asked import Asked
from glocal.sources.answers.settled import covers
from glocal.sources.answers.verdict import Answer, Heard, Verdict
from glocal.sources.osm.change import parse_record, read_change
from glocal.sources.osm.file import Whole, iterate_elements, read_areas
from glocal.sources.osm.tags import classify, crosswalk_of
from glocal.sources.record import version_of

Key = tuple[str, int]


def wanted(asked: Asked) -> dict[int, Key]:
    """Return the ways and relations that were asked about, by position of the proposal."""
    parsed = (parse_record(record) for record in asked.proposals["record"].tolist())
    return {i: one[:2] for i, one in enumerate(parsed) if one is not None and one[2]}


def _states(elements: Iterable[Whole], keys: Mapping[int, Key]) -> dict[Key, list[Whole]]:
    """Return the versions of each element that was asked about, oldest first."""
    asked = set(keys.values())
    found: dict[Key, list[Whole]] = {}
    for one in elements:
        if one.key in asked:
            found.setdefault(one.key, []).append(one)
    return {key: sorted(known, key=lambda one: one.version) for key, known in found.items()}


def read_extract(path: Path, asked: Asked, legend: Legend, *, history: bool) -> Heard:
    """Return what a newer extract, or a full history, shows of the proposals."""
    keys = wanted(asked)
    states = _states(iterate_elements(path, keys.values(), every_version=True), keys)
    mapped = {} if history else _newly_mapped(path, asked, legend)
    if not states and not mapped:
        raise BadSourceError(
            f"{path.name} holds none of the {len(keys)} elements that run {asked.run} asked "
            "about; give an extract of the same area, newer than the one of the run"
        )
    heard = _heard("history" if history else "extract", asked, legend, states, mapped)
    absent = len(keys) - sum(key in states for key in keys.values())
    note = f"{absent} elements are not in the file: deleted, or outside the extract"
    return replace(heard, notes=(note,)) if absent else heard


def read_diff(path: Path, asked: Asked, legend: Legend) -> Heard:
    """Return what an augmented diff or an OsmChange file shows of the proposals."""
    keys = wanted(asked)
    states = _states(read_change(path), keys)
    if not states:
        raise BadSourceError(
            f"{path.name} touches none of the {len(keys)} elements that run {asked.run} asked "
            "about; give the differences since that run, for the same area"
        )
    return _heard("diff", asked, legend, states, {})


def _heard(
    channel: str,
    asked: Asked,
    legend: Legend,
    states: Mapping[Key, list[Whole]],
    mapped: Mapping[int, int],
) -> Heard:
    answers, rows = [], asked.proposals
    for i, key in wanted(asked).items():
        row, known = rows.iloc[i], states.get(key, [])
        base = version_of(row["record"])
        one = judged(known, str(row["current"]), str(row["proposed"]), base, legend)
        if one is not None:
            now, (verdict, stated, why) = known[-1].version, one
            said = {"proposal": row["proposal"], "verdict": verdict, "stated": stated}
            text = f"{key[0]}/{key[1]} is version {now} now{why}"
            answers.append(Answer(**said, channel=channel, version=now, why=text))
    for i, version in mapped.items():
        said = {"proposal": rows.iloc[i]["proposal"], "verdict": "accepted"}
        text = "something is mapped there now"
        answers.append(Answer(**said, channel=channel, version=version, why=text))
    return Heard(channel=channel, answers=tuple(answers))


def judged(
    states: Iterable[Whole], current: str, proposed: str, base: int, legend: Legend
) -> tuple[Verdict, str, str] | None:
    """Return (verdict, class stated, remark) of what happened after version ``base``.

    None when nothing did. An element that said what was proposed and was then turned back
    is a rejection; a new version that says the same as before is no answer.
    """
    later = [one for one in states if one.version > base]
    if not later:
        return None
    last = later[-1]
    if last.deleted:
        return "void", "", ", deleted"
    now, before = meant_by(last.tags, legend), meant_by_symbol(current, legend)
    if proposed in now:
        return "accepted", "", ""
    if any(proposed in meant_by(one.tags, legend) for one in later if not one.deleted):
        return "rejected", "", ", changed as proposed and changed back"
    if not now:
        return "moved_on", "", ", with tags that say nothing of cover"
    if now == before:
        return "moved_on", "", ", and says the same as before"
    return "changed", next(iter(now)), ""


def meant_by(tags: Mapping[str, str], legend: Legend) -> tuple[str, ...]:
    """Return the classes that tags stand for, the likeliest first; empty for none."""
    row = classify(tags)
    return () if row is None else meant_by_symbol(row.symbol, legend)


def meant_by_symbol(symbol: str, legend: Legend) -> tuple[str, ...]:
    """Return the classes that a symbol of the OSM source stands for, the likeliest first."""
    try:
        walk = crosswalk_of((symbol,), legend)
    except (KeyError, ValueError):
        return ()
    if walk.confidence[0] == 0:
        return ()
    meant, order = walk.meant()[1], walk.matrix[0].argsort(kind="stable")[::-1]
    return tuple(legend.names[k] for k in order if meant[k])


def _newly_mapped(path: Path, asked: Asked, legend: Legend) -> dict[int, int]:
    """Return the missing areas (positions) on which something of the class is mapped now."""
    rows = asked.proposals
    known = (rows["kind"] == "missing").to_numpy() & rows.geometry.notna().to_numpy()
    missing = np.flatnonzero(known).tolist()
    if not missing:
        return {}
    elements = read_areas(path)
    places = rows.geometry.iloc[missing].to_crs("EPSG:4326").to_numpy()
    found: dict[int, int] = {}
    pairs = shapely.STRtree(elements.geometry).query(places, predicate="intersects")
    for at_place, at in pairs.T.tolist():
        i = missing[at_place]
        said = meant_by(elements.tags[at], legend)
        if rows["proposed"].iloc[i] in said and covers(elements.geometry[at], places[at_place]):
            found[i] = int(elements.version[at])
    return found
