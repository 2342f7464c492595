"""Jobs of a benchmark in processes of their own, each result kept as one line of JSON.

A run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

__all__ = ["rows_of", "seeds_of"]

Row = dict[str, Any]


def rows_of(
    work: Callable[..., Row],
    jobs: Sequence[tuple[Any, ...]],
    fields: Sequence[str],
    path: Path,
    workers: int,
    line: Callable[[Row], str],
) -> list[Row]:
    """Return the rows of all jobs; do those that ``path`` does not hold yet.

    A job is the arguments of ``work``, which returns them as ``fields`` of its row. ``line``
    says what to print when a row is done.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    known = path.read_text("utf-8").splitlines() if path.exists() else []
    done = {tuple(row[name] for name in fields): row for row in map(json.loads, known)}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(work, *job) for job in jobs if job not in done]
        for one in as_completed(running):
            row = one.result()
            done[tuple(row[name] for name in fields)] = row
            with path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(row) + "\n")
            print(line(row), file=sys.stderr, flush=True)
    return [done[job] for job in jobs]


def seeds_of(text: str) -> list[int]:
    """Return the numbers that ``0-3`` or ``0,2,5`` name."""
    out: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        out += range(int(first), int(last or first) + 1)
    return out
