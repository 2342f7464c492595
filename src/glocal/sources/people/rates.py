"""How people answer, learned where the truth is known, and else as declared.

Who is shown a suggestion accepts it too often; by how much, differs from task to task. Where
a reference point lies in the place of an answer, one sees whether the suggestion was right.
Rates are beta-binomial: what was declared counts as `STRENGTH` answers, then what people of
other rounds did, then what these did. People who accept everything are so found to say
nothing, and nobody is ever believed to mean the opposite of what they say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from glocal.core.burn import burn
from glocal.core.grid import cells_of_points
from glocal.core.observation import Anchors, Observations
from glocal.core.typing import Table
from glocal.sources.people.review import Bias

STRENGTH = 10.0
"""Answers of each kind that a declared rate, or that of other rounds, is worth."""

Tally = Table
"""Shape (3, 2): right suggestions, wrong suggestions, own words; yes (or right), and all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rates:
    """How the people behind one source of answers answer."""

    bias: Bias
    tally: Tally
    """What was seen of them."""

    def __str__(self) -> str:
        """Return the rates in words, with the number of answers that they rest on."""
        (_, right), (_, wrong), (_, own) = self.tally
        return (
            f"a right suggestion is accepted with {self.bias.accept_if_right:.2f} ({right:.0f} "
            f"answers at reference points), a wrong one with {self.bias.accept_if_wrong:.2f} "
            f"({wrong:.0f}); own words are right in {self.bias.right_if_blind:.2f} ({own:.0f})"
        )


def tally(answers: Observations, anchors: Anchors | None) -> Tally:
    """Count answers at places whose class is known.

    A suggestion is as right as the share of the place's reference points that have its
    class, so counts need not be whole: an object with a meadow inside makes its answers look
    a little more alike than they are, which is the cautious side.
    """
    out = np.zeros((3, 2))
    if anchors is None or not len(answers):
        return out
    at = cells_of_points(answers.geobox, anchors.x, anchors.y)
    use = anchors.answered & (at >= 0)
    owner = burn(answers.geometry, answers.geobox).ravel()[at[use]]
    classes, n = len(answers.legend), len(answers) + 1
    points = np.bincount(owner, minlength=n)[1:]
    share = [np.bincount(owner, one, minlength=n)[1:] for one in anchors.shares[use].T]
    known = (np.stack(share, axis=1) / np.maximum(points, 1)[:, None])[points > 0]
    # A symbol is 1 + kind * classes + class, of kinds accepted, rejected, stated.
    kind, about = np.divmod(answers.symbols[points > 0].astype(np.int64) - 1, classes)
    shown = np.zeros(len(answers)) if answers.stratum is None else answers.stratum
    question = shown[points > 0].astype(np.int64) - 1
    asked = question >= 0
    right = known[np.arange(len(known)), np.where(asked, question, about)]
    yes = kind == 0
    for i, weight in enumerate((right[asked], 1 - right[asked])):
        out[i] = weight[yes[asked]].sum(), weight.sum()
    out[2] = right[~asked].sum(), (~asked).sum()
    return out


def learned(declared: Bias, mine: Tally, others: Tally, classes: int) -> Bias:
    """Return rates after what these people did, and people of other rounds before them.

    Each rate is (`STRENGTH` * prior + yes) / (`STRENGTH` + all), the mean of a beta
    distribution; the prior is the same with the others' answers and what was declared. Where
    wrong suggestions are accepted as often as right ones, both rates become one.
    """
    rate = np.array([declared.accept_if_right, declared.accept_if_wrong, declared.right_if_blind])
    for yes, total in (others.T, mine.T):
        rate = (STRENGTH * rate + yes) / (STRENGTH + total)
    right, wrong, own = rate
    if wrong >= right:
        weight = STRENGTH + mine[:2, 1]
        right = wrong = float(weight @ rate[:2] / weight.sum())
    return Bias(
        accept_if_right=float(right),
        accept_if_wrong=float(wrong),
        right_if_blind=float(max(own, 1 / classes)),
    )


def rates_of(
    answers: Iterable[Observations], anchors: Anchors | None, declared: Mapping[str, Bias]
) -> dict[str, Rates]:
    """Return how the people behind each source of answers answer, by its name."""
    sources = list(answers)
    found = {one.source: tally(one, anchors) for one in sources}
    total = sum(found.values(), np.zeros((3, 2)))
    out = {}
    for one in sources:
        mine = found[one.source]
        bias = learned(declared[one.source], mine, total - mine, len(one.legend))
        out[one.source] = Rates(bias=bias, tally=mine)
    return out
