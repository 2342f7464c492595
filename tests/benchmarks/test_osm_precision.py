"""What the table of promised precision counts."""

from __future__ import annotations

from typing import Any

from benchmarks.osm_precision import WANTED, table


def world(n: int, right: int, promised: float | None) -> dict[str, Any]:
    sent = [{"wanted": w, "n": n, "right": right, "promised": promised} for w in WANTED]
    return {"bound": sent, "no bound": sent}


def test_worlds_that_break_the_promise_are_counted() -> None:
    rows = [world(10, 10, 0.96), world(40, 30, 0.96), world(0, 0, None)]
    lines = [line.strip("| ").split(" | ") for line in table(rows).markdown().split("\n")]
    assert len({len(one) for one in lines}) == 1
    at_90 = next(one for one in lines if one[:2] == ["bound", "0.9"])
    assert at_90[2:] == ["0.960", "0.800", "0.75", "1.00", "2", "1", "1", "50"]


def test_nothing_sent_is_said() -> None:
    cells = [row[2:] for row in table([world(0, 0, None)]).rows]
    assert cells == 2 * len(WANTED) * [(None, None, None, None, 0, 0, 0, 0)]
