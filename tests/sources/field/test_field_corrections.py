"""What observers are told of their points, and the points with it taken up."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.core.answer import Answered
from glocal.core.findings import Doubts
from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.sources.field.kind import Field
from glocal.sources.kind import Reading
from glocal.testing import grid, legend_of, provenance_of
from tests.sources.findings import findings_about, window_of

K, N = 4, 30
LEGEND, BOX = legend_of(K), grid(20, 20)
YEAR = Interval.of_year(2020)
FIELD = Field()


def drawn(seed: int) -> tuple[Reading, Doubts]:
    rng = np.random.default_rng(seed)
    xy = np.array([BOX.boundingbox.left, BOX.boundingbox.bottom]) + rng.uniform(0, 200, (N, 2))
    symbols = rng.integers(0, K + 1, N)
    said = Observations(
        source="field",
        support="points",
        geobox=BOX,
        symbols=symbols.astype(np.uint16),
        crosswalk=Crosswalk(
            symbols=tuple(f"word {k}" for k in range(K)), target=LEGEND, matrix=np.eye(K),
            confidence=np.full(K, 0.8),
        ),
        phenomenon_time=YEAR,
        provenance=provenance_of("field"),
        geometry=shapely.points(xy),
        record=np.array([f"p{i}" for i in range(N)]),
        position_sd_m=np.full(N, 5.0),
    )  # fmt: skip
    reading = Reading(
        kind=FIELD, config=SimpleNamespace(name="field"), provenance=said.provenance,
        window=window_of(BOX, LEGEND, interval=YEAR, precision=0.8), statements=said,
    )  # fmt: skip
    return reading, Doubts(
        correct=rng.choice([0.02, 0.3, 0.9], N),
        proposed=(np.maximum(symbols - 1, 0) + rng.integers(1, K, N)) % K,
        probability=rng.choice([0.3, 0.6, 0.95], N),
        supported=rng.random(N) < 0.7,
    )


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_edits_keep_the_precision_and_others_are_doubts(seed: int) -> None:
    reading, doubts = drawn(seed)
    findings = findings_about(reading.says, doubts=doubts)
    told = FIELD.receive(reading, findings)
    at = np.array([int(one[1:]) for one in told.record.tolist()], int)
    open_ = doubts.supported & (reading.says.symbols > 0)
    assert open_[at].all()
    edit = told.action == "modify"
    assert (doubts.probability[at[edit]] > 0.5).all()
    assert (told.probability[edit] == doubts.probability[at[edit]]).all()
    assert (told.probability[~edit] == 1 - doubts.correct[at[~edit]]).all()
    assert (doubts.correct[at[~edit]] < 0.1).all()
    assert set(np.flatnonzero(open_ & (doubts.correct < 0.1))) <= set(at)
    if edit.any():
        assert told.probability[edit].mean() >= 0.8
        assert np.isclose(told.expected_precision, told.probability[edit].mean())
    else:
        assert told.expected_precision is told.threshold is None
    assert (told.fate == told.action).all()
    after = FIELD.corrected(reading, findings, told)
    wanted = reading.says.said_class()
    wanted[at[edit]] = doubts.proposed[at[edit]]
    np.testing.assert_array_equal(after.said_class(), wanted)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_points_that_were_answered_are_left_in_peace(seed: int) -> None:
    reading, doubts = drawn(seed)
    told = FIELD.receive(reading, findings_about(reading.says, doubts=doubts))
    n, half = len(told), np.arange(len(told)) % 2 == 0
    answers = Answered(
        source=np.full(n, "field"), proposal=np.array(told.ids, str), record=told.record,
        fault=told.fault, current=told.current, proposed=told.proposed,
        verdict=np.where(half, "rejected", ""), stated=np.full(n, ""), geometry=told.support,
    )  # fmt: skip
    again = FIELD.receive(reading, findings_about(reading.says, doubts=doubts, answers=(answers,)))
    assert not np.isin(again.record, told.record[half]).any()
