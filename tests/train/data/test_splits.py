import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glocal.train.data.splits import blocks, part_of

LON = st.floats(-180, 179.99)
LAT = st.floats(-90, 90)
PINNED = [1, 0, 2, 2, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 2]


@given(st.lists(st.tuples(LON, LAT), min_size=1, max_size=20), st.sampled_from([0.1, 0.5, 2.0]))
def test_places_of_one_cell_share_a_block_and_others_do_not(places, size):
    lon, lat = np.array(places).T
    ids = blocks(lon, lat, size)
    cells = list(zip(np.floor((lon + 180) / size), np.floor((lat + 90) / size), strict=True))
    same = np.array([[a == b for a in cells] for b in cells])
    assert ((ids[:, None] == ids[None]) == same).all()


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=50), st.integers(0, 2**31))
def test_the_part_of_a_block_depends_on_its_number_and_the_seed_only(ids, seed):
    parts = part_of(ids, seed=seed)
    assert set(np.unique(parts)) <= {0, 1, 2}
    alone = [int(part_of([one], seed=seed)[0]) for one in ids]
    assert parts.tolist() == alone


def test_shares_are_met_on_average_and_seeds_differ():
    ids = np.arange(20_000)
    share = np.bincount(part_of(ids, seed=3), minlength=3) / len(ids)
    assert share == pytest.approx([0.6, 0.1, 0.3], abs=0.02)
    agree = (part_of(ids, seed=0) == part_of(ids, seed=1)).mean()
    assert agree == pytest.approx(0.6**2 + 0.1**2 + 0.3**2, abs=0.02)
    assert (part_of(ids, shares=(1, 0, 0)) == 0).all()
    assert (part_of(ids, shares=(0, 0, 1)) == 2).all()


def test_the_parts_stay_what_they_were():
    # reports name seed 0: a change of the hash would move test samples into training
    assert part_of(np.arange(24)).tolist() == PINNED


@pytest.mark.parametrize(
    ("lon", "lat", "size", "words"),
    [
        ([np.nan], [0], 0.5, "finite"),
        ([0], [91], 0.5, "swapped"),
        ([0], [0], 0, "size_deg"),
    ],
)
def test_places_that_can_not_be_are_refused(lon, lat, size, words):
    with pytest.raises(ValueError, match=words):
        blocks(lon, lat, size)


def test_shares_must_add_up():
    with pytest.raises(ValueError, match="add up"):
        part_of([1], shares=(0.5, 0.1, 0.1))
