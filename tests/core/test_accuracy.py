"""Accuracy and area estimators against the published example, and as laws."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.core.accuracy import olofsson, sample_accuracy
from glocal.core.legend import ClassDef, Legend

COUNTS = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
AREA = [200_000, 150_000, 3_200_000, 6_450_000]


def _legend(k: int) -> Legend:
    return Legend(
        name="small",
        classes=tuple(
            ClassDef(value=i + 1, name=f"c{i}", title=f"C {i}", color="102030") for i in range(k)
        ),
    )


def test_published_example() -> None:
    report = olofsson(COUNTS, AREA)
    assert report.overall.value == pytest.approx(0.947, abs=5e-4)
    assert report.overall.half_width == pytest.approx(0.018, abs=5e-4)
    users = [one.value for one in report.users]
    producers = [one.value for one in report.producers]
    np.testing.assert_allclose(users, [0.88, 0.73, 0.93, 0.96], atol=5e-3)
    np.testing.assert_allclose(producers, [0.75, 0.85, 0.93, 0.96], atol=5e-3)
    assert report.areas[0].value == pytest.approx(235_086, abs=1)
    assert report.areas[0].half_width == pytest.approx(68_418, abs=1)
    assert report.sample_size == 640
    assert report.notes == ()


def test_units_and_counts_agree() -> None:
    table = np.array(COUNTS)
    mapped, reference = (
        np.repeat(axis, table.ravel()) for axis in np.indices(table.shape).reshape(2, -1)
    )
    direct = sample_accuracy(mapped, np.eye(4)[reference], AREA)
    for one, other in zip(direct.areas, olofsson(COUNTS, AREA).areas, strict=True):
        assert one.value == pytest.approx(other.value)
        assert one.half_width == pytest.approx(other.half_width)


def test_missing_classes_are_null_with_a_reason() -> None:
    report = olofsson([[5, 1, 0], [2, 9, 0], [0, 0, 0]], [100, 200, 3], names=["a", "b", "c"])
    assert report.users[2].value is None
    assert "no reference points" in report.users[2].reason
    assert report.producers[2].value is None
    assert report.areas[2].value == 0
    assert report.areas[2].half_width is None
    assert "c" in report.notes[0]
    json.dumps(report.as_dict(_legend(3)), allow_nan=False)


def test_all_right_gives_no_false_certainty() -> None:
    report = olofsson([[5, 0], [0, 9]], [100, 200])
    assert report.overall.value == 1
    assert report.overall.half_width is None
    assert "rule of three" in report.overall.reason


def test_soft_labels_and_non_response() -> None:
    shares = np.array([[0.8, 0.2], [1, 0], [0, 1], [0.4, 0.6], [0, 0]])
    report = sample_accuracy(np.array([0, 0, 1, 1, 1]), shares, [1, 1])
    assert report.non_response == 1
    assert report.sample_size == 4
    assert report.overall.value == pytest.approx((0.9 + 0.8) / 2)


@pytest.mark.parametrize("counts", [[[1, 0]], [[-1, 0], [0, 5]], [[1, 0], [0, 0]]])
def test_bad_tables_are_refused(counts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"counts|accuracy needs"):
        olofsson(counts, [1.0] * len(counts))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 5).flatmap(
        lambda k: st.tuples(
            st.lists(st.lists(st.integers(0, 9), min_size=k, max_size=k), min_size=k, max_size=k),
            st.lists(st.floats(0.1, 1e5), min_size=k, max_size=k),
        )
    )
)
def test_areas_add_up_and_nothing_is_nan(case: tuple[list[list[int]], list[float]]) -> None:
    counts, area = case
    if np.sum(counts) < 2:
        return
    report = olofsson(counts, area)
    assert sum(one.value or 0 for one in report.areas) == pytest.approx(sum(area))
    assert report.proportions.sum() == pytest.approx(1)
    assert 0 <= (report.overall.value or 0) <= 1 + 1e-9
    json.dumps(report.as_dict(_legend(len(area))), allow_nan=False)


def test_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(5)
    truth = rng.choice(3, 200_000, p=[0.7, 0.2, 0.1])
    mapped = np.where(rng.random(truth.size) < 0.8, truth, rng.integers(0, 3, truth.size))
    right = (truth == mapped).mean()
    hits = 0
    for _ in range(200):
        take = rng.integers(0, truth.size, 300)
        report = sample_accuracy(mapped[take], np.eye(3)[truth[take]], np.bincount(mapped))
        hits += abs((report.overall.value or 0) - right) <= (report.overall.half_width or 0)
    assert 178 <= hits <= 200
