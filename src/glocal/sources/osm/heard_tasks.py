"""MapRoulette's ``challenge/view``: one feature per task, with status and review."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from glocal.core.legend import Legend
from glocal.sources.answers.asked import Asked
from glocal.sources.answers.verdict import NO_PROPOSAL, Answer, Heard, Verdict, plain
from glocal.sources.points.words import class_of_text
from glocal.sources.record import version_of

CHANNEL = "maproulette"

TASK: dict[str, Verdict | Literal[""]] = {
    "created": "", "fixed": "accepted", "not an issue": "rejected", "skipped": "skipped",
    "deleted": "void", "already fixed": "already_fixed", "too hard": "too_hard",
    "answered": "told", "validated": "accepted", "disabled": "void",
}  # fmt: skip
"""MapRoulette's status of a task in the order of its codes (backend 5d105ae1); ``answered`` is a
survey's."""

REVIEW_NAMES = ("requested", "approved", "rejected", "assisted", "disputed")
NOT_CONFIRMED = (2, 4)
"""Reviews after which a fix is no fix: rejected, disputed."""


YES_NO = {"yes": "accepted", "true": "accepted", "no": "rejected", "false": "rejected"}


def read_maproulette(features: list[Mapping[str, Any]], asked: Asked, legend: Legend) -> Heard:
    """Return what mappers answered to the tasks of a challenge.

    A task is known by the ``glocal_id`` that its feature carries, else by its name or id
    (which older challenges hold as a bare number). Geometry is not read, so it may be
    missing. Names of mappers and reviewers are not read.
    """
    answers, unknown = [], []
    for feature in features:
        given = feature.get("properties") or {}
        names = [given.get(name) for name in ("glocal_id", "mr_taskName", "@id", "id")]
        label = next((str(one) for one in [*names, feature.get("id")] if one), "a task")
        at = asked.find([*names, feature.get("id")])
        if at is None:
            unknown.append((label, NO_PROPOSAL))
            continue
        one = _answer(given, asked, at, legend)
        if isinstance(one, str):
            unknown.append((label, one))
        elif one is not None:
            answers.append(one)
    return Heard(channel=CHANNEL, answers=tuple(answers), unknown=tuple(unknown))


def _answer(given: Mapping[str, Any], asked: Asked, at: int, legend: Legend) -> Answer | str | None:
    status, review = given.get("mr_taskStatus"), given.get("mr_reviewStatus")
    verdict = of_task(status, review)
    row = asked.proposals.iloc[at]
    if verdict is None:
        return f"MapRoulette has no status {status!r}"
    if not verdict:
        return None
    stated = ""
    if verdict == "told":
        found = _survey(given.get("mr_responses"), legend)
        if found is None:
            return "answered, but no class and no yes or no stands in mr_responses"
        verdict, stated = ("told", found) if found not in YES_NO.values() else (found, "")  # type: ignore[assignment]
    based = given.get("base_version")
    base = version_of(str(row["record"]))
    if based is not None and str(based).isdigit() and base and int(based) != base:
        return f"it was asked of version {based}, this run asked of version {base}"
    return Answer(proposal=str(row["proposal"]), verdict=verdict, channel=CHANNEL, stated=stated)


def _survey(responses: Any, legend: Legend) -> str | None:
    """Return the class, ``accepted`` or ``rejected`` that a survey's answer means."""
    if isinstance(responses, str):
        try:
            responses = json.loads(responses)
        except ValueError:
            responses = {"answer": responses}
    values = responses.values() if isinstance(responses, Mapping) else ()
    texts = [str(value).strip().lower() for value in values]
    found = (YES_NO.get(text) or class_of_text(text, legend) for text in texts)
    return next(filter(None, found), None)


def _code(value: Any, names: tuple[str, ...]) -> int | None:
    """Return a code given as number, numeric text or name; None for none of these."""
    number, word = str(value).strip().removesuffix(".0"), plain(value)
    if number.isdigit():
        return int(number)
    return names.index(word) if word in names else None


def of_task(status: Any, review: Any = None) -> Verdict | Literal[""] | None:
    """Return what a MapRoulette task's status and review mean together.

    A fix that a reviewer rejected or disputes is neither accepted nor rejected. None for
    a status that MapRoulette does not have.

    >>> of_task("Fixed"), of_task(1, 2), of_task("Not_An_Issue"), of_task("Created")
    ('accepted', 'disputed', 'rejected', '')
    """
    code = _code(status, tuple(TASK))
    if code is None or code >= len(TASK):
        return None
    verdict = tuple(TASK.values())[code]
    reviewed = None if review is None else _code(review, REVIEW_NAMES)
    disputed = verdict in ("accepted", "rejected") and reviewed in NOT_CONFIRMED
    return "disputed" if disputed else verdict
