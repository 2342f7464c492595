"""MapRoulette's ``challenge/view``: one feature per task, with status and review."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from glocal.core.legend import Legend
from glocal.errors import LegendMismatchError
from glocal.sources.people.asked import Asked, version_of
from glocal.sources.people.verdict import NO_PROPOSAL, Answer, Heard, of_task
from glocal.sources.points.words import meanings

__all__ = ["class_of_text", "read_maproulette"]

CHANNEL = "maproulette"
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
    for value in values:
        text = str(value).strip().lower()
        found = YES_NO.get(text) or class_of_text(text, legend)
        if found:
            return found
    return None


def class_of_text(text: str, legend: Legend) -> str:
    """Return the class of ``legend`` that a word surely means, else an empty string."""
    try:
        shares = meanings([text], legend)[text.strip()]
    except LegendMismatchError:
        return ""
    name = max(shares, key=lambda one: shares[one], default="")
    return name if name in legend.names and shares[name] > 0.5 else ""
