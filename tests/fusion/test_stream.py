"""Fusion in tiles against fusion of the whole area."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Anchors
from glocal.core.setting import ENGINE
from glocal.fusion.fuse import fuse
from glocal.fusion.tiles.stream import TiledSource, fuse_stream
from glocal.testing import grid, legend_of, provenance_of

HEIGHT, WIDTH, CLASSES = 61, 75, 4
ROOTS = ("sky", "sky", "people")


def world(seed, strata=2):
    """Three sources, the last one with strata, and points where the truth is known."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, (9, 10)).repeat(8, 0).repeat(8, 1)[:HEIGHT, :WIDTH]
    planes, sources = [], []
    for i, root in enumerate(ROOTS):
        wrong = rng.random(truth.shape) < 0.15 + 0.1 * i
        said = np.where(wrong, rng.integers(0, CLASSES, truth.shape), truth) + 1
        planes.append(np.where(rng.random(truth.shape) < 0.1, 0, said))
        crosswalk = Crosswalk(
            symbols=tuple("abcd"),
            target=legend_of(CLASSES),
            matrix=np.eye(CLASSES),
            confidence=np.full(CLASSES, 0.8),
        )
        last = i == len(ROOTS) - 1
        sources.append(
            TiledSource(
                source=f"source {i}",
                crosswalk=crosswalk,
                phenomenon_time=Interval.of_year(2020),
                provenance=provenance_of(root),
                strata=strata if last else 1,
            )
        )
    if strata > 1:
        planes.append(rng.integers(0, strata, truth.shape))
    stack = np.stack(planes).astype(np.uint8)
    box = grid(HEIGHT, WIDTH)
    # some at the edge of the area and of tiles, one outside
    row = np.concatenate([[0, HEIGHT - 1, 15, -1], rng.integers(0, HEIGHT, 80)])
    column = np.concatenate([[0, WIDTH - 1, 16, 3], rng.integers(0, WIDTH, 80)])
    x, y = box.transform * (column + 0.5, row + 0.5)
    anchors = Anchors(
        x=x,
        y=y,
        shares=np.eye(CLASSES)[truth[np.maximum(row, 0), column]],
        weight=np.ones(len(x)),
        record=np.arange(len(x)).astype(str),
        provenance=provenance_of("anchors"),
    )
    return box, sources, stack, anchors


def at_once(box, sources, stack):
    planes = iter(stack)
    return [
        one.observe(box, np.stack([next(planes) for _ in one.radix]).astype(np.int64))
        for one in sources
    ]


def mended(result, read, workers=1):
    first, second = (np.zeros((HEIGHT, WIDTH), np.uint8) for _ in range(2))
    for window, classes, confidence in result.tiles(read, workers=workers):
        first[window], second[window] = classes, confidence
    return first, second


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("region", [2048, 32])
@pytest.mark.parametrize("anchored", [True, False])
def test_tiles_give_what_the_whole_area_gives(monkeypatch, direct, region, anchored):
    if not direct:
        monkeypatch.setattr("glocal.fusion.tiles.counting.DIRECT_CODES", 0)
    box, sources, stack, anchors = world(1)
    known = anchors if anchored else None
    # a streamed area hears neighbours, but not wider surroundings
    expected = fuse(
        at_once(box, sources, stack),
        known,
        setting=replace(ENGINE, context=False, largest_region=region),
    )

    def read(window):
        return stack[:, *window]

    result = fuse_stream(
        read, sources, box, known, tile=16, workers=2,
        setting=replace(ENGINE, largest_region=region),
    )  # fmt: skip
    assert result.fused.beta == expected.beta
    assert (expected.beta > 0) == anchored
    for name, table in expected.fit.confusion.items():
        np.testing.assert_allclose(
            result.fused.fit.confusion[name].log_p, table.log_p, rtol=1e-9, atol=1e-12
        )
    assert result.fused.fit.exponents == expected.fit.exponents
    first, second = mended(result, read)
    log_q = expected.cells()
    np.testing.assert_array_equal(first, log_q.argmax(axis=2) + 1)
    # half a step of the rounding, and the last bits of a float
    np.testing.assert_allclose(second / 255, np.exp(log_q.max(axis=2)), atol=0.5 / 255 + 1e-5)


def test_neither_threads_nor_the_size_of_tiles_change_the_result():
    box, sources, stack, anchors = world(2)

    def read(window):
        return stack[:, *window]

    results = [
        mended(fuse_stream(read, sources, box, anchors, tile=tile, workers=workers), read, workers)
        for tile, workers in ((8, 1), (8, 3), (100, 1))
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_a_pattern_that_was_merged_still_gets_its_own_answer():
    box, sources, stack, anchors = world(3)

    def read(window):
        return stack[:, *window]

    exact = fuse_stream(read, sources, box, anchors, tile=16)
    rough = fuse_stream(read, sources, box, anchors, tile=16, limit=64)
    assert exact.patterns.thinned == 0 < rough.patterns.thinned
    assert len(rough.patterns) <= 64 < len(exact.patterns)
    code = exact.patterns.code
    found = np.exp(rough.log_posterior(code))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    # reliabilities come from a sample of the patterns: close, not the same
    assert np.average(
        np.abs(found - np.exp(exact.log_posterior(code))).max(axis=1), weights=exact.patterns.count
    ) == pytest.approx(0, abs=0.1)
    a, b = mended(exact, read), mended(rough, read)
    assert (a[0] == b[0]).mean() > 0.95


def test_memory_does_not_grow_with_the_number_of_distinct_patterns():
    radix = (251, 241, 239)
    crosswalk = [
        Crosswalk(
            symbols=tuple(map(str, range(size - 1))),
            target=legend_of(CLASSES),
            matrix=np.eye(CLASSES)[np.arange(size - 1) % CLASSES],
            confidence=np.full(size - 1, 0.8),
        )
        for size in radix
    ]
    sources = [
        TiledSource(
            source=f"source {i}",
            crosswalk=one,
            phenomenon_time=Interval.of_year(2020),
            provenance=provenance_of(str(i)),
        )
        for i, one in enumerate(crosswalk)
    ]

    def read(window):
        rows, columns = window
        shape = rows.stop - rows.start, columns.stop - columns.start
        rng = np.random.default_rng([rows.start, columns.start])
        return np.stack([rng.integers(0, size, shape, np.uint8) for size in radix])

    def peak(side):
        tracemalloc.start()
        result = fuse_stream(read, sources, grid(side, side), tile=64, limit=512)
        seen = sum(classes.size for _, classes, _ in result.tiles(read))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seen == side * side
        assert len(result.patterns) <= 512
        assert abs(result.patterns.count.sum() - seen) <= 30 * result.patterns.thinned
        return most

    peak(64)  # what is compiled and cached once
    # nearly every cell is a pattern of its own: 16,000, then 100,000
    assert peak(320) < 1.2 * peak(128)


def test_a_silent_source_and_a_copy_change_nothing():
    box, sources, stack, anchors = world(4, strata=1)
    twin = TiledSource(
        source="twin",
        crosswalk=sources[0].crosswalk,
        phenomenon_time=sources[0].phenomenon_time,
        provenance=sources[0].provenance,
    )
    more = np.concatenate([stack, stack[:1]])
    plain = fuse_stream(lambda w: stack[:, *w], sources, box, anchors, tile=16)
    with_copy = fuse_stream(lambda w: more[:, *w], [*sources, twin], box, anchors, tile=16)
    assert with_copy.fused.twins == {"twin": "source 0"}
    np.testing.assert_array_equal(
        mended(with_copy, lambda w: more[:, *w]), mended(plain, lambda w: stack[:, *w])
    )
