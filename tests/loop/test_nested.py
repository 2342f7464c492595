"""A point is never in the fold that judges it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.core.grid import area_geobox, block_folds, block_side, cells_of_points
from glocal.fusion.decode.decoding import Decoder
from glocal.loop.area.area import Area, read_area
from glocal.loop.area.config import load
from glocal.loop.rounds.turns import lesson_of, members_of, next_turn, start, views_of
from glocal.synthetic import simulate, world_named, write_scene


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> Area:
    folder: Path = tmp_path_factory.mktemp("nested")
    world = replace(world_named("standard", 64), anchors=120)
    write_scene(simulate(world, seed=5), folder / "w")
    return read_area(load(folder / "w" / "area.yaml"), lambda what, share: None)


def lied(area: Area, fold: int) -> Area:
    """Return the area with other classes at all reference points of a fold."""
    anchors = area.anchors
    assert anchors is not None
    cells = cells_of_points(area.geobox, anchors.x, anchors.y)
    inside = area.window.fold.ravel()[cells] == fold
    assert inside.any()
    shares = np.where(inside[:, None], np.roll(anchors.shares, 1, axis=1), anchors.shares)
    return replace(area, anchors=replace(anchors, shares=shares))


def test_lies_in_a_fold_do_not_reach_what_teaches_of_it(area: Area) -> None:
    lessons = []
    for one in (area, lied(area, 0)):
        one, _, turn = start(one)
        lessons.append(lesson_of(one, replace(turn, views=views_of(one))))
    true, false = lessons
    np.testing.assert_array_equal(true.views[0], false.views[0])
    assert np.abs(true.views[1] - false.views[1]).max() > 0.01
    assert np.abs(true.views[-1] - false.views[-1]).max() > 0.01


def test_lies_in_a_fold_do_not_reach_what_points_say_of_it(area: Area) -> None:
    (true,), (false,) = members_of(area), members_of(lied(area, 0))
    inside = area.window.fold == 0
    np.testing.assert_array_equal(true.judged[inside], false.judged[inside])
    assert np.nanmax(np.abs(true.released - false.released)) > 0.01


def test_the_released_map_says_other_words_of_one_alphabet_and_judges_nobody(area: Area) -> None:
    _, _, first = start(area)
    turn = next_turn(area, first)
    released = turn.fused.released
    assert released is not None
    assert released.fit.confusion is turn.fused.fit.confusion
    for judged, other in zip(turn.said.judged, turn.said.released, strict=True):
        assert judged.crosswalk is other.crosswalk
        assert (judged.symbols != other.symbols).any()
    np.testing.assert_allclose(turn.estimate.log_p, released.cells(), atol=1e-6)
    assert np.abs(released.cells() - turn.fused.cells()).max() > 0.01


def test_some_cells_are_read_as_all_are_without_their_neighbours(area: Area) -> None:
    fused = start(area)[2].fused
    alone = replace(fused, decoder=replace(fused.decoder, beta=0.0))
    cells = np.array([0, 70, 999, 64 * 64 - 1])
    everything = alone.cells().reshape(-1, len(area.legend))
    np.testing.assert_allclose(alone.at(cells), everything[cells], atol=1e-5)


def test_where_a_member_is_silent_the_rest_speaks() -> None:
    rng = np.random.default_rng(0)
    rest, other = np.log(rng.dirichlet(np.ones(4), (2, 30))).astype(np.float32)
    decoder = Decoder(share=(1.0,), among=(0.6, 0.4))
    silent = decoder.pooled([rest], [np.full_like(rest, np.nan)])
    np.testing.assert_allclose(silent, rest, atol=1e-5)
    np.testing.assert_array_equal(silent, decoder.pooled([rest], [None]))
    assert np.abs(decoder.pooled([rest], [other]) - rest).max() > 0.1


@settings(max_examples=40)
@given(st.integers(20, 200), st.integers(20, 200), st.integers(0, 300), st.integers(2, 8))
def test_folds_share_places_evenly(height: int, width: int, places: int, folds: int) -> None:
    rng = np.random.default_rng(places)
    cells = rng.choice(height * width, min(places, height * width), replace=False)
    side = block_side((height, width), 96, folds, cells)
    assert 4 <= side <= 96
    box = (0, 0, 10 * width, 10 * height)
    fold = block_folds(area_geobox(box, "EPSG:32633", 10), side, folds, cells=cells)
    assert fold.shape == (height, width)
    held = np.bincount(fold.ravel()[cells], minlength=folds)
    row, column = np.divmod(cells, width)
    fullest = np.unique(row // side * width + column // side, return_counts=True)[1]
    assert held.max() - held.min() <= (fullest.max() if len(fullest) else 0)
