"""Our own tables of answers: one row per correction, a review file or an edited GeoPackage."""

from __future__ import annotations

from typing import Any

from glocal.core.legend import Legend
from glocal.sources.answers import rows as columns
from glocal.sources.answers.asked import Asked
from glocal.sources.answers.rows import Rows, column_of, last_of_each, of_this_run, text_of
from glocal.sources.answers.verdict import NO_PROPOSAL, Answer, Heard, verdict_of
from glocal.sources.points.words import class_of_text

SHOWN = ("shown",)


def read_review(rows: Rows, name: str, channel: str, asked: Asked, legend: Legend) -> Heard:
    """Return the answers of a table with one row per proposal.

    A column names the proposal (``proposal``, ``glocal_id``, ``change_id``...), another the
    answer (``answer`` or ``status``: accepted, rejected, too hard...); ``stated`` may name
    the class that is there, in words that count as blind only where ``shown`` says no. A
    row without an answer is not answered.

    Raises ``BadSourceError``: it answers another run.
    """
    of_this_run(rows, name, asked)
    id_, answer, stated, shown = (
        column_of(rows, names) for names in (columns.ID, columns.ANSWER, columns.STATED, SHOWN)
    )
    answers, unknown = [], []
    for number, row in enumerate(rows, 1):
        key = text_of(row, id_)
        verdict, word = verdict_of(text_of(row, answer)), text_of(row, stated)
        if verdict == "" and not word:
            continue
        at = asked.find([key])
        if at is None:
            unknown.append((key or f"row {number}", NO_PROPOSAL))
            continue
        found = class_of_text(word, legend) if word else ""
        if verdict is None or (word and not found):
            bad = word if word and not found else text_of(row, answer)
            unknown.append((key, f"{bad!r} is no answer and no class that we know"))
            continue
        blind, about = verdict_of(text_of(row, shown)) == "rejected", asked.proposals.iloc[at]
        said, seen = _judged(verdict, found, str(about["proposed"]), blind)
        proposal = str(about["proposal"])
        answers.append(Answer(proposal=proposal, channel=channel, verdict=said, stated=seen))
    return Heard(channel=channel, answers=last_of_each(answers), unknown=tuple(unknown))


def _judged(verdict: Any, stated: str, proposed: str, blind: bool) -> tuple[Any, str]:
    """Return verdict and class: a class of one's own is more than yes or no."""
    if blind and stated:
        return "told", stated
    if stated in ("", proposed):
        return verdict or "accepted", ""
    owned = verdict in ("", "accepted", "rejected", "changed")
    return ("changed", stated) if owned else (verdict, "")
