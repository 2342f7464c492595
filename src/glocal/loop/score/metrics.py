"""``metrics.json`` as values: what a run says of itself, and how good everything is.

Written by the run, read by the report, by ``glocal show`` and by whoever opens a run from Python.
docs/metrics.schema.json is made from it. A file of another version may lack a value, or have one
more: what is absent is None or empty.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from glocal.errors import RunError

NAME = "metrics.json"


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class ClassRow(_Row):
    """One class of the legend."""

    value: int
    name: str
    title: str = ""
    color: str = ""
    concept: str = ""
    """What the class is about, empty where no concept fits."""


class ReferenceRow(_Row):
    """The reference points that scored everything."""

    n: int = 0
    answered: int = 0
    nonresponse: int = 0
    folds: int | None = None
    design: str = ""


class EstimateScore(_Row):
    """How good the estimate is at points that did not help to make it."""

    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    """95 % interval of the accuracy, over spatial blocks."""

    macro_f1: float | None = None
    log_loss: float | None = None
    """Nats per point."""

    ece: float | None = None
    """Expected calibration error."""

    n: int | None = None


class Baseline(_Row):
    """A simpler way to make the map, at the same points; low and high bound the difference."""

    accuracy: float | None = None
    loop: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0


class Bin(_Row):
    """Stated confidence against accuracy."""

    low: float | None = None
    high: float | None = None
    n: int = 0
    confidence: float | None = None
    accuracy: float | None = None


class SourceRow(_Row):
    """A source before and after its corrections; low and high bound the gain at 95 %."""

    kind: str = ""
    metric: str = ""
    before: float | None = None
    after: float | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    why: str = ""
    """Why it can't be measured here."""


class Measured(_Row):
    """Held-out points in places that corrections change, and how many of them agree."""

    n: int
    right: int


class CorrectionRow(_Row):
    """What a source receives."""

    count: dict[str, int] = {}
    """Corrections by what becomes of them (`correction.Fate`), or other things given."""

    files: list[str] = []
    expected_precision: float | None = None
    threshold: float | None = None
    note: str = ""
    measured: Measured | None = None


class RoundRow(_Row):
    """What a round says of itself."""

    round: int
    anchor_log_loss: float | None = None
    anchors: int | None = None
    change: float | None = None
    kept: bool = False
    note: str = ""
    alarms: list[dict[str, Any]] = []


class ShiftRow(_Row):
    """Shift of a layer in metres, with its standard uncertainty."""

    dx: float
    dy: float
    sd: float
    gauge: str
    applied: bool = False


class ClassArea(_Row):
    """Mapped area of a class; low and high where it is bounded."""

    value: int
    area_ha: float | None = None
    low: float | None = None
    high: float | None = None


class Metrics(_Row):
    """All numbers of a run."""

    software: str = ""
    area: str = ""
    seed: int | None = None
    rounds: list[RoundRow] | None = None
    round_kept: int | None = None
    interval_level: float | None = None
    legend: list[ClassRow] | None = None
    reference: ReferenceRow | None = None
    estimate: EstimateScore | None = None
    baselines: dict[str, Baseline | None] | None = None
    calibration: list[Bin] | None = None
    sources: dict[str, SourceRow | None] | None = None
    corrections: dict[str, CorrectionRow | None] | None = None
    weights: dict[str, float] | None = None
    families: list[list[str]] | None = None
    displacement: dict[str, ShiftRow] | None = None
    class_area: list[ClassArea] | None = None
    attribution: list[str] | None = None
    licence: str | None = None
    ties: list[dict[str, Any]] | None = None
    audits: list[dict[str, Any]] | None = None
    notes: list[str] | None = None


def read_metrics(folder: Path) -> Metrics:
    """Return the numbers of a finished run.

    Raises
    ------
    RunError
        Where the folder holds no finished run, or its numbers are damaged.
    """
    path = folder / NAME
    try:
        metrics = Metrics.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(
            f"{folder} holds no finished run: {path.name} is missing; "
            "start or resume one with 'glocal run area.yaml --out DIR'"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise RunError(
            f"{path} is no result of a run ({where}: {first['msg']}); run the same command again"
        ) from error
    except OSError as error:
        raise RunError(f"can't read {path}: {error}; run the same command again") from error
    return metrics
