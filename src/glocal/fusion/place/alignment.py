"""Where a layer lies relative to another: scores of all shifts, by correlation, tile by tile.

The score is (F28), its peak (F29). Everything here is in rows and columns of cells, until
`displacement_of` turns a shift into metres north and east.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from glocal.core.result import Displacement
from glocal.core.setting import ENGINE, Setting
from glocal.core.typing import Codes, Layers, Table, Window

LEAST_BEND = 1e-9
"""Curvature below which a score has no peak."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lattice:
    """Square tiles that cover a grid."""

    size: int
    """Side of a tile in cells."""

    shape: tuple[int, int]
    """Number of tiles down and across."""

    grid: tuple[int, int]
    """Cells down and across."""

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def windows(self) -> list[Window]:
        """Rows and columns of every tile, row by row."""
        down, across = (
            [slice(i * self.size, min((i + 1) * self.size, end)) for i in range(count)]
            for count, end in zip(self.shape, self.grid, strict=True)
        )
        return [(rows, columns) for rows in down for columns in across]

    @property
    def centre(self) -> Table:
        """Shape (T, 2), row and column of the middle of every tile, in cells."""
        return np.array(
            [[(part.start + part.stop) / 2 for part in window] for window in self.windows]
        )

    @property
    def offset(self) -> Table:
        """Shape (T, 2), the same from the middle of all tiles."""
        return np.asarray(self.centre - self.centre.mean(axis=0))

    @property
    def neighbours(self) -> Codes:
        """Shape (n, 2), pairs of tiles that share an edge."""
        number = np.arange(len(self)).reshape(self.shape)
        across = np.stack([number[:, :-1], number[:, 1:]], axis=-1).reshape(-1, 2)
        down = np.stack([number[:-1], number[1:]], axis=-1).reshape(-1, 2)
        return np.concatenate([across, down])


def lattice_of(grid: tuple[int, int], setting: Setting = ENGINE) -> Lattice:
    """Return tiles of about 48 cells, or larger ones where that would be more than 256.

    >>> lattice_of((100, 48)).shape, lattice_of((4096, 4096)).shape
    ((2, 1), (16, 16))
    """
    # about equal tiles, rather than whole ones and a thin rest at two edges
    height, width = grid
    size = max(setting.shift_tile, int(np.ceil(np.sqrt(height * width / setting.shift_tiles))))
    down, across = (max(round(n / size), 1) for n in grid)
    size = max(-(-height // down), -(-width // across))
    return Lattice(size=size, shape=(-(-height // size), -(-width // size)), grid=grid)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileScores:
    """The log-likelihood of every shift, tile by tile."""

    score: Table
    """Shape (T, 2 R + 1, 2 R + 1): by shift in rows and in columns, from -R to R."""

    @property
    def reach(self) -> int:
        """Largest shift R, in cells."""
        return int(self.score.shape[-1]) // 2

    @property
    def best(self) -> Table:
        """Shape (T, 2), the shift in cells that all tiles together like best, for each."""
        total = self.score.sum(axis=0)
        at = np.unravel_index(int(total.argmax()), total.shape)
        return np.tile(np.array(at, np.float64) - self.reach, (len(self.score), 1))


def tile_scores(
    said: Layers,
    others: Layers,
    lattice: Lattice,
    setting: Setting = ENGINE,
) -> TileScores:
    """Return the score of every shift of ``said`` onto ``others`` (H, W, K) in every tile.

    The arguments are those of :func:`relative_shift`. A tile is what the layer says inside
    it; the others are read as far beyond its edge as it may be shifted.
    """
    reach = setting.max_shift
    margin = ((reach, reach), (reach, reach), (0, 0))
    around = np.pad(others - others.mean(axis=(0, 1), dtype=np.float64).astype(np.float32), margin)
    # each tile is correlated by itself, with as much of the others around it as it may move
    scores = []
    for rows, columns in lattice.windows:
        inner = np.pad(said[rows, columns], margin)
        outer = around[rows.start : rows.stop + 2 * reach, columns.start : columns.stop + 2 * reach]
        none = np.zeros((2 * reach + 1,) * 2)
        scores.append(_scores(inner, outer, reach) if inner.any() else none)
    return TileScores(score=np.stack(scores) / setting.cells_per_look)


def local_information(scores: TileScores, at: Table, residual: float) -> tuple[Table, Table]:
    """Return the shift (T, 2) that each tile prefers near ``at`` (T, 2), and its information (F29).

    A paraboloid through the 3 x 3 scores around ``at``; directions without a peak have no
    information, (T, 2, 2), and ``residual`` (variance in square cells) is added to the rest.
    """
    shift, information = np.zeros((len(at), 2)), np.zeros((len(at), 2, 2))
    middle = np.clip(np.rint(at), 1 - scores.reach, scores.reach - 1).astype(np.int64)
    for i, (row, column) in enumerate((middle + scores.reach).tolist()):
        slope, bend = _paraboloid(scores.score[i, row - 1 : row + 2, column - 1 : column + 2])
        # along an edge a shift can't be seen, across it can: the axes of the bend are told apart
        value, axes = np.linalg.eigh(bend)
        peaked = value > LEAST_BEND
        step = np.where(peaked, axes.T @ slope / np.where(peaked, value, 1.0), 0.0)
        shift[i] = middle[i] + axes @ np.clip(step, -1, 1)  # the paraboloid holds no further
        # (H^-1 + residual)^-1, axis by axis
        value = np.where(peaked, value / (1 + residual * value), 0.0)
        information[i] = (axes * value) @ axes.T
    return shift, information


def relative_shift(
    said: Layers, others: Layers, resolution: float, setting: Setting = ENGINE
) -> Displacement | None:
    """Return the shift that brings a layer onto what the other sources say.

    Parameters
    ----------
    said
        Shape (H, W, K): the layer's log-likelihood per class; zero where silent.
    others
        Shape (H, W, K): probabilities from the other sources.
    resolution
        Side of a cell in metres.

    Returns
    -------
    Displacement or None
        None when the score has no peak inside the search window (nothing to align).

    Notes
    -----
    The score of a shift is the expected log-likelihood of the shifted layer under the
    others' posterior, computed for all shifts at once by FFT; the peak is refined with
    a paraboloid, whose curvature gives the covariance. Wrong labels lower the peak
    but do not move it. Only a *relative* shift can be seen in this way.
    """
    reach = setting.max_shift
    score = _scores(said, others, reach) / setting.cells_per_scene_look
    row, column = np.unravel_index(int(score.argmax()), score.shape)
    if not (0 < row < 2 * reach and 0 < column < 2 * reach):
        return None
    slope, bend = _paraboloid(score[row - 1 : row + 2, column - 1 : column + 2])
    if np.linalg.eigvalsh(bend).min() <= LEAST_BEND:
        return None  # a ridge: along it nothing can be told
    offset = np.clip(np.linalg.solve(bend, slope), -0.5, 0.5)
    shift = np.array([row - reach, column - reach]) + offset
    return displacement_of(shift, np.asarray(np.linalg.inv(bend), np.float64), resolution)


def displacement_of(shift: Table, covariance: Table, cell_m: float) -> Displacement:
    """Return a shift (rows, columns) in cells, with its covariance (2, 2), in metres."""
    # rows run south, northing runs north
    flip = np.diag([-1.0, 1.0])
    turned = flip @ covariance @ flip * cell_m**2
    return Displacement(
        dy=float(-shift[0] * cell_m),
        dx=float(shift[1] * cell_m),
        covariance=(
            (float(turned[0, 0]), float(turned[0, 1])),
            (float(turned[0, 1]), float(turned[1, 1])),
        ),
    )


def _scores(said: Layers, others: Layers, reach: int) -> Table:
    """Return c S (F28) for every shift, shape (2 reach + 1, 2 reach + 1), rows then columns."""
    # a product of spectra is a correlation; a margin of zeros keeps shifts from wrapping round
    height, width, classes = said.shape
    shape = [fft.next_fast_len(n + reach, real=True) for n in (height, width)]
    total = np.zeros((shape[0], shape[1] // 2 + 1), np.complex64)
    for k in range(classes):
        # centred: where the layer leaves the grid it meets "as usual", not "none of it"
        centred = others[..., k] - others[..., k].mean(dtype=np.float64).astype(np.float32)
        total += fft.rfft2(centred, shape) * np.conj(fft.rfft2(said[..., k], shape))
    score = fft.irfft2(total, shape)
    at = np.arange(-reach, reach + 1)
    return np.asarray(score[np.ix_(at, at)], np.float64)


def _paraboloid(
    patch: Table,
) -> tuple[Table, Table]:
    """Return slope (2,) and minus the second derivatives (2, 2) of a 3 x 3 patch."""
    # central differences: exact for a paraboloid
    slope = np.array([(patch[2, 1] - patch[0, 1]) / 2, (patch[1, 2] - patch[1, 0]) / 2])
    cross = (patch[2, 2] - patch[2, 0] - patch[0, 2] + patch[0, 0]) / 4
    bend = -np.array(
        [
            [patch[2, 1] - 2 * patch[1, 1] + patch[0, 1], cross],
            [cross, patch[1, 2] - 2 * patch[1, 1] + patch[1, 0]],
        ]
    )
    return slope, bend
