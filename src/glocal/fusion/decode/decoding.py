"""From the pool to the classes of cells: what is read beside it, and how neighbours are heard.

Held-out anchors choose among ways to read and weights of neighbours, so that each is
judged by what it says of anchors that taught it nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glocal.core.setting import Setting
from glocal.core.typing import Codes, Layers, Table, Window
from glocal.fusion.decode.context import Readout, learn_readout, surroundings
from glocal.fusion.decode.direct import Direct, blend, learn_direct
from glocal.fusion.decode.spatial import Similarity, smooth
from glocal.fusion.decode.sweeps import SMOOTHING_SWEEPS
from glocal.fusion.estimate.posterior import Fit
from glocal.fusion.problem.terms import Located, Problem


def halo(setting: Setting) -> int:
    """Return how many steps away the cells lie, at most, that a cell depends on."""
    return max(setting.squares) // 2 + SMOOTHING_SWEEPS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoding:
    """How cells are decoded, and what that says of the anchors that it did not see."""

    readout: Readout | None
    direct: Direct | None
    beta: float
    log_q: Table
    """Shape (A, K)."""


def learn_decoding(
    fits: list[Fit],
    anchors: Located,
    fold: Codes,
    similarity: Similarity | None,
    *,
    context: bool,
) -> Decoding:
    """Return the readings and the spatial weight that held-out anchors like best (F23).

    They are chosen on all anchors; the log-posterior (A, K) of each fold is that of the
    choice which the *other* folds make, so no anchor scores a number that it set.
    Without ``context`` the pool is taken as it is.
    """
    problem, setting = fits[0].problem, fits[0].problem.setting
    views = _views(fits, anchors, fold, similarity)
    betas = setting.betas if setting.spatial else (0.0,)
    # from the strongest prior belief (the pool is right) to the weakest
    ways: list[tuple[Readout | None, Direct | None]] = [(None, None)]
    tried = [[view.log_q for view in views]]
    if context:
        ways, tried = _ways(views, problem, anchors, fold)
    # (ways * betas, A, K): each anchor's cell, smoothed among its neighbours (F24)
    there = np.array([
        [smooth(one, beta, view.tie)[view.at] for one, view in zip(way, views, strict=True)]
        for way in tried
        for beta in betas
    ], np.float64)  # fmt: skip
    loss = -anchors.weight * (anchors.shares * there).sum(axis=2)
    folds = range(int(fold.max()) + 1)
    chosen = [_least(loss[:, fold != f], anchors.weight[fold != f], context) for f in folds]
    best = _least(loss, anchors.weight, context)
    readout_of_best, direct_of_best = ways[best // len(betas)]
    return Decoding(
        readout=readout_of_best,
        direct=direct_of_best,
        beta=betas[best % len(betas)],
        log_q=there[np.array(chosen)[fold], np.arange(len(anchors))],
    )


def _ways(
    views: list[_View], problem: Problem, anchors: Located, fold: Codes
) -> tuple[list[tuple[Readout | None, Direct | None]], list[list[Layers]]]:
    """Return the ways to read, the pool as it is first, and every view as each way reads it.

    An anchor's view is read by what did not see the anchor.
    """
    setting, pool = problem.setting, [view.log_q for view in views]
    # (F20): surroundings are taken from the wide view, and read where the narrow one lies
    said = [surroundings(view.wide, setting.squares)[view.inner] for view in views]
    centre = np.stack([one[view.at] for one, view in zip(said, views, strict=True)])
    readout, others = learn_readout(centre, anchors.shares, anchors.weight, fold, setting)
    read = [others[f].read(one) for f, one in zip(fold.tolist(), said, strict=True)]
    # (F22), which needs no surroundings
    direct, direct_others = learn_direct(problem, anchors, fold)
    of_unit = [one.units(problem) for one in direct_others]
    beside = [
        direct_others[f].read(problem, of_unit[f], view.window)
        for f, view in zip(fold.tolist(), views, strict=True)
    ]
    blends = [
        [blend(a, b, setting.direct_share) for a, b in zip(one, beside, strict=True)]
        for one in (pool, read)
    ]
    ways = [(None, None), (readout, None), (None, direct), (readout, direct)]
    return ways, [pool, read, *blends]


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
        wide, far = _window(problem, cell, halo(problem.setting))
        window, at = _window(problem, cell, SMOOTHING_SWEEPS)
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


def _least(loss: Table, weight: Table, direct: bool) -> int:
    """Return which decoding anchors like best, given their losses (ways * betas, A).

    Where ``direct``, the later half of the ways read the statements directly too. That is
    better unless the few anchors are a poor lesson, which they show: it is left out if it
    costs them clearly, by more than one standard error.
    """
    if not direct:
        return _first(loss, weight)
    without, beside = np.split(loss, 2)
    i, j = _first(without, weight), _first(beside, weight)
    # a difference of sums over the same anchors, and its standard error
    worse = beside[j] - without[i]
    error = np.sqrt(len(worse)) * worse.std(ddof=1)
    return i if worse.sum() > error else len(without) + j


def _first(loss: Table, weight: Table) -> int:
    """Return the position of the least mean loss; a tie goes to the first, which changes least."""
    mean = loss.sum(axis=1) / weight.sum()
    return int(np.flatnonzero(mean <= mean.min() + 1e-3)[0])


def _window(problem: Problem, cell: int, reach: int) -> tuple[Window, tuple[int, int]]:
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
