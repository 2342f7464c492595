"""What OpenStreetMap is told and gets, from findings that were made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.interval import Interval
from glocal.core.observation import Observations
from glocal.sources.kind import Window
from glocal.sources.osm.batch import Batch, make_batch
from glocal.sources.osm.decide import decide
from glocal.sources.osm.kind import TERMS
from glocal.sources.osm.write import write_batch
from tests.sources.findings import UNSURE, doubts_of, findings_about, in_place, window_of

DOUBTED = 0.02
"""Probability of what an object says where it is doubted."""


def found(
    source: Observations, rows: Mapping[int, tuple[str, str, float]], **more: Any
) -> Findings:
    """Return findings about objects by (``modify`` or ``flag``, class, probability).

    To be modified another class is as likely as is said; to be flagged none is likely enough,
    and the doubt is as likely.
    """
    doubts = {
        i: (name, p, min(DOUBTED, 1 - p)) if action == "modify" else (name, UNSURE, 1 - p)
        for i, (action, name, p) in rows.items()
    }
    fields = {"misplaced": in_place(source), **more}
    return findings_about(source, doubts=doubts_of(source, doubts), **fields)


def seen_in(
    source: Observations, dates: Mapping[str, Interval] | None = None, precision: float = 0.8
) -> Window:
    """Return the window that a source was read into, with images of these dates."""
    return window_of(
        source.geobox, source.legend, interval=source.phenomenon_time, dates=dates,
        precision=precision,
    )  # fmt: skip


def told(
    source: Observations,
    findings: Findings,
    *,
    dates: Mapping[str, Interval] | None = None,
    batch: int = 200,
    precision: float = 0.8,
) -> Corrections:
    """Return what mappers are told."""
    return decide(source, findings, seen_in(source, dates, precision), TERMS, batch)


def give(
    source: Observations,
    findings: Findings,
    folder: Path,
    *,
    extract: Path | None = None,
    dates: Mapping[str, Interval] | None = None,
    promise: str = "",
    batch: int = 200,
) -> tuple[Batch, Sequence[Path]]:
    """Write what mappers get into ``folder``; return it, and the files."""
    rows = told(source, findings, dates=dates, batch=batch)
    made = make_batch(rows, source, extract, dates or {})
    return made, write_batch(made, folder, promise)
