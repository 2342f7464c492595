"""Single objects that lie elsewhere than their layer: one outline against what others see.

The layer's own shift is taken out before (`shifts.object_shift`). An object speaks for a
shift when its class is seen inside the shifted outline *and* is not seen around it: a
class that goes on beyond the outline tells nothing of where the outline belongs. Ground
that other objects cover can't speak for a move onto it. The evidence of all shifts
within reach is weighed against "in place, up to half a cell", with few objects displaced
beforehand (Bayes factor).
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from glocal.core.findings import Misplaced
from glocal.core.observation import Observations
from glocal.core.result import SIGNIFICANT
from glocal.core.setting import Setting
from glocal.core.typing import Bools, Table, Window
from glocal.fusion.fuse import Fused


def misplaced_objects(fused: Fused, source: Observations) -> Misplaced:
    """Return which objects of ``source`` lie off by themselves, by the others' evidence.

    ``source`` holds objects as they were fused, on a grid in metres. Objects of too few
    cells to show a shape, and at the edge of the area, are not judged.
    """
    problem, setting = fused.fit.problem, fused.fit.problem.setting
    margin = setting.object_reach + setting.object_ring
    # by the cavity (F5): the source is no witness for its own outlines
    q = np.exp(fused.units(frozenset({source.source})))
    # how well each class fits each symbol, 0..1, shape (M, K): Theta / max Theta of (F32)
    table = fused.fit.confusion[fused.term_of(source.source).name].log_p[0].T
    fits = np.exp(table - table.max(axis=1, keepdims=True))
    owner = source.owner_of_cells()
    unit = np.pad(problem.units.of_cell.reshape(owner.shape), margin, mode="edge")
    around = np.pad(owner, margin)
    prior = np.exp(fused.fit.log_prior)
    n, cell = len(source), abs(float(problem.geobox.resolution.x))
    probability, shift = np.zeros(n), np.zeros((n, 2))
    covariance = np.tile(np.eye(2) * cell**2, (n, 1, 1))
    for i, window in enumerate(ndimage.find_objects(owner)):
        symbol = int(source.symbols[i])
        if symbol == 0 or not _inside(window, owner.shape, setting.object_reach):
            continue
        mask = owner[window] == i + 1
        if not setting.least_object <= mask.sum() <= setting.largest_object:
            continue
        wide = tuple(slice(one.start, one.stop + 2 * margin) for one in window)
        seen, usual = q[unit[wide]] @ fits[symbol - 1], float(prior @ fits[symbol - 1])
        # of other objects' ground only its own evidence against counts
        free = np.isin(around[wide], (0, i + 1))
        probability[i], shift[i], covariance[i] = _judged(mask, seen, usual, free, setting)
    return Misplaced(probability=probability, shift=shift * cell, covariance=covariance * cell**2)


def _inside(window: Window | None, shape: tuple[int, ...], reach: int) -> bool:
    """Return True for an object that may be shifted without leaving the area."""
    if window is None:
        return False
    pairs = zip(window, shape, strict=True)
    return all(part.start >= reach and part.stop <= end - reach for part, end in pairs)


def _judged(
    mask: Bools, seen: Table, usual: float, free: Bools, setting: Setting
) -> tuple[float, Table, Table]:
    """Return (probability, shift, covariance), in cells east and north, of one object (F32).

    ``mask`` (h, w) is the object; ``seen`` and ``free``, wider by reach and ring on each
    side, are how well its class fits there and whether nobody else has mapped it.
    """
    reach, ring_width, faint = setting.object_reach, setting.object_ring, setting.faint
    # (east, north) of every shift: rows run south
    axis = np.arange(-reach, reach + 1)
    south, east = np.meshgrid(axis, axis, indexing="ij")
    step = np.stack([east, -south], axis=-1).astype(np.float64)
    # what each cell says for lying under the body, and under the ring; no cell more than `faint`
    inner = np.log((faint + seen) / (faint + usual))
    inner = np.where(free, inner, np.minimum(inner, 0))
    outer = np.log((faint + 1 - seen) / (faint + 1 - usual))
    body = np.pad(mask, ring_width)
    ring = ndimage.binary_dilation(body, iterations=ring_width) & ~body
    held = _summed(inner, body)
    score = (held + _summed(outer, ring)) / setting.cells_per_look
    # Bayes factor of "displaced" against "in place", both over all shifts, times the odds before
    moved, still = _log_prior(step, setting.displaced_sd), _log_prior(step, setting.wobble_sd)
    total = np.logaddexp.reduce(score + moved, axis=None)
    odds = total - np.logaddexp.reduce(score + still, axis=None)
    odds += np.log(setting.displaced / (1 - setting.displaced))
    # mean and covariance of the shift if it is displaced; within a cell nothing is seen (1/12)
    weight = np.exp(score + moved - total)
    shift = np.einsum("ab,abi->i", weight, step)
    off = step - shift
    covariance = np.einsum("ab,abi,abj->ij", weight, off, off) + np.eye(2) / 12
    significant = shift @ np.linalg.inv(covariance) @ shift > SIGNIFICANT
    # nothing is told of shifts that may be none, go on beyond reach, or lead to no such class
    peak = np.unravel_index(int(score.argmax()), score.shape)
    inside = all(0 < one < 2 * reach for one in peak)
    told = significant and inside and held[peak] > 0
    return float(told) / (1 + np.exp(-odds)), shift, covariance


def _log_prior(step: Table, sd: float) -> Table:
    """Return the log-probability of every shift, normal with ``sd`` cells per axis."""
    log_p = -(step**2).sum(axis=-1) / (2 * sd**2)
    return np.asarray(log_p - np.logaddexp.reduce(log_p, axis=None), np.float64)


def _summed(values: Table, mask: Bools) -> Table:
    """Return the sum of ``values`` under ``mask`` at every shift."""
    views = sliding_window_view(values, mask.shape)
    return np.asarray(np.einsum("abhw,hw->ab", views, mask.astype(np.float64)))
