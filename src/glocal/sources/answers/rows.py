"""Rows of a table of answers: which column is what, and of which run they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from glocal.errors import BadSourceError
from glocal.sources.answers.asked import Asked
from glocal.sources.answers.verdict import Answer

ID = ("proposal", "glocal_id", "proposal_id", "change_id", "sample_id", "record", "id")
ANSWER = ("answer", "loop_answer", "verdict", "status")
STATED = ("stated", "class_seen", "class_found", "class_answer")

Row = Mapping[str, Any]
Rows = Sequence[Row]


def column_of(rows: Rows, names: Sequence[str]) -> str | None:
    """Return the first column of ``rows`` that is called like one of ``names``.

    Groups before a column's name don't count (``grp-sample_id``, ``a/b``).
    """
    every = [str(name) for row in reversed(rows) for name in row]
    columns = {re.split(r"[/.:-]", name)[-1].strip().lower(): name for name in every}
    return next((columns[name] for name in names if name in columns), None)


def is_answer_table(rows: Rows) -> bool:
    """Return True for a table that names corrections and says something of each."""
    return bool(column_of(rows, ID) and (column_of(rows, ANSWER) or column_of(rows, ("stated",))))


def text_of(row: Row, column: str | None) -> str:
    """Return what stands in a column, empty where nothing does."""
    value = row.get(column) if column else None
    if isinstance(value, Mapping):  # Kobo's status is {"uid": ..., "label": ...}
        value = value.get("label") or value.get("uid")
    text = "" if value is None else str(value).strip()
    return "" if text.lower() in ("nan", "none", "nat") else text


def of_this_run(rows: Rows, name: str, asked: Asked) -> None:
    """Refuse rows that name another run."""
    column = column_of(rows, ("run",))
    other = {text_of(row, column) for row in rows} - {"", asked.run}
    if other:
        raise BadSourceError(
            f"{name} answers run {', '.join(sorted(other))}, but this is run {asked.run}; give "
            "the folder of the run that it answers"
        )


def last_of_each(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    """Return the last answer to each correction."""
    return tuple({one.proposal: one for one in answers}.values())
