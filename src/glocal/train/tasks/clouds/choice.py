"""Which method restores an image, and how far to trust it: measured under clouds over other parts.

Clouds are simulated over parts that were not learned. The method with the smallest error there is
used, so a network that is no better than a simple rule is not. Its uncertainty is scaled so that
the band it states holds as many of the true values as it says (split conformal prediction, Vovk
et al. 2005); neighbouring pixels err alike, so that this holds on average only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from glocal.train.tasks.clouds.pairs import (
    STD,
    Bools,
    Floats,
    Pairs,
    SarRegression,
    filled,
    observed,
)
from glocal.train.tasks.clouds.removal import CloudRemover, Restored, restore

NETWORK = "network"

BAND90 = float(np.log(10) / np.sqrt(2))
"""90 % of a Laplace distribution lie within so many of its standard deviations."""

Method = Callable[[Pairs], Restored]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """A method with its measured uncertainty."""

    method: str
    run: Method
    factor: Floats
    """(C,) by which its own uncertainty is multiplied."""

    errors: dict[str, float]
    """Method -> mean absolute error under the simulated clouds; empty if nothing was held out."""

    def __call__(self, pairs: Pairs) -> Restored:
        """Return the images without their clouds."""
        found = self.run(pairs)
        scaled = found.uncertainty * self.factor[:, None, None]
        return Restored(image=found.image, uncertainty=scaled)


def choose(model: CloudRemover, line: SarRegression, held_out: Pairs | None) -> Choice:
    """Return the best of the network and the simple rules on pairs that taught none of them.

    Without such pairs it is the network, with the uncertainty that it states itself.
    """
    offered = methods(model, line)
    if held_out is None:
        ones = np.ones(len(STD), np.float32)
        return Choice(method=NETWORK, run=offered[NETWORK], factor=ones, errors={})
    where = _hidden(held_out)
    found = {name: one(held_out) for name, one in offered.items()}
    errors = {
        name: float(np.abs(one.image - held_out.clear)[where].mean()) for name, one in found.items()
    }
    best = min(errors, key=lambda name: errors[name])
    factor = factor_of(found[best], held_out)
    return Choice(method=best, run=offered[best], factor=factor, errors=errors)


def methods(model: CloudRemover, line: SarRegression) -> dict[str, Method]:
    """Return every method by its name; the simple ones first, which win a tie."""
    return {
        "mean of clear pixels": lambda pairs: _plain(pairs, filled(pairs, line.prior)),
        "regression on radar": lambda pairs: _plain(pairs, line(pairs)),
        NETWORK: partial(restore, model),
    }


def factor_of(found: Restored, pairs: Pairs, share: float = 0.9) -> Floats:
    """Return per band what makes the stated band of ``share`` hold that share of the truth.

    1 for a band whose truth is nowhere known under a cloud.
    """
    where = _hidden(pairs)
    width = BAND90 * np.log1p(-share) / np.log(0.1)
    out = np.ones(len(STD), np.float32)
    for c in np.flatnonzero(where.any((0, 2, 3))):
        use = where[:, c]
        off = np.abs(found.image[:, c] - pairs.clear[:, c])[use] / found.uncertainty[:, c][use]
        level = min(share * (len(off) + 1) / len(off), 1.0)
        out[c] = max(float(np.quantile(off, level)), 1e-6) / width
    return out


def _hidden(pairs: Pairs) -> Bools:
    """Return where a value under cloud is known to be estimated, (B, C, H, W)."""
    return np.isfinite(pairs.clear) & ~observed(pairs)


def _plain(pairs: Pairs, image: Floats) -> Restored:
    spread = np.broadcast_to(STD[:, None, None], image.shape)
    return Restored(image=image, uncertainty=np.where(observed(pairs), 0, spread))
