"""One finished run for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.loop.places import finished_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run; tests copy it before they add answers."""
    return finished_run(tmp_path_factory.mktemp("answers"))
