"""Where field points may really lie: a shift of the whole layer, and places of single points.

A point whose class does not fit where it was recorded is either wrong in class or wrong
in place. Both are weighed at once: places by the stated accuracy of the position and a
small chance of a gross error, classes by how often this source is right.
"""

from __future__ import annotations

import numpy as np
import shapely
from scipy import ndimage

from glocal.core.grid import cells_of_points
from glocal.core.observation import Observations
from glocal.core.placement import Places
from glocal.core.result import Displacement
from glocal.core.setting import ENGINE, Setting
from glocal.core.typing import Bools, Floats, Table
from glocal.fusion.place.alignment import displacement_of
from glocal.fusion.problem.support import PointCells, point_cells


def suggest_places(
    source: Observations, said: Floats, meant: Bools, others: Floats, setting: Setting = ENGINE
) -> Places:
    """Return where points fit whose class does not fit where they were recorded.

    Parameters
    ----------
    source
        Points (n,) with their positions and the accuracy of these.
    said
        Shape (n, K), likelihood P(symbol | class) of each point's symbol.
    meant
        Shape (n, K), classes that each symbol stands for.
    others
        Shape (H, W, K), probabilities of the classes without this source.

    A place is suggested where the class is likelier wrong than right at the recorded
    cell, and likelier right than wrong once the position may err.
    """
    n, geobox = len(source), source.geobox
    x, y = shapely.get_x(source.geometry), shapely.get_y(source.geometry)
    near = _may_lie(source, setting)
    # (F33): P(symbol, class, cell) over all classes, and over those that the symbol stands for
    fit = said[near.point] * others.reshape(-1, others.shape[-1])[near.cell]
    mass = near.weight * fit.sum(axis=1)
    right = near.weight * (fit * meant[near.point]).sum(axis=1)
    row, column = np.divmod(near.cell, geobox.shape[1])
    a, b, c, d, e, f = tuple(geobox.transform)[:6]
    dx = a * (column + 0.5) + b * (row + 0.5) + c - x[near.point]
    dy = d * (column + 0.5) + e * (row + 0.5) + f - y[near.point]
    # mean and spread of where it lies, if its class is right
    total = np.maximum(np.bincount(near.point, right, n), 1e-300)
    mean_x = np.bincount(near.point, right * dx, n) / total
    mean_y = np.bincount(near.point, right * dy, n) / total
    square = (dx - mean_x[near.point]) ** 2 + (dy - mean_y[near.point]) ** 2
    spread = np.sqrt(np.bincount(near.point, right * square, n) / total / 2)
    # wrong at the recorded cell, right once the place may err
    here = near.cell == cells_of_points(geobox, x, y)[near.point]
    elsewhere = total / np.maximum(np.bincount(near.point, mass, n), 1e-300)
    wrong_here = np.bincount(near.point, right * here, n) < 0.5 * np.bincount(
        near.point, mass * here, n
    )
    use = wrong_here & (elsewhere > 0.5) & (source.symbols > 0)
    cell = abs(float(geobox.resolution.x))
    return Places(
        dx=np.where(use, mean_x, np.nan),
        dy=np.where(use, mean_y, np.nan),
        sd=np.where(use, np.hypot(spread, cell / np.sqrt(12)), np.nan),
    )


def _may_lie(source: Observations, setting: Setting) -> PointCells:
    """Return the cells where each point may lie, gross errors included."""
    sd, cells = source.position_sd_m, int(np.prod(source.geobox.shape))
    wide = np.maximum(setting.gross_sd * sd, 1.5 * abs(float(source.geobox.resolution.x)))
    near = point_cells(source.geometry, sd, source.geobox)
    far = point_cells(source.geometry, wide, source.geobox)
    # a mixture of two normals, cell by cell: most positions are as stated, few are gross errors
    key = np.concatenate([near.point * cells + near.cell, far.point * cells + far.cell])
    weight = np.concatenate([(1 - setting.gross) * near.weight, setting.gross * far.weight])
    both, at = np.unique(key, return_inverse=True)
    point, cell = np.divmod(both, cells)
    joint = np.bincount(at, weight, len(both)).astype(np.float64)
    return PointCells(point=point, cell=cell, weight=joint)


def layer_shift(
    source: Observations, said: Floats, others: Floats, setting: Setting = ENGINE
) -> Displacement | None:
    """Return the one shift that brings all points together onto what the others say.

    The mean and covariance of its posterior (F34) over a window of ``setting.max_shift`` cells
    to each side: the chance of all points' symbols, each point blurred by its own accuracy.
    ``None`` with fewer than ``setting.min_sample`` points, or where the window does not hold
    the shift. Parameters as in :func:`suggest_places`.
    """
    step = abs(float(source.geobox.resolution.x))
    x, y = shapely.get_x(source.geometry), shapely.get_y(source.geometry)
    use = (cells_of_points(source.geobox, x, y) >= 0) & (source.symbols > 0)
    if use.sum() < setting.min_sample:
        return None
    # o~ of (F34): where each point really is, it lies beside its record
    blur = float(np.median(source.position_sd_m[use])) / step
    near = ndimage.gaussian_filter(others.astype(np.float64), (blur, blur, 0), mode="nearest")
    column, row = ~source.geobox.transform * (x[use], y[use])
    reach = np.arange(-setting.max_shift, setting.max_shift + 1)
    score = np.empty((len(reach), len(reach)))
    for i, down in enumerate(reach):
        rows = np.clip(np.floor(row) + down, 0, others.shape[0] - 1).astype(np.int64)
        for j, right in enumerate(reach):
            columns = np.clip(np.floor(column) + right, 0, others.shape[1] - 1).astype(np.int64)
            fit = (said[use] * near[rows, columns]).sum(axis=1)
            score[i, j] = np.log(np.maximum(fit, 1e-9)).sum()
    return _summary(np.exp(score - score.max()), reach.astype(np.float64), step, setting.border)


def _summary(mass: Table, reach: Table, step: float, border: float) -> Displacement | None:
    """Return mean and covariance of ``mass`` over shifts; None where it leans on the border."""
    mass = mass / mass.sum()
    if 1 - mass[1:-1, 1:-1].sum() > border:
        return None
    down, right = mass.sum(axis=1) @ reach, mass.sum(axis=0) @ reach
    off_down, off_right = reach - down, reach - right
    # a shift within a cell is not seen: 1/12, the variance of a cell
    var_down = mass.sum(axis=1) @ off_down**2 + 1 / 12
    var_right = mass.sum(axis=0) @ off_right**2 + 1 / 12
    both = off_down @ mass @ off_right
    covariance = np.array([[var_down, both], [both, var_right]])
    return displacement_of(np.array([down, right]), covariance, step)
