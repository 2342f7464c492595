"""What an answer can be: nine different things, not two."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from glocal.core.answer import SPEAKS

Verdict = Literal[
    "accepted", "changed", "told", "rejected", "already_fixed",
    "too_hard", "skipped", "disputed", "moved_on", "void",
]  # fmt: skip

MEANING: dict[Verdict, str] = {
    "accepted": "did what was proposed",
    "changed": "did something else instead",
    "told": "said what is there in their own words",
    "rejected": "said that the proposal is wrong",
    "already_fixed": "found it done already",
    "too_hard": "could not tell",
    "skipped": "left it to others",
    "disputed": "people contradict each other",
    "moved_on": "the element has a new version that says the same as before",
    "void": "the question is gone: task or element deleted",
}

WORDS: dict[str, Verdict] = {
    **{str(one).replace("_", " "): one for one in get_args(Verdict)},
    **dict.fromkeys(("yes", "y", "ok", "right", "correct", "agree", "approved"), "accepted"),
    **dict.fromkeys(("fixed", "done", "applied", "validated", "true"), "accepted"),
    **dict.fromkeys(("no", "n", "wrong", "disagree", "false positive", "false"), "rejected"),
    **dict.fromkeys(("not an issue", "not approved", "refused"), "rejected"),
    **dict.fromkeys(("superseded", "already done"), "already_fixed"),
    **dict.fromkeys(("can't complete", "cant complete", "unsure", "don't know"), "too_hard"),
    **dict.fromkeys(("unclear", "not visible", "cloud", "?"), "too_hard"),
    **dict.fromkeys(("skip", "later"), "skipped"),
    **dict.fromkeys(("deleted", "disabled", "gone"), "void"),
}

NO_PROPOSAL = "no proposal and no place to visit of this run"

UNANSWERED = frozenset({"", "proposed", "created", "open", "nan", "none", "null"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer to one proposal."""

    proposal: str
    """Id of the proposal."""

    verdict: Verdict
    channel: str
    """Kind of file that it came in; a channel has one answer per proposal, the last."""

    stated: str = ""
    """Name of the class that was said to be there, for ``changed`` and ``told``."""

    version: int = 0
    """Version that the element has now; 0 where the file does not tell."""

    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What somebody found at a place of the sampling plan."""

    sample_id: str
    stated: str
    """Class text as written; empty where it could not be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """All that one file says."""

    channel: str
    answers: tuple[Answer, ...] = ()
    visits: tuple[Visit, ...] = ()
    unknown: tuple[tuple[str, str], ...] = ()
    """Rows that could not be understood: what each is about, and why."""

    notes: tuple[str, ...] = ()


def plain(text: Any) -> str:
    """Return text in lower case, with single blanks for what may stand between words."""
    return re.sub(r"[\s_-]+", " ", str(text)).strip().lower()


def verdict_of(text: Any) -> Verdict | Literal[""] | None:
    """Return what a word means; empty for "not answered", None for a word that is not known.

    >>> verdict_of("Already_Fixed"), verdict_of("proposed"), verdict_of("maybe")
    ('already_fixed', '', None)
    """
    word = plain("" if text is None else text)
    return "" if word in UNANSWERED else WORDS.get(word)


ORDER: tuple[Verdict, ...] = ("disputed", "too_hard", "void", "moved_on", "skipped")


def resolved(answers: Iterable[tuple[Verdict, str]]) -> tuple[Verdict | Literal[""], str]:
    """Return the one (verdict, stated class) that all answers to a proposal come to.

    Silence gives way to speech; those who contradict each other are ``disputed``. The
    order of the answers, and hearing one twice, make no difference.

    >>> resolved([("skipped", ""), ("accepted", "")])
    ('accepted', '')
    >>> resolved([("rejected", ""), ("accepted", "")])
    ('disputed', '')
    """
    given = set(answers)
    spoken = {one for one in given if one[0] in SPEAKS}
    silent = {verdict for verdict, _ in given - spoken}
    if "disputed" in silent or not spoken:
        return next((one for one in ORDER if one in silent), ""), ""
    classes = {stated for verdict, stated in spoken if verdict in ("changed", "told")}
    kinds = {verdict for verdict, _ in spoken}
    if len(classes) > 1 or ("rejected" in kinds and kinds & {"accepted", "already_fixed"}):
        return "disputed", ""
    strongest: tuple[Verdict, ...] = ("told", "changed", "accepted", "already_fixed", "rejected")
    verdict = next(one for one in strongest if one in kinds)
    return verdict, classes.pop() if classes and verdict in ("told", "changed") else ""
