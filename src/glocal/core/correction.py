"""What the loop gives back to a source: corrections, in columns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from glocal.core.columns import chosen, stacked
from glocal.core.provenance import Provenance, Terms
from glocal.core.result import freeze
from glocal.core.typing import Table

Fault = Literal["retag", "missing", "outdated", "vanished", "displaced", "doubt", "patch"]
"""What is wrong with a record; known where the correction is born, and kept."""

FAULTS: dict[Fault, str] = {
    "retag": "another class fits",
    "missing": "nothing is mapped where something is",
    "outdated": "it was last edited long before it was seen",
    "vanished": "the thing is not there",
    "displaced": "it lies elsewhere",
    "doubt": "something is doubtful",
    "patch": "another class fits on connected cells",
}

Action = Literal["create", "modify", "delete", "flag", "visit"]
"""``create``, ``modify``, ``delete`` as in OsmChange; ``flag`` marks a doubt about a
record without a change; ``visit`` asks somebody to look."""

Fate = Literal["modify", "create", "survey", "missing", "flag", "later"]
"""What becomes of a correction: an edit of a record, a new record, a question about one, a
question about ground that nothing maps, a doubt to be seen on a map, or held back."""

COLUMNS = ("record", "fault", "action", "fate", "current", "proposed", "probability", "support")


def correction_id(source: str, record: str, proposed: str) -> str:
    """Return the id of a correction; the same record, version and class give the same id.

    The round is not part of it: what is proposed again is the same correction.

    >>> correction_id("osm", "way/1@2", "tree_cover")
    'g-3c435c83ce1c'
    """
    return "g-" + hashlib.sha256(f"{source}|{record}|{proposed}".encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Corrections:
    """Proposals to one source, one row each. Never applied by this program.

    The evidence never includes the source itself, and its licences must be such
    that the receiver may use them.
    """

    source: str
    """Who receives them."""

    record: NDArray[np.str_]
    """Shape (n,), native id with version; a stable id of ours for ``create`` and ``visit``."""

    fault: NDArray[np.str_]
    """Shape (n,), which of `FAULTS`."""

    action: NDArray[np.str_]
    """Shape (n,), which `Action`."""

    fate: NDArray[np.str_]
    """Shape (n,), which `Fate`."""

    current: NDArray[np.str_]
    """Shape (n,), what the source says now (its symbol), empty for ``create``."""

    proposed: NDArray[np.str_]
    """Shape (n,), class name of the target legend; empty where only the place is wrong."""

    probability: Table
    """Shape (n,), of edits and missing things that the proposal is right; else of the doubt."""

    support: NDArray[np.object_]
    """Shape (n,), shapely geometries in ``crs``."""

    crs: str
    because: tuple[str, ...]
    """Sources whose evidence speaks for the proposals; never ``source``."""

    round: int
    provenance: Provenance
    """Of the evidence."""

    terms: Terms | None = None
    """Under which licences the receiver may use evidence; None: under any."""

    threshold: float | None = None
    """Probability from which edits go out; None where none is sure enough."""

    expected_precision: float | None = None
    """Mean probability of the edits; None where there are none."""

    note: str = ""
    """What the receiver should know of the whole."""

    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Further columns of shape (n,) that the receiver's files need."""

    def __post_init__(self) -> None:
        n = len(self.record)
        for name in (*COLUMNS, *self.columns):
            column = self.columns.get(name)
            if len(getattr(self, name) if column is None else column) != n:
                raise ValueError(f"Corrections.{name} must have length {n}")
        if len(np.unique(self.record)) != n:
            raise ValueError("Corrections.record must be unique")
        for name, known in (("action", Action), ("fault", Fault), ("fate", Fate)):
            unknown = set(getattr(self, name).tolist()) - set(get_args(known))
            if unknown:
                raise ValueError(
                    f"Corrections.{name} knows {get_args(known)}, got {sorted(unknown)}"
                )
        if n and not ((self.probability >= 0) & (self.probability <= 1)).all():
            raise ValueError("Corrections.probability must lie in 0..1")
        if self.source in self.because:
            raise ValueError(
                f"a correction never cites its own target: {self.source!r} is in because"
            )
        edits = np.isin(self.action, ("create", "modify", "delete"))
        if self.terms is not None and edits.any():
            self.terms.require(self.provenance.licences)
        freeze(self)

    def __len__(self) -> int:
        return len(self.record)

    @property
    def ids(self) -> list[str]:
        """Stable id of each row (`record.correction_id`)."""
        rows = zip(self.record.tolist(), self.proposed.tolist(), strict=True)
        return [correction_id(self.source, record, proposed) for record, proposed in rows]

    def take(self, rows: NDArray[Any]) -> Corrections:
        """Return the rows selected by a boolean or index array."""
        return chosen(self, rows, (*COLUMNS, "columns"))

    def counts(self) -> dict[str, int]:
        """Return how many rows meet each `Fate`, those that occur."""
        names, number = np.unique(self.fate, return_counts=True)
        return dict(zip(names.tolist(), number.tolist(), strict=True))

    @classmethod
    def joined(cls, parts: Sequence[Corrections]) -> Corrections:
        """Return parts for one source as one; what they have in common is that of the first."""
        return stacked(parts, COLUMNS, "columns")
