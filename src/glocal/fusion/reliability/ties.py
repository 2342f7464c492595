"""Dependence that nobody declared: sources that err alike where the truth is known.

Given the class, independent sources owe each other nothing. So, among anchors of one
class, what one source says must not go with what the other says; where it does, their
conditional mutual information is not zero and they must share a budget.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from glocal.core.typing import Codes, Table
from glocal.fusion.problem.terms import Located, Problem, Term

SHUFFLE_BLOCK = 1 << 21
"""Numbers held at once while shuffling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """Two sources that err alike."""

    a: str
    b: str
    correlation: float
    """Of what they say, given the class: 0 independent, 1 the same."""

    p: float
    """Chance of so strong a tie between independent sources, over all pairs (Holm)."""

    anchors: int
    """At which both speak."""


def hidden_ties(problem: Problem, anchors: Located, *, seed: int = 0) -> tuple[Tie, ...]:
    """Return the pairs that share errors without sharing a root, at one level for all pairs.

    Notes
    -----
    Each statement is read as the classes it stands for (its row of the crosswalk). Rows of
    anchors of one class are centred; the statistic is the sum over anchors of the inner
    products of two sources' residuals, which is large where both name the same wrong class
    (Jaffe et al. 2016; Dong et al. 2009 on shared wrong values). It is compared with its
    values after shuffling one source's anchors inside classes, which is exact for
    exchangeable anchors and needs no counts in large tables; Holm's correction runs over
    all tested pairs. Anchors inside one patch of error are not exchangeable: draw anchors
    farther apart than such patches.
    """
    truth = anchors.shares.argmax(axis=1)
    # the same shuffles for every pair, by anchors: so no order of sources is seen in them
    keys = np.random.default_rng(seed).random((problem.setting.tie_shuffles, len(anchors)))
    found = []
    for a, b in combinations([one for one in problem.terms if one.support != "points"], 2):
        if b.name in a.family:
            continue
        tie = _test(a, b, anchors, truth, keys, problem.setting.min_sample)
        if tie is not None:
            found.append(tie)
    return tuple(one for one in _holm(found) if one.p < problem.setting.tie_level)


def joined(problem: Problem, ties: Iterable[Tie]) -> Problem:
    """Return the problem in which tied sources share a budget; families stay as declared."""
    more: dict[str, set[str]] = {term.name: set(term.kin) for term in problem.terms}
    for tie in ties:
        more[tie.a].add(tie.b)
        more[tie.b].add(tie.a)
    terms = tuple(replace(term, kin=tuple(sorted(more[term.name]))) for term in problem.terms)
    return replace(problem, terms=terms)


def _test(a: Term, b: Term, anchors: Located, truth: Codes, keys: Table, least: int) -> Tie | None:
    """Return how alike two sources err (F17); None where too few anchors can tell."""
    statement = [one.of_unit[anchors.unit] for one in (a, b)]
    both = (statement[0] > 0) & (statement[1] > 0)
    if both.sum() < least:
        return None
    # what each stands for, as shares of classes: sources of different alphabets can be compared
    said = [
        one.prior[one.symbol[number[both]]] for one, number in zip((a, b), statement, strict=True)
    ]
    truth = truth[both]
    x, y = _centred(said[0], truth), _centred(said[1], truth)
    power = float(np.sqrt((x * x).sum() * (y * y).sum()))
    if power < 1e-9:  # one of them never errs differently within a class
        return None
    seen = float((x * y).sum())
    by_chance = _shuffled(x, y, truth, keys[:, both])
    # the observed order is one of the shuffles, so that p is never 0 (Phipson and Smyth 2010);
    # sums in another order may differ in their last bits
    p = (1 + (by_chance >= seen - 1e-12 * power).sum()) / (1 + len(by_chance))
    return Tie(a=a.name, b=b.name, correlation=seen / power, p=float(p), anchors=int(both.sum()))


def _centred(said: Table, truth: Codes) -> Table:
    """Return rows minus the mean row of their class: what the truth does not explain."""
    size = np.bincount(truth, minlength=said.shape[1])
    total = np.zeros((len(size), said.shape[1]))
    np.add.at(total, truth, said)
    return np.asarray(said - (total / np.maximum(size, 1)[:, None])[truth])


def _shuffled(x: Table, y: Table, truth: Codes, keys: Table) -> Table:
    """Return the statistic after shuffles inside classes, both ways round: (2 * shuffles,).

    Both ways, so that the order of the two sources can't be seen in the result.
    """
    # both sorted by class, one of them shuffled within: pairs up anchors of one class at random
    home = np.argsort(truth, kind="stable")
    out = []
    step = max(SHUFFLE_BLOCK // x.size, 1)
    for start in range(0, len(keys), step):
        part = keys[start : start + step]
        drawn = np.argsort(truth[None, :] + part, axis=1)  # keys lie in 0..1: classes stay apart
        out += [
            np.einsum("nk,bnk->b", x[home], y[drawn]),
            np.einsum("nk,bnk->b", y[home], x[drawn]),
        ]
    return np.concatenate(out)


def _holm(ties: list[Tie]) -> list[Tie]:
    """Return the ties with p-values for all of them together, the strongest first (F18)."""
    # names break what is left of ties between ties, so that no order of sources is seen
    ties = sorted(ties, key=lambda one: (one.p, -one.correlation, one.a, one.b))
    adjusted, worst = [], 0.0
    for rank, tie in enumerate(ties):
        # Holm 1979: the smallest counts for all pairs, the next for one less, none below the last
        worst = max(worst, min(1.0, tie.p * (len(ties) - rank)))
        adjusted.append(replace(tie, p=worst))
    return adjusted
