"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real data that lies beside the checkout, or skip."""
    if not SHARED.is_dir():
        pytest.skip("real data not present: place the shared data folder beside the checkout")
    return SHARED
