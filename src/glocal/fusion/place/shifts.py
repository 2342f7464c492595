"""Displacements of the layers of one fusion: measured against each other, and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from odc.geo.geobox import GeoBox

from glocal.core.observation import Observations
from glocal.core.result import Displacement, ShiftField, log_normalise
from glocal.core.setting import ENGINE, Setting
from glocal.core.typing import Layers, Table
from glocal.fusion.fuse import Fused
from glocal.fusion.place.alignment import Lattice, displacement_of, lattice_of, tile_scores
from glocal.fusion.place.displacement import (
    Frame,
    Pair,
    Solution,
    affine_frame,
    field_frame,
    fixed_frame,
    solve,
)
from glocal.fusion.problem.support import point_cells

PRIOR_DRIVEN = "prior-driven: split by stated accuracies, no control points"
CONTROLLED = "pinned by points of stated position"


def object_shift(fused: Fused, source: Observations) -> Displacement | None:
    """Return the shift that brings a layer of objects onto what the others say, or None."""
    problem = fused.fit.problem
    others = np.exp(fused.units(frozenset({source.source}))).astype(np.float32)
    others = others[problem.units.of_cell].reshape(*problem.geobox.shape, -1)
    return layer_shift(said_layer(fused, source), others, problem.geobox, problem.setting)


def layer_shift(
    said: Layers, others: Layers, geobox: GeoBox, setting: Setting = ENGINE
) -> Displacement | None:
    """Return the shift that brings a layer onto what the other sources say (F28 to F31).

    Parameters
    ----------
    said
        Shape (H, W, K): the layer's log-likelihood per class; zero where silent.
    others
        Shape (H, W, K): probabilities from the other sources.
    geobox
        Grid of both, in metres.

    Returns
    -------
    Displacement or None
        With a field where the evidence for one is convincing; None when the score has no
        peak inside the search window (nothing to align).

    Notes
    -----
    The score of a shift is the expected log-likelihood of the shifted layer under the
    others' posterior, for all shifts at once by FFT, in every tile. Wrong labels lower its
    peak but do not move it. Only a *relative* shift can be seen in this way.
    """
    lattice, cell = lattice_of((said.shape[0], said.shape[1]), setting), _cell(geobox)
    scores = tile_scores(said, others, lattice, setting)
    if not scores.score.any() or np.abs(scores.best).max() >= scores.reach:
        return None
    # the others define where things are; how rough the field is, the evidence says (F31)
    pairs = [Pair(layer="layer", onto="others", scores=scores)]
    solutions = [
        solve(
            {"layer": field_frame(lattice, cell, rough, setting), "others": fixed_frame(lattice)},
            pairs,
            cell,
            setting,
        )
        for rough in setting.roughness_m
    ]
    best = max(solutions, key=lambda one: one.evidence)
    return _displacement(best, "layer", lattice, geobox, field=best.evidence > setting.convincing)


def _cell(geobox: GeoBox) -> float:
    return abs(float(geobox.resolution.x))


def _displacement(
    solution: Solution,
    name: str,
    lattice: Lattice,
    geobox: GeoBox,
    *,
    field: bool,
    gauge: str = "relative to the other sources",
) -> Displacement:
    """Return what undoes the displacement of a layer, in metres."""
    back = -solution.displacement[name].mean(axis=0)
    return replace(
        displacement_of(back, solution.mean[name], _cell(geobox)),
        gauge=gauge,
        field=_field(solution, name, lattice, geobox) if field else None,
    )


def _field(solution: Solution, name: str, lattice: Lattice, geobox: GeoBox) -> ShiftField:
    """Return the shifts on the lattice, from (row, column) in cells to (east, north) in metres."""
    # rows and columns to east and north: a swap, and rows run south
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]]) * _cell(geobox)
    shift = -solution.displacement[name] @ turn.T
    covariance = turn @ solution.covariance[name] @ turn.T
    centre = lattice.centre.reshape(*lattice.shape, 2)
    at = geobox.transform
    x, y = at.c + at.a * centre[0, :, 1], at.f + at.e * centre[:, 0, 0]
    return ShiftField(
        x=x,
        y=y[::-1],
        shift=shift.reshape(*lattice.shape, 2)[::-1],
        covariance=covariance.reshape(*lattice.shape, 2, 2)[::-1],
    )


def said_layer(fused: Fused, source: Observations) -> Layers:
    """Return the centred log-likelihood of what ``source`` says in every cell, (H, W, K)."""
    confusion = fused.fit.confusion[fused.term_of(source.source).name]
    # l of (F28) per symbol; centred, so that silence (row 0) is no class's friend
    table = np.concatenate([np.zeros((1, len(source.legend))), confusion.log_p[0].T])
    table[1:] -= table[1:].mean(axis=1, keepdims=True)
    symbols = source.symbols.astype(np.int64)
    if source.support == "cells":
        return np.asarray(table[symbols], np.float32)
    if source.support != "points":
        said = np.append(0, symbols)[source.owner_of_cells()]
        return np.asarray(table[said], np.float32)
    # what a point says is spread over the cells in which it may lie
    spread = point_cells(source.geometry, source.position_sd_m, source.geobox)
    out = np.zeros((int(np.prod(source.geobox.shape)), table.shape[1]))
    np.add.at(out, spread.cell, spread.weight[:, None] * table[symbols][spread.point])
    return out.reshape(*source.geobox.shape, -1).astype(np.float32)


def raster_shifts(
    fused: Fused, observations: Sequence[Observations], stated_sd_m: Mapping[str, float]
) -> dict[str, Displacement]:
    """Return the shift that would bring every raster to its true place, as far as can be told.

    All layers (rasters, objects, points) are compared in pairs, each by itself and not
    through the estimate, and solved together: affine per raster, a field per layer of
    objects, points in place. Without points the split rests on the accuracies alone.

    Parameters
    ----------
    observations
        All sources of ``fused``; only those that speak are compared.
    stated_sd_m
        Stated position accuracy (standard deviation per axis, metres) of rasters, where
        known; that of the setting otherwise.
    """
    speaking = [one for one in observations if one.symbols.any() and one.support != "mixtures"]
    rasters = [one for one in speaking if one.support == "cells"]
    if not rasters:
        return {}
    geobox = rasters[0].geobox
    height, width = geobox.shape
    setting = fused.fit.problem.setting
    lattice, cell = lattice_of((height, width), setting), _cell(geobox)
    said = {one.source: said_layer(fused, one) for one in speaking}
    frames = {
        one.source: _frame(one, lattice, stated_sd_m.get(one.source), setting) for one in speaking
    }
    pairs = _pairs(speaking, rasters, said, fused.fit.log_prior, lattice, setting)
    solution = solve(frames, pairs, cell, setting)
    pinned = any(one.support == "points" for one in speaking)
    gauge = CONTROLLED if pinned else PRIOR_DRIVEN
    return {
        one.source: _displacement(solution, one.source, lattice, geobox, field=False, gauge=gauge)
        for one in rasters
    }


def _frame(source: Observations, lattice: Lattice, sd_m: float | None, setting: Setting) -> Frame:
    """Return how a layer may lie: points in place, rasters affine, objects smoothly."""
    cell = _cell(source.geobox)
    if source.support == "points":
        return fixed_frame(lattice)
    if source.support == "cells":
        return affine_frame(lattice, cell, sd_m, setting)
    return field_frame(lattice, cell, setting.usual_roughness_m, setting)


def _pairs(
    speaking: Sequence[Observations],
    rasters: Sequence[Observations],
    said: Mapping[str, Layers],
    log_prior: Table,
    lattice: Lattice,
    setting: Setting,
) -> list[Pair]:
    """Compare every raster with the rasters before it, and with all objects and points."""
    # neighbouring cells repeat each other, points do not: each is a look of its own (c of F28)
    each = replace(setting, cells_per_look=1.0)
    # every raster with every other layer once; objects and points are compared with rasters only,
    # since two layers that are mostly silent show little of each other
    pairs = []
    for i, raster in enumerate(rasters):
        belief = np.exp(log_normalise(log_prior.astype(np.float32) + said[raster.source]))
        for one in [*rasters[:i], *(one for one in speaking if one.support != "cells")]:
            own = each if one.support == "points" else setting
            scores = tile_scores(said[one.source], belief, lattice, own)
            pairs.append(Pair(layer=one.source, onto=raster.source, scores=scores))
    return pairs
