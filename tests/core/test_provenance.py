from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glocal.core.provenance import Provenance
from glocal.errors import LicenceConflictError
from glocal.sources.osm.kind import TERMS

names = st.frozensets(st.sampled_from("abcde"), max_size=3)
provenances = st.builds(
    Provenance,
    activity=st.just("read"),
    agent=st.just("test"),
    used=names.map(tuple),
    licences=st.frozensets(st.sampled_from(["ODbL-1.0", "CC-BY-4.0", "Copernicus"]), max_size=2),
    roots=names,
    labels=names,
    attribution=names.map(tuple),
)


@given(st.lists(provenances, max_size=4), st.lists(provenances, max_size=3))
def test_licences_and_roots_are_unions_and_labels_are_no_roots(inputs, teachers):
    made = Provenance.derive("teach", inputs, labels=teachers)
    assert made.licences == frozenset().union(*(one.licences for one in inputs + teachers))
    assert made.roots == frozenset().union(*(one.roots for one in inputs))
    assert made.labels >= frozenset().union(*(one.roots for one in teachers))
    assert made.attribution == tuple(
        sorted({t for one in inputs + teachers for t in one.attribution})
    )


@given(st.lists(provenances, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_inputs_does_not_matter(inputs, random):
    other = list(inputs)
    random.shuffle(other)
    assert Provenance.derive("fuse", inputs) == Provenance.derive("fuse", other)


@given(provenances, provenances)
def test_kinship_is_symmetric_and_a_child_is_kin(a, b):
    assert a.shares_root(b) == b.shares_root(a)
    child = Provenance.derive("make", [a, b])
    assert child.shares_root(a) == bool(a.roots)


@given(st.frozensets(st.sampled_from([*sorted(TERMS.licences), "CC-BY-4.0", "MIT"])))
def test_osm_accepts_all_or_nothing(licences):
    assert TERMS.accept(licences) == (licences <= TERMS.licences)
    waived = [one if one in TERMS.licences else f"{one}+osm-waiver" for one in licences]
    assert TERMS.accept(waived)
    if TERMS.accept(licences):
        TERMS.require(licences)
    else:
        with pytest.raises(LicenceConflictError, match=r"CC-BY-4\.0|MIT"):
            TERMS.require(licences)


def test_osm_accepts_what_is_free_of_conditions_or_its_own():
    assert TERMS.accept(["Copernicus", "ODbL-1.0"])
    assert not TERMS.accept(["CC-BY-4.0"])
    assert TERMS.accept(["CC-BY-4.0+osm-waiver"])


def test_the_date_is_that_of_the_newest_input():
    old, new = (
        Provenance(activity="read", agent="test", generated_at=datetime(year, 1, 1, tzinfo=UTC))
        for year in (2015, 2020)
    )
    assert Provenance.derive("fuse", [new, old]).generated_at == new.generated_at
    assert Provenance.derive("fuse", []).generated_at is None


def test_someone_did_something():
    with pytest.raises(ValueError, match="agent"):
        Provenance(activity="read", agent="")
