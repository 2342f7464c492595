"""Counting in tiles against counting all at once, and what merging rare patterns costs."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.core.grid import tiles
from glocal.errors import GridMismatchError
from glocal.fusion.tiles import counting
from glocal.fusion.tiles.counting import Coding, Counter, Lookup, Patterns, thin

SMALL, LARGE = (3, 2, 5), (300, 70, 60, 50, 40)
"""A table with one entry per code, and a hash table."""


def area(radix, height, width, seed, repeats=1):
    rng = np.random.default_rng(seed)
    shape = -(-height // repeats), -(-width // repeats)
    planes = [rng.integers(0, r, shape).repeat(repeats, 0).repeat(repeats, 1) for r in radix]
    return np.stack([one[:height, :width] for one in planes]).astype(np.uint16)


def coding_of(radix, height, width, region=8):
    return Coding(radix=radix, region=region, shape=(height, width))


def window(height, width):
    return slice(0, height), slice(0, width)


def whole(coding, planes):
    """The slow twin: region and symbols as columns, distinct rows with their number."""
    _, height, width = planes.shape
    row, column = np.indices((height, width)) // coding.region
    region = row * coding.across + column
    columns = np.stack([region, *planes.astype(np.int64)]).reshape(len(planes) + 1, -1).T
    return np.unique(columns, axis=0, return_counts=True)


@given(
    st.sampled_from([SMALL, LARGE]),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(0, 2**16),
)
@settings(max_examples=30)
def test_counting_in_tiles_equals_counting_at_once(radix, height, width, repeats, size, seed):
    coding, planes = coding_of(radix, height, width), area(radix, height, width, seed, repeats)
    narrow = max(radix) < 256
    whole_area = Counter(coding)
    parts = [Counter(coding), Counter(coding)]
    for i, (inner, outer) in enumerate(tiles((height, width), size, 2)):
        tile = planes[:, *outer]
        tile = tile.astype(np.uint8) if narrow else tile
        parts[i % 2].add(tile, outer, inner)
    for part in parts:
        whole_area.merge(part.patterns())
    found = whole_area.patterns()
    columns, count = whole(coding, planes)
    np.testing.assert_array_equal(coding.columns(found.code), columns)
    np.testing.assert_array_equal(found.count, count)
    assert found.thinned == 0


@given(st.sampled_from([SMALL, LARGE]), st.integers(0, 2**16))
@settings(max_examples=10)
def test_every_cell_finds_its_pattern_again(radix, seed):
    coding, planes = coding_of(radix, 20, 17), area(radix, 20, 17, seed, 2)
    counter = Counter(coding)
    counter.add(planes, window(20, 17))
    patterns = counter.patterns()
    code = coding.encode(planes, window(20, 17))
    unit, missing = Lookup(coding, patterns).units(code)
    assert missing == 0
    np.testing.assert_array_equal(patterns.code[unit], code)
    fewer = Patterns(code=patterns.code[1:], count=patterns.count[1:])
    unit, missing = Lookup(coding, fewer).units(code)
    assert missing == patterns.count[0] == (unit < 0).sum()
    np.testing.assert_array_equal(unit < 0, code == patterns.code[0])


def test_a_table_grows_with_what_it_holds():
    coding, planes = coding_of(LARGE, 300, 200), area(LARGE, 300, 200, 0)
    counter = Counter(coding, limit=50_000)
    counter.add(planes, window(300, 200))
    assert counter.patterns().thinned == 2  # 60,000 patterns, nearly all of one cell
    counter = Counter(coding, limit=60_000)
    counter.add(planes, window(300, 200))
    np.testing.assert_array_equal(counter.patterns().count, whole(coding, planes)[1])


@given(st.integers(0, 2**16), st.integers(20, 200), st.integers(2, 400))
@settings(max_examples=30)
def test_merging_keeps_the_frequent_and_the_total(seed, limit, distinct):
    rng = np.random.default_rng(seed)
    count = np.ceil(rng.pareto(0.8, distinct) + 0.01).astype(np.int64)
    code = np.arange(distinct, dtype=np.uint64)
    kept, number, t = thin(code, count, limit, int(rng.integers(100)))
    assert len(kept) <= limit
    assert abs(number.sum() - count.sum()) <= t
    if distinct <= limit:
        assert t == 0
        np.testing.assert_array_equal(number, count)
        return
    frequent = count >= t
    np.testing.assert_array_equal(number[np.isin(kept, code[frequent])], count[frequent])
    assert (number[np.isin(kept, code[~frequent])] == t).all()


def test_merging_is_right_on_average_and_its_error_is_as_stated():
    rng = np.random.default_rng(3)
    count = np.ceil(rng.pareto(1.0, 3000)).astype(np.int64) + 1
    code = np.arange(3000, dtype=np.uint64)
    some = rng.random(3000) < 0.2
    truth = count[some].sum()
    estimates = []
    for turn in range(400):
        order = rng.permutation(3000)
        kept, number, t = thin(code[order], count[order], 500, turn)
        estimates.append(number[some[kept]].sum())
    bound = np.sqrt(t * truth)
    assert np.std(estimates) <= bound
    assert abs(np.mean(estimates) - truth) <= 4 * bound / np.sqrt(400)


def test_the_number_of_patterns_is_bounded(monkeypatch):
    monkeypatch.setattr(counting, "FIRST_PLACES", 64)
    coding = coding_of(LARGE, 64, 64, region=64)
    counter = Counter(coding, limit=100)
    for seed in range(8):
        counter.add(area(LARGE, 64, 64, seed), window(64, 64))
    found = counter.patterns()
    assert len(found) <= 100
    assert found.thinned >= 200  # 32,768 patterns of one cell each
    assert abs(found.count.sum() - 8 * 64 * 64) <= 20 * found.thinned


def test_a_million_patterns_take_no_more_memory_than_the_limit():
    coding = coding_of((251, 241, 239, 4), 1024, 1024, region=1024)
    counter, distinct = Counter(coding, limit=2**13), set()
    # what is compiled on first use is no memory of the counter
    tile = area(coding.radix, 256, 256, 99).astype(np.uint8)
    Counter(coding, limit=2**13).add(tile, (slice(0, 256), slice(0, 256)))
    tracemalloc.start()
    for i in range(16):
        tile = area(coding.radix, 256, 256, i).astype(np.uint8)
        rows, columns = (slice(256 * k, 256 * k + 256) for k in divmod(i, 4))
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        counter.add(tile, (rows, columns))
        # a table of twice the limit, half full, its content and what thinning sorts
        assert tracemalloc.get_traced_memory()[1] - before < 20 * 16 * counter.limit
        distinct.update(np.unique(coding.encode(tile, (rows, columns))).tolist())
    tracemalloc.stop()
    assert len(distinct) > 1_000_000
    found = counter.patterns()
    assert len(found) <= counter.limit
    assert abs(found.count.sum() - 1024 * 1024) <= 200 * found.thinned


@pytest.mark.parametrize("radix", [SMALL, LARGE])
def test_symbols_beyond_the_alphabet_are_refused(radix):
    coding, planes = coding_of(radix, 5, 7), area(radix, 5, 7, 0)
    planes[1, 3, 2] = radix[1]
    with pytest.raises(ValueError, match=f"plane 1 has a symbol beyond its alphabet of {radix[1]}"):
        Counter(coding).add(planes, window(5, 7))
    with pytest.raises(ValueError, match="plane 1"):
        coding.encode(planes, window(5, 7))


def test_what_cannot_be_counted_is_refused():
    coding = coding_of(SMALL, 4, 4)
    with pytest.raises(GridMismatchError, match="shape"):
        Counter(coding).add(np.zeros((2, 4, 4), np.uint8), window(4, 4))
    with pytest.raises(ValueError, match="uint8 or uint16"):
        Counter(coding).add(np.zeros((3, 4, 4), np.int32), window(4, 4))
    with pytest.raises(ValueError, match=r"2\*\*63"):
        coding_of((65_536,) * 4, 4, 4)
    with pytest.raises(ValueError, match="alphabet"):
        coding_of((), 4, 4)
    with pytest.raises(ValueError, match="limit of 3"):
        Counter(coding, limit=3)
