"""Half-open intervals of time in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

SEASON_DAYS = 62
"""Longest interval, in days, that still lies at one time of the year."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Interval:
    """A half-open interval ``[start, stop)`` of UTC time.

    >>> Interval.of_day(date(2017, 2, 16)).isoformat()
    '2017-02-16T00:00:00Z/2017-02-17T00:00:00Z'
    """

    start: datetime
    """First instant that belongs to the interval; timezone-aware."""

    stop: datetime
    """First instant after it; timezone-aware and later than ``start``."""

    def __post_init__(self) -> None:
        for name in ("start", "stop"):
            value = getattr(self, name)
            if value.tzinfo is None:
                raise ValueError(
                    f"Interval.{name} must carry a timezone, got {value!r}; "
                    "use datetime(..., tzinfo=UTC)"
                )
            object.__setattr__(self, name, value.astimezone(UTC))
        if not self.start < self.stop:
            raise ValueError(
                f"Interval.start must lie before stop, got {self.start} and {self.stop}"
            )

    @classmethod
    def of_day(cls, day: date) -> Interval:
        """Return the interval of one calendar day in UTC."""
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return cls(start=start, stop=start + timedelta(days=1))

    @classmethod
    def of_year(cls, year: int) -> Interval:
        """Return the interval of one calendar year in UTC."""
        return cls(
            start=datetime(year, 1, 1, tzinfo=UTC), stop=datetime(year + 1, 1, 1, tzinfo=UTC)
        )

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Read ``2017``, ``2017-02-16``, or two such joined by ``/`` (stop is included).

        >>> Interval.parse("2017") == Interval.of_year(2017)
        True
        """
        first, _, last = text.strip().partition("/")
        start, stop = cls._one(first), cls._one(last or first)
        return cls(start=start.start, stop=stop.stop)

    @classmethod
    def _one(cls, text: str) -> Interval:
        text = text.strip()
        if len(text) == 4 and text.isdigit():
            return cls.of_year(int(text))
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValueError(
                f"a date must be YYYY, YYYY-MM-DD or an ISO 8601 instant, got {text!r}"
            ) from error
        if len(text) == 10:
            return cls.of_day(moment.date())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return cls(start=moment, stop=moment + timedelta(seconds=1))

    def isoformat(self) -> str:
        """Return ``start/stop`` as ISO 8601 with ``Z``."""
        return f"{_z(self.start)}/{_z(self.stop)}"

    @property
    def day_of_year(self) -> float:
        """Day of the year of the middle, 1 to 366; NaN where the interval spreads over months.

        >>> Interval.parse("2017-02-16").day_of_year
        47.0
        """
        length = self.stop - self.start
        middle = self.start + length / 2
        return float(middle.timetuple().tm_yday) if length.days <= SEASON_DAYS else float("nan")

    def overlaps(self, other: Interval) -> bool:
        """Return True where the two share at least one instant."""
        return self.start < other.stop and other.start < self.stop

    def union(self, other: Interval) -> Interval:
        """Return the smallest interval that holds both."""
        return Interval(start=min(self.start, other.start), stop=max(self.stop, other.stop))


def _z(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
