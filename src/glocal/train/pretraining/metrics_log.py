"""The log of a training run: one JSON line per step, and TensorBoard where it is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glocal.errors import RunError
from glocal.io.atomic import append_line, write_text

try:  # belongs to the extra `train`, but a run is complete without it
    from torch.utils import tensorboard
except ImportError:
    tensorboard = None  # type: ignore[assignment]

TIMES = ("seconds",)
"""Fields that differ between two equal runs."""


class MetricsLog:
    """Writes the lines of ``metrics.jsonl``; lines from ``step`` on are of a lost run.

    With ``board`` events for TensorBoard go to ``folder/tensorboard``, where it is installed.
    """

    def __init__(self, folder: Path, step: int, *, board: bool = True) -> None:
        self._path = folder / "metrics.jsonl"
        kept = [line for line in _lines(self._path) if json.loads(line)["step"] < step]
        write_text(self._path, "".join(f"{line}\n" for line in kept))
        self._board: tensorboard.SummaryWriter | None = None
        if board and tensorboard is not None:
            self._board = tensorboard.SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add one line per row; every row has a ``step``."""
        if rows:
            append_line(self._path, "\n".join(json.dumps(row, allow_nan=False) for row in rows))
        if self._board is None:
            return
        for row in rows:
            step = row["step"]
            numbers = {name: one for name, one in row.items() if isinstance(one, float)}
            numbers[f"reconstruction/{row['plan']}"] = row["reconstruction"]
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish the files."""
        if self._board is not None:
            self._board.close()


def _lines(path: Path) -> list[str]:
    """Return the whole lines of a log; a line that a kill cut short has no line feed."""
    if not path.exists():
        return []
    return path.read_text("utf-8").split("\n")[:-1]


def curve(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run without the times: equal for equal runs.

    Raises
    ------
    RunError
        When there is no log in the folder.
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        raise RunError(f"there is no {path}; give the folder of a pretraining run")
    rows = [json.loads(line) for line in _lines(path)]
    return [{key: row[key] for key in row if key not in TIMES} for row in rows]
