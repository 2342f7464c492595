"""From the pool to the classes of cells: what is read beside it, and how neighbours are heard.

Held-out anchors weigh the ways to read and choose the weight of neighbours, so that each is
judged by what it says of anchors that taught it nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from glocal.core.result import log_normalise
from glocal.core.setting import Setting
from glocal.core.typing import Bools, Codes, Layers, Table, Window
from glocal.fusion.decode.context import Readout, learn_readout, surroundings
from glocal.fusion.decode.direct import Direct, learn_direct
from glocal.fusion.decode.spatial import Similarity, smooth
from glocal.fusion.decode.sweeps import SMOOTHING_SWEEPS
from glocal.fusion.estimate.posterior import Fit
from glocal.fusion.problem.terms import Located, Problem


def halo(setting: Setting) -> int:
    """Return how many steps away the cells lie, at most, that a cell depends on."""
    return max(setting.squares) // 2 + SMOOTHING_SWEEPS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoder:
    """How the pool of a cell becomes its class: what is read beside it, and what each counts."""

    readout: Readout | None = None
    """How the pool and its surroundings are read (F20); None: not at all."""

    direct: Direct | None = None
    """How the statements are read without the pool (F22); None: not at all."""

    share: tuple[float, ...] = (1.0,)
    """Weights of the pool and of the readings that there are, in this order (F23)."""

    among: tuple[float, ...] = (1.0,)
    """Weights of all that beside each member (F42)."""

    beta: float = 0.0
    """Spatial weight (F24)."""

    def pooled(self, parts: Sequence[Layers], members: Sequence[Layers | None] = ()) -> Layers:
        """Return the log-posterior (..., K) of what is read in each way, a log-linear pool.

        Where a member is silent (None, or NaN) the rest speaks for it.
        """
        rest = _blend(parts, self.share)
        if not members:
            return rest
        return _blend([rest, *(_or(one, rest) for one in members)], self.among)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Member:
    """Probabilities that stand beside the pool, by something that reference points alone taught."""

    source: str
    """The source that learned; where that is silent, so is the member."""

    judged: Layers
    """Shape (H, W, K), log-probabilities out of fold; NaN where nothing is said."""

    released: Layers
    """The same taught by all points."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoding:
    """How cells are decoded, and what that says of the anchors that it did not see."""

    decoder: Decoder
    log_q: Table
    """Shape (A, K)."""


def learn_decoding(
    fits: list[Fit],
    anchors: Located,
    fold: Codes,
    similarity: Similarity | None,
    *,
    context: bool,
    members: Sequence[Member] = (),
) -> Decoding:
    """Return the readings, their weights and the spatial weight that held-out anchors like (F23).

    The log-posterior (A, K) of each fold is that of what the *other* folds teach, so no anchor
    scores a number that it set. Without ``context`` the pool is taken as it is.
    """
    problem, setting = fits[0].problem, fits[0].problem.setting
    views, of_fold = _views(fits, anchors, fold, similarity), fold.tolist()
    folds = range(int(fold.max()) + 1)
    # one decoder for each fold, by those outside it, and at last that of all anchors
    decoders = [Decoder()] * (len(folds) + 1)
    parts = [[view.log_q for view in views]]
    if context:
        decoders, read = _read_beside(views, problem, anchors, fold)
        parts += read
        # (F23): the words as usual, and what is left between the pool and its surroundings
        half = (1 - setting.direct_share) / 2
        usual = np.array([half, half, setting.direct_share])
        share = _weights(_middle(parts, views), anchors, fold, usual, setting.share_ridge)
        decoders = [replace(one, share=mine) for one, mine in zip(decoders, share, strict=True)]
    beside: list[list[Layers]] = [[one.judged[view.window] for one in members] for view in views]
    if members:
        # (F42): first all that, read by what did not see the anchor, then each member beside it
        rest = [decoders[f].pooled([part[i] for part in parts]) for i, f in enumerate(of_fold)]
        heard = [
            [_or(said[m], one) for said, one in zip(beside, rest, strict=True)]
            for m in range(len(members))
        ]
        mine = setting.member_share / len(members)
        usual = np.array([1 - setting.member_share, *[mine] * len(members)])
        middle = _middle([rest, *heard], views)
        among = _weights(middle, anchors, fold, usual, setting.member_ridge)
        decoders = [replace(one, among=w) for one, w in zip(decoders, among, strict=True)]
    fields = [
        decoders[f].pooled([part[i] for part in parts], beside[i]) for i, f in enumerate(of_fold)
    ]
    return _with_neighbours(decoders, fields, views, anchors, fold, setting)


def _with_neighbours(
    decoders: list[Decoder],
    fields: list[Layers],
    views: list[_View],
    anchors: Located,
    fold: Codes,
    setting: Setting,
) -> Decoding:
    """Choose the spatial weight (F24), for each fold by the others and at last by all."""
    betas = setting.betas if setting.spatial else (0.0,)
    # (betas, A, K): each anchor's cell, smoothed among its neighbours
    there = np.array([
        [smooth(one, beta, view.tie)[view.at] for one, view in zip(fields, views, strict=True)]
        for beta in betas
    ], np.float64)  # fmt: skip
    loss = -anchors.weight * (anchors.shares * there).sum(axis=2)
    use = [*(fold != f for f in range(len(decoders) - 1)), fold >= 0]
    chosen = [_first(loss[:, one], anchors.weight[one]) for one in use]
    return Decoding(
        decoder=replace(decoders[-1], beta=betas[chosen[-1]]),
        log_q=there[np.array(chosen)[fold], np.arange(len(anchors))],
    )


def _middle(parts: Sequence[Sequence[Layers]], views: list[_View]) -> Table:
    """Return what each part says of the anchors' own cells, shape (parts, A, K)."""
    rows = [[one[view.at] for one, view in zip(part, views, strict=True)] for part in parts]
    return np.array(rows, np.float64)


def _read_beside(
    views: list[_View], problem: Problem, anchors: Located, fold: Codes
) -> tuple[list[Decoder], list[list[Layers]]]:
    """Return the readings as those outside each fold teach them, and at last as all anchors do.

    Beside them every view as each reading has it, by what did not see the view's anchor.
    """
    setting = problem.setting
    # (F20): surroundings are taken from the wide view, and read where the narrow one lies
    said = [surroundings(view.wide, setting.squares)[view.inner] for view in views]
    centre = np.stack([one[view.at] for one, view in zip(said, views, strict=True)])
    readout, readouts = learn_readout(centre, anchors.shares, anchors.weight, fold, setting)
    around = [readouts[f].read(one) for f, one in zip(fold.tolist(), said, strict=True)]
    # (F22), which needs no surroundings
    direct, directs = learn_direct(problem, anchors, fold)
    of_unit = [one.units(problem) for one in directs]
    words = [
        directs[f].read(problem, of_unit[f], view.window)
        for f, view in zip(fold.tolist(), views, strict=True)
    ]
    pairs = zip([*readouts, readout], [*directs, direct], strict=True)
    return [Decoder(readout=one, direct=other) for one, other in pairs], [around, words]


def _weights(
    parts: Table, anchors: Located, fold: Codes, usual: Table, ridge: float
) -> list[tuple[float, ...]]:
    """Return the weights of several log-posteriors that make anchors likeliest (F23, F42).

    For each fold by the anchors outside it, and at last by all. ``parts`` (M, A, K) is what each
    says of every anchor that it did not see. A ridge pulls towards the usual weights: which part
    is best is hard to tell from few anchors, and nearly always a mean of all beats any choice.
    """

    def fitted(use: Bools) -> tuple[float, ...]:
        said, shares, weight = parts[:, use], anchors.shares[use], anchors.weight[use, None]

        def loss(x: Table) -> tuple[float, Table]:
            log_p = log_normalise(np.tensordot(x, said, 1))
            # slope of the cross-entropy: what is said less what is true, along each part
            wrong = weight * (np.exp(log_p) - shares)
            away = x - usual
            cost = ridge * (away**2).sum() - (weight * shares * log_p).sum()
            return float(cost), (said * wrong).sum(axis=(1, 2)) + 2 * ridge * away

        bounds = [(0, None)] * len(usual)
        best = minimize(loss, usual, jac=True, method="L-BFGS-B", bounds=bounds)
        return tuple(best.x.tolist())

    return [*(fitted(fold != f) for f in range(int(fold.max()) + 1)), fitted(fold >= 0)]


def _or(member: Layers | None, rest: Layers) -> Layers:
    # where a member is silent the rest speaks for it
    return rest if member is None else np.where(np.isfinite(member), member, rest)


def _blend(parts: Sequence[Layers], share: Sequence[float]) -> Layers:
    # a logarithmic opinion pool (Genest and Zidek 1986), in 32 bits as all decoding
    total = np.float32(share[0]) * parts[0]
    for one, weight in zip(parts[1:], share[1:], strict=True):
        total = total + np.float32(weight) * one
    return log_normalise(total)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _View:
    """The cells that the decoding of one anchor's cell depends on."""

    log_q: Layers
    """Shape (h, w, K), by the fit that did not see the anchor."""

    wide: Layers
    """The same as far as surroundings are read."""

    inner: Window
    """Where ``log_q`` lies in ``wide``."""

    window: Window
    """Where ``log_q`` lies on the grid."""

    tie: Similarity | None
    at: tuple[int, int]
    """Row and column of the anchor's cell."""


def _views(
    fits: list[Fit], anchors: Located, fold: Codes, similarity: Similarity | None
) -> list[_View]:
    # only the cells that an anchor's cell depends on are decoded, not the area, for each fold
    log_q = [fit.log_q().astype(np.float32) for fit in fits]
    problem = fits[0].problem
    views = []
    for cell, f in zip(anchors.cell.tolist(), fold.tolist(), strict=True):
        wide, far = window_around(problem, cell, halo(problem.setting))
        window, at = window_around(problem, cell, SMOOTHING_SWEEPS)
        # the narrow view is what neighbours are heard in (F24), the wide one what its cells read
        of_cell = problem.units.of_cell.reshape(problem.geobox.shape)[wide]
        top, left = far[0] - at[0], far[1] - at[1]
        rows, columns = (part.stop - part.start for part in window)
        inner = slice(top, top + rows), slice(left, left + columns)
        seen = log_q[f][of_cell]
        tie = ties_in(similarity, window)
        views.append(
            _View(log_q=seen[inner], wide=seen, inner=inner, window=window, tie=tie, at=at)
        )
    return views


def _first(loss: Table, weight: Table) -> int:
    """Return the position of the least mean loss; a tie goes to the first, which changes least."""
    mean = loss.sum(axis=1) / weight.sum()
    return int(np.flatnonzero(mean <= mean.min() + 1e-3)[0])


def window_around(problem: Problem, cell: int, reach: int) -> tuple[Window, tuple[int, int]]:
    """Return the cells up to ``reach`` steps from a cell, and where it is in them."""
    height, width = problem.geobox.shape
    row, column = divmod(cell, width)
    top, left = max(row - reach, 0), max(column - reach, 0)
    window = (
        slice(top, min(row + reach + 1, height)),
        slice(left, min(column + reach + 1, width)),
    )
    return window, (row - top, column - left)


def ties_in(similarity: Similarity | None, window: Window) -> Similarity | None:
    """Return the part of ``similarity`` between the cells of a window."""
    if similarity is None:
        return None
    # there is one tie less than there are cells along each axis
    across, down = similarity
    rows, columns = window
    inner_rows = slice(rows.start, None if rows.stop is None else rows.stop - 1)
    inner_columns = slice(columns.start, None if columns.stop is None else columns.stop - 1)
    return (
        np.ascontiguousarray(across[rows, inner_columns]),
        np.ascontiguousarray(down[inner_rows, columns]),
    )
