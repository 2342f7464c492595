"""Signs that a loop believes itself: each a number with a limit, and what to do.

A loop that teaches its own models can drift: it grows surer, its parts agree ever more,
and the truth is no closer. Held-out anchors see that; without anchors only the drift of
class shares and of agreement can be seen, and nothing can be promised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from glocal.core.setting import ENGINE, Setting
from glocal.core.typing import Table
from glocal.fusion.fuse import Fused, HeldOut
from glocal.fusion.reliability.dependence import gammas

SPREAD_ERROR = 0.5227
"""Standard error of the mean distance between n random points, times root n, relative (F41)."""

COST = (
    "in a synthetic world whose errors drift across the area, 200 anchors in one quarter cost "
    "2.7 points of accuracy, and promised a log-loss of 0.12 where it was 0.45"
)
"""World ``misspecified`` of 256 cells, development seed 0; in ``standard`` they cost nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One sign, measured."""

    name: str
    value: float
    limit: float
    rings: bool
    advice: str
    """What to do when it rings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What one source says and what everybody together says, at held-out anchors."""

    source: str
    n: int
    """Anchors at which the source speaks."""

    before: float
    """Share of them where its own word (the class it stands for) is right."""

    after: float
    """Share of them where the estimate is right."""

    loses: bool
    """True where the estimate is worse than the source's own word by two standard errors:
    it should not be corrected."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sight:
    """What is kept of a round to judge it and later ones."""

    held_out: HeldOut | None
    audits: tuple[Audit, ...]
    weights: dict[tuple[str, ...], float]
    """Mean exponent of every family, summed over its members."""

    share: Table
    """Shape (K,), mean probability of each class over the area."""

    agreement: float | None
    """Share of cells where the models name the estimate's class; None without models."""

    spread: float | None
    """Mean distance from an anchor to the next, over that of random points (Clark and Evans
    1954); None without anchors."""


def sight(fused: Fused, share: Table, agreement: float | None) -> Sight:
    """Return what is kept of a round, from its fusion (see `Sight` for the rest)."""
    held, problem = fused.held_out, fused.fit.problem
    height, width = problem.geobox.shape
    spread = None
    # in a sample of cells nothing is known of distances
    if held is not None and len(problem.units.of_cell) == height * width:
        # (F41) in cells; the next anchor is the second nearest point, after the anchor itself
        place = np.column_stack(np.divmod(held.anchors.cell, width))
        near = cKDTree(place).query(place, k=2)[0][:, 1]
        spread = float(near.mean() / (0.5 * np.sqrt(height * width / len(place))))
    return Sight(
        held_out=held,
        audits=audits(fused),
        weights=_weights(fused),
        share=share,
        agreement=agreement,
        spread=spread,
    )


def audits(fused: Fused) -> tuple[Audit, ...]:
    """Return the audit of every source that speaks at anchors; () without held-out anchors."""
    held = fused.held_out
    if held is None:
        return ()
    truth = held.anchors.shares.argmax(axis=1)
    estimate = held.log_q.argmax(axis=1) == truth
    out = []
    for term in fused.fit.problem.terms:
        if term.cells is not None:
            continue  # points lie at a few anchors at most, and near them only
        statement = term.of_unit[held.anchors.unit]
        use = statement > 0
        if not use.any():
            continue
        weight = held.anchors.weight[use]
        # its own word is the class that each symbol stands for most, before anything is learned
        own = term.prior[term.symbol[statement[use]]].argmax(axis=1) == truth[use]
        # paired: both are asked at the same anchors, so that hard ones count for neither
        gain, error = _mean(estimate[use].astype(float) - own, weight)
        out.append(
            Audit(
                source=term.name,
                n=int(use.sum()),
                before=float(np.average(own, weights=weight)),
                after=float(np.average(estimate[use], weights=weight)),
                loses=bool(gain < -fused.fit.problem.setting.fall_errors * error),
            )
        )
    return tuple(out)


def fallen(now: Fused, before: Fused) -> tuple[str, ...]:
    """Return the sources whose audited quality fell from one fusion to the next.

    The quality is the log-score of the estimate at those held-out anchors where the source
    speaks: what a source that takes its corrections would get. Both fusions must have the
    same anchors. () where one of them has none held out.
    """
    if now.held_out is None or before.held_out is None:
        return ()
    change = now.held_out.losses - before.held_out.losses
    weight = now.held_out.anchors.weight
    names = []
    for term in before.fit.problem.terms:
        use = term.speaks[before.held_out.anchors.unit]
        if use.sum() < 2:
            continue  # one anchor has no standard error
        worse, error = _mean(change[use], weight[use])
        if worse > now.fit.problem.setting.fall_errors * error:
            names.append(term.name)
    return tuple(names)


def clearly_rises(now: HeldOut, before: HeldOut) -> bool:
    """Return whether held-out anchors lose more than before, by over one standard error.

    Both must be of the same anchors. What is held out is honest, so that chance moves it: of two
    rounds that are as good, a stricter rule would refuse half.
    """
    worse, error = _mean(now.losses - before.losses, now.anchors.weight)
    return worse > error


def alarms(rounds: Sequence[Sight], setting: Setting = ENGINE) -> tuple[Alarm, ...]:
    """Return every sign that can be measured after these rounds (the last one is judged)."""
    now = rounds[-1]
    found: list[Alarm | None] = [
        _sure(now.held_out, setting),
        _areas(now, setting),
        _lost(now),
        _clustered(now),
    ]
    if len(rounds) > 1:
        found += [_echo(rounds[-2], now, setting), _risen(rounds[-2], now, setting)]
    if len(rounds) > setting.shrink_rounds:
        found.append(_collapse(rounds[-setting.shrink_rounds - 1 :], setting))
    return tuple(one for one in found if one is not None)


def _mean(values: Table, weight: Table) -> tuple[float, float]:
    """Return the weighted mean and its standard error, linearised (F39)."""
    mean = float(np.average(values, weights=weight))
    return mean, float(np.sqrt((weight**2 * (values - mean) ** 2).sum()) / weight.sum())


def _sure(held: HeldOut | None, setting: Setting) -> Alarm | None:
    """Compare held-out confidence with held-out accuracy."""
    if held is None:
        return None
    right = held.log_q.argmax(axis=1) == held.anchors.shares.argmax(axis=1)
    value, error = _mean(np.exp(held.log_q.max(axis=1)) - right, held.anchors.weight)
    limit = max(setting.sure, 2 * error)
    return Alarm(
        name="confidence above accuracy",
        value=value,
        limit=limit,
        rings=value > limit,
        advice="trust probabilities less, and add reference points",
    )


def _areas(now: Sight, setting: Setting) -> Alarm | None:
    """Compare class shares with the design-based estimate from the anchors (F40)."""
    held = now.held_out
    if held is None:
        return None
    weight, shares = held.anchors.weight, held.anchors.shares
    k = shares.shape[1]
    # one anchor spread over all classes, so that an unseen class has an error too
    p = (weight @ shares + 1 / k) / (weight.sum() + 1)
    # anchors of unequal weight are worth fewer equal ones (Kish 1965)
    effective = weight.sum() ** 2 / (weight**2).sum()
    value = float((np.abs(now.share - p) / np.sqrt(p * (1 - p) / effective)).max())
    return Alarm(
        name="class share off its estimate from anchors, in standard errors",
        value=value,
        limit=setting.area_errors,
        rings=value > setting.area_errors,
        advice="take areas from the reference points, not from the map",
    )


def _clustered(now: Sight) -> Alarm | None:
    """Measure whether anchors lie closer together than random points would."""
    if now.spread is None or now.held_out is None:
        return None
    limit = float(1 - 3 * SPREAD_ERROR / np.sqrt(len(now.held_out.anchors)))
    return Alarm(
        name="distance between anchors over that of a random sample",
        value=now.spread,
        limit=limit,
        rings=now.spread < limit,
        advice=f"draw anchors at random over the whole area: {COST}",
    )


def _lost(now: Sight) -> Alarm | None:
    """Measure the smallest gain of any source at held-out anchors."""
    if not now.audits:
        return None
    losers = [one.source for one in now.audits if one.loses]
    return Alarm(
        name="least gain of a source at held-out anchors",
        value=min(one.after - one.before for one in now.audits),
        limit=0.0,
        rings=bool(losers),
        advice=f"do not apply the corrections of {', '.join(losers)}" if losers else "",
    )


def _echo(before: Sight, now: Sight, setting: Setting) -> Alarm | None:
    """Measure whether models and estimate agree more, while anchors are no likelier."""
    if before.agreement is None or now.agreement is None:
        return None
    # models that learn from the estimate come to agree with it, whether it is right or not
    value = now.agreement - before.agreement
    better = (
        before.held_out is not None
        and now.held_out is not None
        and now.held_out.log_loss < before.held_out.log_loss
    )
    return Alarm(
        name="rise of agreement between models and estimate without a gain on anchors",
        value=value,
        limit=setting.agreement,
        rings=value > setting.agreement and not better,
        advice="stop at the round before, and add reference points",
    )


def _risen(before: Sight, now: Sight, setting: Setting) -> Alarm | None:
    """Measure the largest rise of a family's weight; its data are the same as before."""
    old, new = before.weights, now.weights
    both = [name for name in new if name in old]
    if not both:
        return None
    # exponents rise only with what anchors show, and anchors stay: then the models have moved
    value = max(new[name] - old[name] for name in both)
    return Alarm(
        name="rise of a family's weight without new data",
        value=value,
        limit=setting.rise,
        rings=value > setting.rise,
        advice="look for a model that repeats this family, and add reference points",
    )


def _weights(fused: Fused) -> dict[tuple[str, ...], float]:
    """Return the mean exponent of every family, summed over its members."""
    problem = fused.fit.problem
    count, powers = problem.units.count, gammas(problem, fused.fit.exponents)
    total: dict[tuple[str, ...], float] = {}
    for term in problem.terms:
        if term.speaks.any():
            power = powers[term.name][term.speaks]
            mean = float(np.average(power, weights=count[term.speaks]))
            total[term.family] = total.get(term.family, 0.0) + mean
    return total


def _collapse(rounds: Sequence[Sight], setting: Setting) -> Alarm:
    """Measure the class that has shrunk most, among those that shrank in every round."""
    # one round's fall is noise; the same class falling every time is a loop that forgets it
    share = np.array([one.share for one in rounds])
    falling = (np.diff(share, axis=0) < 0).all(axis=0)
    ratio = np.where(falling, share[-1] / np.maximum(share[0], 1e-9), 1.0)
    return Alarm(
        name=f"share left of the class that shrank most in {setting.shrink_rounds} rounds on end",
        value=float(ratio.min()),
        limit=setting.shrink,
        rings=bool(ratio.min() < setting.shrink),
        advice="stop at the round before, and add reference points of that class",
    )
