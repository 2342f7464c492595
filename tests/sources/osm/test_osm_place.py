"""Layers that lie off: outlines go back to where they are mapped, shifts become questions."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from glocal.core import legends
from glocal.core.correction import Corrections
from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.result import Displacement, ShiftField
from glocal.fusion.place.misplaced import Misplaced
from glocal.loop.rounds.osm_shift import as_mapped, misplaced_rows, with_misplaced, with_shifts
from glocal.sources.osm.edits import MOVED_ALONE, decide, kinds_of
from glocal.sources.osm.page import instruction
from glocal.sources.osm.tags import crosswalk_of

LEGEND = legends.legend("worldcover")
GEOBOX = area_geobox((500_000, 5_200_000, 504_000, 5_204_000), "EPSG:32632", 10)
NEAR = ((4.0, 0.5), (0.5, 9.0))


def source() -> Observations:
    corner = np.random.default_rng(0).uniform(100, 3800, (30, 2))
    boxes = [shapely.box(500_000 + x, 5_200_000 + y, 500_080 + x, 5_200_060 + y) for x, y in corner]
    n = len(boxes)
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
    )


def corrections(one: Observations) -> Corrections:
    new = shapely.box(501_000, 5_201_000, 501_300, 5_201_300)
    return Corrections(
        source="osm",
        receiver="osm",
        record=np.array([*one.record[:3], "new/tree/1"]),
        action=np.array(["modify", "flag", "modify", "create"]),
        current=np.array(["landuse=meadow"] * 3 + [""]),
        proposed=np.array(["tree"] * 4),
        probability=np.full(4, 0.9),
        support=np.array([*one.geometry[:3], new], object),
        crs=str(GEOBOX.crs),
        because=("sentinel2",),
        round=1,
        provenance=Provenance(activity="fuse", agent="glocal", licences=frozenset({"Copernicus"})),
    )


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
    told, back = as_mapped(corrections(moved), moved, shift)
    gap = shapely.get_coordinates(back.geometry) - shapely.get_coordinates(one.geometry)
    assert np.abs(gap).max() < 0.01
    assert shapely.equals_exact(told.support[:3], back.geometry[:3], tolerance=1e-6).all()
    assert told.support[3].equals(corrections(one).support[3])


def test_a_shift_of_the_whole_is_one_question() -> None:
    area = SimpleNamespace(geobox=GEOBOX)
    shift = Displacement(dx=12.0, dy=-3.0, covariance=NEAR)
    told = with_shifts(area, corrections(source()), shift)
    assert told.record[-1] == "shift/osm"
    assert (told.columns["dx"][-1], told.columns["dy"][-1]) == (12.0, -3.0)
    # 12 m east at a variance of 9, 3 m south at one of 4
    assert told.probability[-1] == pytest.approx(1.0, abs=1e-3)
    assert told.support[-1].equals(shapely.box(*GEOBOX.extent.boundingbox))
    assert kinds_of(told, source(), {})[-2:] == ["missing", "displaced"]


def test_only_the_parts_that_lie_off_are_asked_about() -> None:
    area = SimpleNamespace(geobox=GEOBOX)
    field = field_of([30, 0, 1, 0, 0, 1, 0, -20])
    shift = Displacement(dx=7.0, dy=-5.0, covariance=NEAR, field=field)
    told = with_shifts(area, corrections(source()), shift)
    assert told.record[4:].tolist() == ["shift/osm/500500_5200500", "shift/osm/503500_5203500"]
    assert told.columns["dx"][4:].tolist() == [30, 0]
    assert told.columns["dy"][4:].tolist() == [0, -20]
    west, east = told.support[4:]
    assert west.bounds == (500_000, 5_200_000, 502_000, 5_202_000)
    assert east.bounds == (502_000, 5_202_000, 504_000, 5_204_000)
    calm = replace(shift, field=field_of([1.0] * 8))
    assert len(with_shifts(area, corrections(source()), calm)) == 4


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
    found = found_at([2, 7])
    told = with_misplaced(corrections(one), one, found, np.array([2, 7]))
    assert told.record.tolist() == ["way/0@1", "way/1@1", "new/tree/1", "way/2@1", "way/7@1"]
    assert (told.action[-2:] == "flag").all()
    assert told.columns["dx"][-2:].tolist() == [30, 30]
    assert told.columns["dy"][-2:].tolist() == [-10, -10]
    assert told.columns["sd"][-1] == pytest.approx(np.sqrt(50))
    assert np.isnan(told.columns["dx"][:3]).all()
    assert kinds_of(told, one, {})[-2:] == ["displaced", "displaced"]
    made = decide(told.take(np.array([3, 4])), one, LEGEND)
    assert made.flag == {0: MOVED_ALONE, 1: MOVED_ALONE}
    assert not made.edit
    dates = {"image": Interval.of_year(2021)}
    text = instruction(told, 3, dates=dates, mapped=one.phenomenon_time, element="way/2")
    for word in ("way/2", "landuse=meadow", "+30 m east", "-10 m north", "7 m", "80 %"):
        assert word in text


def test_vectors_of_objects_and_of_the_layer_stand_side_by_side() -> None:
    one = source()
    told = with_misplaced(corrections(one), one, found_at([7]), np.array([7]))
    shift = Displacement(dx=12.0, dy=-3.0, covariance=NEAR)
    both = with_shifts(SimpleNamespace(geobox=GEOBOX), told, shift)
    assert both.columns["dx"][-2:].tolist() == [30, 12]
    assert both.columns["sd"][-2:] == pytest.approx([np.sqrt(50), np.sqrt(6.5)])
    assert kinds_of(both, one, {})[-2:] == ["displaced", "displaced"]


def test_only_what_is_likelier_than_not_is_asked_the_surest_first() -> None:
    one = source()
    p = np.linspace(0, 1, 30)
    found = replace(found_at([]), probability=p)
    rows = misplaced_rows(SimpleNamespace(reviews={}), one, found)
    assert rows.tolist() == list(range(29, 14, -1))
