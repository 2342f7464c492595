"""From observations to an estimate: the one door of the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.core.grid import inside, tiles
from glocal.core.interval import Interval
from glocal.core.observation import Anchors, Observations, Reliability
from glocal.core.result import log_normalise
from glocal.core.setting import ENGINE, Setting
from glocal.core.typing import Bools, Bytes, Codes, Layers, Table, Window
from glocal.errors import GridMismatchError, LegendMismatchError
from glocal.fusion.decode.context import surroundings, usual_readout
from glocal.fusion.decode.decoding import (
    Decoder,
    Member,
    halo,
    learn_decoding,
    ties_in,
    window_around,
)
from glocal.fusion.decode.spatial import Similarity, smooth
from glocal.fusion.estimate.posterior import Fit, class_prior, estimate, hear
from glocal.fusion.problem.terms import Located, Problem, Sampled, Term, adapted, locate, prepare
from glocal.fusion.reliability.dependence import (
    Exponents,
    conservative,
    families_of,
    gammas,
    learn,
    merge_copies,
)
from glocal.fusion.reliability.hazard import dated
from glocal.fusion.reliability.ties import Tie, hidden_ties, joined

MOST_IN_FOLD = 0.7
"""Share of the anchors in one fold from which the rest is too few to judge it: anchors in one spot
are dealt out at random."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOut:
    """What the engine says of anchors that it did not see (cross-fitted)."""

    anchors: Located
    log_q: Table
    """Shape (A, K), log-posterior at each anchor."""

    @property
    def losses(self) -> Table:
        """Shape (A,), cross-entropy of each anchor in nats."""
        return np.asarray(-(self.anchors.shares * self.log_q).sum(axis=1))

    @property
    def log_loss(self) -> float:
        """Weighted mean of `losses`."""
        return float(np.average(self.losses, weights=self.anchors.weight))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fused:
    """The result of one fusion: ask it for posteriors, cavities and reliabilities."""

    fit: Fit
    anchors: int
    """Answered anchors that were used."""

    twins: dict[str, str] = field(default_factory=dict)
    """Sources that repeat another word for word, and which."""

    similarity: Similarity | None = None

    ties: tuple[Tie, ...] = ()
    """Sources that err alike though they share no root, as the anchors show."""

    held_out: HeldOut | None = None
    """What the anchors' own folds did not see; None without enough anchors."""

    decoder: Decoder = field(default_factory=Decoder)
    """How the pool becomes the class of a cell."""

    members: dict[str, Layers] = field(default_factory=dict)
    """What stands beside the pool, log-probabilities (H, W, K) by the source that learned them."""

    released: Fused | None = None
    """The same tables and readings asked of what learners say once everything has taught them."""

    @property
    def beta(self) -> float:
        """Spatial weight."""
        return self.decoder.beta

    @property
    def anchor_log_loss(self) -> float | None:
        """Cross-fitted log-loss of the anchors, nats per anchor; None without enough anchors."""
        return None if self.held_out is None else self.held_out.log_loss

    def term_of(self, source: str) -> Term:
        """Return the term that speaks for ``source``: its own, or that of its twin."""
        name = self.twins.get(source, source)
        return next(one for one in self.fit.problem.terms if one.name == name)

    def cells(self, silent: frozenset[str] = frozenset()) -> Layers:
        """Return the decoded log-posterior of every cell, shape (H, W, K).

        ``silent`` sources, and their exact copies, are left out (the cavity).
        """
        return self._decoder(silent)(np.s_[:, :])

    def tiles(
        self, size: int, silent: frozenset[str] = frozenset()
    ) -> Iterator[tuple[Window, Layers]]:
        """Yield :meth:`cells` in square tiles: (row and column slices, log-posterior there).

        Equal to the whole to the last bit, with the memory of one tile and its halo.
        """
        decode = self._decoder(silent)
        problem = self.fit.problem
        for inner, outer in tiles(problem.geobox.shape, size, halo(problem.setting)):
            yield inner, decode(outer)[inside(inner, outer)]

    def _decoder(self, silent: frozenset[str]) -> Callable[[Window], Layers]:
        """Return what decodes a window of cells."""
        log_q, read = self._reader(silent)
        of_cell = self._of_cell
        readout = self.decoder.readout

        def decode(window: Window) -> Layers:
            around = None if readout is None else readout(log_q[of_cell[window]])
            return smooth(read(window, around), self.beta, ties_in(self.similarity, window))

        return decode

    def at(self, cells: Codes, silent: frozenset[str] = frozenset()) -> Table:
        """Return the log-posterior at some cells (flat indices), shape (n, K), as `cells` reads it.

        Neighbours are not heard (F24): what is said of the cell and around it is all.
        """
        problem, of_cell, readout = self.fit.problem, self._of_cell, self.decoder.readout
        log_q, read = self._reader(silent)
        where = np.unravel_index(cells, of_cell.shape)
        around, side = None, max(problem.setting.squares)
        if readout is not None and len(cells) * side**2 > of_cell.size:
            around = readout(log_q[of_cell])[where]
        elif readout is not None:  # only what lies around the cells, which says the same
            windows = (window_around(problem, cell, side // 2) for cell in cells.tolist())
            said = [surroundings(log_q[of_cell[w]], readout.squares)[at] for w, at in windows]
            around = readout.read(np.array(said))
        return log_normalise(read(where, around).astype(np.float64))

    def _reader(
        self, silent: frozenset[str]
    ) -> tuple[Layers, Callable[[Any, Layers | None], Layers]]:
        """Return the pool of every unit (F4), and what reads cells, given their surroundings."""
        problem, named = self.fit.problem, self._named(silent)
        # per unit, once for all cells
        log_q, direct = self.units(silent).astype(np.float32), self.decoder.direct
        by_unit = None if direct is None else direct.units(problem, named)
        of_cell = self._of_cell

        def read(where: Any, around: Layers | None) -> Layers:
            # the pool beside its surroundings (F20), the statements (F22) and members (F42)
            parts = [log_q[of_cell[where]]]
            if around is not None:
                parts.append(around)
            if direct is not None and by_unit is not None:
                parts.append(direct.read(problem, by_unit, where, named))
            members = self.members.items()
            beside = [None if name in silent else one[where] for name, one in members]
            return self.decoder.pooled(parts, beside)

        return log_q, read

    @property
    def _of_cell(self) -> NDArray[np.int32]:
        """Unit of every cell, shape (H, W)."""
        problem = self.fit.problem
        return problem.units.of_cell.reshape(problem.geobox.shape)

    def _named(self, silent: frozenset[str]) -> frozenset[str]:
        """Return the sources that speak for ``silent`` ones."""
        return frozenset(self.twins.get(name, name) for name in silent)

    def units(self, silent: frozenset[str] = frozenset()) -> Table:
        """Return the log-posterior of every unit, shape (U, K), before the spatial term."""
        return self.fit.log_q(self._named(silent))

    def disagreement(self) -> Layers:
        """Return how far families contradict each other, shape (H, W), 0..1: (F27).

        The Jensen-Shannon divergence between what the families say where they speak,
        over its largest possible value; 0 where fewer than two speak.
        """
        problem, prior = self.fit.problem, self.fit.log_prior
        power = gammas(problem, self.fit.exponents)
        families = sorted({term.family for term in problem.terms if term.speaks.any()})
        if len(families) < 2:
            return np.zeros(problem.geobox.shape, np.float32)
        # one opinion per family and unit: relatives agree with each other, and prove nothing
        opinions, speaks = [], []
        for family in families:
            members = [term for term in problem.terms if term.family == family]
            said = sum(
                power[one.name][:, None] * self.fit.messages[one.name].log_p for one in members
            )
            opinions.append(np.exp(log_normalise(prior + said)))
            speaks.append(np.logical_or.reduce([one.speaks for one in members]))
        # mean divergence from the mean opinion of those that speak (Lin 1991)
        weight = np.array(speaks, float)[..., None]
        voices = np.maximum(weight.sum(axis=0), 1)
        p = np.maximum(np.array(opinions), 1e-12)
        mean = np.maximum((weight * p).sum(axis=0) / voices, 1e-12)
        spread = (weight * p * (np.log(p) - np.log(mean))).sum(axis=(0, 2)) / voices[:, 0]
        scaled = np.clip(spread / np.log(len(families)), 0, 1).astype(np.float32)
        return np.asarray(scaled[problem.units.of_cell].reshape(problem.geobox.shape))

    def reliabilities(self) -> tuple[Reliability, ...]:
        """Return the reliability of every source, copies included."""
        found = []
        for name in sorted([*self.fit.messages, *self.twins]):
            term = self.term_of(name)
            confusion = self.fit.confusion[term.name]
            # the table of today's statements: age (F11) is told apart from it
            table = np.exp(confusion.log_p)
            one = Reliability(
                source=name,
                legend=self.fit.problem.legend,
                symbols=tuple(str(i) for i in range(1, table.shape[2] + 1)),
                confusion=table / table.sum(axis=2, keepdims=True),
                counts=confusion.counts,
                exponent=self.fit.exponents.g[term.name],
                family=term.family,
            )
            found.append(one)
        return tuple(found)


def fuse(
    observations: Sequence[Observations],
    anchors: Anchors | None = None,
    *,
    similarity: Similarity | None = None,
    interval: Interval | None = None,
    seed: int = 0,
    setting: Setting = ENGINE,
    sampled: Sampled | None = None,
    fold: Bytes | None = None,
    release: Sequence[Observations] = (),
    members: Sequence[Member] = (),
) -> Fused:
    """Fuse all sources; none is master.

    Parameters
    ----------
    observations
        One per source, all on one grid and legend. Order and names do not matter.
    anchors
        A probability sample of reference points, which sets the class prior, the
        exponents, how the pool and its surroundings are read, and the spatial weight (all
        cross-fitted). With fewer than ``setting.min_sample`` (30) answered anchors exponents
        stay conservative and surroundings are read with fixed weights.
    similarity
        How alike neighbouring cells look, from an image (see ``spatial.smooth``).
    interval
        The reference time. Statements of other times then speak of it only as far as the
        ground has not changed since (see ``hazard``); None: all are taken as of today.
    seed
        Deals the anchors into folds, and shuffles them in the test of dependence.
    setting
        What to assume; by default the whole engine.
    sampled
        What the grid stands for, if it is a sample of a larger one (``stream.fuse_stream``).
    fold
        Fold of every cell, shape (H, W): an anchor lies in that of its cell. None: anchors are
        dealt out at random.
    release
        What sources among ``observations`` say once everything has taught them, in the same
        symbols: it is heard in `Fused.released`, and teaches nothing.
    members
        What stands beside the pool with a weight of its own (F42), where there are enough anchors.

    Raises
    ------
    ValueError
        No source, two of one name, or anchors for another number of classes.
    GridMismatchError, LegendMismatchError
        Sources on different grids or with different legends.
    """
    _check(observations, anchors, similarity)
    # the problem: statements on units, with their ages; sorted, so that no order can be seen
    kept, twins = merge_copies(sorted(observations, key=lambda one: one.source))
    setting = adapted(setting, anchors)
    problem = dated(prepare(kept, families_of(kept), setting, sampled), kept, interval)
    located = locate(anchors, None if sampled is None else sampled.anchor, problem)
    # who repeats whom: ties that the anchors show beside the roots that are declared
    ties = hidden_ties(problem, located, seed=seed)
    if setting.exponents == "learned":
        problem = joined(problem, ties)
    # a first estimate, which is the last one where there are too few anchors to learn from
    prior = class_prior(located, problem)
    plain = Fused(
        fit=estimate(problem, prior, conservative(problem), located),
        anchors=len(located),
        twins=twins,
        similarity=similarity,
        ties=ties,
    )
    context = setting.spatial and setting.context and sampled is None
    if len(located) >= setting.min_sample:
        dealt = _dealt(located, fold, setting, seed)
        fused = _taught(plain, located, dealt, members if context else (), context=context)
    else:
        read = usual_readout(plain.cells(), setting) if context else None
        usual = Decoder() if read is None else Decoder(readout=read, share=(0.0, 1.0))
        fused = replace(plain, decoder=usual)
    if not release and not fused.members:
        return fused
    # (F44): other words of the same sources are asked of what was learned, and teach nothing
    said = {one.source: one for one in release}
    everything = [said.get(one.source, one) for one in kept]
    asked = dated(prepare(everything, families_of(kept), setting), everything, interval)
    if setting.exponents == "learned":
        asked = joined(asked, ties)
    fit = replace(fused.fit, problem=asked)
    told = hear(asked, fit.log_prior, fit.exponents, fit.confusion)
    whole = {one.source: one.released for one in members} if fused.members else {}
    fit = replace(fit, messages=told)
    return replace(fused, released=replace(fused, fit=fit, members=whole))


def _dealt(anchors: Located, fold: Bytes | None, setting: Setting, seed: int) -> Codes:
    """Return the fold of every anchor, shape (A,)."""
    # a fold's view (F43) and its blocks leave out the same anchors
    if fold is not None:
        dealt = fold.ravel()[anchors.cell].astype(np.int64)
        if np.bincount(dealt).max() <= MOST_IN_FOLD * len(anchors):
            return dealt
    return np.random.default_rng(seed).permutation(len(anchors)) % setting.folds


def _taught(
    plain: Fused,
    anchors: Located,
    fold: Codes,
    members: Sequence[Member],
    *,
    context: bool,
) -> Fused:
    """Return the fusion with what anchors teach: exponents, readings and spatial weight."""
    first, problem = plain.fit, plain.fit.problem
    folds = range(int(fold.max()) + 1)
    heard, priors = _held_out_messages(first, anchors, fold)

    def learned(use: Bools) -> Exponents:
        if problem.setting.exponents == "one":
            return first.exponents
        said = {name: one[use] for name, one in heard.items()}
        return learn(problem, said, priors[use], anchors.take(use))

    # (F16) without each fold, and all that follows from it: what is learned next sees no anchor
    # through exponents that it taught
    fits = [_refit(problem, anchors.take(fold != f), learned(fold != f)) for f in folds]
    plain = replace(plain, members={one.source: one.judged for one in members})
    decoding = learn_decoding(
        fits, anchors, fold, plain.similarity, context=context, members=members
    )
    # the same once more from all anchors, for the area: the loss (F25) stays that of the folds
    every = learned(np.ones(len(anchors), bool))
    return replace(
        plain,
        fit=estimate(problem, class_prior(anchors, problem), every, anchors, start=first.confusion),
        held_out=HeldOut(anchors=anchors, log_q=decoding.log_q),
        decoder=decoding.decoder,
    )


def _check(
    observations: Sequence[Observations], anchors: Anchors | None, similarity: Similarity | None
) -> None:
    names = [one.source for one in observations]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"fusion needs at least one source, each with its own name, got {names}")
    first = observations[0]
    for one in observations:
        if one.geobox != first.geobox:
            raise GridMismatchError(
                f"all sources must be on one grid: {first.source} has {first.geobox}, "
                f"{one.source} has {one.geobox}; read both onto the same grid"
            )
        if one.legend != first.legend:
            raise LegendMismatchError(
                f"all sources must speak of one legend: {first.source} of "
                f"{first.legend.names}, {one.source} of {one.legend.names}"
            )
    if anchors is not None and anchors.shares.shape[1:] != (len(first.legend),):
        raise LegendMismatchError(
            f"anchors must have shares of shape (n, {len(first.legend)}) for the classes "
            f"{first.legend.names}, got {anchors.shares.shape}"
        )
    for tie in similarity or ():
        if not ((tie >= 0) & (tie <= 1)).all():
            raise ValueError("similarity must lie in 0..1 everywhere; write 1 where it is unknown")


def _refit(problem: Problem, anchors: Located, exponents: Exponents) -> Fit:
    """Estimate again without some anchors, from the same cold start."""
    # a warm start would carry over what the anchors that are left out have taught
    return estimate(problem, class_prior(anchors, problem), exponents, anchors)


def _held_out_messages(first: Fit, anchors: Located, fold: Codes) -> tuple[dict[str, Table], Table]:
    """Return what each source says at each anchor, (A, K), and the prior there.

    Both come from reliabilities that were estimated without the anchor's fold.
    """
    problem = first.problem
    shape = (len(anchors), len(problem.legend))
    messages = {term.name: np.zeros(shape) for term in problem.terms}
    log_prior = np.zeros(shape)
    for f in range(int(fold.max()) + 1):
        out = fold == f
        fit = _refit(problem, anchors.take(~out), first.exponents)
        log_prior[out] = fit.log_prior
        for name, one in fit.messages.items():
            messages[name][out] = one.log_p[anchors.unit[out]]
    return messages, log_prior
