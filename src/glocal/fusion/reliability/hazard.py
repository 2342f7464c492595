"""How far an old statement speaks of today: the ground may have changed since.

A statement of some years ago is about the class of then. With a yearly hazard
``rate[k]`` what is now of class k was something else ``age`` years before with chance
1 - exp(-rate[k] * age); the class prior tells what. So one confusion serves statements of
every age, and "outdated" is told from "wrong" by how errors grow with age. A statement of
today is left as it is, to the last bit.

Only sources whose statements differ in age are dated: where all are equally old, change
can't be told from error, and both are part of the confusion that is learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from glocal.core.interval import Interval
from glocal.core.observation import Observations
from glocal.core.typing import Table
from glocal.fusion.problem.terms import Problem, Term
from glocal.fusion.reliability.confusion import Confusion

SECONDS_A_YEAR = 365.25 * 86400


def years_apart(source: Observations, interval: Interval) -> Table:
    """Return how many years each statement lies before or after ``interval``, shape (n,).

    Records with a ``timestamp`` (UTC) have their own time, 0 where it is unknown; others
    that of the source; 0 inside the interval.
    """
    stamps = source.columns.get("timestamp")
    start, stop = interval.start.timestamp(), interval.stop.timestamp()
    if stamps is None or np.isnat(stamps).all():
        own = source.phenomenon_time
        first, last = own.start.timestamp(), own.stop.timestamp()
        return np.full(len(source), max(start - last, first - stop, 0.0) / SECONDS_A_YEAR)
    at = stamps.astype("datetime64[s]").astype(np.int64).astype(np.float64)
    # a time that is not known is taken as today's: it may not make anything old
    apart = np.maximum(np.maximum(start - at, at - stop), 0.0) / SECONDS_A_YEAR
    return np.where(np.isnat(stamps), 0.0, apart)


def dated(
    problem: Problem, observations: Sequence[Observations], interval: Interval | None
) -> Problem:
    """Return the problem with the age of every statement, in whole years.

    Without ``interval`` (the reference time) nothing has an age. Sources of cells keep none,
    nor do sources whose statements are all of one age.
    """
    if interval is None:
        return problem
    by_name = {one.source: one for one in observations}
    terms = []
    for term in problem.terms:
        if term.support != "cells":
            years = np.rint(years_apart(by_name[term.name], interval))
            # of one age, change can't be told from error: both are in the confusion
            if len(np.unique(years)) > 1:
                ages, age = np.unique(np.append(0.0, years), return_inverse=True)
                term = replace(term, ages=ages, age=age.ravel().astype(np.int64))
        terms.append(term)
    return replace(problem, terms=tuple(terms))


def prior_rate(problem: Problem) -> Table:
    """Return the yearly rates (K,) before any data."""
    return np.full(len(problem.legend), problem.setting.change_rate)


def then_given_now(rate: Table, ages: Table, prior: Table) -> Table:
    """Return D (F11): P(class then | class now), shape (A, K, K); rows sum to 1.

    ``rate`` (K,) is per year, ``ages`` (A,) in years, ``prior`` (K,) the class shares.
    """
    eye = np.eye(len(rate))
    stays = np.exp(-ages[:, None] * rate)[..., None]
    # where it changed, it was any other class, as these are usual
    other = prior * (1 - eye)
    other = other / np.maximum(other.sum(axis=1, keepdims=True), 1e-12)
    return np.asarray(stays * eye + (1 - stays) * other)


def with_rate(
    confusion: Mapping[str, Confusion], problem: Problem, rate: Table, prior: Table
) -> dict[str, Confusion]:
    """Return the confusions with the chances of change that ``rate`` (K,) implies."""
    return {
        term.name: confusion[term.name]
        if term.ages is None
        else replace(confusion[term.name], then=then_given_now(rate, term.ages, prior))
        for term in problem.terms
    }


def learned_rate(
    problem: Problem, confusion: Mapping[str, Confusion], seen: Mapping[str, Table]
) -> Table:
    """Return the yearly rates (K,) after one step of EM over all dated sources (F12).

    ``seen`` holds expected counts (A * context, K, M) by the class of now. The rate is the
    expected number of changes over the years until they happened or the statement's age
    (a change is known to lie between, no closer), with a gamma prior.
    """
    rate, worth = prior_rate(problem), problem.setting.change_worth
    happened, years = rate * worth, np.full(len(rate), worth)
    for term in problem.terms:
        one, then = confusion[term.name], confusion[term.name].then
        if term.ages is None or then is None:
            continue
        split = seen[term.name].reshape(len(then), *one.log_p.shape)
        # P(unchanged | class now, symbol): the part of Theta^(a) that stays on the diagonal of D
        kept = np.einsum("akk->ak", then)[:, None, :, None] * np.exp(one.log_p - one.now)
        moved = (split * (1 - kept)).sum(axis=(1, 3))
        stayed = split.sum(axis=(1, 3)) - moved
        happened = happened + moved.sum(axis=0)
        # mean years until a change that happened within the age: of an exponential law, cut off;
        # half the age where changes are rare (x = rate * age near 0)
        stays = np.maximum(np.einsum("akk->ak", then), 1e-12)
        rare = -np.log(stays) < 1e-6
        x = np.where(rare, 1.0, -np.log(stays))
        wait = term.ages[:, None] * np.where(rare, 0.5, 1 / x - stays / -np.expm1(-x))
        years = years + (stayed * term.ages[:, None] + moved * wait).sum(axis=0)
    return np.asarray(happened / years)


def outdated(term: Term, confusion: Confusion, cavity: Table) -> Table:
    """Return P(the class changed since it was stated) per statement, shape (n,): (F13).

    ``cavity`` (n, K) is the log-posterior of each statement's class without what it says;
    0 for sources without ages.
    """
    if term.age is None or confusion.then is None:
        return np.zeros(len(cavity))
    age, context, symbol = term.age[1:], term.context[1:], term.symbol[1:]
    now = confusion.now[age, context, :, symbol]
    # the part of Theta^(a)[k, y] that comes from classes that stayed
    stays = np.einsum("akk->ak", confusion.then)[age] * np.exp(confusion.log_p[context, :, symbol])
    p = np.exp(cavity + now)
    changed = p * (1 - stays / np.exp(now))
    return np.asarray(changed.sum(axis=1) / np.maximum(p.sum(axis=1), 1e-300))
