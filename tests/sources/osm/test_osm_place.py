"""Layers that lie off: outlines go back to where they are mapped, shifts become questions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from glocal.core import legends
from glocal.core.correction import Corrections
from glocal.core.findings import Misplaced
from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.result import Displacement, ShiftField
from glocal.sources.osm.batch import make_batch
from glocal.sources.osm.page import instruction
from glocal.sources.osm.place import MOVED_ALONE, as_mapped, unmoved
from glocal.sources.osm.tags import crosswalk_of
from tests.sources.osm.giving import found, told

LEGEND = legends.legend("worldcover")
GEOBOX = area_geobox((500_000, 5_200_000, 504_000, 5_204_000), "EPSG:32632", 10)
NEAR = ((4.0, 0.5), (0.5, 9.0))


def source() -> Observations:
    corner = np.random.default_rng(0).uniform(100, 3800, (30, 2))
    boxes = [shapely.box(500_000 + x, 5_200_000 + y, 500_080 + x, 5_200_060 + y) for x, y in corner]
    n = len(boxes)
    columns = {
        "tags": np.array([{"landuse": "meadow"}] * n, object),
        "timestamp": np.full(n, np.datetime64("2021-01-01")),
        "has_metadata": np.ones(n, bool),
    }
    return Observations(
        source="osm",
        support="objects",
        geobox=GEOBOX,
        symbols=np.ones(n, np.uint16),
        crosswalk=crosswalk_of(("landuse=meadow",), LEGEND),
        phenomenon_time=Interval.of_year(2021),
        provenance=Provenance(activity="read", agent="mappers", roots=frozenset({"osm"})),
        geometry=np.array(boxes, object),
        record=np.array([f"way/{i}@1" for i in range(n)]),
        columns=columns,
    )


NEW = shapely.box(501_000, 5_201_000, 501_300, 5_201_300)
"""Where nothing is mapped, and all others see trees."""


def corrections(one: Observations, **more) -> Corrections:
    """Return what is told of two objects to edit, one to flag, and ground that nothing maps."""
    rows = {0: ("modify", "tree", 0.98), 1: ("flag", "tree", 0.97), 2: ("modify", "tree", 0.96)}
    return told(one, found(one, rows, unmapped=[("tree", 0.95, NEW)], **more))


def field_of(values: list[float]) -> ShiftField:
    return ShiftField(
        x=500_000 + np.array([500.0, 3500.0]),
        y=5_200_000 + np.array([500.0, 3500.0]),
        shift=np.array(values).reshape(2, 2, 2),
        covariance=np.broadcast_to(np.diag([9.0, 4.0]), (2, 2, 2, 2)).copy(),
    )


SHIFTS = st.lists(st.floats(-40, 40), min_size=8, max_size=8)


@given(SHIFTS, st.booleans())
def test_moving_there_and_back_changes_nothing(values: list[float], varies: bool) -> None:
    one = source()
    shift = Displacement(
        dx=values[0], dy=values[1], covariance=NEAR, applied=True,
        field=field_of(values) if varies else None,
    )  # fmt: skip
    middle = shapely.get_coordinates(shapely.centroid(one.geometry))
    step = shift.field.at(middle) if shift.field else np.tile(values[:2], (len(one), 1))
    pairs = zip(one.geometry, step, strict=True)
    there = np.array([shapely.transform(shape, lambda xy, by=by: xy + by) for shape, by in pairs])
    moved = replace(one, geometry=there)
    told = corrections(one)
    known = np.isin(told.record, one.record)
    at = [one.record.tolist().index(record) for record in told.record[known]]
    seen = told.support.copy()
    seen[known] = there[at]
    back = as_mapped(replace(told, support=seen), moved, shift)
    assert len(at) == 3
    geometry = unmoved(there, shift)
    gap = shapely.get_coordinates(geometry) - shapely.get_coordinates(one.geometry)
    assert np.abs(gap).max() < 0.01
    assert shapely.equals_exact(back.support[known], geometry[at], tolerance=1e-6).all()
    assert back.support[~known][0].equals(told.support[~known][0])


def rows_of(rows: Corrections, *records: str) -> Corrections:
    """Return these rows, in this order."""
    return rows.take(np.array([rows.record.tolist().index(one) for one in records]))


def test_a_shift_of_the_whole_is_one_question() -> None:
    shift = Displacement(dx=12.0, dy=-3.0, covariance=NEAR)
    both = corrections(source(), shift=shift)
    assert len(both) == len(corrections(source())) + 1
    told = rows_of(both, "shift/osm")
    assert (told.columns["dx"][-1], told.columns["dy"][-1]) == (12.0, -3.0)
    # 12 m east at a variance of 9, 3 m south at one of 4
    assert told.probability[-1] == pytest.approx(1.0, abs=1e-3)
    assert told.support[-1].equals(shapely.box(*GEOBOX.extent.boundingbox))
    assert told.fault.tolist() == ["displaced"]
    assert told.action.tolist() == ["flag"]
    new = both.record[np.char.startswith(both.record, "new/")].tolist()
    assert rows_of(both, *new).fault.tolist() == ["missing"]


def test_only_the_parts_that_lie_off_are_asked_about() -> None:
    field = field_of([30, 0, 1, 0, 0, 1, 0, -20])
    shift = Displacement(dx=7.0, dy=-5.0, covariance=NEAR, field=field)
    both = corrections(source(), shift=shift)
    names = ["shift/osm/500500_5200500", "shift/osm/503500_5203500"]
    assert set(both.record) - set(corrections(source()).record) == set(names)
    told = rows_of(both, *names)
    assert told.columns["dx"].tolist() == [30, 0]
    assert told.columns["dy"].tolist() == [0, -20]
    west, east = told.support
    assert west.bounds == (500_000, 5_200_000, 502_000, 5_202_000)
    assert east.bounds == (502_000, 5_202_000, 504_000, 5_204_000)
    calm = replace(shift, field=field_of([1.0] * 8))
    assert len(corrections(source(), shift=calm)) == 4


def test_objects_that_were_moved_are_told_of_where_they_are_mapped() -> None:
    one = source()
    shift = Displacement(dx=12.0, dy=-3.0, covariance=NEAR, applied=True)
    step = np.array([12.0, -3.0])
    moved = replace(one, geometry=shapely.transform(one.geometry, lambda xy: xy + step))
    told = corrections(moved, shift=shift)
    same = rows_of(told, *one.record[:3].tolist())
    assert shapely.equals_exact(same.support, one.geometry[:3], tolerance=1e-6).all()
    new = told.take(told.fault == "missing")
    assert new.fate.tolist() == ["missing"]
    assert "lies off the images" in new.columns["why"][0]


def found_at(rows: list[int], probability: float = 0.8) -> Misplaced:
    """Return a finding in which ``rows`` of the source belong 30 m east and 10 m south."""
    p = np.zeros(30)
    p[rows] = probability
    return Misplaced(
        probability=p,
        shift=np.tile([30.0, -10.0], (30, 1)),
        covariance=np.tile(np.diag([36.0, 64.0]), (30, 1, 1)),
    )


def test_a_single_object_that_lies_off_is_asked_about_and_not_edited() -> None:
    one = source()
    before = corrections(one)
    (new,) = set(before.record) - set(one.record)
    both = corrections(one, misplaced=found_at([2, 7]))
    assert both.record.tolist() == ["way/0@1", "way/1@1", new, "way/2@1", "way/7@1"]
    told = both.take(np.array([3, 4]))
    assert (told.action == "flag").all()
    assert told.columns["dx"].tolist() == [30, 30]
    assert told.columns["dy"].tolist() == [-10, -10]
    assert told.columns["sd"][-1] == pytest.approx(np.sqrt(50))
    assert np.isnan(both.columns["dx"][:3]).all()
    assert told.fault.tolist() == ["displaced", "displaced"]
    assert told.columns["why"].tolist() == [MOVED_ALONE, MOVED_ALONE]
    assert not any(told.columns["edit"])
    batch = make_batch(both, one, None, {"image": Interval.of_year(2021)})
    assert not batch.edit(3)
    text = instruction(batch, 3, "way/2")
    for word in ("way/2", "landuse=meadow", "+30 m east", "-10 m north", "7 m", "80 %"):
        assert word in text


def test_vectors_of_objects_and_of_the_layer_stand_side_by_side() -> None:
    shift = Displacement(dx=12.0, dy=-3.0, covariance=NEAR)
    both = corrections(source(), misplaced=found_at([7]), shift=shift)
    both = rows_of(both, "way/7@1", "shift/osm")
    assert both.columns["dx"].tolist() == [30, 12]
    assert both.columns["sd"] == pytest.approx([np.sqrt(50), np.sqrt(6.5)])
    assert both.fault.tolist() == ["displaced", "displaced"]


def test_only_what_is_likelier_than_not_is_asked_the_surest_first() -> None:
    one = source()
    off = replace(found_at([]), probability=np.linspace(0, 1, 30))
    rows = told(one, found(one, {}, misplaced=off))
    assert rows.record.tolist() == [f"way/{i}@1" for i in range(29, 14, -1)]
