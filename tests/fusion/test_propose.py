"""What the others say against a source, and nothing else, is proposed to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.fusion.fuse import fuse
from glocal.fusion.propose import cell_doubts, object_doubts, point_doubts
from glocal.testing import anchors_at, grid, legend_of, provenance_of, worlds

SIDE, K = 40, 3
LEGEND = legend_of(K)
BOX = grid(SIDE, SIDE)


def source(name, support, symbols, geometry=(), sd=None, confidence=0.7):
    matrix = np.full((K, K), 0.1)
    np.fill_diagonal(matrix, 0.8)
    n = len(geometry)
    return Observations(
        source=name,
        support=support,
        geobox=BOX,
        symbols=np.asarray(symbols, np.uint8),
        crosswalk=Crosswalk(
            symbols=LEGEND.names, target=LEGEND, matrix=matrix, confidence=np.full(K, confidence)
        ),
        phenomenon_time=Interval.of_year(2020),
        provenance=provenance_of(name),
        geometry=np.array(geometry, object),
        record=np.array([f"{name}/{i}" for i in range(n)], dtype=np.str_),
        position_sd_m=np.empty(0) if sd is None else np.full(n, sd),
    )


def at(row, column, rows=8, columns=8):
    b = BOX.boundingbox
    left, top = b.left + column * 10, b.top - row * 10
    return shapely.box(left, top - rows * 10, left + columns * 10, top)


def scene():
    """Return the truth and two maps that are right nearly everywhere."""
    truth = np.repeat(np.repeat(np.random.default_rng(3).integers(0, K, (5, 5)), 8, 0), 8, 1)
    rng = np.random.default_rng(4)
    maps = []
    for i in range(2):
        wrong = rng.random(truth.shape) < 0.1
        maps.append(source(f"map{i}", "cells", np.where(wrong, (truth + 1) % K, truth) + 1))
    return truth, maps


def test_a_wrong_tag_is_found_and_right_ones_are_left_alone():
    truth, maps = scene()
    corners = [(r * 8, c * 8) for r in range(5) for c in range(5)]
    tags = np.array([truth[r, c] for r, c in corners])
    tags[7] = (tags[7] + 1) % K
    osm = source("osm", "objects", tags + 1, [at(r, c) for r, c in corners])
    fused = fuse([*maps, osm])
    doubts = object_doubts(fused, osm)
    assert np.flatnonzero(doubts.supported).tolist() == [7]
    assert doubts.proposed[7] == truth[corners[7]]
    assert doubts.probability[7] > 0.7
    assert doubts.correct[7] < 0.3
    assert (np.delete(doubts.correct, 7) > 0.8).all()


def test_a_wrong_point_is_found():
    truth, maps = scene()
    b = BOX.boundingbox
    rows, columns = np.array([4, 12, 20, 28]), np.array([4, 20, 12, 36])
    said = truth[rows, columns].copy()
    said[2] = (said[2] + 2) % K
    xy = shapely.points(b.left + columns * 10 + 5, b.top - rows * 10 - 5)
    field = source("field", "points", said + 1, list(xy), sd=5.0)
    doubts = point_doubts(fuse([*maps, field]), field)
    assert np.flatnonzero(doubts.supported).tolist() == [2]
    assert doubts.proposed[2] == truth[rows[2], columns[2]]


def test_cells_of_a_third_map_are_corrected_by_two():
    truth, maps = scene()
    third = truth.copy()
    third[16:24, 16:24] = (truth[16:24, 16:24] + 1) % K
    last = source("map2", "cells", third + 1)
    doubts = cell_doubts(fuse([*maps, last]), last)
    block = np.zeros(truth.shape, bool)
    block[16:24, 16:24] = True
    assert doubts.supported[block].mean() > 0.7
    assert doubts.supported[~block].mean() < 0.25
    assert (
        doubts.proposed[block & doubts.supported] == truth[block & doubts.supported]
    ).mean() > 0.9


@pytest.mark.parametrize("beta", [0.0, 0.5])
@pytest.mark.parametrize("support", ["cells", "objects", "points"])
def test_a_prior_alone_corrects_nobody(support, beta):
    """One class is common, a source says another one, and nobody else speaks."""
    anchors = anchors_at(BOX, np.zeros((SIDE, SIDE), int), 29, LEGEND)
    if support == "cells":
        one = source("it", support, np.full((SIDE, SIDE), 2))
    elif support == "objects":
        one = source("it", support, [2, 3], [at(0, 0), at(8, 8)])
    else:
        points = [at(0, 0).centroid, at(8, 8).centroid]
        one = source("it", support, [2, 3], points, sd=5.0)
    silent = source("silent", "cells", np.zeros((SIDE, SIDE)))
    fused = fuse([one, silent], anchors)
    fused = replace(fused, decoder=replace(fused.decoder, beta=beta))
    judge = {"cells": cell_doubts, "objects": object_doubts, "points": point_doubts}[support]
    assert not judge(fused, one).supported.any()


def test_objects_too_small_to_be_seen_are_not_judged():
    truth, maps = scene()
    speck = at(2, 2, 0.2, 0.2)
    osm = source("osm", "objects", [(truth[2, 2] + 1) % K + 1], [speck])
    doubts = object_doubts(fuse([*maps, osm]), osm)
    assert not doubts.supported.any()


def test_what_is_kept_silent_proposes_nothing():
    truth, maps = scene()
    wrong = source("osm", "objects", [(truth[0, 0] + 1) % K + 1], [at(0, 0)])
    fused = fuse([*maps, wrong])
    assert object_doubts(fused, wrong).supported.all()
    everyone = frozenset({"map0", "map1"})
    assert not object_doubts(fused, wrong, silent=everyone).supported.any()
    assert not cell_doubts(fused, maps[0], silent=frozenset({"map1", "osm"})).supported.any()


@given(worlds(), st.data())
@settings(max_examples=20)
def test_doubts_are_probabilities(world, data):
    one = data.draw(st.sampled_from(world.sources))
    judge = {"cells": cell_doubts, "points": point_doubts}.get(one.support, object_doubts)
    doubts = judge(fuse(world.sources, world.anchors), one)
    for p in (doubts.correct, doubts.probability):
        assert ((p >= 0) & (p <= 1)).all()
    assert (doubts.correct + doubts.probability <= 1 + 1e-6).all()
    assert not doubts.supported[one.symbols == 0].any()


def test_what_was_corrected_is_not_corrected_again():
    """Law 4: with all proposals taken up, the same objects are left in peace."""
    truth, maps = scene()
    corners = [(r * 8, c * 8) for r in range(5) for c in range(5)]
    tags = np.array([truth[r, c] for r, c in corners])
    tags[[3, 7, 20]] = (tags[[3, 7, 20]] + 1) % K
    osm = source("osm", "objects", tags + 1, [at(r, c) for r, c in corners])
    doubts = object_doubts(fuse([*maps, osm]), osm)
    assert np.flatnonzero(doubts.supported).tolist() == [3, 7, 20]
    symbols = np.where(doubts.supported, doubts.proposed + 1, osm.symbols).astype(np.uint8)
    after = replace(osm, symbols=symbols)
    assert not object_doubts(fuse([*maps, after]), after).supported.any()
