"""Answers in tables: our own review file, an edited GeoPackage, and forms of ODK and Kobo."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from glocal.core.legend import Legend
from glocal.errors import BadSourceError
from glocal.sources.osm.answers_maproulette import class_of_text
from glocal.sources.people.asked import Asked
from glocal.sources.people.verdict import NO_PROPOSAL, Answer, Heard, Visit, verdict_of
from glocal.sources.points.words import is_silent

__all__ = ["column_of", "read_form", "read_review"]

ID = ("proposal", "glocal_id", "proposal_id", "change_id", "sample_id", "record", "id")
ANSWER = ("answer", "loop_answer", "verdict", "status")
CLASS = ("class_seen", "class_found", "class", "land_cover", "landcover", "cover")
STATED = ("stated", "class_seen", "class_found", "class_answer")
SHOWN = ("shown",)
STATE = ("reviewstate", "_validation_status", "validation_status")
WHEN = ("submissiondate", "_submission_time", "submission_date", "updatedat", "end")

Row = Mapping[str, Any]

REFUSED = frozenset({"rejected", "not approved", "validation_status_not_approved"})
DOUBTED = frozenset({"hasissues", "has issues", "on hold", "validation_status_on_hold"})


def _last(name: str) -> str:
    """Return a column's name without the groups before it (``grp-sample_id``, ``a/b``)."""
    return re.split(r"[/.:-]", str(name))[-1].strip().lower()


def column_of(rows: Sequence[Row], names: Sequence[str]) -> str | None:
    """Return the first column of ``rows`` that is called like one of ``names``."""
    columns = {_last(name): str(name) for row in reversed(rows) for name in row}
    return next((columns[name] for name in names if name in columns), None)


def _text(row: Row, column: str | None) -> str:
    value = row.get(column) if column else None
    if isinstance(value, Mapping):  # Kobo's status is {"uid": ..., "label": ...}
        value = value.get("label") or value.get("uid")
    text = "" if value is None else str(value).strip()
    return "" if text.lower() in ("nan", "none", "nat") else text


def _of_this_run(rows: Sequence[Row], name: str, asked: Asked) -> None:
    column = column_of(rows, ("run",))
    other = {_text(row, column) for row in rows} - {"", asked.run}
    if other:
        raise BadSourceError(
            f"{name} answers run {', '.join(sorted(other))}, but this is run {asked.run}; give "
            "the folder of the run that it answers"
        )


def read_review(
    rows: Sequence[Row], name: str, channel: str, asked: Asked, legend: Legend
) -> Heard:
    """Return the answers of a table with one row per proposal.

    A column names the proposal (``proposal``, ``glocal_id``, ``change_id``...), another the
    answer (``answer`` or ``status``: accepted, rejected, too hard...); ``stated`` may name
    the class that is there, in words that count as blind only where ``shown`` says no. A
    row without an answer is not answered.

    Raises
    ------
    BadSourceError
        It answers another run.
    """
    _of_this_run(rows, name, asked)
    id_, answer = column_of(rows, ID), column_of(rows, ANSWER)
    stated, shown = column_of(rows, STATED), column_of(rows, SHOWN)
    answers, unknown = [], []
    for number, row in enumerate(rows, 1):
        key = _text(row, id_)
        verdict, word = verdict_of(_text(row, answer)), _text(row, stated)
        if verdict == "" and not word:
            continue
        at = asked.find([key])
        if at is None:
            unknown.append((key or f"row {number}", NO_PROPOSAL))
            continue
        found = "" if not word else class_of_text(word, legend)
        if verdict is None or (word and not found):
            bad = word if word and not found else _text(row, answer)
            unknown.append((key, f"{bad!r} is no answer and no class that we know"))
            continue
        blind = verdict_of(_text(row, shown)) == "rejected"
        one = _judged(verdict, found, str(asked.proposals["proposed"].iloc[at]), blind)
        proposal = str(asked.proposals["proposal"].iloc[at])
        answers.append(Answer(proposal=proposal, channel=channel, verdict=one[0], stated=one[1]))
    return Heard(channel=channel, answers=_last_of_each(answers), unknown=tuple(unknown))


def _judged(verdict: Any, stated: str, proposed: str, blind: bool) -> tuple[Any, str]:
    """Return verdict and class: a class of one's own is more than yes or no."""
    if not stated:
        return verdict, ""
    if blind:
        return "told", stated
    if stated == proposed:
        return ("accepted" if verdict == "" else verdict), ""
    return (
        ("changed", stated) if verdict in ("", "accepted", "rejected", "changed") else (verdict, "")
    )


def _last_of_each(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    return tuple({one.proposal: one for one in answers}.values())


def read_form(
    rows: Sequence[Row],
    name: str,
    channel: str,
    asked: Asked,
    legend: Legend,
    class_column: str | None = None,
) -> Heard:
    """Return what people found where they were sent, from an export of ODK or Kobo.

    Rows are known by the ``sample_id`` that the form brings back: Kobo's ``_uuid`` changes
    with each edit. Of several submissions for one place the newest stands. A submission
    that was rejected in the tool is left out; one with issues, or on hold, counts as "could
    not tell". No other column is read.

    Raises
    ------
    BadSourceError
        No column for the place or for the class; it answers another run.
    """
    _of_this_run(rows, name, asked)
    place = column_of(rows, ("sample_id",))
    column = column_of(rows, (class_column.lower(),) if class_column else CLASS)
    columns = sorted({str(one) for row in rows for one in row})
    for what, found, how in (
        ("sample_id", place, "the form must bring back the sample_id of the place"),
        ("the class", column, "name the question with --class-column"),
    ):
        if found is None:
            raise BadSourceError(f"{name} has no column for {what}; {how}; it has {columns}")
    planned = set(asked.visits["sample_id"].tolist())
    state, when = column_of(rows, STATE), column_of(rows, WHEN)
    newest = sorted(rows, key=lambda row: _text(row, when))
    visits: dict[str, Visit] = {}
    answers, unknown, refused = [], [], 0
    for row in newest:
        key, word = _text(row, place), _text(row, column)
        judged = _text(row, state).lower()
        if judged in REFUSED:
            refused += 1
            continue
        silent = is_silent(word) or judged in DOUBTED
        stated = "" if silent else class_of_text(word, legend)
        if not silent and not stated:
            unknown.append((key, f"{word!r} is no class of {legend.name}"))
        elif key in planned:
            visits[key] = Visit(sample_id=key, stated=stated)
        elif (at := asked.find([key])) is not None:
            proposal = str(asked.proposals["proposal"].iloc[at])
            verdict: Any = "told" if stated else "too_hard"
            answers.append(
                Answer(proposal=proposal, channel=channel, verdict=verdict, stated=stated)
            )
        else:
            unknown.append((key or "no sample_id", NO_PROPOSAL))
    again = len(rows) - refused - len(unknown) - len(visits) - len(_last_of_each(answers))
    notes = [f"{refused} submissions were rejected in the tool and are left out"] if refused else []
    notes += [f"{again} submissions are older ones for the same place"] if again else []
    return Heard(
        channel=channel, answers=_last_of_each(answers), visits=tuple(visits.values()),
        unknown=tuple(unknown), notes=tuple(notes),
    )  # fmt: skip
