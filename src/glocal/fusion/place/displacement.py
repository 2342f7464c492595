"""Where every layer lies: local relative shifts of pairs, solved together (F30).

Only differences of displacements can be seen. Each pair of layers gives one relative
shift per tile with its covariance (:func:`glocal.fusion.place.alignment.tile_scores`); one
weighted least-squares problem finds a displacement per layer: affine for a raster,
a smooth field (Gaussian Markov random field) for objects traced in many sittings, none
for points of known position, which pin the rest down. What no point pins down is split by
the stated accuracies alone, and says so (``gauge``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from glocal.core.setting import ENGINE, Setting
from glocal.core.typing import Table
from glocal.fusion.place.alignment import Lattice, TileScores, local_information

NEWTON_STEPS = 3
"""Times that scores are read again around the shifts found so far."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """How a layer may be displaced: linear in some parameters, with a normal prior."""

    basis: Table
    """Shape (T, P): displacement of every tile per parameter, the same for both axes."""

    precision: Table
    """Shape (P, P), prior precision of the parameters of one axis, per square cell."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """What two layers show of each other, tile by tile."""

    layer: str
    """The layer that is shifted."""

    onto: str
    scores: TileScores
    """Log-likelihood of every shift in cells that brings ``layer`` onto ``onto``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """Displacements of all layers in cells (row, column), and how sure they are."""

    displacement: dict[str, Table]
    """Per layer, shape (T, 2): where it lies minus where it should lie."""

    covariance: dict[str, Table]
    """Per layer, shape (T, 2, 2)."""

    mean: dict[str, Table]
    """Per layer, shape (2, 2): covariance of its displacement averaged over the tiles."""

    evidence: float
    """Log Bayes factor against "nothing is displaced"."""


def fixed_frame(lattice: Lattice) -> Frame:
    """Return the frame of a layer that defines where things are."""
    return Frame(basis=np.zeros((len(lattice), 0)), precision=np.zeros((0, 0)))


def affine_frame(
    lattice: Lattice, cell_m: float, sd_m: float | None = None, setting: Setting = ENGINE
) -> Frame:
    """Return the frame of a raster: shift, turn and scale.

    ``sd_m`` is its stated accuracy, standard deviation per axis; None: as usual.
    """
    # one constant and two slopes per axis, six parameters; slopes are 1 at the edge of the raster,
    # so that their prior is in metres there
    edge = np.maximum(np.abs(lattice.offset).max(axis=0), 1e-9)
    basis = np.column_stack([np.ones(len(lattice)), lattice.offset / edge])
    spread = np.array([sd_m or setting.raster_sd_m, setting.turn_sd_m, setting.turn_sd_m])
    return Frame(basis=basis, precision=np.diag((cell_m / spread) ** 2))


def field_frame(
    lattice: Lattice, cell_m: float, roughness_m: float, setting: Setting = ENGINE
) -> Frame:
    """Return the frame of a layer of objects: a smooth field on the tiles.

    Neighbouring tiles differ by about ``roughness_m``; their mean lies about
    ``setting.objects_sd_m`` off.
    """
    # a Gaussian Markov random field of first order (Rue and Held 2005): each pair of neighbours
    # adds (u_a - u_b)^2 / roughness^2, and the mean has a prior that makes it proper
    n = len(lattice)
    a, b = lattice.neighbours.T
    precision = np.eye(n) * (cell_m / setting.objects_sd_m) ** 2 / n
    weight = (cell_m / roughness_m) ** 2
    for i, j, sign in ((a, a, 1), (b, b, 1), (a, b, -1), (b, a, -1)):
        np.add.at(precision, (i, j), sign * weight)
    return Frame(basis=np.eye(n), precision=precision)


def solve(
    frames: Mapping[str, Frame],
    pairs: Sequence[Pair],
    cell_m: float,
    setting: Setting = ENGINE,
) -> Solution:
    """Return the displacements that explain all relative shifts best.

    Parameters
    ----------
    frames
        Per layer, on one lattice of T tiles. ``fixed_frame`` for what is in place.
    pairs
        Relative shifts; each layer that they name has a frame.
    cell_m
        Side of a cell in metres.

    Notes
    -----
    Gauss-Newton on the tiles' scores: around the shifts found so far each tile's score is a
    paraboloid, whose information is lowered by the residual of ``setting.residual_sd_m``; tiles
    without a peak inform less, or not at all. Solved densely: lattices are small.
    """
    # where the parameters of each frame stand among all, both axes side by side
    ends = np.cumsum([0, *(frame.basis.shape[1] for frame in frames.values())]).tolist()
    stretch = zip(frames, ends[:-1], ends[1:], strict=True)
    place = {name: slice(2 * start, 2 * stop) for name, start, stop in stretch}
    size = ends[-1]
    # P of (F30): layers are independent beforehand, and so are the two axes of one
    prior = np.zeros((2 * size, 2 * size))
    for name, frame in frames.items():
        here = place[name]
        prior[here, here] = np.kron(frame.precision, np.eye(2))
    # scores have many humps, so the first guess is the best shift of the whole, for every tile
    at = {id(pair): pair.scores.best for pair in pairs}
    for _ in range(NEWTON_STEPS):
        total, pull = prior.copy(), np.zeros(2 * size)
        for pair in pairs:
            jacobian = _jacobian(frames, place, pair, size)
            shift, information = local_information(
                pair.scores, at[id(pair)], (setting.residual_sd_m / cell_m) ** 2
            )
            # normal equations: sum J'HJ + P on the left, sum J'Hs on the right
            weighed = np.einsum("tij,tjp->tip", information, jacobian)
            total += np.einsum("tip,tiq->pq", jacobian, weighed)
            pull += np.einsum("tip,ti->p", weighed, shift)
        found = np.asarray(np.linalg.solve(total, pull), np.float64)
        at = {id(p): _jacobian(frames, place, p, size) @ found for p in pairs}
    return _solution(frames, place, found, total, prior, pull)


def _spread(basis: Table) -> Table:
    """Return (T, 2, 2 P): displacement (row, column) of every tile by the parameters."""
    return np.asarray(np.kron(basis, np.eye(2)).reshape(len(basis), 2, -1))


def _jacobian(
    frames: Mapping[str, Frame], place: Mapping[str, slice], pair: Pair, size: int
) -> Table:
    """Return (T, 2, 2 * size): the relative shift of a pair by all parameters."""
    # what brings the one onto the other: where that lies, less where it lies itself
    out = np.zeros((len(pair.scores.score), 2, 2 * size))
    out[..., place[pair.onto]] += _spread(frames[pair.onto].basis)
    out[..., place[pair.layer]] -= _spread(frames[pair.layer].basis)
    return out


def _solution(
    frames: Mapping[str, Frame],
    place: Mapping[str, slice],
    found: Table,
    total: Table,
    prior: Table,
    pull: Table,
) -> Solution:
    displacement, covariance, mean = {}, {}, {}
    inverse = np.linalg.inv(total) if len(total) else total
    for name, frame in frames.items():
        here, by = place[name], _spread(frame.basis)
        displacement[name] = by @ found[here]
        covariance[name] = np.einsum("tip,pq,tjq->tij", by, inverse[here, here], by)
        # tiles are not independent: the mean is as sure as its parameters, not as T tiles
        mean[name] = by.mean(axis=0) @ inverse[here, here] @ by.mean(axis=0).T
    # (F31), Laplace's approximation, which is exact for scores that are paraboloids
    evidence = 0.5 * float(pull @ found)
    if len(total):
        evidence += 0.5 * float(np.linalg.slogdet(prior)[1] - np.linalg.slogdet(total)[1])
    return Solution(displacement=displacement, covariance=covariance, mean=mean, evidence=evidence)
