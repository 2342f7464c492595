"""What may be assumed, and what may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from glocal.core.setting import DAWID_SKENE, ENGINE, Setting


def test_what_turns_a_part_off_may_be_zero() -> None:
    assert replace(ENGINE, parts=0, correlation=0.0, betas=(0.0,)).parts == 0
    assert DAWID_SKENE.sweeps == 100


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"cells_per_statement": 0.0}, r"cells_per_statement must lie in \(0, inf\], got 0"),
        ({"sweeps": 0}, "sweeps"),
        ({"purity": 1.1}, r"purity must lie in \(0, 1\], got 1.1"),
        ({"correlation": -0.1}, r"correlation must lie in \[0, 1\]"),
        ({"betas": ()}, "betas"),
        ({"roughness_m": (1.0, 0.0)}, "roughness_m"),
        ({"alone": float("nan")}, "alone"),
        ({"squares": (5,)}, r"needs 1 \+ 1 weights"),
    ],
)
def test_what_means_nothing_is_refused(change: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        Setting(**change)  # type: ignore[arg-type]
