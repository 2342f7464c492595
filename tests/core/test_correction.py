from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from glocal.core.correction import Corrections
from glocal.core.provenance import Provenance
from glocal.errors import LicenceConflictError
from glocal.sources.osm.kind import TERMS

ACTIONS = ("create", "modify", "delete", "flag", "visit")


def some(actions=("modify", "flag"), *, terms=TERMS, licence="ODbL-1.0", because=("map",)):
    n = len(actions)
    return Corrections(
        source="osm",
        record=np.array([f"way/{i}@1" for i in range(n)], dtype=np.str_),
        fault=np.array(["retag"] * n, dtype=np.str_),
        action=np.array(actions, dtype=np.str_),
        fate=np.array(["flag"] * n, dtype=np.str_),
        current=np.array(["a"] * n, dtype=np.str_),
        proposed=np.array(["b"] * n, dtype=np.str_),
        probability=np.linspace(0, 1, n),
        support=np.array([shapely.Point(i, i) for i in range(n)], object),
        crs="EPSG:32632",
        because=because,
        round=0,
        terms=terms,
        provenance=Provenance(activity="fuse", agent="test", licences=frozenset({licence})),
        columns={"number": np.arange(n)},
    )


@given(st.lists(st.sampled_from(["map", "points", "osm", "model"])))
def test_a_correction_never_cites_its_target(because):
    if "osm" in because:
        with pytest.raises(ValueError, match="own target"):
            some(because=tuple(because))
    else:
        assert "osm" not in some(because=tuple(because)).because


@given(st.lists(st.sampled_from(ACTIONS), max_size=4), st.sampled_from(["ODbL-1.0", "CC-BY-4.0"]))
def test_evidence_that_osm_can_not_accept_edits_nothing(actions, licence):
    edits = bool({"create", "modify", "delete"} & set(actions))
    if edits and licence == "CC-BY-4.0":
        with pytest.raises(LicenceConflictError, match="leave those sources out"):
            some(actions, licence=licence)
    else:
        assert len(some(actions, licence=licence)) == len(actions)
    assert len(some(actions, licence=licence, terms=None)) == len(actions)


def test_rows_are_taken_together():
    three = some(("modify", "flag", "visit"))
    last = three.take(np.array([False, True, True]))
    assert last.record.tolist() == ["way/1@1", "way/2@1"]
    assert last.columns["number"].tolist() == [1, 2]
    assert three.take(np.array([2, 0])).record.tolist() == ["way/2@1", "way/0@1"]
    for wrong in (np.array([True, False]), np.array([3])):
        with pytest.raises(IndexError):
            three.take(wrong)


def test_parts_stand_under_each_other_and_what_one_lacks_is_empty():
    first, second = some(("modify",)), some(("flag", "visit"))
    named = {"number": np.arange(2), "why": np.array(["a", "b"], object), "sd": np.ones(2)}
    second = replace(second, record=np.array(["way/8@1", "way/9@1"]), columns=named)
    both = Corrections.joined([first, second])
    assert both.record.tolist() == ["way/0@1", "way/8@1", "way/9@1"]
    assert both.terms is first.terms
    assert both.columns["number"].tolist() == [0, 0, 1]
    assert both.columns["why"].tolist() == ["", "a", "b"]
    np.testing.assert_array_equal(both.columns["sd"], [np.nan, 1, 1])
    with pytest.raises(ValueError, match="unique"):
        Corrections.joined([first, first])


@pytest.mark.parametrize(
    "wrong",
    [
        {"probability": np.array([0.5, np.nan])},
        {"probability": np.array([0.5, 1.1])},
        {"record": np.array(["a", "a"])},
        {"action": np.array(["modify", "guess"])},
        {"fault": np.array(["retag", "guess"])},
        {"fate": np.array(["modify", "guess"])},
        {"proposed": np.array(["b"])},
        {"columns": {"number": np.arange(3)}},
    ],
)
def test_columns_are_checked(wrong):
    with pytest.raises(ValueError, match="Corrections"):
        replace(some(), **wrong)
