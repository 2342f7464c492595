"""Answers as evidence for the next round: what they say, given what was asked.

An answer to a shown suggestion is no gold: people accept wrong suggestions (methods: two
randomised studies, 2,784 and 410 people). So P(answer | class) depends on the question,
and who is asked what follows from our own evidence, hence only the answer given the
question is evidence (support ``answers``). Points of the sampling plan that come back are
anchors, with their inclusion weights.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox

from glocal.core.answer import SPEAKS, Answered
from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk, Legend
from glocal.core.observation import Anchors, Observations
from glocal.core.provenance import Provenance
from glocal.core.typing import Table
from glocal.errors import LegendMismatchError
from glocal.sources.answers.settled import on_the_ground
from glocal.sources.answers.store import Stored

REFUSAL_TELLS = 0.3
"""Share of those who do not accept a suggestion that say what is there instead."""

LEAST = 1e-6
"""Probability of an answer that does not fit its question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bias:
    """How people answer; declared, not measured, until `glocal.sources.people.rates` learns it."""

    accept_if_right: float = 0.9
    accept_if_wrong: float = 0.4
    """Acceptance bias: how often a wrong suggestion is accepted because it was shown."""

    right_if_blind: float = 0.85
    """How often a class that somebody names without a suggestion is right."""

    def __post_init__(self) -> None:
        for name in ("accept_if_right", "accept_if_wrong", "right_if_blind"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if self.accept_if_wrong > self.accept_if_right:
            raise ValueError(
                "accept_if_wrong must not be above accept_if_right, else an acceptance says the "
                f"opposite; got {self.accept_if_wrong} and {self.accept_if_right}"
            )


def table_of(classes: int, bias: Bias) -> Table:
    """Return P(answer | class, question), shape (K + 1, K, 3 K).

    Question 0 is "what is there?", question 1 + c "is it c?". Answers: accepted class
    0..K-1, rejected class, stated class.
    """
    out = np.full((classes + 1, classes, 3 * classes), LEAST)
    own = np.full((classes, classes), (1 - bias.right_if_blind) / max(classes - 1, 1))
    np.fill_diagonal(own, bias.right_if_blind)
    out[0, :, 2 * classes :] += own
    truth = np.arange(classes)
    for c in range(classes):
        yes = np.where(truth == c, bias.accept_if_right, bias.accept_if_wrong)
        other = own.copy()
        other[:, c] = 0.0
        other /= other.sum(axis=1, keepdims=True)
        out[1 + c, :, c] += yes
        out[1 + c, :, classes + c] += (1 - yes) * (1 - REFUSAL_TELLS)
        out[1 + c, :, 2 * classes :] += ((1 - yes) * REFUSAL_TELLS)[:, None] * other
    return np.asarray(out / out.sum(axis=2, keepdims=True))


def _crosswalk(legend: Legend) -> Crosswalk:
    """Return what the answers mean at their word; the declared table says how far."""
    rows: dict[str, dict[int | str, float]] = {}
    for answer in ("accepted", "rejected", "stated"):
        for name in legend.names:
            meant = [one for one in legend.names if (one == name) == (answer != "rejected")]
            rows[f"{answer}:{name}"] = dict.fromkeys(meant, 1.0)
    return Crosswalk.from_shares(legend, rows, confidence=0.5)


def observe_review(
    answered: Answered,
    geobox: GeoBox,
    legend: Legend,
    *,
    source: str,
    run: str,
    bias: Bias,
    interval: Interval,
    licences: frozenset[str],
    known: Collection[str] = (),
) -> Observations:
    """Return what people's answers say about the places that they were asked about.

    Symbols are ``accepted:CLASS``, ``rejected:CLASS`` and ``stated:CLASS``; the stratum is
    the question: 0 without a suggestion, else 1 + the position of the class shown. Answers
    to the corrections in ``known`` were heard already, and are left out. ``run`` asked.

    Raises ``LegendMismatchError``: an answer is about a class that the legend does not have.
    """
    spoken = np.isin(answered.verdict, list(SPEAKS)) & ~np.isin(answered.proposal, list(known))
    table = on_the_ground(answered.take(spoken), geobox)
    classes, names = len(legend), legend.names
    about = np.where(table.stated != "", table.stated, table.proposed)
    lost = sorted({*about.tolist(), *table.proposed.tolist()} - set(names))
    if lost:
        raise LegendMismatchError(
            f"{source}: answers of run {run} are about {', '.join(lost)}, which legend "
            f"{legend.name} does not have; use the classes of that run"
        )
    own = np.isin(table.verdict, ("told", "changed"))
    offset = np.where(own, 2, np.where(table.verdict == "rejected", 1, 0))
    at, shown = (
        np.array([names.index(one) for one in words.tolist()], np.int64)
        for words in (about, table.proposed)
    )
    return Observations(
        source=source,
        support="answers",
        geobox=geobox,
        symbols=(1 + offset * classes + at).astype(np.uint16),
        crosswalk=_crosswalk(legend),
        phenomenon_time=interval,
        provenance=Provenance(
            activity="answer",
            agent="people who answered proposals",
            used=(f"answers to {run}",),
            licences=licences,
            roots=frozenset({"review"}),
        ),
        geometry=table.geometry,
        record=table.proposal,
        stratum=np.where(table.verdict == "told", 0, 1 + shown).astype(np.uint16),
        columns={"verdict": table.verdict},
        declared=table_of(classes, bias),
    )


def reference_visits(stored: Stored, legend: Legend) -> Anchors | None:
    """Return the visited places of the sampling plan as anchors; None without any.

    Their weight is the inverse of the inclusion probability. A visit that could not tell is
    non-response. Classes that the legend lacks are refused when answers are taken.
    """
    visits = stored.visits
    if not len(visits):
        return None
    at = np.array([legend.index(name) if name else -1 for name in visits["class"].tolist()])
    return Anchors(
        x=visits["x"].to_numpy(float),
        y=visits["y"].to_numpy(float),
        shares=np.eye(len(legend))[at] * (at >= 0)[:, None],
        weight=1.0 / visits["inclusion_probability"].to_numpy(float),
        record=visits["sample_id"].to_numpy(str),
        provenance=Provenance(
            activity="visit",
            agent="people in the field",
            used=(f"visits of {stored.run}",),
            licences=frozenset({stored.licence}),
            roots=frozenset({"visits"}),
        ),
    )
