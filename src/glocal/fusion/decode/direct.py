"""Reading the statements directly: anchors teach what each symbol means beside all others.

The pool multiplies what each source says by itself; what several say *together* it only
knows as one exponent each. A regression of the class on all symbols at once assumes nothing
of the kind, but has only the anchors to learn from. The two err in different ways, and half
of each is better than either (Bouchard and Triggs 2004 blend such models).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glocal.core.result import log_normalise
from glocal.core.typing import Codes, Floats, Layers, Table, Window
from glocal.fusion.decode.regression import Linear, cross_fitted
from glocal.fusion.problem.terms import Located, Problem, Term

LEAST_SHARE = 1e-3
"""Stated shares of classes below it are read as it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Direct:
    """What each symbol, and each stated share, adds to the log-posterior of a class."""

    by_symbol: dict[str, Layers]
    """Per source, shape (M + 1, K); row 0 is silence and adds nothing."""

    by_share: dict[str, Linear]
    """Per source that states shares: a map from their centred logarithms (K,)."""

    constant: Table
    """Shape (K,)."""

    def units(self, problem: Problem, silent: frozenset[str] = frozenset()) -> Layers:
        """Return what the symbols add up to in every unit, shape (U, K)."""
        total = np.tile(self.constant.astype(np.float32), (len(problem.units), 1))
        for term in problem.terms:
            if term.name in self.by_symbol and term.name not in silent:
                total += self.by_symbol[term.name][_symbols(term)]
        return total

    def read(
        self,
        problem: Problem,
        of_unit: Layers,
        window: Window | tuple[Codes, ...],
        silent: frozenset[str] = frozenset(),
    ) -> Layers:
        """Return the log-posterior of a window (h, w, K) or cells (n, K), given :meth:`units`."""
        of_cell = problem.units.of_cell.reshape(problem.geobox.shape)[window]
        total = of_unit[of_cell]
        for term in problem.terms:
            if term.shares is not None and term.name not in silent:
                total += self.by_share[term.name].total(_centred(term.shares[window]))
        return log_normalise(total)


def learn_direct(problem: Problem, anchors: Located, fold: Codes) -> tuple[Direct, list[Direct]]:
    """Return the reading that anchors teach (F22), and for each fold one that did not see it.

    Symbols that no anchor heard add nothing, and so do sources of points and of answers:
    those speak of few cells.
    """
    terms = [one for one in problem.terms if one.support not in ("points", "answers")]
    naming = [one for one in terms if one.shares is None]
    stating = {one.name: one.shares for one in terms if one.shares is not None}
    # V: one column per source and symbol that an anchor heard, 1 where it is said
    heard = [_symbols(one)[anchors.unit] for one in naming]
    used = [np.unique(one[one > 0]) for one in heard]
    blocks = [
        (said[:, None] == symbols).astype(np.float64)
        for said, symbols in zip(heard, used, strict=True)
    ]
    # U: K columns per source that states shares, whose symbols would say less
    at = np.unravel_index(anchors.cell, problem.geobox.shape)
    blocks += [_centred(shares[at]).astype(np.float64) for shares in stating.values()]
    x = np.concatenate([np.zeros((len(anchors), 0)), *blocks], axis=1)
    ends = np.cumsum([block.shape[1] for block in blocks], dtype=np.int64)
    pulls, classes = problem.setting.direct_ridges, len(problem.legend)
    origin = np.zeros((x.shape[1], classes))
    final, others = cross_fitted(x, anchors.shares, anchors.weight, fold, origin, pulls)

    def named(linear: Linear) -> Direct:
        # the rows of one long map back to the sources that they belong to
        parts = np.split(linear.weight, ends)
        tables = {one.name: np.zeros((len(one.prior) + 1, classes), np.float32) for one in naming}
        for one, symbols, part in zip(naming, used, parts[: len(naming)], strict=True):
            tables[one.name][symbols] = part
        maps = zip(stating, parts[len(naming) : -1], strict=True)
        return Direct(
            by_symbol=tables,
            by_share={name: Linear(weight=part, constant=np.zeros(classes)) for name, part in maps},
            constant=linear.constant,
        )

    return named(final), [named(one) for one in others]


def _symbols(term: Term) -> Codes:
    """Return the symbol heard in every unit, shape (U,), numbered from 1; 0 is silence."""
    return np.where(term.of_unit > 0, term.symbol[term.of_unit] + 1, 0)


def _centred(shares: Floats) -> Layers:
    """Return logarithms of shares (..., K) less their mean; zeros where nothing is said."""
    # centred: only ratios of shares say something, and silence (NaN) then is no class's friend
    log_p = np.log(np.maximum(np.asarray(shares, np.float32), np.float32(LEAST_SHARE)))
    centred = log_p - log_p.mean(axis=-1, keepdims=True)
    return np.asarray(np.where(np.isfinite(centred), centred, 0), np.float32)
