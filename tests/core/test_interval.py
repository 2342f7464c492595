from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glocal.core.interval import Interval

moments = st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda t: t.replace(microsecond=0)
)


@st.composite
def intervals(draw):
    start = draw(moments)
    return Interval(start=start, stop=start + timedelta(seconds=draw(st.integers(1, 10**8))))


@given(intervals(), intervals())
def test_overlap_is_symmetric_and_union_holds_both(a, b):
    assert a.overlaps(b) == b.overlaps(a)
    both = a.union(b)
    assert both == b.union(a)
    assert both.start <= a.start
    assert both.stop >= b.stop
    assert a.overlaps(a)


@given(intervals())
def test_intervals_are_half_open(a):
    after = Interval(start=a.stop, stop=a.stop + timedelta(seconds=1))
    assert not a.overlaps(after)


@given(st.dates(date(1980, 1, 1), date(2100, 1, 1)))
def test_days_and_years_parse(day):
    assert Interval.parse(day.isoformat()) == Interval.of_day(day)
    year = Interval.parse(f"{day.year:04d}")
    assert year.union(Interval.of_day(day)) == year
    both = Interval.parse(f"{day.isoformat()}/{day.isoformat()}")
    assert both == Interval.of_day(day)


@given(moments)
def test_instants_parse_in_any_zone(moment):
    east = moment.astimezone(timezone(timedelta(hours=5)))
    assert Interval.parse(east.isoformat()).start == moment


@pytest.mark.parametrize("text", ["", "yesterday", "2017-13-01", "2017-02-30"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="date must be"):
        Interval.parse(text)


def test_order_and_zone_are_needed():
    now = datetime(2020, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="before stop"):
        Interval(start=now, stop=now)
    with pytest.raises(ValueError, match="timezone"):
        Interval(start=now.replace(tzinfo=None), stop=now)
