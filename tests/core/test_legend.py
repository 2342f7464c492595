from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glocal.core.legend import ClassDef, Crosswalk, Legend
from glocal.errors import LegendMismatchError
from glocal.testing import crosswalks, legend_of

LEGEND = legend_of(4)
shares = st.dictionaries(
    st.sampled_from([*LEGEND.names, 1, 2, "elsewhere", 99]), st.floats(0, 1), max_size=5
)


def test_values_and_names_find_the_same_class():
    for i, one in enumerate(LEGEND.classes):
        assert LEGEND.index(one.value) == LEGEND.index(one.name) == i
    with pytest.raises(LegendMismatchError, match="c0"):
        LEGEND.index("no such class")


def test_a_subset_keeps_the_order_of_the_legend():
    assert LEGEND.subset(["c3", 1, "c3"]).names == ("c0", "c3")


@pytest.mark.parametrize("wrong", [{"value": 256}, {"value": -1}, {"color": "12345g"}])
def test_class_definitions_are_checked(wrong):
    with pytest.raises(ValueError, match="class a"):
        ClassDef(**{"value": 1, "name": "a", "title": "A", "color": "000000", **wrong})


def test_a_legend_has_each_class_once():
    one = LEGEND.classes[0]
    with pytest.raises(ValueError, match="unique"):
        Legend(name="twice", classes=(one, one))


@given(st.dictionaries(st.text(min_size=1, max_size=3), shares, max_size=4), st.floats(0, 1))
def test_rows_from_shares_are_distributions(rows, confidence):
    walk = Crosswalk.from_shares(LEGEND, rows, confidence=confidence)
    np.testing.assert_allclose(walk.matrix.sum(axis=1), 1)
    for i, row in enumerate(rows.values()):
        known = sum(share for key, share in row.items() if key not in ("elsewhere", 99))
        assert walk.confidence[i] == (confidence if known > 0 else 0)


@given(crosswalks(LEGEND))
def test_a_symbol_at_its_word_is_among_those_that_it_may_stand_for(walk):
    said, meant = walk.at_its_word(), walk.meant()
    assert meant[0].all()
    assert (said[walk.confidence > 0] == walk.matrix.argmax(axis=1)[walk.confidence > 0]).all()
    assert (said[walk.confidence == 0] == -1).all()
    assert meant[1:][walk.confidence == 0].all()
    known = np.flatnonzero(said >= 0)
    assert meant[1 + known, said[known]].all()


@pytest.mark.parametrize(
    ("matrix", "confidence"),
    [
        (np.full((1, 4), np.nan), np.ones(1)),
        (np.full((1, 4), 0.3), np.ones(1)),
        (np.array([[1.5, -0.5, 0, 0]]), np.ones(1)),
        (np.full((1, 4), 0.25), np.array([np.nan])),
        (np.full((1, 4), 0.25), np.array([1.1])),
        (np.full((1, 3), 1 / 3), np.ones(1)),
    ],
)
def test_a_crosswalk_is_checked(matrix, confidence):
    with pytest.raises(ValueError, match="Crosswalk"):
        Crosswalk(symbols=("a",), target=LEGEND, matrix=matrix, confidence=confidence)


def test_a_crosswalk_is_read_only():
    walk = Crosswalk.from_shares(LEGEND, {"a": {"c0": 1.0}})
    with pytest.raises(ValueError, match="read-only"):
        walk.matrix[0, 0] = 0
