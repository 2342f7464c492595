"""Shifts that differ from place to place, and how they are split between layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glocal.core.result import ShiftField
from glocal.core.setting import ENGINE
from glocal.fusion.place.alignment import TileScores, lattice_of, tile_scores
from glocal.fusion.place.displacement import (
    Pair,
    affine_frame,
    field_frame,
    fixed_frame,
    solve,
)
from glocal.fusion.place.shifts import layer_shift
from glocal.testing import CELL, grid
from tests.fusion.test_alignment import SIDE, K, scene

STEPS = np.arange(-ENGINE.max_shift, ENGINE.max_shift + 1)


def scores_of(shift, information=0.5):
    """Return paraboloids with their peaks at ``shift`` (T, 2), in cells."""
    rows = (STEPS - shift[:, 0, None])[:, :, None] ** 2
    columns = (STEPS - shift[:, 1, None])[:, None, :] ** 2
    return TileScores(score=-0.5 * information * (rows + columns))


def lattice():
    return lattice_of((240, 240))


def test_the_tiles_of_a_layer_add_up_to_the_whole():
    """Inside the grid no cell is counted twice and none is lost: a slow sum over all cells."""
    said, others = scene(0, 12.0, -8.0)
    each = replace(ENGINE, cells_per_look=1.0)
    parts = tile_scores(said, others, lattice_of(said.shape[:2]), each)
    centred = np.pad(others - others.mean(axis=(0, 1)), ((9, 9), (9, 9), (0, 0)))

    def both(row, column):
        window = centred[9 + row : 9 + row + SIDE, 9 + column : 9 + column + SIDE]
        whole = float((window * said).sum(dtype=np.float64))
        return whole, parts.score[:, row + ENGINE.max_shift, column + ENGINE.max_shift].sum()

    # up to a constant, which no shift sees
    slow, found = both(0, 0)
    for row, column in [(3, -2), (-6, 6), (1, 5)]:
        there = both(row, column)
        assert there[1] - found == pytest.approx(there[0] - slow, rel=1e-3, abs=0.5)


def test_a_constant_shift_has_no_field_to_speak_of():
    said, others = scene(1, 23.0, -14.0)
    shift = layer_shift(said, others, grid(SIDE, SIDE))
    assert shift is not None
    assert (shift.dx, shift.dy) == pytest.approx((-23, 14), abs=CELL / 2)
    assert shift.field is not None
    assert np.abs(shift.field.shift - shift.field.shift.mean(axis=(0, 1))).max() < CELL / 2


def test_two_halves_that_were_traced_apart_are_told_apart():
    tiles = lattice()
    right = tiles.offset[:, 1] > 0
    apart = np.column_stack([np.zeros(len(tiles)), np.where(right, -0.6, 0.6)])
    pair = Pair(layer="layer", onto="others", scores=scores_of(apart, 20.0))
    smooth, rough = (
        solve(
            {"layer": field_frame(tiles, CELL, metres), "others": fixed_frame(tiles)}, [pair], CELL
        )
        for metres in (0.25, 4.0)
    )
    found = rough.displacement["layer"][:, 1]
    assert found[right].mean() == pytest.approx(0.6, abs=0.3)
    assert found[~right].mean() == pytest.approx(-0.6, abs=0.3)
    assert rough.evidence > smooth.evidence + 3


def test_a_layer_in_place_stays():
    for seed in range(3):
        shift = layer_shift(*scene(seed, 0.0, 0.0), grid(SIDE, SIDE))
        assert shift is not None
        assert not shift.significant


def test_nothing_to_align_gives_no_shift():
    said, others = scene(0, 0.0, 0.0)
    assert layer_shift(np.zeros_like(said), others, grid(SIDE, SIDE)) is None
    assert layer_shift(said, np.full_like(others, 1 / K), grid(SIDE, SIDE)) is None
    rng = np.random.default_rng(0)
    few = rng.normal(size=(2, 3, K)).astype(np.float32)
    tiny = layer_shift(few, rng.dirichlet(np.ones(K), (2, 3)).astype(np.float32), grid(2, 3))
    assert tiny is None or abs(tiny.dx) <= ENGINE.max_shift * CELL


def test_only_differences_are_seen_and_the_stated_accuracies_split_them():
    """Two rasters 3 cells apart: the one of four times the variance gets four fifths."""
    tiles = lattice()
    frames = {"good": affine_frame(tiles, CELL, 5.0), "poor": affine_frame(tiles, CELL, 10.0)}
    apart = scores_of(np.tile([0.0, 3.0], (len(tiles), 1)), 1e3)
    found = solve(frames, [Pair(layer="poor", onto="good", scores=apart)], CELL)
    good, poor = found.displacement["good"][:, 1], found.displacement["poor"][:, 1]
    assert good - poor == pytest.approx(3.0, abs=0.1)
    assert good.mean() == pytest.approx(0.6, abs=0.05)
    assert poor.mean() == pytest.approx(-2.4, abs=0.1)
    # the difference is sure, the split is not
    assert found.mean["good"][1, 1] > 0.1
    assert found.evidence > 3


def test_a_layer_of_known_place_pins_the_others_down():
    tiles = lattice()
    frames = {name: affine_frame(tiles, CELL) for name in ("a", "b")}
    frames["points"] = fixed_frame(tiles)
    n = len(tiles)
    pairs = [
        Pair(layer="a", onto="b", scores=scores_of(np.tile([1.0, -1.0], (n, 1)), 1e3)),
        Pair(layer="points", onto="a", scores=scores_of(np.tile([0.5, 0.0], (n, 1)), 1e3)),
    ]
    found = solve(frames, pairs, CELL)
    assert found.displacement["a"].mean(axis=0) == pytest.approx([0.5, 0.0], abs=0.05)
    assert found.displacement["b"].mean(axis=0) == pytest.approx([1.5, -1.0], abs=0.1)
    assert not found.displacement["points"].any()
    assert found.mean["a"].diagonal().max() < 0.01


def test_a_turned_raster_is_found_by_its_affine_frame():
    tiles = lattice()
    edge = np.abs(tiles.offset).max()
    turned = np.column_stack([tiles.offset[:, 1], -tiles.offset[:, 0]]) / edge * 0.4
    frames = {
        "image": affine_frame(tiles, CELL, setting=replace(ENGINE, turn_sd_m=10.0)),
        "map": fixed_frame(tiles),
    }
    pair = Pair(layer="map", onto="image", scores=scores_of(turned, 1e3))
    found = solve(frames, [pair], CELL)
    assert found.displacement["image"] == pytest.approx(turned, abs=0.05)


def test_tiles_that_know_nothing_follow_their_neighbours():
    tiles = lattice()
    shift = np.tile([2.0, 0.0], (len(tiles), 1))
    score = scores_of(shift, 5.0).score
    score[12] = 0.0
    frames = {
        "layer": field_frame(tiles, CELL, 6.0, replace(ENGINE, objects_sd_m=50.0)),
        "others": fixed_frame(tiles),
    }
    pair = Pair(layer="layer", onto="others", scores=TileScores(score=score))
    found = solve(frames, [pair], CELL)
    assert found.displacement["layer"][12] == pytest.approx([-2.0, 0.0], abs=0.1)
    variance = found.covariance["layer"][:, 0, 0]
    assert variance[12] > variance[[7, 11, 13, 17]].max()


def test_no_pair_leaves_the_priors():
    tiles = lattice()
    found = solve({"a": affine_frame(tiles, CELL, 4.0)}, [], CELL)
    assert not found.displacement["a"].any()
    assert found.evidence == pytest.approx(0)
    assert found.mean["a"][0, 0] == pytest.approx(0.16, rel=0.01)


def test_a_field_is_bilinear_and_constant_outside():
    x, y = np.array([0.0, 10.0]), np.array([0.0, 20.0])
    shift = np.array([[[0.0, 0.0], [2.0, 0.0]], [[0.0, 4.0], [2.0, 4.0]]])
    field = ShiftField(x=x, y=y, shift=shift, covariance=np.tile(np.eye(2), (2, 2, 1, 1)))
    at = np.array([[5.0, 10.0], [-50.0, 0.0], [99.0, 99.0], [2.5, 5.0]])
    assert field.at(at) == pytest.approx(np.array([[1, 2], [0, 0], [2, 4], [0.5, 1.0]]))
    with pytest.raises(ValueError, match="ascend"):
        ShiftField(x=x[::-1], y=y, shift=shift, covariance=field.covariance)
    with pytest.raises(ValueError, match="covariance"):
        ShiftField(x=x, y=y, shift=shift, covariance=np.eye(2))
