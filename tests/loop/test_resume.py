"""A run that is killed and started again ends with the same bytes as one left in peace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.loop.areas import make_area

MOMENTS = {
    "after the first round": "rounds/000/item.json",
    "between two scored folds": "evaluation/fold-0.json",
    "while corrections are written": "corrections.part",
}
"""When the run is killed: as soon as this file or folder appears."""

PATIENCE_S = 120


def command(config: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "glocal", "run", str(config), "--out", str(out), "--json"]


def contents(out: Path) -> dict[str, bytes]:
    """Return every file of a run but its log, which holds times."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "log.jsonl"
    }


def kill_when(config: Path, out: Path, sign: str) -> None:
    """Start a run, and kill it with all its workers when ``sign`` appears in its folder."""
    process = subprocess.Popen(
        command(config, out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + PATIENCE_S
    while not (out / sign).exists():
        assert process.poll() is None, f"the run ended before {sign} appeared"
        assert time.monotonic() < end, f"{sign} never appeared"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "report.html").exists(), "killed too late to prove anything"


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_area(tmp_path_factory.mktemp("area"))


@pytest.fixture(scope="module")
def undisturbed(area: Path) -> dict[str, bytes]:
    out = area.parent / "out-whole"
    subprocess.run(command(area, out), check=True, capture_output=True, timeout=PATIENCE_S)
    return contents(out)


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_run_again_gives_the_same_bytes(
    area: Path, undisturbed: dict[str, bytes], moment: str
) -> None:
    out = area.parent / ("out-" + moment.replace(" ", "-"))
    kill_when(area, out, MOMENTS[moment])
    subprocess.run(command(area, out), check=True, capture_output=True, timeout=PATIENCE_S)
    again = contents(out)
    assert sorted(again) == sorted(undisturbed)
    assert [name for name in again if again[name] != undisturbed[name]] == []


def test_finished_run_has_nothing_to_do(area: Path, undisturbed: dict[str, bytes]) -> None:
    out = area.parent / "out-whole"
    answer = subprocess.run(command(area, out), check=True, capture_output=True, timeout=PATIENCE_S)
    assert b'"nothing_to_do": true' in answer.stdout
    assert contents(out) == undisturbed
